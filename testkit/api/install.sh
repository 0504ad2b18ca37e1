#!/usr/bin/env bash
# Installs what run.sh needs: npm packages into node_modules and Python packages into .venv, both beside this file. Does nothing when
# the lists have not changed since the last complete installation.
set -u
cd "$(dirname "$0")" || exit 1

stamp=$(cat package-lock.json requirements.txt install.sh | sha256sum | cut -d' ' -f1)
[ "$(cat .stamp 2>/dev/null)" = "$stamp" ] && .venv/bin/python -c '' 2>/dev/null && exit 0
for needed in node npm python3 curl; do
  command -v "$needed" >/dev/null || { echo "missing: $needed" >&2; exit 1; }
done
# One installer at a time: a second one waits, and then finds the stamp.
exec 9>.stamp.lock
flock 9
[ "$(cat .stamp 2>/dev/null)" = "$stamp" ] && exit 0
rm -rf .stamp .venv
echo "installing npm and Python packages"
npm ci --ignore-scripts --no-audit --no-fund || { echo "missing: the npm packages" >&2; exit 1; }
python3 -m venv .venv && .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt ||
  { echo "missing: the Python packages" >&2; exit 1; }
echo "$stamp" >.stamp
