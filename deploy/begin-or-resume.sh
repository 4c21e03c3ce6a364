#!/bin/sh
# Begins the run in FOLDER, or goes on with it: a container that starts again has only its volume to tell which.
#
#     begin-or-resume FOLDER [RECIPE] [flags of `lockstep coordinator`]
#
# STAY=1: once the run is finished, wait to be stopped, for platforms that restart whatever ends. Until then results can
# be copied out.
set -eu
folder=$1
shift

# written when a run ends; a run that was stopped says so there and goes on
if grep -qs '"stopped_early": false' "$folder/summary.json"; then
    echo "the run in $folder is finished" >&2
    [ "${STAY:-0}" = 1 ] || exit 0
    trap 'exit 0' TERM INT
    sleep infinity &
    wait
    exit 0
fi

for checkpoint in "$folder"/checkpoints/step-*.safetensors; do
    if [ -e "$checkpoint" ]; then
        exec lockstep coordinator "$@" --out "$folder" --resume
    fi
done

# Ended before its first checkpoint: there is nothing to go on from, and a run never overwrites another. Kept aside.
if [ -e "$folder" ] && [ -n "$(ls -A "$folder")" ]; then
    mv "$folder" "$folder.unfinished-$(date +%s)"
fi
exec lockstep coordinator "$@" --out "$folder"
