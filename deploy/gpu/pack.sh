#!/usr/bin/env bash
# On a machine with Rust, CUDA and cuDNN: builds what deploy/gpu/run.sh runs, and packs it for a GPU machine that has neither Rust nor
# a network. Usage: deploy/gpu/pack.sh [OUT.tar.gz] [IMAGES: the folder cifar-10-batches-bin]
#
#   FEATURES     what the build has (default cuda); cuda,nccl where both machines have NCCL
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=$(realpath -m "${1:-lockstep-gpu.tar.gz}")
images=${2:-}
features=${FEATURES:-cuda}

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
pack=$temporary/lockstep-gpu
mkdir "$pack"

# without debug information: a tenth of the size
export CARGO_PROFILE_RELEASE_STRIP=true
cargo build --release --locked --features "$features" --bin lockstep
# executable NAME: the test program that cargo builds of it
executable() {
    cargo test --release --locked --features "$features" -p lockstep-worker "$@" --no-run --message-format json \
        | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1
}
units=$(executable --lib)
oracle=$(executable --test oracle)

target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
cp "$target/release/lockstep" "$pack/lockstep"
cp "$units" "$pack/units"
cp "$oracle" "$pack/oracle"
# what the oracle reads, where it looks for it: beside the folder that it takes for the crate's
mkdir -p "$pack/worker" "$pack/tests" "$pack/recipes"
cp -r tests/oracle "$pack/tests/"
cp -r recipes/models "$pack/recipes/"
cp deploy/gpu/run.sh "$pack/"
# kernels for a newer CUDA than the driver's are refused at the start
"${CUDA_HOME:+$CUDA_HOME/bin/}nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p' >"$pack/built-for"
[[ -z $images ]] || cp -r "$images" "$pack/images"
tar -C "$temporary" -czf "$out" lockstep-gpu
echo "$out: unpack it on the GPU machine and run lockstep-gpu/run.sh"
