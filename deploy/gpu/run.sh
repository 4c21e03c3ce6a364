#!/usr/bin/env bash
# On a machine with a GPU, its driver and the CUDA libraries, without Rust or a network: checks the binary beside this script, measures
# it, and prints one table, which is also left in $OUT/table.md.
#
#   OUT=DIR      where results go (default ./out)
#   PYTHON, PEER a Python with torch, and the PyTorch program to measure beside ours on the same GPU (its line of JSON has images_per_s)
#   ONLY         some of: tests verify bench train nccl (default: all)
#   PAIRS        what bench measures, each a model and a batch size (default: nine pairs, which take half an hour beside PyTorch)
#   SECONDS_EACH how long a run may take before it is given up (default 300)
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lockstep=${LOCKSTEP:-$here/lockstep}
units=${UNITS:-$here/units}
oracle=${ORACLE:-$here/oracle}
out=${OUT:-./out}
only=${ONLY:-tests verify bench train nccl}
pairs=${PAIRS:-lenet:64 lenet:512 lenet-dropout-bn:64 base:128 base:512 net6:128 net6:512 convnet:128 convnet:512}
limit=${SECONDS_EACH:-300}
mkdir -p "$out"
table=$out/table.md
images=builtin
[[ ! -d $here/images ]] || images=$here/images
[[ -z ${LOCKSTEP_DATA:-} ]] || images=$LOCKSTEP_DATA

missing=$(ldd "$lockstep" 2>/dev/null | sed -n 's/\(.*\) => not found/\1/p' | xargs)
if [[ -n $missing ]]; then
    echo "error: $lockstep needs $missing: put the CUDA and cuDNN libraries' folders into LD_LIBRARY_PATH" >&2
    exit 64
fi
gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -1)
cuda=$(nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9.]*\).*/\1/p' | head -1)
built=$(cat "$here/built-for" 2>/dev/null)
if [[ -n $cuda && -n $built && $(printf '%s\n' "$built" "$cuda" | sort -V | tail -1) != "$cuda" ]]; then
    echo "warning: the kernels are built for CUDA $built, and the driver knows $cuda: it may refuse them; build with an older nvcc" >&2
fi
{
    echo "GPU: ${gpu:-unknown}; driver for CUDA ${cuda:-unknown}; $("$lockstep" --version), built for ${built:-unknown}; images: $(basename "$images")"
    echo
    echo "| what | result | beside it | ratio |"
    echo "| --- | ---: | ---: | ---: |"
} | tee "$table"

failed=0
row() { echo "| $1 | $2 | ${3:-} | ${4:-} |" | tee -a "$table"; }
want() { [[ " $only " == *" $1 "* ]]; }
# value NAME: of the last line of JSON on standard input
value() { sed -n 's/.*"'"$1"'":[ ]*"\{0,1\}\([^",}]*\).*/\1/p' | tail -1; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (a > 0 && b > 0) printf "%.2f", a / b }'; }

# check WHAT PROGRAM FILTER [LOG]: tests that must pass
check() {
    local log=$out/${4:-$(basename "$2")}.log
    [[ -x $2 ]] || return 0
    if CARGO_MANIFEST_DIR=$here/worker timeout "$limit" "$2" "$3" >"$log" 2>&1; then
        row "$1" "$(grep -c '\.\.\. ok' "$log") tests pass"
    else
        row "$1" "FAILED ($(basename "$log"))"
        failed=1
    fi
}

if want tests; then
    check "every layer, loss and augmentation against the CPU" "$units" cuda
    check "the LeNets' gradients against PyTorch's float64, TF32 off and on" "$oracle" gpu
    LOCKSTEP_CUDA_MEMORY_FORMAT=channels_last check "the same with channels last" "$oracle" gpu oracle-channels-last
fi

if want verify; then
    for recipe in lenet lenet-dropout-bn base net6; do
        log=$out/verify-$recipe.log
        if timeout "$limit" "$lockstep" verify "$recipe" --device cuda:0 --data "$images" --workers 1,2,4 --kill 1@10 --steps 20 \
            >"$log" 2>&1; then
            row "verify $recipe: 1, 2, 4 workers on one GPU, one killed" "one hash"
        else
            row "verify $recipe: 1, 2, 4 workers on one GPU, one killed" "FAILED ($(basename "$log"))"
            failed=1
        fi
    done
fi

# Seconds that each side times at least, after the first tenth of its steps: a GPU's clocks need that long to settle.
seconds=3

