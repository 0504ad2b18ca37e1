#!/usr/bin/env python3
"""A tour of an MCP server with the official Python SDK: connect, lists, calls, errors, progress, cancellation, the three
things a server may ask of a client, and subscriptions. Prints a line per stop and exits 0 only if none failed.

TARGET is a Streamable HTTP URL, "sse:URL" for the older HTTP+SSE transport, or "stdio:COMMAND ARG…". The era is forced:
"legacy" opens with initialize, "2026-07-28" sends modern requests without asking first, "auto" probes, and an older
version such as 2025-06-18 is offered in initialize as the newest this client knows. What to call comes from known.json.
"""
import argparse, json, os, shlex, sys, time, uuid, warnings
from pathlib import Path

warnings.filterwarnings("ignore")
import logging

import anyio
import httpx2
import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

logging.disable(logging.WARNING)
KNOWN = json.loads(Path(__file__).with_name("known.json").read_text())
STEP_SECONDS = 30

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
cli.add_argument("target")
cli.add_argument("--era", default="auto", help="legacy, auto, 2026-07-28, or an older version to offer")
cli.add_argument("--prefix", default="", help="put before tool and prompt names, as at an aggregated endpoint")
cli.add_argument("--header", action="append", default=[], help="'Name: value', sent with every HTTP request")
cli.add_argument("--upstream-era", choices=["legacy", "modern"], help="how the server itself asks the client; default: the client's era")
cli.add_argument("--require", default="", help="comma-separated stops that may not be skipped")
cli.add_argument("--excuse", default="", help="comma-separated stops whose failure counts as skipped")
args = cli.parse_args()

HEADERS = {name.strip(): value.strip() for name, value in (h.split(":", 1) for h in args.header)}
OLDER = args.era if args.era.startswith("202") and args.era < "2026" else None
if OLDER:  # the SDK offers its newest handshake version; this is the constant it reads
    import mcp.client.session as session_module

    session_module.LATEST_HANDSHAKE_VERSION = OLDER
FILL = {"$DIR": os.environ.get("TOUR_DIR", "/nonexistent"), "$REPO": os.environ.get("TOUR_REPO", "/nonexistent"), "$ID": f"tour-{uuid.uuid4().hex[:10]}"}

stops: list[tuple[str, bool | None]] = []
notifications: list[str] = []
asked: list[str] = []


def stop(name, ok, seen=""):
    ok = None if ok is False and name in args.excuse.split(",") else ok
    stops.append((name, ok))
    word = {True: "PASS", False: "FAIL", None: "SKIP"}[ok]
    print(f"{word} {name}: {str(seen)[:200]!s}")


def filled(value):
    text = json.dumps(value)
    for name, to in FILL.items():
        text = text.replace(name, to)
    return json.loads(text)


def server():
    kind, _, rest = args.target.partition(":")
    if kind == "stdio":
        command, *arguments = shlex.split(rest)
        return StdioServerParameters(command=command, args=arguments, env=dict(os.environ))
    if kind == "sse":
        return sse_client(rest, headers=HEADERS)
    http = httpx2.AsyncClient(headers=HEADERS, timeout=httpx2.Timeout(STEP_SECONDS, read=300))
    return streamable_http_client(args.target, http_client=http)


async def on_elicit(_context, params):
    asked.append("elicitation")
    plain = {"string": "py", "number": 1, "integer": 1, "boolean": True}
    content = {}
    for name, schema in ((getattr(params, "requested_schema", None) or {}).get("properties") or {}).items():
        if "default" in schema:
            content[name] = schema["default"]
        elif schema.get("enum"):
            content[name] = schema["enum"][0]
        elif schema.get("type") in plain and not {"format", "oneOf"} & schema.keys():
            content[name] = schema.get("minimum", plain[schema["type"]])
    return types.ElicitResult(action="accept", content=content)


async def on_sample(_context, _params):
    asked.append("sampling")
    return types.CreateMessageResult(role="assistant", model="tour-model", content=types.TextContent(type="text", text="sampled by the tour"))


async def on_roots(_context):
    asked.append("roots")
    return types.ListRootsResult(roots=[types.Root(uri="file:///tmp/tour-root", name="tour-root")])


