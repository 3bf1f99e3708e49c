# Sourced by the scripts beside it: goes to the top directory and makes virtual environments there.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# Prints the path of the Python to use: $JOBMGR_PYTHON, or else the newest that is known to work.
choose_python() {
    local candidates=(python3.13 python3.12 python3.11 python3) candidate
    if [[ -n ${JOBMGR_PYTHON:-} ]]; then
        candidates=("$JOBMGR_PYTHON")
    fi
    for candidate in "${candidates[@]}"; do
        # A name on the PATH may be a shim that only fails, so a candidate has to run.
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    echo "Python 3.11 or newer is needed, tried: ${candidates[*]}; set JOBMGR_PYTHON to its path" >&2
    return 1
}

# make_environment DIRECTORY LOCK: installs what locks/LOCK.txt names, and this source tree, editable, unless that is
# done already.
make_environment() {
    local directory=$1 lock=locks/$2.txt python stamp
    python=$(choose_python)
    # Scripts in an environment hold absolute paths, so one that was moved or copied is made anew.
    stamp="$PWD $python $lock $(cat pyproject.toml "$lock" | cksum)"
    if [[ -f $directory/stamp && $(<"$directory/stamp") == "$stamp" ]]; then
        return
    fi
    echo "installing jobmgr and $lock into $directory ($python)" >&2
    if ! "$python" -m venv --clear "$directory" >/dev/null 2>&1; then
        "$python" -m venv --clear --without-pip "$directory"
    fi
    pip_of "$directory" install --quiet --require-hashes -r "$lock"
    # What builds it is in the lock, too.
    pip_of "$directory" install --quiet --no-deps --no-build-isolation -e .
    echo "$stamp" >"$directory/stamp"
}

# pip_of DIRECTORY ARGUMENT...: pip for the environment there.
pip_of() {
    local environment=$1/bin/python pip=("$1/bin/python" -m pip)
    shift
    if ! "$environment" -c 'import pip' 2>/dev/null; then
        # Debian packs ensurepip apart from Python; then the pip that is there fills the environment.
        pip=("$(choose_python)" -m pip --python "$environment")
    fi
    "${pip[@]}" --disable-pip-version-check "$@"
}
