#!/bin/sh
# Compiles kernels to PTX and compares that with what is checked in.
# usage: ptx_unchanged.sh AIOS_KC CODELET_FOLDER [SOURCE PTX]...
set -eu
aios_kc=$1
folder=$2
shift 2
if ! command -v clang++-16 >/dev/null; then
  echo 'clang-16 is not installed'
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
compare() {
  "$aios_kc" "$1" --clang clang++-16 --emit-ptx -o "$work/$(basename "$2")"
  if ! diff -u "$2" "$work/$(basename "$2")"; then
    echo "$2 is not what $1 compiles to: tools/aios-kc $1 --emit-ptx -o $2"
    exit 1
  fi
}
for source in "$folder"/*.kc; do
  compare "$source" "$folder/ptx/$(basename "$source" .kc).ptx"
done
while [ $# -gt 0 ]; do
  compare "$1" "$2"
  shift 2
done
# And the comparison can fail.
sed 's/add.f32/sub.f32/' "$work/vector.ptx" >"$work/changed"
! cmp -s "$folder/ptx/vector.ptx" "$work/changed"
