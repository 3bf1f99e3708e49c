# The gate of an attempt in POSIX sh; executors/gate.py says the same. Names begin with _jm_, because what a job sets
# up and exports is its own.

# Answers the time, with microseconds where `date` knows them.
_jm_now() {
    _jm_at=$(date -u +%Y-%m-%dT%H:%M:%S.%6NZ)
    case $_jm_at in *[!0-9TZ:.-]*) _jm_at=$(date -u +%Y-%m-%dT%H:%M:%SZ) ;; esac
    printf %s "$_jm_at"
}

# _jm_decide DECISION MORE: whether this is what the gate says now; MORE is the rest of its content. It is written under
# a private name and linked, so it is never overwritten. After a failure of `ln`, which a network file system may only
# imagine, the gate itself tells.
_jm_decide() {
    printf '{"v": 1, "token": "%s", "decision": "%s", "nonce": "%s", %s}' \
        "$_jm_token" "$1" "$_jm_nonce" "$2" >"$_jm_control/gate.$_jm_nonce" || {
        # On a full disk each try would leave one behind.
        rm -f "$_jm_control/gate.$_jm_nonce"
        return 1
    }
    _jm_is_mine=
    ln "$_jm_control/gate.$_jm_nonce" "$_jm_control/gate" 2>/dev/null && _jm_is_mine=1
    rm -f "$_jm_control/gate.$_jm_nonce"
    [ -n "$_jm_is_mine" ] && return 0
    case $(cat "$_jm_control/gate" 2>/dev/null) in *"\"nonce\": \"$_jm_nonce\""*) return 0 ;; esac
    return 1
}
