#!/bin/sh
# Stands where nvcc would: answers the calls that candle-kernels, cudaforge and our own build make, and compiles nothing.
# What the kernels compute comes from libcuda.so (build.sh compiles them for the CPU); the PTX written here only has to load.
set -eu

if [ "${1:-}" = --version ] || [ "${1:-}" = -V ]; then
    # cudarc reads the release out of line 4.
    cat <<'VERSION'
nvcc: NVIDIA (R) Cuda compiler driver
Copyright (c) 2005-2025 NVIDIA Corporation
Built on Wed_Aug_20_01:58:59_PM_PDT_2025
Cuda compilation tools, release 13.0, V13.0.88
Build cuda_13.0.r13.0/compiler.36424714_0
VERSION
    exit 0
fi
if [ "${1:-}" = --list-gpu-code ] || [ "${1:-}" = --list-gpu-arch ]; then
    printf '%s\n' sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_120
    exit 0
fi

kind=program output= folder= inputs=
while [ $# -gt 0 ]; do
    case $1 in
    --ptx | -ptx) kind=ptx ;;
    --cubin | -cubin) kind=cubin ;;
    --fatbin | -fatbin) kind=fatbin ;;
    -c | --compile | -dc) kind=o ;;
    --lib | -lib) kind=lib ;;
    -o | --output-file) output=$2; shift ;;
    --output-file=*) output=${1#*=} ;;
    -odir | --output-directory) folder=$2; shift ;;
    --output-directory=*) folder=${1#*=} ;;
    # Options whose value is the next word; it must not be taken for an input.
    --default-stream | -ccbin | -Xcompiler | -Xptxas | -Xlinker | -Xfatbin) shift ;;
    -gencode | --generate-code | -arch | --gpu-architecture | -code | --gpu-code) shift ;;
    -x | -std | --std | -O | -I | --include-path | -L | -l | -D | -MF | -MT) shift ;;
    -*) ;;
    *) inputs="$inputs $1" ;;
    esac
    shift
done
if [ -z "$inputs" ]; then
    echo "stand-in nvcc: no input file" >&2
    exit 1
fi

# Each line `KERNEL(name)` becomes an entry, so that asking the wrong module for a kernel is found out. Names that macros put
# together can't be seen here; then there are no entries, and a text without entries lets every name through.
ptx() {
    echo "// stand-in: compiled from $(basename "$1") by nobody"
    printf '.version 9.0\n.target sm_90\n.address_size 64\n'
    if grep 'KERNEL(' "$1" | grep -q -v '^KERNEL([A-Za-z0-9_]*).*[^\\]$'; then return; fi
    sed -n -e 's/^KERNEL(\([A-Za-z0-9_]*\)).*/.visible .entry \1() { ret; }/p' "$1"
}

for input in $inputs; do
    [ -e "$input" ] || { echo "stand-in nvcc: $input: no such file" >&2; exit 1; }
done
case $kind in
ptx | cubin | fatbin)
    for input in $inputs; do
        target=${output:-${folder:-.}/$(basename "$input" .cu).$kind}
        ptx "$input" > "$target"
    done
    ;;
o)
    for input in $inputs; do
        target=${output:-${folder:-.}/$(basename "$input" .cu).o}
        # An object file with nothing in it.
        gcc -x c -c -o "$target" /dev/null
    done
    ;;
lib)
    rm -f "$output"
    # shellcheck disable=SC2086 # the list of objects
    ar rcs "$output" $inputs
    ;;
*)
    echo "stand-in nvcc: asked for a program, which a stand-in can't make" >&2
    exit 1
    ;;
esac
