#!/usr/bin/env bash
# fuzz.sh BUILD_DIR [SECONDS] [JOBS]: runs every libFuzzer target of that build for SECONDS each, JOBS at a time, from the
# kept corpora. New inputs go to BUILD_DIR/corpus, findings to BUILD_DIR/findings with the command that shows each.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=$1 seconds=${2:-600} jobs=${3:-$(nproc)}
mkdir -p "$build/findings"

fuzz_one() {
  local target=$1 build=$2 seconds=$3 name
  name=${target##*/fuzz_}
  mkdir -p "$build/corpus/$name" "fuzz/corpus/$name"
  if "$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=60 -print_final_stats=1 \
    -artifact_prefix="$build/findings/$name-" "$build/corpus/$name" "fuzz/corpus/$name" >"$build/findings/$name.log" 2>&1; then
    echo "$name: nothing found in $seconds s, $(grep -o 'stat::number_of_executed_units: .*' "$build/findings/$name.log" | cut -d' ' -f2) inputs"
  else
    echo "$name: FOUND SOMETHING, see $build/findings/$name.log"
    grep -E 'ERROR|SUMMARY|Test unit written' "$build/findings/$name.log" || true
    return 1
  fi
}
export -f fuzz_one
printf '%s\0' "$build"/fuzz/fuzz_* | xargs -0 -P "$jobs" -I{} bash -c 'fuzz_one "$@"' fuzz_one {} "$build" "$seconds"
