#!/usr/bin/env bash
# Checks that this machine can build nibble, and installs what Debian packages can mend.
#
#   scripts/bootstrap.sh [lint] [fuzz] [cross] [web]     extra groups of packages on top of what the build needs
#
# As root, missing packages are installed with apt-get. Otherwise the one command that would do it is printed.
# A tool that no package of this system can mend (an old Rust, CMake or compiler) gets one line with the command that
# does. Exit status: 0 when everything is there, 1 when something is still missing.
set -u
root=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)

packages=(make g++ cmake ninja-build pkg-config python3 python3-venv ca-certificates
  libfmt-dev libexpected-dev nlohmann-json3-dev libcli11-dev libssl-dev libcurl4-openssl-dev
  libopenblas-dev libmicrohttpd-dev prometheus-cpp-dev libgtest-dev libgmock-dev libbenchmark-dev)
for group in "$@"; do
  case $group in
    lint) packages+=(clang-format-14 clang-tidy-14) ;;
    fuzz) packages+=(clang-14 libclang-rt-14-dev) ;;
    web) packages+=(nodejs npm chromium haproxy) ;;
    cross) packages+=(g++-aarch64-linux-gnu qemu-user {libfmt,libssl,libopenblas,libmicrohttpd,prometheus-cpp,libgtest,libgmock}-dev:arm64) ;;
    *) echo "bootstrap: unknown group '$group'; known: lint fuzz cross web" >&2; exit 1 ;;
  esac
done

problems=0
problem() { echo "bootstrap: $*" >&2; problems=$((problems + 1)); }

# at_least 3.25 3.18.4: is the second version at least the first?
at_least() {
  local -a want have
  IFS=. read -ra want <<<"$1"
  IFS=. read -ra have <<<"$2"
  local i
  for i in "${!want[@]}"; do
    ((10#${have[i]:-0} == 10#${want[i]})) || return $((10#${have[i]:-0} < 10#${want[i]}))
  done
}

# The first dotted number that a command prints.
version_of() {
  local text
  text=$("$@" 2>/dev/null) || return 1
  [[ $text =~ [0-9]+(\.[0-9]+)+ ]] && echo "${BASH_REMATCH[0]}"
}

# The number after `pattern` in a file of the repository: each minimum is stated once, where it is used.
stated() {
  [[ $(<"$root/$1") =~ $2([0-9.]+) ]] && echo "${BASH_REMATCH[1]}"
}

# need NAME HAVE WANT MEND: one tool that is there, but perhaps too old.
need() {
  [[ -n $2 ]] || { problem "$1 is missing, $3 or newer is needed. Mend it with: $4"; return; }
  at_least "$3" "$2" || problem "$1 $2 is too old, $3 or newer is needed. Mend it with: $4"
}

install_packages() {
  local missing=() name status native prepare=''
  local -A installed=()
  if ! command -v dpkg-query >/dev/null; then
    echo "bootstrap: no dpkg here, so packages are not checked; the build needs what Debian calls: ${packages[*]}" >&2
    return
  fi
  native=$(dpkg --print-architecture 2>/dev/null)
  while read -r status name; do  # names of other architectures end in :architecture, those of this one may
    [[ $status == ii ]] && installed[${name%":$native"}]=1
  done < <(dpkg-query -W -f '${db:Status-Abbrev} ${binary:Package}\n' "${packages[@]}" 2>/dev/null)
  for name in "${packages[@]}"; do
    [[ -n ${installed[$name]:-} ]] || satisfied "$name" || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  [[ ${missing[*]} == *:arm64* ]] && prepare="dpkg --add-architecture arm64 && "
  local command="${prepare}apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
  if [[ $(id -u) != 0 ]]; then
    problem "not root, and packages are missing. Mend it with: sudo sh -c '$command'"
    return
  fi
  echo "bootstrap: installing ${missing[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  (eval "${command//apt-get/apt-get -qq}") >&2 </dev/null ||
    problem "apt-get failed (see above). Mend it with: $command"
}

# Tools that may have come from elsewhere (pip, a self-built compiler) need no package.
satisfied() {
  case $1 in
    cmake | make) command -v "$1" >/dev/null ;;
    ninja-build) command -v ninja >/dev/null ;;
    g++) command -v "${CXX:-c++}" >/dev/null ;;
    python3 | npm | chromium | haproxy) command -v "$1" >/dev/null ;;
    nodejs) command -v node >/dev/null ;;
    python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    clang-format-14 | clang-tidy-14 | clang-14) command -v "$1" >/dev/null ;;
    *) return 1 ;;
  esac
}

check_tools() {
  local cxx=${CXX:-c++} compiler
  PATH=$PATH:${HOME:-/nonexistent}/.cargo/bin
  need CMake "$(version_of cmake --version)" "$(stated CMakeLists.txt 'cmake_minimum_required\(VERSION ')" \
    "python3 -m pip install --user 'cmake>=3.25' (and put ~/.local/bin first in PATH)"
  if compiler=$("$cxx" --version 2>/dev/null) && [[ $compiler == *clang* ]]; then
    need "clang++ ($cxx)" "$(version_of "$cxx" --version)" 14 "apt-get install clang-14, then export CC=clang-14 CXX=clang++-14"
  else
    need "g++ ($cxx)" "$(version_of "$cxx" -dumpfullversion)" 12 "apt-get install g++-12, then export CC=gcc-12 CXX=g++-12"
  fi
  need Ninja "$(version_of ninja --version)" 1.10 "apt-get install ninja-build"
  need Python "$(version_of python3 --version)" 3.11 "apt-get install python3 python3-venv (and put it first in PATH)"
  local rust="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
  local wanted
  wanted=$(stated src/text/rust/Cargo.toml 'rust-version = "')
  need "Rust (cargo)" "$(version_of cargo --version)" "$wanted" "$rust"
  need "Rust (rustc)" "$(version_of rustc --version)" "$wanted" "$rust"
}

install_packages
check_tools
((problems == 0)) || { echo "bootstrap: $problems thing(s) to mend, then run the same command again" >&2; exit 1; }
