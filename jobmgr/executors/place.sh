# Run by a shell at the site, with gate.sh before it: `sh -c TEXT sh VERB ROOT ...`. Everything it is asked about many
# attempts it does in one process, with what is built into the shell where that will do.

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

# Answers one line: PLACE, token, gate, record, and what the holder wrote of it that is not linked yet.
_jm_tell() {
    _jm_found= _jm_gate= _jm_exit= _jm_note= _jm_tab='	'
    {
        IFS= read -r _jm_found <"$_jm_control/token"
        IFS= read -r _jm_gate <"$_jm_control/gate"
        IFS= read -r _jm_exit <"$_jm_control/exit"
        case $_jm_gate in
            *'"nonce": "'*)
                _jm_nonce=${_jm_gate#*'"nonce": "'}
                IFS= read -r _jm_note <"$_jm_control/exit.${_jm_nonce%%\"*}"
                ;;
        esac
    } 2>/dev/null
    printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$_jm_found" "$_jm_gate" "$_jm_exit" "${_jm_note%"${_jm_note##*[! ]}"}"
}

_jm_verb=$1 _jm_root=$2
shift 2
case $_jm_verb in
    roots)
        mkdir -p "$_jm_root" && mkdir -p -m 700 "$_jm_root/control" && mkdir -p "$_jm_root/runs" || exit 1
        ;;
    submit) # PLACE TOKEN SCRIPT COMMAND...: store what is read as the script, and run the command that hands it in
        _jm_token=$2 _jm_script=$3
        _jm_enter "$1"
        shift 3
        _jm_make || { echo "jobmgr-place: $_jm_why" >&2 && exit 1; }
        {
            mkdir -p "$_jm_run_dir" && cat >"$_jm_script.$$" && chmod 700 "$_jm_script.$$" &&
                mv -f "$_jm_script.$$" "$_jm_script" && cd "$_jm_run_dir"
        } || { echo 'jobmgr-place: failed to write there' >&2 && exit 1; }
        exec "$@" </dev/null
        ;;
    missing) # PLACE NAME...: answers the indices of those that are not there
        _jm_enter "$1"
        [ -d "$_jm_run_dir" ] || { echo "$_jm_run_dir is not there" >&2 && exit 1; }
        shift
        _jm_index=0
        for _jm_name in "$@"; do
            [ -f "$_jm_run_dir/$_jm_name" ] || echo "$_jm_index"
            _jm_index=$((_jm_index + 1))
        done
        ;;
    look) # Reads PLACE...
        while read -r _jm_place; do
            _jm_enter "$_jm_place"
            _jm_tell "$_jm_place"
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
