#!/usr/bin/env bash
# Installs what the scripts beside this one compare with, from package registries, outside the repository:
#
#   install.sh DIR     DIR/bin   llama-bench, llama-batched-bench, llama-quantize, llama-imatrix: stock llama.cpp, built for this
#                                processor from the tree in the source package llama-cpp-python (10 minutes on two cores)
#                      DIR/venv  a Python that has ik_llama.cpp and the rest of requirements.txt
#
# What is there already is not made again. Needs CMake, Ninja, a C++ compiler and Python (scripts/bootstrap.sh).
set -euo pipefail

source_package=llama-cpp-python==0.3.36
programs=(llama-bench llama-batched-bench llama-quantize llama-imatrix)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if (($# != 1)); then
  sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
dir=$(realpath -m "$1")
root=$(cd "$here/../.." && pwd)
if [[ $dir/ == "$root"/* ]]; then
  echo "$dir: lies in the repository; peers are kept outside of it" >&2
  exit 2
fi

mkdir -p "$dir"
if [[ ! -x $dir/venv/bin/python ]]; then
  python3 -m venv "$dir/venv"
fi
"$dir/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"

if [[ ! -x $dir/bin/${programs[-1]} ]]; then
  work=$(mktemp -d "$dir/build.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  echo "fetching $source_package"
  "$dir/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
    -d "$work" "$source_package"
  tar -xzf "$work"/*.tar.gz -C "$work"
  tree=$(echo "$work"/*/vendor/llama.cpp)
  rm -f "$tree/.git" # a pointer to a repository that is not there, for which the build would look again and again
  cmake -S "$tree" -B "$work/out" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF \
    -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF >"$work/configure.log"
  cmake --build "$work/out" --target "${programs[@]}"
  mkdir -p "$dir/bin"
  (cd "$work/out/bin" && mv "${programs[@]}" "$dir/bin")
fi

cat <<END
bench/peers/speed.py, load.py: $dir/venv/bin/python bench/peers/speed.py build/release/nibble $dir/bin/llama-bench MODEL.gguf
bench/peers/quantize.py:       $dir/venv/bin/python bench/peers/quantize.py build/release/nibble $dir/bin/llama-quantize MODEL.gguf
END
