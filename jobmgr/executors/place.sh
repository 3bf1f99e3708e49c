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

# Makes all directories of the parcels that are read, and stores their files. Answers why not, if not.
_jm_stock() {
    [ -d "$_jm_root/control" ] || { _jm_why="missing $_jm_root/control is not there" && return 1; }
    _jm_why='failed to write there' _jm_parcels= _jm_runs= _jm_controls= _jm_kept=' ' _jm_is_kept=
    while read -r _jm_place _jm_token _jm_former _jm_name && [ "$_jm_place $_jm_token" != "$_jm_mark " ]; do
        _jm_parcels="$_jm_parcels$_jm_place $_jm_token $_jm_former $_jm_name
"
        if [ "$_jm_place" = "$_jm_mark" ]; then
            _jm_controls="$_jm_controls $_jm_token"
            [ -z "$_jm_is_kept" ] || _jm_kept="$_jm_kept$_jm_token "
            _jm_is_kept=
        else
            _jm_controls="$_jm_controls control/$_jm_place" _jm_runs="$_jm_runs runs/$_jm_place" _jm_known=
            { read -r _jm_known <"$_jm_root/control/$_jm_place/submission"; } 2>/dev/null
            # What is signed is whole, and runs may read it.
            [ "$_jm_known" != "$_jm_name" ] || _jm_is_kept=1 _jm_kept="${_jm_kept}control/$_jm_place "
        fi
    done
    # shellcheck disable=SC2086  # Names of jobs have no blanks or patterns.
    cd "$_jm_root" && mkdir -p $_jm_runs && (
        umask 077 && mkdir -p $_jm_controls && exec awk -v mark="$_jm_mark" -v kept="$_jm_kept" '
            $1 == mark {
                if (file && close(file)) exit 1
                is_whole = NF == 1
                file = is_whole || index(kept, " " $2 " ") ? "" : $2 "/" $3
                next
            }
            file { print >file }
            END { exit !is_whole }'
    )
}

# _jm_hand_in CWD COMMAND: runs the command (text for a shell) that hands in what is stored and signed. Whether to go on:
# a scheduler that takes no job, or says nothing, is not asked to take the next one.
_jm_hand_in() {
    cd "$_jm_root/$1" 2>/dev/null || {
        _jm_answer failed "failed $(cd "$_jm_root/$1" 2>&1)"
        return 1
    }
    _jm_said=$(
        exec 2>&1
        _jm_out=$(eval "$2" </dev/null)
        _jm_code=$?
        printf '%s%09d' "$_jm_out" "${#_jm_out}"
        exit "$_jm_code"
    )
    _jm_code=$?
    _jm_answer "$_jm_code" "$_jm_said"
    case $_jm_code$_jm_said in 0*000000000) return 1 ;; 0*) return 0 ;; *) return 1 ;; esac
}

# _jm_answer KIND TEXT: answers about a parcel. The length goes first, so that nothing in a text is taken for an answer.
# If nobody listens any more, nothing more is handed in.
_jm_answer() {
    printf '%s %s\n%s' "$1" "${#2}" "$2" || exit 1
}

# Says in the control directory as what the attempt is handed in, and whose it is, when all is stored and before that is
# done: who has no token never was. Answers why not, if not.
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

# _jm_measure PLACE/....: finds out which control files of these attempts have more than 64 KiB. A shell reads byte by byte,
# so one that a job left there could keep all others waiting; and it knows no sizes, so one process tells of all.
_jm_measure() {
    _jm_large="
$(
        cd "$_jm_root/control" && find -L "$@" ! -name . -prune -type f -size +128 \
            \( -name token -o -name submission -o -name gate -o -name 'exit*' \) 2>/dev/null
    )
"
}

# _jm_read PLACE NAME: the first line of a control file is _jm_line; `?` if that may be too long.
_jm_read() {
    _jm_line=
    # A job may have put a FIFO there, which would be waited for.
    [ -f "$_jm_control/$2" ] || return 0
    case $_jm_large in
        *"
$1/./$2
"*) _jm_line='?' ;;
        *) IFS= read -r _jm_line <"$_jm_control/$2" ;;
    esac
}

# _jm_recall PLACE NAME: as _jm_read; `?` if it is there and has no line. It was whole when it got its name.
_jm_recall() {
    _jm_line=
    [ -e "$_jm_control/$2" ] || return 0
    _jm_read "$1" "$2"
    [ -n "$_jm_line" ] || _jm_line='?'
}

# _jm_look_anew DIRECTORY: lets it be seen as it is, if it has no record. A client of NFS may remember for a minute that a
# file was not there, though the node has made it since; when it changes the directory itself it learns that there was
# another change. Source: nfs(5), `lookupcache`, `acdirmax`, "Directory entry caching". Where nothing can be written, or
# there is no directory, nothing happens. A file would not do: a job may have put a link or a FIFO in its place.
_jm_look_anew() {
    [ -e "$1/exit" ] || { mkdir "$1/seen"; rmdir "$1/seen"; } 2>/dev/null
}

