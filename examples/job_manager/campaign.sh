#!/bin/sh
# Simulates the HFSS projects of a folder: campaign.sh FOLDER [OPTION OF hfss start]...
# With the service that runs, or else with one of its own for as long as that takes.
set -eu

folder=$1
shift
if jobmgr ls >/dev/null 2>&1; then
    echo "campaign.sh: the service that runs takes the projects${1:+; its limits hold, and not $*}" >&2
else
    jobmgr hfss start --port 0 "$@" &
    service=$!
    # What runs runs on, also if this was interrupted; the next service takes it up.
    trap 'kill "$service" && wait "$service"' EXIT
    until jobmgr ls >/dev/null 2>&1; do
        kill -0 "$service"
        sleep 1
    done
fi

jobmgr hfss submit-batch --root-dir "$folder" --recursive --wait
