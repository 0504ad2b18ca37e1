#!/usr/bin/env python3
"""A protected MCP server on the official Python SDK, with the SDK's own middleware for bearer tokens and resource metadata. It serves
both eras, and offers what notes.mjs does: server.py '{"port": …, "issuer": …, "keys": …}'. The test's hands are under /_test."""
import json
import sys

import anyio.to_thread
import jwt
import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.routes import build_resource_metadata_url
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from pydantic import AnyHttpUrl
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import JSONResponse

READ, WRITE = "notes.read", "notes.write"
about = json.loads(sys.argv[1])
resource = f"http://127.0.0.1:{about['port']}/mcp"
keys = jwt.PyJWKClient(about["keys"], cache_jwk_set=False)
seen: list[dict] = []
revoked: set[str] = set()


class Verifier:
    """Who a token is for: of the one issuer, for this server alone, not over and not revoked."""

    async def verify_token(self, token: str) -> AccessToken | None:
        if token in revoked:
            return None
        try:
            key = await anyio.to_thread.run_sync(keys.get_signing_key_from_jwt, token)
            rules = {"algorithms": ["RS256"], "audience": resource, "issuer": about["issuer"], "options": {"require": ["exp", "sub", "scope"]}}
            claims = jwt.decode(token, key.key, **rules)
        except jwt.PyJWTError as error:
            print(f"refused: {error}", file=sys.stderr)
            return None
        return AccessToken(
            token=token, client_id=claims["client_id"], scopes=claims["scope"].split(), expires_at=claims["exp"],
            resource=claims["aud"], subject=claims["sub"], claims=claims,
        )


class Notes(MCPServer):
    async def list_tools(self):
        """Nobody sees another's diary."""
        own = f"diary_of_{get_access_token().subject}"
        return [tool for tool in await super().list_tools() if not tool.name.startswith("diary_of_") or tool.name == own]


server = Notes(
    "notes",
    token_verifier=Verifier(),
    auth=AuthSettings(issuer_url=AnyHttpUrl(about["issuer"]), resource_server_url=AnyHttpUrl(resource), required_scopes=[READ], validate_token_resource=True),
)


@server.tool()
def whoami() -> str:
    """Whose token it was"""
    token = get_access_token()
    return json.dumps({"sub": token.subject, "client": token.client_id, "scopes": token.scopes})


@server.tool()
def write() -> str:
    """Wants another scope"""
    return json.dumps({"written": True})


def diary(of: str):
    server.add_tool(lambda: json.dumps({"diary": of}), name=f"diary_of_{of}", description="Only its owner sees it")


for name in ["ann", "bob", *about.get("others", [])]:
    diary(name)


@server.custom_route("/_test/seen", ["GET"])
async def tell(_):
    return JSONResponse(seen)


@server.custom_route("/_test/revoke", ["POST"])
async def revoke(request):
    whose = request.query_params.get("sub")
    revoked.update(one["token"] for one in seen if one["token"] and whose in (None, one["sub"]))
    return JSONResponse({"revoked": len(revoked)})


class Watch:
    """Remembers who came with what, and asks for the other scope where a message calls the tool that wants it."""

    def __init__(self, app):
        self.app = app
        metadata = build_resource_metadata_url(AnyHttpUrl(resource))
        self.writers = AuthenticationMiddleware(
            RequireAuthMiddleware(app, [READ, WRITE], metadata), BearerAuthBackend(Verifier(), resource_server_url=AnyHttpUrl(resource))
        )

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] != "/mcp":
            return await self.app(scope, receive, send)
        body, more = b"", scope["method"] == "POST"
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        message = json.loads(body) if body else {}
        tool = message.get("params", {}).get("name")
        shown = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        line = {"method": message.get("method"), "tool": tool, "token": shown or None, "sub": None, "client": None, "status": None}
        if shown and (claims := await Verifier().verify_token(shown)):
            line.update(sub=claims.subject, client=claims.client_id)
        seen.append(line)
        given = scope["method"] != "POST"

        async def again():
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def answer(event):
            if event["type"] == "http.response.start":
                line["status"] = event["status"]
            await send(event)

        to = self.writers if message.get("method") == "tools/call" and tool == "write" else self.app
        await to(scope, again, answer)


uvicorn.run(Watch(server.streamable_http_app()), host="127.0.0.1", port=about["port"], log_level="warning")
