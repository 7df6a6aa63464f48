#!/usr/bin/env bash
# tidy.sh BUILD_DIR [FILE...]: clang-tidy over our own C++ files (all of them without FILE), in parallel.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=$1
shift
if (($# == 0)); then
  mapfile -t files < <(git ls-files 'src/*.cc' 'cli/*.cc' 'fuzz/*.cc' 'bench/*.cc' 'tests/*.cc')
  set -- "${files[@]}"
fi
# Only files that this build compiles have a command line to check them with.
printf '%s\n' "$@" | while read -r file; do
  grep -qF "/$file\"" "$build/compile_commands.json" && echo "$file"
done | xargs -P "$(nproc)" -n 1 clang-tidy-14 -p "$build" --quiet
