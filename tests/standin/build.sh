#!/bin/sh
# Makes a stand-in for CUDA, cuBLAS, cuDNN, cuRAND and NCCL in a folder: `build.sh DIR`. README.md says what for and how to use it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1/bin" "$1/lib" "$1/include" "$1/build"
out=$(cd "$1" && pwd)
kernels=${STANDIN_KERNELS:-$here/../../worker/src/cuda/kernels}

# The crates' sources say which functions a program may want. Cargo.lock names the version; cargo has unpacked it.
crate() {
    version=$(awk -v name="$1" '$0 == "name = \"" name "\"" { getline; gsub(/[^0-9.]/, ""); print }' "$here/../../Cargo.lock" | head -n 1)
    for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$1"-${version:-[0-9]*}; do
        [ -d "$folder/src" ] && { echo "$folder"; return; }
    done
    echo "$0: $1 ${version:-} is not unpacked in ${CARGO_HOME:-$HOME/.cargo}/registry/src: run \`cargo fetch\` first" >&2
    exit 1
}
cudarc=$(crate cudarc)
candle=$(crate candle-kernels)

# stubs LIBRARY FILE...: a weak function for each that FILE declares, which says its name and aborts. A real one goes before it.
stubs() {
    library=$1; shift
    {
        echo '#include "host.h"'
        sed -n 's/^ *\(pub \)\{0,1\}fn \([A-Za-z_][A-Za-z0-9_]*\)(.*/\2/p' "$@" | sort -u |
            sed 's/.*/__attribute__((weak)) int &(void) { standin_missing("&"); }/'
    } > "$out/build/stubs_$library.c"
}
# Only lines inside `extern "C" { }` declare: `pub unsafe fn`, which wraps them, does not match above.
stubs cuda "$cudarc/src/driver/sys/mod.rs"
stubs cudart "$cudarc/src/runtime/sys/mod.rs" "$candle/src/ffi.rs"
stubs nvrtc "$cudarc/src/nvrtc/sys/mod.rs"
stubs curand "$cudarc/src/curand/sys/mod.rs"
stubs cublas "$cudarc/src/cublas/sys/mod.rs"
stubs cublasLt "$cudarc/src/cublaslt/sys/mod.rs"
stubs cudnn "$cudarc/src/cudnn/sys/mod.rs"
stubs nccl "$cudarc/src/nccl/sys/mod.rs"

flags="-std=gnu11 -D_GNU_SOURCE -O2 -ftree-vectorize -fvect-cost-model=dynamic -g1 -fPIC -ffp-contract=off -fno-math-errno -I$here"
strict="-Wall -Wextra -Werror"
# STANDIN_SANITIZE=1: kernels as sanitizer.c watches them, and C's own rules (alignment, bounds, shifts) looked after; a few times slower
watched=
[ -z "${STANDIN_SANITIZE:-}" ] || watched="-O1 -fsanitize=thread,undefined -fno-sanitize=vptr -fno-sanitize-recover=all"

# library NAME VERSION FILE...: libNAME.so with the soname of CUDA 13 and cuDNN 9, out of its stubs and C files. All but libcuda
# use libcuda's memory and counters. Written aside and renamed: a program that runs keeps the library it has.
library() {
    name=$1 soname=lib$1.so.$2
    shift 2
    if [ "$name" = cuda ]; then needs="-ldl -lm -lpthread"; else needs="-L$out/lib -l:libcuda.so.1 -lm"; fi
    # shellcheck disable=SC2086 # flags and libraries are lists
    gcc $flags $strict -shared -Wl,-soname,"$soname" -o "$out/build/$soname" "$out/build/stubs_$name.c" "$@" $needs ${watched:+-lubsan}
    mv "$out/build/$soname" "$out/lib/$soname"
    ln -sf "$soname" "$out/lib/lib$name.so"
}

rm -f "$out/build"/kernels_*.o
for kernel in "$kernels"/*.cu; do
    [ -e "$kernel" ] || continue
    # A function that C does not know would be taken for one that returns int, and found out only when it is called.
    # shellcheck disable=SC2086
    gcc $flags $watched -fvisibility=hidden -Wall -Wno-unused -Werror=implicit-function-declaration -I"$kernels" -x c -c "$kernel" \
        -o "$out/build/kernels_$(basename "$kernel" .cu).o"
done
set -- "$out/build"/kernels_*.o
[ -e "$1" ] || set --

library cuda 1 "$here"/memory.c "$here"/fibres.c "$here"/sanitizer.c "$here"/counters.c "$here"/driver_*.c "$here"/candle_*.c "$@"
library cudart 13
library nvrtc 13
library curand 10 "$here"/curand.c
library cublas 13 "$here"/cublas.c
library cublasLt 13
library cudnn 9 "$here"/cudnn_*.c
library nccl 2 "$here"/nccl.c

# cudarc reads these where it takes a version from the build system.
printf '#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 21\n#define CUDNN_PATCHLEVEL 0\n' > "$out/include/cudnn_version.h"
printf '#define NCCL_MAJOR 2\n#define NCCL_MINOR 30\n' > "$out/include/nccl.h"

cp "$here/nvcc.sh" "$out/build/nvcc"
chmod +x "$out/build/nvcc"
mv "$out/build/nvcc" "$out/bin/nvcc"
ln -sfn lib "$out/lib64"
