"""Microsoft's own client libraries, msal and azure-identity, against the stand-in: 20 checks by those who know Entra.

    REQUESTS_CA_BUNDLE=CA.pem msal_check.py BASE_URL

They insist on TLS, so the stand-in runs with a certificate; `run.sh` makes one and starts both."""
import base64, hashlib, html, json, re, subprocess, sys, tempfile, urllib.parse

import msal, requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientAssertionCredential, ClientSecretCredential, OnBehalfOfCredential

BASE = sys.argv[1]
T = "c0170000-0000-4000-8000-000000000001"
GW, DAEMON, PAY = "11111111-1111-4111-8111-111111111111", "33333333-3333-4333-8333-333333333333", "55555555-5555-4555-8555-555555555555"
CB = "http://127.0.0.1:9/cb"
passed = failed = 0


def check(name, ok, got=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(("  ok   " if ok else "  FAIL ") + name + ("" if ok else f"  -> {got!r}"))


def browser(url, user):
    s = requests.Session()
    r = s.get(url, allow_redirects=False)
    for _ in range(10):
        if r.status_code in (302, 303):
            to = urllib.parse.urljoin(r.url, r.headers["location"])
            if to.startswith(CB):
                return dict(urllib.parse.parse_qsl(urllib.parse.urlparse(to).query))
            r = s.get(to, allow_redirects=False)
        else:
            act = html.unescape(re.search(r'action="([^"]+)"', r.text).group(1))
            r = s.post(urllib.parse.urljoin(r.url, act), data={"login": user, "passwd": "Passw0rd!", "consent": "accept"}, allow_redirects=False)
    raise SystemExit("no redirect")


requests.post(f"{BASE}/_sim/reset", json={})
for authority in (f"{BASE}/{T}", f"{BASE}/organizations"):
    app = msal.ConfidentialClientApplication(GW, client_credential="gateway-secret-1", authority=authority, instance_discovery=False, client_capabilities=["cp1"])
    flow = app.initiate_auth_code_flow([f"api://{GW}/access_as_user"], redirect_uri=CB)
    resp = browser(flow["auth_uri"], "alice@contoso.onmicrosoft.com")
    tok = app.acquire_token_by_auth_code_flow(flow, resp)
    check(f"msal auth code flow at {authority.rsplit('/',1)[1]}", "access_token" in tok, tok)
    check("  id_token_claims: oid, tid, preferred_username", {"oid", "tid", "preferred_username"} <= set(tok.get("id_token_claims", {})), tok.get("id_token_claims"))
    acc = app.get_accounts()
    at = json.loads(base64.urlsafe_b64decode(tok["access_token"].split(".")[1] + "=="))
    check("  client capability cp1 shows as xms_cc", at.get("xms_cc") == ["cp1"], at)
    check("  account cache", len(acc) == 1 and acc[0]["username"] == "alice@contoso.onmicrosoft.com", acc)
    if authority.endswith(T):
        silent = app.acquire_token_silent([f"api://{GW}/access_as_user"], account=acc[0], force_refresh=True)
        check("  silent refresh", silent and "access_token" in silent, silent)
        g = app.acquire_token_silent(["https://graph.microsoft.com/User.Read"], account=acc[0])
        check("  silent, other resource (Graph) from the same refresh token", g and "access_token" in g, g)
        o = app.acquire_token_on_behalf_of(tok["access_token"], ["api://orders/Orders.Read"])
        check("  msal OBO", "access_token" in o, o)
        p = app.acquire_token_on_behalf_of(tok["access_token"], [f"api://{PAY}/Pay.Read"])
        check("  msal OBO: claims challenge surfaces", "error" in p and "polids" in p.get("claims", ""), p)
        requests.post(f"{BASE}/_sim/faults", json={"match": {"endpoint": "token"}, "action": {"aadsts": 700082}})
        e = app.acquire_token_silent_with_error([f"api://{GW}/mcp.read"], account=acc[0], force_refresh=True)
        check("  invalid_grant is classified", e and e.get("error") == "invalid_grant" and 700082 in e.get("error_codes", []), e)

cc = msal.ConfidentialClientApplication(DAEMON, client_credential="daemon-secret-1", authority=f"{BASE}/{T}", instance_discovery=False)
check("msal client credentials", "access_token" in cc.acquire_token_for_client([f"api://{GW}/.default"]))

with tempfile.TemporaryDirectory() as d:  # certificate credential: msal signs PS256 with x5t#S256
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{d}/k.pem", "-out", f"{d}/c.pem", "-days", "2", "-subj", "/CN=daemon"], check=True, capture_output=True)
    n = int(subprocess.run(["openssl", "x509", "-in", f"{d}/c.pem", "-noout", "-modulus"], check=True, capture_output=True, text=True).stdout.split("=")[1], 16)
    der = subprocess.run(["openssl", "x509", "-in", f"{d}/c.pem", "-outform", "der"], check=True, capture_output=True).stdout
    b64 = lambda b: base64.urlsafe_b64encode(b).rstrip(b"=").decode()
    requests.post(f"{BASE}/_sim/apps/{DAEMON}/certs", json={"jwk": {"kty": "RSA", "n": b64(n.to_bytes(256, "big")), "e": "AQAB"}, "x5t#S256": b64(hashlib.sha256(der).digest()), "x5t": b64(hashlib.sha1(der).digest())})
    cert = msal.ConfidentialClientApplication(DAEMON, client_credential={"private_key": open(f"{d}/k.pem").read(), "public_certificate": open(f"{d}/c.pem").read()}, authority=f"{BASE}/{T}", instance_discovery=False)
    r = cert.acquire_token_for_client([f"api://{GW}/.default"])
    check("msal certificate credential", "access_token" in r, r)

cred = ClientSecretCredential(T, DAEMON, "daemon-secret-1", authority=BASE, disable_instance_discovery=True)
check("azure-identity ClientSecretCredential", cred.get_token(f"api://{GW}/.default").token)
obo = OnBehalfOfCredential(T, GW, client_secret="gateway-secret-1", user_assertion=tok["access_token"], authority=BASE, disable_instance_discovery=True)
check("azure-identity OnBehalfOfCredential", obo.get_token("api://orders/Orders.Read").token)
mi = lambda: requests.get(f"{BASE}/metadata/identity/oauth2/token", params={"resource": "api://AzureADTokenExchange"}, headers={"Metadata": "true"}).json()["access_token"]
fic = ClientAssertionCredential(T, GW, mi, authority=BASE, disable_instance_discovery=True)
check("azure-identity ClientAssertionCredential (managed identity as federated credential)", fic.get_token("https://graph.microsoft.com/.default").token)
try:
    ClientSecretCredential(T, DAEMON, "wrong", authority=BASE, disable_instance_discovery=True).get_token(f"api://{GW}/.default")
    check("wrong secret", False)
except ClientAuthenticationError as e:
    check("wrong secret -> ClientAuthenticationError AADSTS7000215", "AADSTS7000215" in str(e), str(e))
requests.post(f"{BASE}/_sim/faults", json={"match": {"endpoint": "token"}, "action": {"status": 429, "retry_after": 1}})
check("azure-identity rides out one 429 with Retry-After", ClientSecretCredential(T, DAEMON, "daemon-secret-1", authority=BASE, disable_instance_discovery=True).get_token(f"api://{GW}/.default").token)
print(f"\n{passed} passed, {failed} failed")
raise SystemExit(bool(failed))
