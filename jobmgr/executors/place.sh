# Run by a shell at the site, with gate.sh before it: `sh -c TEXT sh VERB ROOT ...`. Everything it is asked about many
# attempts it does in one process, with what is built into the shell where that will do.

# Reads the name of the work directory, if it has one.
_jm_identify() {
    _jm_id=
    { IFS= read -r _jm_id <"$_jm_root/id"; } 2>/dev/null
}

# _jm_enter PLACE: the directories of an attempt (JOB/NUMBER).
_jm_enter() {
    _jm_control=$_jm_root/control/$1
    _jm_run_dir=$_jm_root/runs/$1
}

# Makes the control directory with the token in it. Answers why not, if not.
_jm_make() {
    # Where all control directories lie must be there: if it is not mounted, a new one would decide nothing.
    [ -d "$_jm_root/control" ] || { _jm_why="missing $_jm_root/control is not there" && return 1; }
    mkdir -m 700 "${_jm_control%/*}" 2>/dev/null
    mkdir -m 700 "$_jm_control" 2>/dev/null
    _jm_found=
    { read -r _jm_found <"$_jm_control/token"; } 2>/dev/null
    if [ -n "$_jm_found" ]; then
        [ "$_jm_found" = "$_jm_token" ] || { _jm_why="other $_jm_found" && return 1; }
    else
        _jm_why=$({ printf %s "$_jm_token" >"$_jm_control/token"; } 2>&1) || { _jm_why="failed $_jm_why" && return 1; }
    fi
}

# Makes all directories of the attempts that are read, and stores the files. Answers why not, if not.
_jm_stock() {
    [ -d "$_jm_root/control" ] || { _jm_why="missing $_jm_root/control is not there" && return 1; }
    _jm_why='failed to write there' _jm_attempts= _jm_places=
    while read -r _jm_place _jm_rest && [ "$_jm_place" != "$_jm_mark" ]; do
        _jm_attempts="$_jm_attempts$_jm_place $_jm_rest
" _jm_places="$_jm_places $_jm_place"
    done
    # shellcheck disable=SC2086  # Names of jobs have no blanks or patterns.
    cd "$_jm_root/runs" && mkdir -p $_jm_places &&
        (umask 077 && cd "$_jm_root/control" && mkdir -p "$_jm_home" $_jm_places) || return 1
    _jm_own=
    while read -r _jm_place _jm_token _jm_former _jm_name; do
        _jm_enter "$_jm_place"
        _jm_sign && _jm_own=1 && continue
        case $_jm_why in other*) ;; *) return 1 ;; esac
    done <<EOF
${_jm_attempts%?}
EOF
    [ -n "$_jm_own" ] || return 1
    # The script is the last that comes to its place: where it is, everything is, and runs may read it.
    if [ -e "$_jm_home/script" ]; then
        cat >/dev/null
    else
        (
            umask 077 && cd "$_jm_home" && awk -v mark="$_jm_mark" -v file="$_jm_rest" '
                $1 == mark { if (close(file)) exit 1; file = $2; next }
                { print >file }
                END { if (file) exit 1 }' && exec mv -f script.new script
        ) || { _jm_why='failed to write there' && return 1; }
    fi
    cd "$_jm_cwd"
}

# Says in the control directory whose it is, and as what the attempt is handed in: first, so that whoever has a token
# and nothing else was not. Answers why not, if not.
_jm_sign() {
    _jm_found= _jm_known=
    { read -r _jm_found <"$_jm_control/token"; read -r _jm_known <"$_jm_control/submission"; } 2>/dev/null
    case $_jm_found in
        "$_jm_token")
            case $_jm_known in
                "$_jm_name") return 0 ;;
                # Handed in as something else: by a service that lives on, or by another one.
                ?*) case $_jm_known in "$_jm_former "*) ;; *) _jm_why="other $_jm_known" && return 1 ;; esac ;;
            esac
            ;;
        ?*) _jm_why="other $_jm_found" && return 1 ;;
    esac
    _jm_write 2>/dev/null || { _jm_why="failed $(_jm_write 2>&1)" && return 1; }
}
_jm_write() {
    { printf '%s\n' "$_jm_name" >"$_jm_control/submission" && printf %s "$_jm_token" >"$_jm_control/token"; }
}