# rate BATCH COMMAND...: images/s of a program that takes --steps and says in JSON how many it made. Asked for so many that they fill the time,
# and that the PyTorch program makes no more: beyond those that it was asked for it waits for the GPU at each step, to look at the clock.
rate() {
    local batch=$1 steps=300 line made found
    shift
    # a first look, then twice what that would need; more only where waiting had cost more than half
    for _ in 1 2 3 4; do
        line=$(timeout "$limit" "$@" --steps "$steps" | tail -1)
        made=$(value steps <<<"$line") found=$(value images_per_s <<<"$line")
        [[ -n $made && -n $found ]] || return 0
        awk -v n="$made" -v asked="$steps" -v b="$batch" -v r="$found" -v s="$seconds" \
            'BEGIN { exit !(n == asked && 0.9 * n * b >= s * r) }' && break
        steps=$(awk -v b="$batch" -v r="$found" -v s="$seconds" 'BEGIN { printf "%d", 2 * s * r / (0.9 * b) + 100 }')
    done
    echo "$line" >>"$out/rates.jsonl"
    echo "$found"
}

# peer MODEL BATCH: the better of PyTorch's eager and compiled images/s, as far as there is a PyTorch; on the same images, if it can read them
peer() {
    [[ -n ${PYTHON:-} && -n ${PEER:-} ]] || return 0
    local best=0 found mode same=()
    [[ ! -f $images/data_batch_1.bin ]] || same=(--data "$images")
    for mode in "" --compile; do
        # shellcheck disable=SC2086 # no mode is no argument
        found=$(rate "$2" "$PYTHON" "$PEER" --model "$1" --batch "$2" --workers 1 --seconds "$seconds" "${same[@]}" $mode 2>>"$out/peer.log")
        best=$(awk -v a="${found:-0}" -v b="$best" 'BEGIN { print (a > b) ? a : b }')
    done
    echo "$best"
}

# ours MODEL BATCH FLAG...: images/s with one shard, which is what one PyTorch process does
ours() {
    rate "$2" "$lockstep" bench --model "$1" --batch-size "$2" "${@:3}" --shards 1 --workers 1 --device cuda:0 --data "$images" --json \
        2>>"$out/bench.log"
}

if want bench; then
    for pair in $pairs; do
        model=${pair%:*} batch=${pair#*:}
        mine=$(ours "$model" "$batch")
        beside=$(peer "$model" "$batch")
        row "bench $model, batch $batch, images/s" "${mine:-FAILED (bench.log)}" "${beside:-}" "$(ratio "${mine:-0}" "${beside:-0}")"
        [[ -n $mine ]] || failed=1
        last=$(LOCKSTEP_CUDA_MEMORY_FORMAT=channels_last ours "$model" "$batch")
        plain=$(LOCKSTEP_CUDA_MEMORY_FORMAT=contiguous ours "$model" "$batch")
        row "the same, channels_last, beside contiguous" "${last:-FAILED (bench.log)}" "${plain:-}" "$(ratio "${last:-0}" "${plain:-0}")"
        fast=$(ours "$model" "$batch" --fast)
        row "the same with --fast, beside without" "${fast:-FAILED (bench.log)}" "${mine:-}" "$(ratio "${fast:-0}" "${mine:-0}")"
    done
fi

if want train; then
    for recipe in lenet-dropout-bn net6 convnet; do
        folder=$out/train-$recipe
        if timeout "$limit" "$lockstep" train "$recipe" --device cuda:0 --workers 1 --data "$images" --out "$folder" \
            >"$out/train-$recipe.log" 2>&1; then
            row "train $recipe, whole, seconds (test accuracy)" \
                "$(value seconds <"$folder/summary.json") ($(value test_accuracy <"$folder/summary.json"))"
        else
            row "train $recipe, whole, seconds" "FAILED (train-$recipe.log)"
            failed=1
        fi
    done
fi

# one GPU is all that is asked of this machine, where NCCL has one rank; with more, one a GPU
if want nccl && ldd "$lockstep" 2>/dev/null | grep -q libnccl; then
    gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')
    [[ -z ${CUDA_VISIBLE_DEVICES:-} ]] || gpus=$(tr , '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c .)
    counts=1
    for count in 2 4; do ((count > gpus)) || counts+=,$count; done
    if timeout "$limit" "$lockstep" verify convnet --plane nccl-ordered --device cuda --data "$images" --workers "$counts" --kill 0@10 \
        --steps 20 >"$out/verify-nccl.log" 2>&1; then
        row "verify convnet --plane nccl-ordered: $counts GPUs, one killed" "one hash"
    else
        row "verify convnet --plane nccl-ordered: $counts GPUs, one killed" "FAILED (verify-nccl.log)"
        failed=1
    fi
    for plane in nccl nccl-ordered auto; do
        mine=$(rate 128 "$lockstep" bench --model convnet --batch-size 128 --shards 1 --workers 1 --device cuda:0 --data "$images" --fast \
            --plane "$plane" --json 2>>"$out/nccl.log")
        row "bench convnet, batch 128, --plane $plane, images/s" "${mine:-FAILED (nccl.log)}"
        [[ -n $mine ]] || failed=1
    done
fi

exit "$failed"
