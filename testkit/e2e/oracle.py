#!/usr/bin/env python3
"""A differential oracle: one raw HTTP conversation, held with an upstream directly and then again through the gateway.

Everything the upstream says must come through to the byte: results and errors by the text of their JSON (whitespace between
tokens aside), every notification and every request of the server's, HTTP statuses and content types. Not compared, because
they are each side's own: session ids, event ids, the ids of server requests, and the text of nextCursor and requestState
(whether they are there is compared, and that they work shows in what follows). Refusals that a front end makes by itself are
compared by kind and code only.

    oracle.py DIRECT_URL GATEWAY_URL --era legacy|modern [--gateway-header 'Authorization: Bearer …']

Exits 0 only without differences.
"""
import argparse
import base64
import http.client
import json
import re
import socket
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import lexjson
from lexjson import Array, Object

MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"
STEP_SECONDS = 20
# Tools that are not for this conversation: endless, random by nature, reaching out to the network, or telling what happened before.
LEFT_OUT = {"slow", "seen", "hang_up", "gzip-file-as-resource", "toggle-simulated-logging", "toggle-subscriber-updates"}
ARGUMENTS = {"trigger-long-running-operation": '{"duration":0.2,"steps":2}', "echo_raw": '{"n":9007199254740993,"f":1.0,"e":1E+2,"z":-0.0,"none":null,"u":"\\u2028 \u2028 \\u00e9 é \\/","deep":{"x":[1e-7,[]]},"huge":1e400}'}
TRIGGERS = ("change", "test_trigger_tool_change", "test_trigger_prompt_change", "test_trigger_resource_change")
CAPABILITIES = {"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {"listChanged": True}}
CLIENT = {"name": "oracle", "version": "1.0.0"}
VOLATILE = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"), "<time>"),
    (re.compile(r"\b\d{1,2}:\d\d:\d\d(?: |\u202f|\\u202f)?(?:AM|PM)\b"), "<clock>"),
]
BLOB = re.compile(r'("blob":")([A-Za-z0-9+/=]+)"')


