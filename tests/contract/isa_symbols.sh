#!/bin/sh
# isa_symbols.sh NM LIST: fails if an object file named in LIST defines a symbol for others outside
# nibble::<instruction set>. A weak one, like an inline function of std::, could be picked by the
# linker for the whole program, which then dies on older processors.
set -eu
nm=$1
list=$2
bad=0
objects=0
while read -r object; do
  [ -n "$object" ] || continue
  objects=$((objects + 1))
  found=$("$nm" --defined-only "$object" | awk '
    $2 ~ /^[A-Zuvw]$/ && $3 !~ /^_Z[A-Z]*NK?6nibble[0-9]+(scalar|avx2|avx512|neon)/ { print $2, $3 }')
  if [ -n "$found" ]; then
    echo "$object: outside nibble::<instruction set> (W, V, u: weak): $found"
    bad=1
  fi
done < "$list"
[ "$objects" -gt 0 ] || { echo "$list names no object"; exit 1; }
[ "$bad" -eq 0 ] && echo "$objects objects define nothing but their own"
exit "$bad"
