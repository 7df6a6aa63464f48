#!/usr/bin/env bash
# run_python.sh VENV SCRIPT [ARGUMENT...]: runs an interop test with the Python of that environment, which `make test`
# (.venv) and `make test-interop` (.venv-torch) create. Without it the test skips visibly (status 77), or fails where
# NIBBLE_NO_SKIP is set. NIBBLE_PYTHON and NIBBLE_TORCH_PYTHON name another Python.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$1
shift
case $venv in
  .venv) python=${NIBBLE_PYTHON:-} target=test ;;
  .venv-torch) python=${NIBBLE_TORCH_PYTHON:-} target=test-interop ;;
esac
python=${python:-$here/../../$venv/bin/python}
if [[ ! -x $python ]]; then
  echo "SKIP: no $venv here (make $target creates it)"
  [[ -z ${NIBBLE_NO_SKIP:-} ]] || exit 1
  exit 77
fi
export PYTHONDONTWRITEBYTECODE=1
exec "$python" "$@"
