#!/bin/sh
# Simulates the HFSS projects of a folder with a service of its own: campaign.sh FOLDER [OPTION OF hfss start]...
set -eu

folder=$1
shift
jobmgr hfss start --port 0 "$@" &
service=$!
# What runs runs on, also if this was interrupted; the next service takes it up.
trap 'kill "$service" && wait "$service"' EXIT
until jobmgr ls >/dev/null 2>&1; do
    kill -0 "$service"
    sleep 1
done

jobmgr hfss submit-batch --root-dir "$folder" --recursive --wait