# _jm_tell PLACE NOTE: answers one line: PLACE, token, as what it was handed in, gate, record, and if NOTE is anything,
# what the holder wrote of it that is not linked yet.
_jm_tell() {
    _jm_found= _jm_known= _jm_gate= _jm_exit= _jm_note=
    {
        IFS= read -r _jm_found <"$_jm_control/token"
        IFS= read -r _jm_known <"$_jm_control/submission"
        IFS= read -r _jm_gate <"$_jm_control/gate"
        IFS= read -r _jm_exit <"$_jm_control/exit"
        case ${2:+$_jm_gate} in
            *'"nonce": "'*)
                _jm_nonce=${_jm_gate#*'"nonce": "'}
                IFS= read -r _jm_note <"$_jm_control/exit.${_jm_nonce%%\"*}"
                ;;
        esac
    } 2>/dev/null
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' \
        "$1" "$_jm_found" "$_jm_known" "$_jm_gate" "$_jm_exit" "$_jm_note"
}

_jm_verb=$1 _jm_root=$2 _jm_expected=$3
shift 3
_jm_identify
# Another directory at this path would say of every attempt that it was never handed in.
[ -z "$_jm_expected" ] || [ "$_jm_id" = "$_jm_expected" ] || { echo "jobmgr-place: stranger $_jm_id" >&2 && exit 1; }
case $_jm_verb in
    look | void | settle)
        # What is not mounted says nothing.
        [ -d "$_jm_root/control" ] || { echo "$_jm_root/control is not there" >&2 && exit 1; }
        ;;
esac
case $_jm_verb in
    roots | name) # NAME: answers the name of this directory, NAME if it has none; `roots` makes what is not there
        if [ "$_jm_verb" = roots ]; then
            mkdir -p "$_jm_root" && mkdir -p -m 700 "$_jm_root/control" && mkdir -p "$_jm_root/runs" || exit 1
        fi
        [ -d "$_jm_root/control" ] || {
            echo "$_jm_root/control is not there; if it is not to be mounted, \`jobmgr site test\` makes it" >&2 && exit 1
        }
        if [ -z "$_jm_id" ]; then
            printf %s "$1" >"$_jm_root/id.$1" || exit 1
            ln "$_jm_root/id.$1" "$_jm_root/id" 2>/dev/null
            rm -f "$_jm_root/id.$1"
            _jm_identify
        fi
        [ -n "$_jm_id" ] || { echo "$_jm_root/id cannot be read, or is empty" >&2 && exit 1; }
        printf '%s\n' "$_jm_id"
        ;;
    submit) # HOME CWD MARK COMMAND...: store what is read, and run the command that hands it in
        # Read are lines PLACE TOKEN FORMER NAME INDEX (FORMER: the name that is given up), and files, each after a line MARK FILE, with MARK behind the last.
        _jm_home=$1 _jm_cwd=$2 _jm_mark=$3
        shift 3
        _jm_stock || { echo "jobmgr-place: $_jm_why" >&2 && exit 1; }
        exec "$@" </dev/null
        ;;
    missing) # Reads `at PLACE`, each followed by lines `is NAME` (NAME as printf's %b has it): answers for each PLACE with the
        # indices of the names that are not there, and with `away` if its run directory is not
        _jm_end=
        while IFS= read -r _jm_line; do
            _jm_name=${_jm_line#* }
            case $_jm_line in
                'at '*)
                    _jm_enter "$_jm_name"
                    printf '%s%s' "$_jm_end" "$_jm_name"
                    [ -d "$_jm_run_dir" ] || printf ' away'
                    _jm_index=0 _jm_end='
'
                    continue
                    ;;
                *\\*) _jm_name=$(printf '%b.' "$_jm_name") && _jm_name=${_jm_name%.} ;;
            esac
            [ -f "$_jm_run_dir/$_jm_name" ] || printf ' %d' "$_jm_index"
            _jm_index=$((_jm_index + 1))
        done
        echo
        ;;
    look) # Reads PLACE WHEN...: `gate` or `exit`, only if that is there; `note`, with what is not linked; or `now`
        while read -r _jm_place _jm_when; do
            _jm_enter "$_jm_place"
            case $_jm_when in
                note) _jm_tell "$_jm_place" note ;;
                now) _jm_tell "$_jm_place" ;;
                *) [ ! -e "$_jm_control/$_jm_when" ] || _jm_tell "$_jm_place" ;;
            esac
        done
        ;;
    void) # Reads PLACE TOKEN NONCE...
        while read -r _jm_place _jm_token _jm_nonce; do
            _jm_enter "$_jm_place"
            _jm_make && [ ! -e "$_jm_control/gate" ] && _jm_decide void '"reason": "not to run"'
            _jm_tell "$_jm_place"
        done
        ;;
    settle) # Reads PLACE NONCE...: what a dead holder wrote becomes the record
        while read -r _jm_place _jm_nonce; do
            _jm_enter "$_jm_place"
            ln "$_jm_control/exit.$_jm_nonce" "$_jm_control/exit" 2>/dev/null
            _jm_tell "$_jm_place"
        done
        ;;
esac
