# Run by a shell at the site: `sh -c TEXT sh VERB DIRECTORY ...`, where DIRECTORY is RUNS/JOB/NUMBER. The job may have
# put anything there, and may change it at any moment. So what counts is not what had a name before it was opened, but
# what was opened; to tell that takes Linux.

_jm_runs=${2%/*/*}
# The job can put a link in the place of its own directory, but not of that of all runs.
_jm_root=$(cd "$_jm_runs/" && pwd -P) || exit 1
_jm_root=${_jm_root%/}${2#"$_jm_runs"}
case $1 in
    list) # COUNT BYTES: answers SIZE MODIFIED PATH in lines, newlines of a path as NUL; not more than that
        [ -e "$_jm_root" ] || exit 0
        cd "$_jm_root" || exit 1
        [ "$(pwd -P)" = "$_jm_root" ] || exit 47
        # If find did not know -printf, its silence would look like an empty directory.
        find . -prune -printf '' || exit 1
        find . -type f -printf '%s %T@ %P\0' 2>/dev/null | tr '\n\0' '\0\n' | head -n "$3" | head -c "$4"
        ;;
    written) # FOLDER PATTERN COUNT BYTES: answers when the attempt began, ended, what FOLDER really is; MODIFIED PATH...
        _jm_control=${_jm_runs%/*}/control${2#"$_jm_runs"}
        [ -f "$_jm_control/gate" ] && cd "$3" 2>/dev/null || exit 0
        {
            for _jm_file in gate exit; do
                printf '%s ' "$(find "$_jm_control/$_jm_file" -prune -printf '%T@' 2>/dev/null)"
            done
            printf '%s\0' "$(pwd -P)"
            find . -mindepth 2 -maxdepth 2 -type f -path "./$4" -printf '%T@ %p\0' 2>/dev/null | sort -z -r -n
        } | tr '\n\0' '\0\n' | head -n "$(($5 + 1))" | head -c "$6"
        ;;
    read) # PATH OFFSET BYTES IDENTITY: answers SIZE IDENTITY OFFSET, and after a newline the bytes
        # A FIFO would be waited for.
        [ -f "$_jm_root/$3" ] || exit 44
        {
            _jm_real=$(readlink /proc/self/fd/0) || { echo 'there is no /proc, as Linux has it' >&2 && exit 1; }
            case $_jm_real in
                "$_jm_root"/*) ;;
                *) exit 47 ;;
            esac
            [ -f /proc/self/fd/0 ] || exit 44
            _jm_stat=$(stat -L -c '%s %d:%i' /proc/self/fd/0) || exit 1
            [ -z "$6" ] || [ "$6" = "${_jm_stat#* }" ] || exit 48
            _jm_size=${_jm_stat% *} _jm_offset=$4
            case $_jm_offset in
                -*)
                    _jm_offset=$((_jm_size + _jm_offset))
                    [ "$_jm_offset" -ge 0 ] || _jm_offset=0
                    ;;
            esac
            _jm_count=$((_jm_size - _jm_offset))
            [ "$_jm_count" -le "$5" ] || _jm_count=$5
            printf '%s %s\n' "$_jm_stat" "$_jm_offset"
            [ "$_jm_count" -le 0 ] || tail -c "+$((_jm_offset + 1))" | head -c "$_jm_count"
            exit
        } <"$_jm_root/$3"
        exit 45
        ;;
esac
