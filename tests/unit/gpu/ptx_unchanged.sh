#!/bin/sh
# Compiles the standard codelets to PTX and compares that with what is checked in.
set -eu
aios_kc=$1
folder=$2
if ! command -v clang++-16 >/dev/null; then
  echo 'clang-16 is not installed'
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for source in "$folder"/*.kc; do
  name=$(basename "$source" .kc)
  "$aios_kc" "$source" --clang clang++-16 --emit-ptx -o "$work/$name.ptx"
  if ! diff -u "$folder/ptx/$name.ptx" "$work/$name.ptx"; then
    echo "ptx/$name.ptx is not what $name.kc compiles to: tools/aios-kc $name.kc --emit-ptx -o ptx/$name.ptx"
    exit 1
  fi
done
# And the comparison can fail.
sed 's/add.f32/sub.f32/' "$work/vector.ptx" >"$work/changed"
! cmp -s "$folder/ptx/vector.ptx" "$work/changed"
