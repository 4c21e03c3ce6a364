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
if [ "${STAY:-0}" = 1 ] && grep -qs '"stopped_early": false' "$folder/summary.json"; then
    echo "the run in $folder is finished" >&2
    trap 'exit 0' TERM INT
    sleep infinity &
    wait
    exit 0
fi

# The first checkpoint stands before the first step; from then on there is something to go on with. A finished run says so and ends.
if [ -n "$(find "$folder/checkpoints" -name 'step-*.safetensors' 2>/dev/null)" ]; then
    exec lockstep coordinator "$@" --out "$folder" --resume
fi

# Killed in the instant between making the folder and that checkpoint: nothing is in it. One is kept aside, for whoever wonders.
if [ -n "$(ls -A "$folder" 2>/dev/null)" ]; then
    rm -rf "$folder.unfinished"
    mv "$folder" "$folder.unfinished"
fi
exec lockstep coordinator "$@" --out "$folder"
