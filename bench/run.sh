#!/usr/bin/env bash
# Measures the gateway against nginx, both in front of the same upstream, on this machine. See bench/run.sh --help.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing=()
for program in wrk nginx python3; do
  command -v "$program" >/dev/null || PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "missing: ${missing[*]} (Debian: apt-get install wrk nginx-light python3)" >&2
  exit 1
fi
export PATH="$PATH:/usr/sbin"

built=true
for argument in "$@"; do
  case $argument in --bin-dir | --bin-dir=* | -h | --help) built=false ;; esac
done
if $built; then
  cargo build --locked --release --bin mcp-gateway
  cargo build --locked --release --package testkit --bin bench_upstream --bin stdio_server
  target=$(cargo metadata --locked --no-deps --format-version 1 | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
  set -- --bin-dir "$target/release" "$@"
fi
exec python3 bench/measure.py "$@"