def js(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def header_text(value):
    """A value as the modern transport wants it in a header."""
    text = value if isinstance(value, str) else json.dumps(value)
    if re.fullmatch(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?", text) and not (text.startswith("=?base64?") and text.endswith("?=")):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def steady(text):
    for pattern, instead in VOLATILE:
        text = pattern.sub(instead, text)
    return text


def steady_blob(coded):
    """Base64 of a text that tells the time becomes base64 of one that does not; all else stays."""
    try:
        text = base64.b64decode(coded, validate=True).decode()
        return coded if steady(text) == text else base64.b64encode(steady(text).encode()).decode()
    except ValueError:
        return coded


def masked(value, opaque=True):
    """The comparable form of a message's payload."""
    if opaque and isinstance(value, Object):
        value = Object((name, '"<opaque>"' if name in ('"nextCursor"', '"requestState"') and isinstance(inner, str) and inner.startswith('"') else inner) for name, inner in value)
    return lexjson.parse(BLOB.sub(lambda blob: blob[1] + steady_blob(blob[2]) + '"', steady(lexjson.write(value))))


def example(schema, name=""):
    """Some value that a JSON schema allows, as good as is needed to call a stranger's tool."""
    if "default" in schema:
        return schema["default"]
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for combination in ("oneOf", "anyOf"):
        if schema.get(combination):
            return example(schema[combination][0], name)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" or "properties" in schema:
        return {key: example(inner, key) for key, inner in schema.get("properties", {}).items() if isinstance(inner, dict) and (key in schema.get("required", []) or "default" in inner)}
    if kind == "array":
        return [example(schema.get("items") or {}, name)] * schema.get("minItems", 0)
    if kind in ("number", "integer"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    return {"email": "a@example.com", "uri": "https://example.com/", "date": "2026-01-02", "date-time": "2026-01-02T03:04:05Z"}.get(schema.get("format"), "hé\u2028llo")


def answer(method, params):
    """The raw result that this client gives to a request of the server's, or None if it does not know the method."""
    if method == "sampling/createMessage":
        return '{"role":"assistant","model":"oracle","content":{"type":"text","text":"sampled \\u2028 é"},"stopReason":"endTurn","_meta":{"x.example/n":9007199254740993,"x.example/f":1.0}}'
    if method == "elicitation/create":
        content = example(params.get("requestedSchema") or {}) if params.get("mode", "form") == "form" else None
        properties = (params.get("requestedSchema") or {}).get("properties", {})
        content = {**{name: example(inner, name) for name, inner in properties.items()}, **(content or {})}
        return f'{{"action":"accept","content":{js(content)},"_meta":{{"x.example/n":1.0}}}}'
    if method == "roots/list":
        return '{"roots":[{"uri":"file:///tmp/oracle","name":"oracle \\u2028","_meta":{"x.example/n":1E+2}}]}'
    return "{}" if method == "ping" else None


class Outcome:
    """What one step brought: a status, a content type, messages in order, and the reply."""

    def __init__(self, loose=False):
        self.status = self.type = None
        self.messages, self.reply, self.trouble = [], None, None
        self.loose = loose
        self.over, self.limited = False, True

    def close(self):
        """Stops a stream that would go on; what came stays."""
        self.over = True
        try:
            self.response.fp.raw._sock.shutdown(socket.SHUT_RDWR)
        except (AttributeError, OSError):
            pass

    def kind(self):
        return self.trouble or ("nothing" if self.reply is None else self.reply[0])


class Side:
    """One of the two conversations."""

    def __init__(self, name, url, headers, era, version, deadline):
        self.name, self.era, self.version, self.deadline = name, era, version, deadline
        parts = urllib.parse.urlsplit(url)
        self.host, self.path = parts.netloc, parts.path or "/"
        self.own_headers = headers
        self.session = self.sent_version = None
        self.count, self.last_id = 0, 0
        self.steps = {}
        self.standing = None
        self.lock = threading.Lock()

    # ---- the wire

    def open(self, verb, body=None, extra=None):
        headers = {"Accept": "application/json, text/event-stream", **self.own_headers}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.session:
            headers["Mcp-Session-Id"] = self.session
        if self.sent_version:
            headers["MCP-Protocol-Version"] = self.sent_version
        headers.update(extra or {})
        connection = http.client.HTTPConnection(self.host, timeout=STEP_SECONDS)
        connection.request(verb, self.path, body.encode() if body is not None else None, {name: value for name, value in headers.items() if value is not None})
        with self.lock:
            self.count += 1
        return connection, connection.getresponse()

    @staticmethod
    def events(response, seconds=float("inf")):
        """The events of an SSE stream as (id, retry, data); data is None for an event without any.

        Comments keep a stream alive for ever, so that the socket's own time limit is not enough.
        """
        end = time.monotonic() + seconds
        event_id = retry = None
        data = []
        while True:
            line = response.readline()
            if time.monotonic() > end:
                raise TimeoutError("no reply in time")
            if not line:
                return
            line = line.rstrip(b"\r\n").decode()
            if line == "":
                if data or event_id is not None:
                    yield event_id, retry, "\n".join(data) if any(data) else None
                event_id = retry = None
                data = []
            else:
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "data":
                    data.append(value)
                elif field == "id":
                    event_id = value
                elif field == "retry":
                    retry = int(value) / 1000

    def new_id(self):
        with self.lock:
            self.last_id += 1
            return self.last_id if self.last_id % 3 else f"é \u2028 {self.last_id}"

    def request(self, method, params="{}", *, request_id=None, headers=None, loose=False, meta_more="", version=None, capabilities=CAPABILITIES, outcome=None):
        """Sends one request and follows it to its reply; params is raw JSON of an object, or None for none at all."""
        outcome = outcome or Outcome(loose)
        request_id = js(self.new_id()) if request_id is None else request_id
        extra = {}
        if self.era == "modern":
            version = version or MODERN
            meta = f'"_meta":{{"{META}protocolVersion":{js(version)},"{META}clientInfo":{js(CLIENT)}'
            meta += (f',"{META}clientCapabilities":{js(capabilities)}' if capabilities is not None else "") + meta_more + "}"
            inner = (params or "{}").strip()[1:-1]
            params = "{" + meta + ("," + inner if inner.strip() else "") + "}"
            extra = {"MCP-Protocol-Version": version, "Mcp-Method": header_text(method)}
            known = json.loads(params)
            name = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}.get(method)
            if name and isinstance(known.get(name), str):
                extra["Mcp-Name"] = header_text(known[name])
        elif meta_more:
            inner = (params or "{}").strip()[1:-1]
            params = '{"_meta":{' + meta_more.removeprefix(",") + "}" + ("," + inner if inner.strip() else "") + "}"
        body = f'{{"jsonrpc":"2.0","id":{request_id},"method":{js(method)}' + (f',"params":{params}' if params is not None else "") + "}"
        try:
            connection, response = self.open("POST", body, {**extra, **(headers or {})})
            outcome.status, outcome.type, outcome.response = response.status, (response.headers.get("content-type") or "").split(";")[0], response
            if method == "initialize":
                self.session = response.headers.get("mcp-session-id")
            self.follow(response, request_id, outcome)
            connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not outcome.over:
                outcome.trouble = outcome.trouble or f"{type(error).__name__}: {error}"
        return outcome

    def follow(self, response, request_id, outcome, again=0):
        """Reads the reply, wherever it comes: as JSON, on this stream, or on a resumed one."""
        if outcome.type != "text/event-stream":
            text = response.read().decode()
            if text:
                try:
                    self.take(lexjson.parse(text), request_id, outcome)
                except ValueError:
                    outcome.reply = ("text", js(text))
            return
        last_id, wait = None, 0.1
        for event_id, retry, data in self.events(response, STEP_SECONDS if outcome.limited else float("inf")):
            last_id, wait = event_id or last_id, retry or wait
            if data is not None:
                self.take(lexjson.parse(data), request_id, outcome)
            if outcome.reply is not None or outcome.over:
                return
        if self.era == "legacy" and last_id is not None and again < 3:
            time.sleep(wait)
            connection, resumed = self.open("GET", None, {"Last-Event-ID": last_id, "Accept": "text/event-stream"})
            if resumed.status == 200:
                self.follow(resumed, request_id, outcome, again + 1)
            connection.close()

    def take(self, message, request_id, outcome):
        for one in [] if outcome.over else message if isinstance(message, Array) else [message]:
            method = one.get("method") if isinstance(one, Object) else None
            if method is not None and one.get("id") is not None:
                outcome.messages.append(("request", json.loads(method), masked(one.get("params", "null"))))
                self.reply_to(one)
            elif method is not None:
                outcome.messages.append(("notification", json.loads(method), masked(one.get("params", "null"))))
            elif isinstance(one, Object):
                kind = "result" if one.get("result") is not None else "error"
                outcome.raw = one.get(kind)
                outcome.reply = (kind, masked(one.get(kind, "null")))
                if request_id is not None and (one.get("id") is None or lexjson.plain(one.get("id")) != json.loads(request_id)) and not outcome.loose:
                    outcome.trouble = f"the reply's id is {one.get('id')}, the request's was {request_id}"

    def reply_to(self, message):
        method, params = json.loads(message.get("method")), lexjson.plain(message.get("params", "{}"))
        result = answer(method, params)
        reply = f'"result":{result}' if result is not None else '"error":{"code":-32601,"message":"unknown \\u2028 here","data":{"n":9007199254740993}}'
        connection, response = self.open("POST", f'{{"jsonrpc":"2.0","id":{lexjson.write(message.get("id"))},{reply}}}')
        response.read()
        connection.close()

    # ---- steps

    def step(self, name, method, params="{}", **options):
        outcome = self.request(method, params, **options)
        self.keep(name, outcome)
        return outcome

    def keep(self, name, outcome):
        while name in self.steps:
            name += "+"
        self.steps[name] = outcome

    def status_only(self, name, verb, body=None, exact=True, **headers):
        outcome = Outcome(loose=True)
        try:
            connection, response = self.open(verb, body, {key.replace("_", "-"): value for key, value in headers.items()})
            outcome.status = response.status if exact else f"{response.status // 100}xx"
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            outcome.trouble = type(error).__name__
        self.keep(name, outcome)

    def every_page(self, method, member):
        """All items of a list; each page is a step."""
        items, cursor = [], None
        for number in range(1, 51):
            outcome = self.step(f"{method} page {number}", method, "{}" if cursor is None else f'{{"cursor":{cursor}}}')
            if outcome.kind() != "result":
                return items
            items += outcome.raw.get(member, Array())
            cursor = outcome.raw.get("nextCursor")
            if cursor in (None, "null"):
                return items
        return items

    def call(self, name, arguments, tool_schema=None, method="tools/call", params=None, step=None):
        """A call with all its rounds: in the modern era the server may want answers first."""
        base = params if params is not None else f'{{"name":{js(name)}' + (f',"arguments":{arguments}' if arguments is not None else "") + "}"
        headers = self.param_headers(tool_schema, arguments) if self.era == "modern" and method == "tools/call" else {}
        more, answers = f',"progressToken":{js("token é " + (step or name))}', ""
        more += f',"{META}logLevel":"debug"' if self.era == "modern" else ""
        for round_number in range(1, 7):
            label = (step or f"{method} {name}") + (f" round {round_number}" if round_number > 1 else "")
            outcome = self.step(label, method, base[:-1] + answers + "}", headers=headers, meta_more=more)
            raw = getattr(outcome, "raw", None)
            if outcome.kind() != "result" or raw.get("resultType") != '"input_required"':
                return outcome
            given = []
            for key, asked in raw.get("inputRequests", Object()):
                result = answer(json.loads(asked.get("method")), lexjson.plain(asked.get("params", "{}")))
                given.append(f"{key}:{result}")
            state = raw.get("requestState")
            answers = ',"inputResponses":{' + ",".join(given) + "}" + (f',"requestState":{state}' if state is not None else "")
            if round_number == 1 and state is not None:
                damaged = js(json.loads(state)[:-1] + ("A" if json.loads(state)[-1:] != "A" else "B"))
                self.step(f"{label} with a damaged requestState", method, base[:-1] + answers.replace(f'"requestState":{state}', f'"requestState":{damaged}') + "}", headers=headers, loose=True)
        return outcome

    @staticmethod
    def param_headers(schema, arguments):
        headers = {}

        def walk(inner, value):
            for key, below in (inner.get("properties") or {}).items():
                if isinstance(below, dict) and isinstance(value, dict) and key in value:
                    if below.get("x-mcp-header"):
                        found = value[key]
                        headers[f"Mcp-Param-{below['x-mcp-header']}"] = header_text(found)
                    walk(below, value[key])

        walk(schema or {}, json.loads(arguments or "{}"))
        return headers

    # ---- the conversation

    def begin(self):
        if self.era == "modern":
            return self.step("server/discover", "server/discover")
        params = f'{{"protocolVersion":{js(self.version)},"capabilities":{js(CAPABILITIES)},"clientInfo":{js(CLIENT)}}}'
        outcome = self.step("initialize", "initialize", params)
        if outcome.kind() == "result":
            agreed = json.loads(outcome.raw.get("protocolVersion"))
            self.sent_version = agreed if agreed >= "2025-06-18" else None
            self.status_only("notifications/initialized", "POST", '{"jsonrpc":"2.0","method":"notifications/initialized"}')
            self.standing = self.stand("GET stream")
            self.settle(self.standing, quiet=0.8)  # servers ask their first questions a moment after the beginning
            self.step("ping", "ping", None)
        return outcome

    def stand(self, name):
        """Opens the standing GET stream; what comes is kept in no order."""
        outcome = Outcome()
        ready = threading.Event()

        def listen():
            try:
                connection, response = self.open("GET", None, {"Accept": "text/event-stream"})
                outcome.status, outcome.type, outcome.response = response.status, (response.headers.get("content-type") or "").split(";")[0], response
                ready.set()
                if outcome.type == "text/event-stream":
                    for _, _, data in self.events(response):
                        if data is not None:
                            self.take(lexjson.parse(data), None, outcome)
            except (OSError, http.client.HTTPException, ValueError, AttributeError):
                pass
            ready.set()

        outcome.thread = threading.Thread(target=listen, daemon=True)
        outcome.thread.start()
        ready.wait(5)
        self.keep(name, outcome)
        return outcome

    def settle(self, outcome, quiet=0.4, most=4.0):
        """Waits until a stream has been quiet for a while."""
        begun, last, size = time.monotonic(), time.monotonic(), -1
        while time.monotonic() - last < quiet and time.monotonic() - begun < most:
            if len(outcome.messages) != size:
                size, last = len(outcome.messages), time.monotonic()
            time.sleep(0.05)

    def converse(self):
        opened = self.begin()
        if opened.kind() != "result":
            return
        offered = lexjson.plain(opened.raw.get("capabilities", "{}"))
        weird = "x-capability" in offered
        tools, resources, templates, prompts = [], [], [], []
        if "tools" in offered:
            tools = [lexjson.plain(tool) for tool in self.every_page("tools/list", "tools")]
        if "resources" in offered:
            resources = [lexjson.plain(one) for one in self.every_page("resources/list", "resources")]
            templates = [lexjson.plain(one) for one in self.every_page("resources/templates/list", "resourceTemplates")]
        if "prompts" in offered:
            prompts = [lexjson.plain(one) for one in self.every_page("prompts/list", "prompts")]

        if "logging" in offered and self.era == "legacy":
            self.step("logging/setLevel", "logging/setLevel", '{"level":"debug"}')
            self.step("logging/setLevel nonsense", "logging/setLevel", '{"level":"shouting"}', loose=not weird)
        for uri in [one["uri"] for one in resources[:2]] if self.era == "legacy" and offered.get("resources", {}).get("subscribe") else []:
            self.step(f"resources/subscribe {uri}", "resources/subscribe", js({"uri": uri}))
        listening = self.listen(resources) if self.era == "modern" else None

        for tool in tools:
            if tool["name"] not in LEFT_OUT:
                self.call(tool["name"], ARGUMENTS.get(tool["name"]) or js(example(tool.get("inputSchema") or {})), tool.get("inputSchema"))
        for tool in tools[:1]:
            self.call(tool["name"], None, step=f"tools/call {tool['name']} without arguments")
        for tool in [one for one in tools if (one.get("inputSchema") or {}).get("required")][:2]:
            self.call(tool["name"], js({name: [] for name in tool["inputSchema"]["required"]}), step=f"tools/call {tool['name']} with arguments of a wrong type")

        for one in resources:
            self.call(None, None, method="resources/read", params=js({"uri": one["uri"]}), step=f"resources/read {one['uri']}")
        for one in templates:
            uri = re.sub(r"\{([?&/+#.;]?)(\w+)[^}]*\}", lambda m: ("?" + m[2] + "=" if m[1] == "?" else "") + "1", one["uriTemplate"])
            self.call(None, None, method="resources/read", params=js({"uri": uri}), step=f"resources/read {uri}")
            self.complete(offered, f'{{"type":"ref/resource","uri":{js(one["uriTemplate"])}}}', re.findall(r"\w+", one["uriTemplate"].split("{", 1)[-1])[0], one["uriTemplate"])
        for one in prompts:
            arguments = {a["name"]: "hé\u2028" if weird else "1" for a in one.get("arguments") or []}
            self.call(None, None, method="prompts/get", params=js({"name": one["name"], "arguments": arguments}), step=f"prompts/get {one['name']}")
            for argument in (one.get("arguments") or [])[:1]:
                self.complete(offered, f'{{"type":"ref/prompt","name":{js(one["name"])}}}', argument["name"], one["name"])
        for one in [one for one in prompts if any(a.get("required") for a in one.get("arguments") or [])][:1]:
            self.step(f"prompts/get {one['name']} without arguments", "prompts/get", js({"name": one["name"]}))

        self.mistakes(offered, weird)
        self.side_by_side(tools, weird)

        for uri in [one["uri"] for one in resources[:2]] if self.era == "legacy" and offered.get("resources", {}).get("subscribe") else []:
            self.step(f"resources/unsubscribe {uri}", "resources/unsubscribe", js({"uri": uri}))
        if listening:
            self.hear_out(listening, tools)
        if self.era == "legacy":
            self.leave()

    def complete(self, offered, ref, argument, label):
        if "completions" in offered:
            self.step(f"completion/complete {label} {argument}", "completion/complete", f'{{"ref":{ref},"argument":{{"name":{js(argument)},"value":"1"}},"context":{{"arguments":{{"other":"x"}}}}}}')

    def mistakes(self, offered, weird):
        if "tools" in offered:
            self.step("tools/call of no such tool", "tools/call", '{"name":"no such \\u2028 tool é","arguments":{}}')
            # A call without a name lacks its Mcp-Name header too: which of the two a server names first is its own choice.
            if weird:
                self.step("tools/call without a name", "tools/call", '{"arguments":{}}', loose=True)
            self.step("tools/list with a bad cursor", "tools/list", '{"cursor":"no such cursor"}', loose=not weird)
        if "resources" in offered:
            self.step("resources/read of no such resource", "resources/read", '{"uri":"weird://missing/\\u2028"}')
            self.step("resources/read of no uri", "resources/read", '{"uri":"missing not a uri"}')
        if "prompts" in offered:
            self.step("prompts/get of no such prompt", "prompts/get", '{"name":"no such prompt"}')
        if "completions" in offered:
            self.step("completion/complete of no such prompt", "completion/complete", '{"ref":{"type":"ref/prompt","name":"no such prompt"},"argument":{"name":"a","value":""}}')
        self.step("an unknown method", "no/such.method", '{"n":9007199254740993,"f":1.0}')
        if weird:
            self.step("an unknown method that exists", "x/anything", '{"n":9007199254740993,"f":1.0,"u":"\\u2028","list":[{}]}')
            self.step("an unknown method without params", "x/anything", None)
            self.step("an id beyond doubles", "tools/call", '{"name":"nothing"}', request_id="9007199254740993")
        if self.era == "modern":
            for method in ("ping", "logging/setLevel", "resources/subscribe", "initialize"):
                self.step(f"{method}, which is gone", method, "{}", loose=True)
            self.step("an unsupported version", "tools/list", version="2099-01-01", loose=True)
            self.step("no client capabilities in _meta", "tools/list", capabilities=None, loose=True)
            self.step("a wrong Mcp-Method", "tools/list", headers={"Mcp-Method": "prompts/list"}, loose=True)
            self.step("no Mcp-Name", "tools/call", '{"name":"x"}', headers={"Mcp-Name": None}, loose=True)
            for name in ("ask_sampling", "test_input_required_result_sampling", "test_missing_capability"):
                self.step(f"{name} without the capability", "tools/call", js({"name": name, "arguments": {}}), capabilities={})
        else:
            self.status_only("an unknown notification", "POST", '{"jsonrpc":"2.0","method":"notifications/x-unheard-of","params":{"n":9007199254740993}}')
            self.status_only("a late cancellation", "POST", '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"gone","reason":"\\u2028"}}')

    def side_by_side(self, tools, weird):
        """Many calls at once, so that replies must find their own requests: 7 and "7" are different ids, though not to every server."""
        name = next((tool["name"] for tool in tools if tool["name"] in ("echo_raw", "echo", "test_simple_text", "add", "greet")), None)
        if name is None:
            return
        with ThreadPoolExecutor(8) as pool:
            ids = [part for i in range(7001, 7007) for part in (str(i), f'"{i}"' if weird else f'"s{i}"')]
            results = pool.map(lambda i: (i, self.request("tools/call", js({"name": name, "arguments": {"message": f"number {i}", "name": i}}), request_id=i)), ids)
            for i, outcome in results:
                self.keep(f"at once {i}", outcome)

    def listen(self, resources):
        """Opens a subscription to everything; what comes is kept while the conversation goes on."""
        outcome = Outcome()
        outcome.limited = False
        filters = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True, "resourceSubscriptions": [one["uri"] for one in resources[:2]]}
        run = lambda: self.request("subscriptions/listen", f'{{"notifications":{js(filters)}}}', request_id='"listen é"', outcome=outcome)
        outcome.thread = threading.Thread(target=run, daemon=True)
        outcome.thread.start()
        self.settle(outcome, quiet=0.3)
        self.keep("subscriptions/listen", outcome)
        return outcome

    def hear_out(self, listening, tools):
        names = {tool["name"] for tool in tools}
        for name in TRIGGERS:
            if name in names:
                self.call(name, "{}", step=f"tools/call {name} while listening")
        self.settle(listening)
        if "hang_up" in names:
            self.call("hang_up", "{}")
            listening.thread.join(3)
        listening.close()
        # The acknowledgement comes first; after it, the order is the server's affair.
        listening.messages = listening.messages[:1] + sorted(listening.messages[1:], key=repr)

    def leave(self):
        if self.standing.type == "text/event-stream":
            self.settle(self.standing)
        self.standing.close()
        self.standing.messages = sorted(self.standing.messages, key=repr)
        self.status_only("no such session", "POST", '{"jsonrpc":"2.0","id":1,"method":"ping"}', exact=False, Mcp_Session_Id="00000000-no-such-session")
        self.status_only("not JSON", "POST", '{"jsonrpc":', exact=False)
        if not self.session:
            return
        self.status_only("no session", "POST", '{"jsonrpc":"2.0","id":1,"method":"tools/list"}', exact=False, Mcp_Session_Id=None)
        self.status_only("DELETE", "DELETE", exact=False)
        self.status_only("after DELETE", "POST", '{"jsonrpc":"2.0","id":1,"method":"tools/list"}', exact=False)


# ---- comparing ----------------------------------------------------------------------------------------------------


def all_messages(side):
    """Everything that was sent unasked in the whole conversation, in no order."""
    # A ping of the server's is answered by whoever holds its channel.
    sent = (message for outcome in side.steps.values() for message in outcome.messages if message[1] != "ping")
    return sorted(f"{kind} {method} {lexjson.write(params)}" for kind, method, params in sent)


# What the gateway leaves out because it means to: a server lists the tasks of everybody who comes through the gateway.
MEANT = {("initialize", "result.capabilities.tasks.list")}


def compare(direct, gateway, other_transport):
    """Yields (step, what, direct, gateway) for every difference.

    Where the upstream behind the gateway speaks stdio, statuses and content types are the gateway's own, and so is the stream
    on which a message travels that belongs to no request; all messages must still come, each once.
    """
    if other_transport and (one := all_messages(direct)) != (two := all_messages(gateway)):
        for message in dict.fromkeys(one + two):
            if one.count(message) != two.count(message):
                yield "all messages", message[:200], f"{one.count(message)} times", f"{two.count(message)} times"
    for name in dict.fromkeys([*direct.steps, *gateway.steps]):
        one, two = direct.steps.get(name), gateway.steps.get(name)
        if one is None or two is None:
            yield name, "step", "took place" if one else "did not", "took place" if two else "did not"
            continue
        if one.status != two.status and not other_transport:
            yield name, "status", one.status, two.status
        # The handshake is the gateway's own answer, in the form it likes.
        if one.type != two.type and name != "initialize" and not one.loose and not other_transport:
            yield name, "content type", one.type, two.type
        if one.kind() != two.kind():
            yield name, "outcome", f"{one.kind()} {shown(one)}", f"{two.kind()} {shown(two)}"
        elif one.reply is not None:
            if one.loose:
                if one.reply[0] == "error" and one.reply[1].get("code") != two.reply[1].get("code"):
                    yield name, "error code", one.reply[1].get("code"), two.reply[1].get("code")
            else:
                for path, left, right in lexjson.differences(one.reply[1], two.reply[1]):
                    yield name, one.reply[0] + path, left, right
        if one.loose or other_transport:
            continue
        if [m[:2] for m in one.messages] != [m[:2] for m in two.messages]:
            yield name, "messages", [m[1] for m in one.messages], [m[1] for m in two.messages]
        else:
            for (kind, method, left), (_, _, right) in zip(one.messages, two.messages):
                for path, was, became in lexjson.differences(left, right):
                    yield name, f"{kind} {method} params{path}", was, became


def shown(outcome):
    return "" if outcome.reply is None else lexjson.write(outcome.reply[1])[:160]


def narrowed(one, two, width=150):
    """Two long texts, cut to where they part."""
    one, two = ("absent" if text is None else str(text) for text in (one, two))
    if max(len(one), len(two)) <= width:
        return one, two
    at = next((i for i, (a, b) in enumerate(zip(one, two)) if a != b), min(len(one), len(two)))
    begin = max(0, at - 40)
    return tuple(("…" if begin else "") + text[begin : begin + width] + ("…" if len(text) > begin + width else "") for text in (one, two))


def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("direct_url")
    cli.add_argument("gateway_url")
    cli.add_argument("--era", choices=["legacy", "modern"], required=True)
    cli.add_argument("--legacy-version", default="2025-11-25")
    cli.add_argument("--gateway-header", action="append", default=[], help="'Name: value', sent to the gateway only")
    cli.add_argument("--other-transport", action="store_true", help="the upstream behind the gateway speaks stdio, the direct one HTTP")
    cli.add_argument("--verbose", action="store_true", help="print what every step brought")
    cli.add_argument("--most", type=int, default=40, help="how many differences to print")
    args = cli.parse_args()
    headers = {name.strip(): value.strip() for name, value in (h.split(":", 1) for h in args.gateway_header)}
    begun = time.monotonic()
    sides = []
    for name, url, own in (("direct", args.direct_url, {}), ("gateway", args.gateway_url, headers)):
        side = Side(name, url, own, args.era, args.legacy_version, STEP_SECONDS)
        side.converse()
        sides.append(side)
    direct, gateway = sides
    opening = next(iter(direct.steps.values()))
    if opening.kind() != "result":
        print(f"FAIL the upstream itself could not be opened: {opening.kind()} {opening.status} {shown(opening)}")
        return 2
    if args.verbose:
        for name, one in direct.steps.items():
            print(f"{name}: {one.status} {one.type or ''} {[m[1] for m in one.messages] or ''} {one.kind()} {shown(one)}")
    found = [one for one in compare(direct, gateway, args.other_transport) if one[:2] not in MEANT]
    for name, what, one, two in found[: args.most]:
        left, right = narrowed(one, two)
        print(f"DIFF {name}: {what}\n    direct  {left}\n    gateway {right}")
    if len(found) > args.most:
        print(f"… and {len(found) - args.most} more")
    wire = args.legacy_version if args.era == "legacy" else MODERN
    print(f"RESULT {args.era} {wire}: {direct.count} requests, {len(direct.steps)} steps, {len(found)} differences, {time.monotonic() - begun:.1f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
