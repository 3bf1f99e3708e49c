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

# make_environment DIRECTORY EXTRAS: installs this source tree, editable, unless that is done already.
make_environment() {
    local directory=$1 extras=$2 python stamp
    python=$(choose_python)
    # Scripts in an environment hold absolute paths, so one that was moved or copied is made anew.
    stamp="$PWD $python $extras $(cat pyproject.toml constraints.txt | cksum)"
    if [[ -f $directory/stamp && $(<"$directory/stamp") == "$stamp" ]]; then
        return
    fi
    echo "installing jobmgr[$extras] into $directory ($python)" >&2
    local pip=("$directory/bin/python" -m pip)
    if ! "$python" -m venv --clear "$directory" >/dev/null 2>&1; then
        # Debian packs ensurepip apart from Python; then the pip that is there fills the environment.
        "$python" -m venv --clear --without-pip "$directory"
        pip=("$python" -m pip --python "$directory/bin/python")
    fi
    # Settings rather than -c, because those also pin what builds the package: PIP_CONSTRAINT up to
    # pip 25.2, PIP_BUILD_CONSTRAINT after it.
    PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
        "${pip[@]}" install --quiet --disable-pip-version-check -e ".[$extras]"
    echo "$stamp" >"$directory/stamp"
}
