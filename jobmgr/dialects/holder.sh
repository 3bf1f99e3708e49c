_jm_nonce=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')

_jm_refuse() {
    echo "jobmgr: $1" >&2
    rm -f "$_jm_control/exit.$_jm_nonce"
    exit "$_jm_refused"
}

[ "$(cat "$_jm_control/token" 2>/dev/null)" = "$_jm_token" ] ||
    _jm_refuse "$_jm_control is not the directory of this attempt"
[ -n "$_jm_nonce" ] || _jm_refuse 'no random numbers can be had here'
# The space of the record is taken before the start, so that a full disk cannot swallow an outcome.
# Its first line is empty: nobody has to read blanks, which some shells do one by one, to see that it is not written.
printf '\n%4095s' '' >"$_jm_control/exit.$_jm_nonce" || _jm_refuse "nothing can be written in $_jm_control"

_jm_started_at=$(_jm_now)
_jm_decide run "$(
    printf '"holder": {"site": "%s", "id": "%s", "restarts": %d, "host": "%s", "at": "%s"}' \
        "$_jm_site" "$(printf %s "$_jm_id" | tr -cd 'A-Za-z0-9_.@:[]-')" "$_jm_restarts" \
        "$(uname -n | tr -cd 'A-Za-z0-9_.-')" "$_jm_started_at"
)" || _jm_refuse 'this attempt is decided already'

# _jm_record HOW TIMES: the record, in the space that it has, and linked: the first one stands.
_jm_record() {
    _jm_text=$(
        printf '{"v": 1, "token": "%s", %s, "ended_by": "self", "started_at": "%s", "ended_at": "%s", ' \
            "$_jm_token" "$1" "$_jm_started_at" "$(_jm_now)"
        printf '"signals": "%s", "times": "%s", "cpu_s": null, "peak_memory_bytes": null, "leftovers": 0}' \
            "${_jm_signals# }" "$2"
    )
    printf '%-4096s' "$_jm_text
" 1<>"$_jm_control/exit.$_jm_nonce"
    ln "$_jm_control/exit.$_jm_nonce" "$_jm_control/exit" && rm -f "$_jm_control/exit.$_jm_nonce"
}

# _jm_fail CODE SENTENCE: the command could not be started. No quotes in the sentence.
_jm_fail() {
    _jm_record "$(
        printf '"exit_code": null, "signal": null, "error": {"code": "%s", "message": "%s"}' "$1" "$2"
    )" ''
    exit 1
}

# _jm_trouble CODE SENTENCE: tell the holder, from where the command was to start, that it cannot.
_jm_trouble() {
    echo "$1 $2" >"$_jm_control/trouble.$_jm_nonce"
    exit 1
}

# _jm_secret NAME FILE: set a variable to what is in a file of this host. Only words that are built into the shell see the
# value, so no process has it in its arguments, and no trace that the job switched on shows it.
_jm_secret() {
    { set +x; } 2>/dev/null
    if [ -f "$2" ] && _jm_value=$(cat 2>/dev/null <"$2") && [ -n "$_jm_value" ]; then
        export "$1=$_jm_value"
        _jm_value=
    else
        _jm_trouble secret_unavailable "env.$1: the file of this secret is not there, is empty or may not be read"
    fi
}

# Answers which file of PATH the program NAME is.
_jm_which() {
    IFS=:
    for _jm_directory in $PATH; do
        _jm_file=${_jm_directory:-.}/$1
        if [ -f "$_jm_file" ] && [ -x "$_jm_file" ]; then
            printf %s "$_jm_file"
            return
        fi
    done
}

# _jm_run PROGRAM ARGUMENT...: become it. Not by a try, because 127 may be a command's own code.
_jm_run() {
    case $1 in
        */*) _jm_program=$1 ;;
        *) _jm_program=$(_jm_which "$1") ;;
    esac
    [ -f "$_jm_program" ] || _jm_trouble program_not_found 'the program is not there, or not on PATH'
    [ -x "$_jm_program" ] || _jm_trouble not_executable 'the program may not be executed'
    # What a shell runs in the background ignores INT and QUIT, and so does all that it starts; where the shell is no bash
    # only a program can undo that. It would take a name with `=` for a variable.
    if [ -z "${BASH_VERSION-}" ] && [ "${1#*=}" = "$1" ] && env --default-signal=INT,QUIT true 2>/dev/null; then
        exec env --default-signal=INT,QUIT -- "$@"
    fi
    exec "$@"
}

# What a scheduler sends is for the command; this shell stays to record the end.
_jm_signals= _jm_caught= _jm_child=
_jm_catch() {
    _jm_caught=1 _jm_signals="$_jm_signals $1"
    [ -z "$_jm_child" ] || kill "-$1" "$_jm_child" 2>/dev/null
}
for _jm_name in HUP INT QUIT TERM USR1 USR2 XCPU; do
    # shellcheck disable=SC2064  # the name of now
    trap "_jm_catch $_jm_name" "$_jm_name"
done

cd -- "$_jm_cwd" 2>/dev/null ||
    _jm_fail cwd_not_found 'the working directory is not there, or may not be entered'
(
    trap - HUP INT QUIT TERM USR1 USR2 XCPU
    _jm_start
) </dev/null >"$_jm_run_dir/stdout" 2>"$_jm_run_dir/stderr" &
_jm_child=$!
for _jm_name in $_jm_signals; do kill "-$_jm_name" "$_jm_child" 2>/dev/null; done
wait "$_jm_child"
_jm_code=$?
# A signal that is caught interrupts the waiting. Whom it found alive the next wait tells of.
while [ -n "$_jm_caught" ]; do
    _jm_caught= _jm_alive=
    kill -0 "$_jm_child" 2>/dev/null && _jm_alive=1
    wait "$_jm_child"
    _jm_last=$?
    if [ -n "$_jm_alive" ] || [ "$_jm_last" -ne 127 ]; then _jm_code=$_jm_last; fi
done

if [ -s "$_jm_control/trouble.$_jm_nonce" ]; then
    read -r _jm_why _jm_sentence <"$_jm_control/trouble.$_jm_nonce"
    rm -f "$_jm_control/trouble.$_jm_nonce"
    _jm_fail "$_jm_why" "$_jm_sentence"
fi
times >"$_jm_control/times.$_jm_nonce"
{ read -r _; read -r _jm_times; } <"$_jm_control/times.$_jm_nonce"
rm -f "$_jm_control/times.$_jm_nonce"
_jm_record "\"exit_code\": $_jm_code, \"signal\": null, \"error\": null" "$_jm_times"
# A run that was refused ends with that code, and no other: a command's own is in the record.
[ "$_jm_code" -ne "$_jm_refused" ] || exit 1
exit "$_jm_code"
