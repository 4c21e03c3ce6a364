#!/bin/sh
# Leaves out each barrier of each kernel in turn, and runs PROGRAM, which must fail then, on a stand-in in DIR that watches kernels:
# `barriers.sh DIR PROGRAM ARGUMENT...`. A barrier that nothing fails without is one too many, or is tested by nothing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 2 ] || { echo "usage: $0 DIR PROGRAM ARGUMENT..." >&2; exit 2; }
kernels=$(cd "$here/../../worker/src/cuda/kernels" && pwd)
dir=$1
shift
without=$(mktemp -d)
trap 'rm -rf "$without"' EXIT

# run PROGRAM ARGUMENT...: whether it ends well with what is in $without/kernels; without a barrier a kernel may never end
run() {
    STANDIN_KERNELS=$without/kernels STANDIN_SANITIZE=1 "$here/build.sh" "$dir" || { echo "no stand-in to watch them" >&2; exit 1; }
    LD_LIBRARY_PATH=$dir/lib timeout 600 "$@" > "$without/log" 2>&1
}

cp -r "$kernels" "$without/kernels"
# what is wrong with the kernels as they are would be found without any barrier, too
run "$@" || { cat "$without/log" >&2; echo "it fails with all barriers" >&2; exit 1; }
bad=0 tried=0
for place in $(cd "$kernels" && grep -n '^ *BARRIER();' -- *.cu *.h | cut -d: -f1,2); do
    file=${place%:*} line=${place##*:}
    rm -rf "$without/kernels"
    cp -r "$kernels" "$without/kernels"
    sed -i "${line}s/BARRIER();//" "$without/kernels/$file"
    tried=$((tried + 1))
    if run "$@"; then
        echo "$file, line $line: nothing fails without this barrier" >&2
        bad=$((bad + 1))
    elif ! grep -aq 'stand-in: kernel' "$without/log"; then
        cat "$without/log" >&2
        echo "$file, line $line: the program failed, and not by what the stand-in saw" >&2
        bad=$((bad + 1))
    fi
done
echo "$tried barriers left out in turn: $((tried - bad)) found"
[ "$tried" -gt 0 ] && [ "$bad" -eq 0 ]
