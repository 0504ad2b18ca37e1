#!/usr/bin/env python3
"""A dual-era Streamable HTTP upstream made with FastMCP, as people write them: fastmcp_server.py PORT."""
import sys

from fastmcp import Context, FastMCP
from mcp.types import ToolAnnotations

server = FastMCP("tools-of-a-team", instructions="Adds and greets")


@server.tool(annotations=ToolAnnotations(readOnlyHint=True))
def add(a: int, b: int = 2) -> int:
    """Adds two numbers."""
    return a + b


@server.tool
def greet(name: str = "é\u2028") -> dict[str, str]:
    """Greets somebody, with structured content."""
    return {"greeting": f"Hello, {name}"}


@server.tool
async def count(ctx: Context, to: int = 3) -> str:
    """Counts, with progress and a log line for each step."""
    for step in range(1, to + 1):
        await ctx.report_progress(step, to)
        await ctx.info(f"step {step}")
    return f"counted to {to}"


@server.tool
def fail() -> str:
    """Fails."""
    raise ValueError("this tool fails")


@server.resource("team://motto")
def motto() -> str:
    return "Be excellent to each other"


@server.resource("team://member/{name}")
def member(name: str) -> str:
    return f"{name} is a member"


@server.prompt
def review(code: str) -> str:
    """Asks for a review."""
    return f"Review this: {code}"


if __name__ == "__main__":
    server.run(transport="http", host="127.0.0.1", port=int(sys.argv[1]), show_banner=False)