async def on_message(message):
    notifications.append(str(getattr(message, "method", type(message).__name__)))


async def on_log(_params):
    notifications.append("notifications/message")


def text_of(result):
    return "\n".join(getattr(part, "text", "") or "" for part in result.content)


async def every(page_of, member):
    """All pages of a list; the SDK leaves paging to its caller."""
    found, cursor, pages = [], None, 0
    while True:
        try:
            page = await page_of(cursor=cursor)
        except MCPError as error:
            if error.error.code == -32601:  # asked without knowing: the server has no such list
                return found
            raise
        found += getattr(page, member)
        cursor, pages = page.next_cursor, pages + 1
        if cursor is None or pages == 100:
            return found


async def tour(client):
    modern = client.protocol_version >= "2026"
    upstream_era = args.upstream_era or ("modern" if modern else "legacy")
    capabilities = client.server_capabilities
    wanted = OLDER or (args.era if args.era.startswith("2026") else None)
    era_right = client.protocol_version == wanted if wanted else modern == (args.era == "modern") or args.era == "auto"
    stop("connect", era_right, f"protocol={client.protocol_version} server={client.server_info}")

    tools = {tool.name: tool for tool in await every(client.list_tools, "tools") if tool.name.startswith(args.prefix)}
    stop("tools/list", bool(tools), f"{len(tools)}: {list(tools)[:6]}")

    def has(name):
        return args.prefix + name in tools

    async def call(name, arguments, **options):
        return await client.call_tool(args.prefix + name, filled(arguments), **options)

    # Modern clients that pin a version know no capabilities and simply ask.
    if modern or capabilities.resources:
        resources = await every(client.list_resources, "resources")
        templates = await every(client.list_resource_templates, "resource_templates")
        stop("resources/list", True, f"{len(resources)} and {len(templates)} templates")
        if resources:
            read = await client.read_resource(str(resources[0].uri))
            stop("resources/read", bool(read.contents) and str(read.contents[0].uri) == str(resources[0].uri), resources[0].uri)
    else:
        resources = []

    if modern or capabilities.prompts:
        prompts = {prompt.name for prompt in await every(client.list_prompts, "prompts") if prompt.name.startswith(args.prefix)}
        stop("prompts/list", True, len(prompts))
        for name, known in KNOWN["prompts"].items():
            if args.prefix + name in prompts:
                got = await client.get_prompt(args.prefix + name, known["arguments"])
                said = "\n".join(getattr(m.content, "text", "") for m in got.messages)
                stop(f"prompts/get {name}", known["says"] in said, repr(said))
        for known in KNOWN["completions"]:
            if args.prefix + known["prompt"] in prompts:
                ref = types.PromptReference(type="ref/prompt", name=args.prefix + known["prompt"])
                values = (await client.complete(ref, {"name": known["argument"], "value": known["value"]})).completion.values
                stop(f"completion {known['prompt']}", known.get("gives", "") in " ".join(values), values)

    for known in KNOWN["calls"]:
        if has(known["tool"]):
            result = await call(known["tool"], known["arguments"])
            ok = not result.is_error and filled(known.get("says", "")) in text_of(result)
            ok = ok and (not known.get("structured") or result.structured_content is not None)
            ok = ok and ("kind" not in known or any(part.type == known["kind"] for part in result.content))
            stop(f"call {known['tool']}", ok, repr(text_of(result)))

    try:
        result = await call("no_such_tool_xyz", {})
        stop("unknown tool", bool(result.is_error), repr(text_of(result)))
    except MCPError as error:
        stop("unknown tool", error.error.code == -32602, f"{error.error.code} {error.error.message}")

    for name, arguments in KNOWN["progress"].items():
        if has(name):
            seen = []

            async def on_progress(progress, total, _message):
                seen.append((progress, total))

            await call(name, arguments, progress_callback=on_progress)
            stop("progress", len(seen) >= 2 and seen == sorted(seen), seen)
            break
    else:
        stop("progress", None, "no tool for it")

    if has(KNOWN["long"]["tool"]):
        begun = time.monotonic()
        with anyio.move_on_after(0.7) as scope:
            await call(KNOWN["long"]["tool"], KNOWN["long"]["endless"])
        again = await call("echo", {"message": "still here"})
        took = time.monotonic() - begun
        stop("cancel and reuse", scope.cancelled_caught and took < 5 and "still here" in text_of(again), f"{took:.2f} s")
    else:
        stop("cancel and reuse", None, "no tool for it")

    for kind, eras in KNOWN["asks"].items():
        name = next((name for name in eras[upstream_era] if has(name)), None)
        if name is None:
            stop(kind, None, "no tool for it")
        elif kind == "elicitation" and client.protocol_version < "2025-06-18":
            stop(kind, None, "not in this version")
        else:
            before = len(asked)
            try:
                result = await call(name, eras[upstream_era][name])
            except MCPError as refusal:
                # The gateway's word for what cannot be carried between eras: a plain error, and the connection goes on.
                if refusal.error.code != -31011:
                    raise
                stop(kind, False, refusal.error.message)
                continue
            # Servers may ask for the roots once, at the start, and answer from memory.
            ok = not result.is_error and (kind in asked[before:] or kind == "roots" and "tour-root" in text_of(result))
            stop(kind, ok, f"asked={asked[before:]} said={text_of(result)!r}")

    if modern:
        await listen(client, resources, has)
    elif capabilities.resources and capabilities.resources.subscribe and resources:
        await subscribe(client, resources, has, call)
    else:
        stop("subscribe", None, "not offered")