# _jm_tell PLACE: answers one line: PLACE, token, as what it was handed in, gate, record, and if it is to be examined, what
# the holder wrote of it that is not linked yet. The attempt has been measured.
_jm_tell() {
    _jm_note=
    {
        # Who reads `?` as a name or a token would look for somebody else.
        _jm_read "$1" token
        _jm_found=${_jm_line#\?}
        _jm_read "$1" submission
        _jm_known=${_jm_line#\?}
        _jm_recall "$1" gate
        _jm_gate=$_jm_line
        _jm_recall "$1" exit
        _jm_exit=$_jm_line
        case $_jm_verb$_jm_gate in
            examine*'"nonce": "'*)
                _jm_nonce=${_jm_gate#*'"nonce": "'}
                _jm_read "$1" "exit.${_jm_nonce%%\"*}"
                _jm_note=$_jm_line
                ;;
        esac
    } 2>/dev/null
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' \
        "$1" "$_jm_found" "$_jm_known" "$_jm_gate" "$_jm_exit" "$_jm_note"
}

# Whether the gate is decided, by us if nobody else did it, or is another attempt's. Answers why not, if not.
_jm_void() {
    if _jm_make; then
        [ -e "$_jm_control/gate" ] || _jm_decide void '"reason": "not to run"' || [ -e "$_jm_control/gate" ] && return 0
    else
        case $_jm_why in other*) return 0 ;; esac
    fi
    # Not all shells say why they cannot write; these programs do.
    _jm_why=$(
        exec 2>&1
        [ -d "${_jm_control%/*}" ] || mkdir -m 700 "${_jm_control%/*}"
        [ -d "$_jm_control" ] || mkdir -m 700 "$_jm_control"
        printf %4096s . | tee "$_jm_control/gate.$_jm_nonce" >/dev/null
    )
    rm -f "$_jm_control/gate.$_jm_nonce"
    return 1
}

_jm_verb=$1 _jm_root=$2 _jm_expected=$3
shift 3
_jm_identify
# Another directory at this path would say of every attempt that it was never handed in.
[ -z "$_jm_expected" ] || [ "$_jm_id" = "$_jm_expected" ] || { echo "jobmgr-place: stranger $_jm_id" >&2 && exit 1; }
case $_jm_verb in
    look | examine | void | settle)
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
    submit) # MARK WITHIN COMMAND...: store the parcels that are read, and hand them in one after the other
        # Read are for each parcel lines PLACE TOKEN FORMER NAME INDEX (FORMER: the name that is given up) and then MARK
        # HOME CWD, below ROOT; MARK; and files, each after a line MARK HOME FILE, with MARK behind the last. Answered is
        # of each parcel KIND and LENGTH on a line, then a text: why it was not handed in, after `other` or `failed`; or,
        # after an exit code, what was said on stderr, then on stdout, and the length of that in nine digits. The first
        # that was not taken is the last that is told of; none is begun after WITHIN seconds.
        _jm_mark=$1 _jm_within=$2
        shift 2
        _jm_stock || { echo "jobmgr-place: $_jm_why" >&2 && exit 1; }
        _jm_clock= _jm_own=
        [ $# -eq 1 ] || { sleep "$_jm_within" </dev/null >/dev/null 2>&1 & _jm_clock=$!; }
        while read -r _jm_place _jm_token _jm_former _jm_name; do
            if [ "$_jm_place" != "$_jm_mark" ]; then
                _jm_enter "$_jm_place"
                _jm_sign && _jm_own=1 && continue
                case $_jm_why in other*) continue ;; esac
                _jm_answer failed "$_jm_why"
                break
            elif [ -z "$_jm_own" ]; then
                _jm_answer other "${_jm_why#* }"
            else
                _jm_hand_in "$_jm_former" "$1" || break
                [ -z "$_jm_clock" ] || kill -0 "$_jm_clock" 2>/dev/null || break
            fi
            shift
            _jm_own=
        done <<EOF
${_jm_parcels%?}
EOF
        [ -z "$_jm_clock" ] || { kill "$_jm_clock" && wait "$_jm_clock"; } 2>/dev/null
        exit 0
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
    look | examine) # Reads PLACE WHEN...: WHEN is `gate` or `exit`, for who is told of only if that is there, or `now`
        _jm_places=$(
            while read -r _jm_place _jm_when; do
                [ "$_jm_verb" = look ] || _jm_look_anew "$_jm_root/control/$_jm_place"
                [ "$_jm_when" = now ] || [ -e "$_jm_root/control/$_jm_place/$_jm_when" ] || continue
                printf '%s/. ' "$_jm_place"
            done
        )
        # shellcheck disable=SC2086  # Names of jobs have no blanks or patterns.
        [ -z "$_jm_places" ] || _jm_measure $_jm_places
        for _jm_place in $_jm_places; do
            _jm_place=${_jm_place%/.}
            _jm_enter "$_jm_place"
            _jm_tell "$_jm_place"
        done
        ;;
    void) # Reads PLACE TOKEN NONCE...; answers `! PLACE WHY` first if the gate cannot be written
        while read -r _jm_place _jm_token _jm_nonce; do
            _jm_enter "$_jm_place"
            _jm_void 2>/dev/null || printf '! %s %s\n' "$_jm_place" "${_jm_why%%
*}"
            _jm_measure "$_jm_place/."
            _jm_tell "$_jm_place"
        done
        ;;
    settle) # Reads PLACE NONCE...: what a dead holder wrote becomes the record
        while read -r _jm_place _jm_nonce; do
            _jm_enter "$_jm_place"
            ln "$_jm_control/exit.$_jm_nonce" "$_jm_control/exit" 2>/dev/null
            _jm_measure "$_jm_place/."
            _jm_tell "$_jm_place"
        done
        ;;
esac
