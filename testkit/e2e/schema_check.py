#!/usr/bin/env python3
"""Holds what a gateway says to the JSON schemas of the protocol: one raw HTTP conversation, that of the oracle, in which every
result, error, notification and request that comes is checked against the schema of its kind in the version that is spoken.

    schema_check.py URL --version 2025-11-25 [--header 'Authorization: Bearer …']

The servers behind the gateway must keep to the schemas themselves. Exits 0 only if everything does.
"""
import argparse
import json
import pathlib
import sys

import jsonschema

import lexjson
from oracle import MODERN, STEP_SECONDS, Outcome, Side

SCHEMAS = pathlib.Path(__file__).resolve().parent.parent / "schema"
# The kind of a method's result; the modern era has another where answers are wanted first.
RESULTS = {
    "initialize": "InitializeResult", "server/discover": "DiscoverResult", "ping": "EmptyResult",
    "tools/list": "ListToolsResult", "tools/call": "CallToolResult",
    "resources/list": "ListResourcesResult", "resources/templates/list": "ListResourceTemplatesResult",
    "resources/read": "ReadResourceResult", "resources/subscribe": "EmptyResult", "resources/unsubscribe": "EmptyResult",
    "prompts/list": "ListPromptsResult", "prompts/get": "GetPromptResult",
    "completion/complete": "CompleteResult", "logging/setLevel": "EmptyResult",
}
# Tools of the servers behind that change nothing, reach out to nobody and end at once.
CALLED = {
    "echo", "get-sum", "get-structured-content", "get-annotated-message", "get-tiny-image",
    "get_current_time", "convert_time", "git_log", "git_status", "read_graph", "list_allowed_directories",
    "test_simple_text", "test_image_content", "test_audio_content", "test_embedded_resource", "test_multiple_content_types",
    "test_tool_with_logging", "test_tool_with_progress", "test_error_handling", "json_schema_2020_12_tool",
}


class Guest(Side):
    """A conversation at an endpoint of many servers, whose tools are not called at random."""

    def call(self, name, *rest, **options):
        if name is not None and name.split("__")[-1] not in CALLED:
            return Outcome()
        return super().call(name, *rest, **options)

    def complete(self, *_):
        """Completion is the oracle's business: which of several servers has a template is not defined."""


class Schema:
    """The schemas of one version."""

    def __init__(self, version):
        self.whole = json.loads((SCHEMAS / f"mcp-{version}.schema.json").read_text())
        self.place = "$defs" if "$defs" in self.whole else "definitions"
        self.kinds = self.whole[self.place]
        self.error = next(kind for kind in ("JSONRPCErrorResponse", "JSONRPCError") if kind in self.kinds)

    def has(self, union, method):
        """Whether a union of requests or notifications knows this method."""
        members = (option["$ref"].rpartition("/")[2] for option in self.kinds.get(union, {}).get("anyOf", []))
        return any(self.kinds[member]["properties"]["method"].get("const") == method for member in members)

    def faults(self, kind, value):
        schema = {**self.whole, "$ref": f"#/{self.place}/{kind}"}
        schema.pop("anyOf", None)
        validator = jsonschema.validators.validator_for(self.whole)(schema)
        found = jsonschema.exceptions.best_match(validator.iter_errors(value))
        return [] if found is None else [f"{kind} at {found.json_path}: {found.message[:300]}"]


def check(schema, name, outcome):
    """What is wrong with everything that one step brought."""
    found = []
    for kind, method, params in outcome.messages:
        message = {"jsonrpc": "2.0", "method": method, **({"id": 1} if kind == "request" else {})}
        if (plain := lexjson.plain(params)) is not None:
            message["params"] = plain
        # A server may ask what a later version has: the form of a request is all that can be held against it then.
        known = "ServerRequest" if kind == "request" else "ServerNotification"
        found += schema.faults(known if schema.has(known, method) else f"JSONRPC{kind.capitalize()}", message)
    if outcome.trouble:
        return [*found, outcome.trouble]
    if outcome.reply is None or outcome.reply[0] == "text":
        return found
    value = lexjson.plain(outcome.reply[1])
    if outcome.reply[0] == "error":
        return found + schema.faults(schema.error, {"jsonrpc": "2.0", "id": 1, "error": value})
    kind = RESULTS.get(name.split(" ")[0].rstrip("+"))
    if isinstance(value, dict) and value.get("resultType") == "input_required":
        kind = "InputRequiredResult"
    return found + (schema.faults(kind, value) if kind in schema.kinds else [])


def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("url")
    cli.add_argument("--version", required=True)
    cli.add_argument("--header", action="append", default=[])
    args = cli.parse_args()
    headers = {name.strip(): value.strip() for name, value in (header.split(":", 1) for header in args.header)}
    era = "modern" if args.version == MODERN else "legacy"
    side = Guest("gateway", args.url, headers, era, args.version, STEP_SECONDS)
    side.converse()
    schema = Schema(args.version)
    results = sum(outcome.reply is not None and outcome.reply[0] == "result" for outcome in side.steps.values())
    wrong = [(name, fault) for name, outcome in side.steps.items() for fault in check(schema, name, outcome)]
    for name, fault in wrong[:40]:
        print(f"FAIL {name}: {fault}")
    if results < 8:
        print(f"FAIL only {results} results came")
    print(f"RESULT {args.version}: {len(side.steps)} steps, {results} results, {len(wrong)} faults")
    return 1 if wrong or results < 8 else 0


if __name__ == "__main__":
    sys.exit(main())