async def subscribe(client, resources, has, call):
    # Any resource of this very server: with a prefix, others may come first in the list.
    own = [str(r.uri) for r in resources if "watched" in str(r.uri) or str(r.uri).startswith("demo://")] or [str(resources[0].uri)]
    await client.subscribe_resource(own[0])
    seen = None
    if has(KNOWN["updates"]):
        await call(KNOWN["updates"], {})
        with anyio.move_on_after(9):
            while not (seen := any("updated" in note or "ResourceUpdated" in note for note in notifications)):
                await anyio.sleep(0.1)
        await call(KNOWN["updates"], {})
    await client.unsubscribe_resource(own[0])
    stop("subscribe", seen is not False, f"{own[0]} update={seen}")


async def listen(client, resources, has):
    trigger = next((name for name in ("test_trigger_tool_change",) if has(name)), None)
    event = None
    try:
        async with client.listen(tools_list_changed=True, resource_subscriptions=[str(r.uri) for r in resources[:1]]) as subscription:
            honored = subscription.honored
            if trigger:
                async with anyio.create_task_group() as group:
                    group.start_soon(client.call_tool, args.prefix + trigger, {})
                    with anyio.move_on_after(5):
                        async for event in subscription:
                            break
        stop("subscribe", event is not None or not trigger, f"honored={honored} event={event!r}")
    except MCPError as error:
        stop("subscribe", None if error.error.code == -32601 else False, error.error.message)


async def main():
    mode = "legacy" if OLDER else args.era
    callbacks = dict(elicitation_callback=on_elicit, sampling_callback=on_sample, list_roots_callback=on_roots, message_handler=on_message, logging_callback=on_log)
    over = False
    try:
        async with Client(server(), mode=mode, log_level="debug", read_timeout_seconds=STEP_SECONDS, **callbacks) as client:
            await tour(client)
            over = True
    except BaseException as error:  # noqa: BLE001: only the one below is let go
        # The SDK closes its session before the reader of its SSE stream: a notification that arrives between the two
        # finds nobody, and the reader raises. The tour was over by then, and what came was right to come.
        late = over and args.target.startswith("sse:") and isinstance(first_cause(error), anyio.BrokenResourceError)
        if not late:
            raise
    stop("close", True)


def first_cause(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


try:
    anyio.run(main)
except BaseException as error:  # noqa: BLE001: whatever ends the tour is its result
    cause = first_cause(error)
    stop("no exception", False, f"{type(cause).__name__}: {cause}")
passed = {name for name, ok in stops if ok}
for name in filter(None, args.require.split(",")):
    if name not in passed:
        stop(f"required: {name}", False, "it was skipped or did not pass")
failed = [name for name, ok in stops if ok is False]
print(f"RESULT {len([1 for _, ok in stops if ok])} passed, {len(failed)} failed {failed}, {len([1 for _, ok in stops if ok is None])} skipped")
sys.exit(1 if failed else 0)
