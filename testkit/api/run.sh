#!/usr/bin/env bash
# The REST API against its own description: schemathesis makes requests from it and judges every answer by it, and a client that is
# generated from it compiles and lists servers. Needs install.sh, and GATEWAY_BIN, the gateway.
set -euo pipefail
cd "$(dirname "$0")"
: "${GATEWAY_BIN:?name the gateway}"

# A network of its own, where that is allowed: addresses that the requests make up are reached by nobody.
if [ -z "${ALONE:-}" ] && unshare -rn sh -c 'ip link set lo up' 2>/dev/null; then
  exec env ALONE=yes unshare -rn sh -c 'ip link set lo up && exec "$0"' "$PWD/run.sh"
fi

folder=$(mktemp -d)
gateway=
finish() {
  local code=$?
  [ -z "$gateway" ] || { kill "$gateway" 2>/dev/null; wait "$gateway" 2>/dev/null || true; }
  [ $code -eq 0 ] || tail -n 20 "$folder/log" >&2
  rm -rf "$folder"
}
trap finish EXIT

port=$(.venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
base=http://127.0.0.1:$port
export MREG_BOOTSTRAP_ADMIN_KEY=mcpg_$(head -c 32 /dev/urandom | base64 | tr -d '+/=\n' | head -c 43)
export MCP_GATEWAY_URL=$base MCP_GATEWAY_KEY=$MREG_BOOTSTRAP_ADMIN_KEY
for whose in GLOBAL ADMIN SERVER_OWNER USER; do export "MREG_RATE_LIMIT_${whose}_RPM=10000000"; done
MREG_DATA_DIR=$folder MREG_PORT=$port "$GATEWAY_BIN" serve >"$folder/log" 2>&1 &
gateway=$!
for _ in $(seq 150); do
  curl -fsS "$base/health/ready" >/dev/null 2>&1 && break
  kill -0 "$gateway" || exit 1
  sleep 0.2
done

call() { curl -fsS -X "$1" "$base/api/v1$2" -H "Authorization: Bearer $MREG_BOOTSTRAP_ADMIN_KEY" -H 'Content-Type: application/json' ${3:+-d "$3"} >/dev/null; }
call POST /servers '{"slug": "files", "replicas": [{"url": "http://127.0.0.1:9/mcp"}]}'
call POST /users '{"username": "ada", "role": "server_owner"}'
call POST /oauth-clients '{"client_id": "nightly", "name": "Nightly", "kind": "service"}'
call POST /trusted-issuers '{"name": "corp", "issuer": "https://corp.example", "profiles": ["id_jag"], "role": "user"}'
call POST /admin/tenants '{"tenant_id": "acme"}'
call POST /admin/bans '{"address": "192.0.2.7", "note": "a test"}'
call PUT /admin/policies/acme '{"text": "permit(principal, action, resource);"}'

"$GATEWAY_BIN" openapi >"$folder/openapi.json"
cmp <(.venv/bin/python -m json.tool --sort-keys "$folder/openapi.json") \
  <(curl -fsS "$base/api/openapi.json" | .venv/bin/python -m json.tool --sort-keys)

echo "a client that is generated from the document"
node_modules/.bin/openapi-typescript "$folder/openapi.json" -o generated.ts >/dev/null
node_modules/.bin/tsc --project tsconfig.json
node build/client.js

echo "requests that are generated from the document"
# The credential stays good: what ends it is left out.
.venv/bin/schemathesis --config-file schemathesis.toml run "$folder/openapi.json" --url "$base" \
  --header "Authorization: Bearer $MREG_BOOTSTRAP_ADMIN_KEY" --exclude-operation-id logout --exclude-operation-id revokeKey --exclude-operation-id setPassword \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance \
  --generation-with-security-parameters false --phases examples,coverage,fuzzing --max-examples "${EXAMPLES:-15}" --seed "${SEED:-1}" --workers 2
