"""Starts the upstream, nginx and the gateway on loopback, loads each with wrk, and prints what it cost.

CPU is what the kernel accounts to all processes and threads of a target (user and system, children included) over a run,
divided by the requests that were answered. It is quantised to 10 ms, which is under 0.1 % of a run of ten seconds. Load
generator, upstream and target share the machine's processors, for every target alike.
"""

import argparse
import contextlib
import http.client
import json
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")
CONNECTIONS = (1, 32, 256)
# Tools of the upstream, unless it is told another number.
TOOLS = 10
MODERN, LEGACY = "2026-07-28", "2025-11-25"


def fail(text):
    sys.exit(f"bench: {text}")


# ---- processes


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def family(pid):
    """`pid` and everything it started."""
    found, waiting = [], [pid]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                waiting += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def cpu_seconds(pid):
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            # The name in parentheses may hold blanks: fields are counted behind it. 14 and 15 are user and system time.
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICK


def resident_bytes(pid, children=True):
    total = 0
    for member in family(pid) if children else [pid]:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
    return total


class Processes(contextlib.ExitStack):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def start(self, name, command, env=None):
        with open(self.folder / f"{name}.out", "ab") as out:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True)
        child.name = name
        self.callback(self.stop, child)
        return child

    def stop(self, child):
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()

    def until_answers(self, child, port, path="/", seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if child.poll() is not None:
                fail(f"{child.name} ended at once:\n{(self.folder / f'{child.name}.out').read_text(errors='replace')[-2000:]}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", path)
                connection.getresponse().read()
                return
            time.sleep(0.001)
        fail(f"{child.name} does not answer on port {port}")


# ---- requests


def ask(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        text = json.dumps(body) if body is not None else None
        connection.request(method, path, text, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, dict((name.lower(), value) for name, value in answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def message_of(text):
    """The JSON-RPC message in an answer, plain or as an event stream."""
    for line in [text, *(line[5:] for line in text.splitlines() if line.startswith("data:"))]:
        with contextlib.suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict):
                return message
    return None


class Case:
    def __init__(self, name, method, params, at_server=True):
        self.name, self.method, self.params, self.at_server = name, method, params, at_server

    def request(self, era, session=None, key=None):
        params, headers = dict(self.params), {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if era == "modern":
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": self.method}
            if "name" in params:
                headers["Mcp-Name"] = params["name"]
        else:
            headers["MCP-Protocol-Version"] = LEGACY
            if session:
                headers["Mcp-Session-Id"] = session
        if key:
            headers["Authorization"] = f"Bearer {key}"
        return {"jsonrpc": "2.0", "id": 1, "method": self.method, "params": params}, headers


CASES = (
    Case("tools/call 100 B", "tools/call", {"name": "tool_1", "arguments": {"message": "hello"}}),
    Case("tools/call 16 KB", "tools/call", {"name": "echo", "arguments": {"message": "x" * 16_384}}),
    Case("tools/list", "tools/list", {}, at_server=False),
)


def initialize(port, path, key):
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
    headers = {"Accept": "application/json, text/event-stream"} | ({"Authorization": f"Bearer {key}"} if key else {})
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    status, head, text = ask(port, "POST", path, body, headers)
    if status != 200 or "result" not in (message_of(text) or {}):
        fail(f"initialize at {path} was answered with {status}: {text[:500]}")
    session = head.get("mcp-session-id")
    more = headers | {"MCP-Protocol-Version": LEGACY} | ({"Mcp-Session-Id": session} if session else {})
    ask(port, "POST", path, {"jsonrpc": "2.0", "method": "notifications/initialized"}, more)
    return session


# ---- the gateway


class Gateway:
    def __init__(self, processes, program, folder):
        self.processes, self.program, self.data = processes, program, folder / "data"
        self.port = free_port()
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("MREG_")}
        self.env |= {"MREG_DATA_DIR": str(self.data), "MREG_PORT": str(self.port)}
        # All limits are asked; none is reached.
        self.env |= {f"MREG_RATE_LIMIT_{whose}_RPM": "10000000" for whose in ["GLOBAL", "ADMIN", "USER"]}

    def start(self, seconds=20):
        """Starts it; returns the milliseconds from the start of the program to the first answer."""
        began = time.monotonic()
        self.child = self.processes.start("gateway", [str(self.program), "serve"], self.env)
        self.processes.until_answers(self.child, self.port, "/health/live", seconds)
        return (time.monotonic() - began) * 1000

    def stop(self):
        self.processes.stop(self.child)

    def read_key(self):
        file = self.data / "cli.json"
        for _ in range(500):
            with contextlib.suppress(OSError, ValueError, KeyError):
                self.key = json.loads(file.read_text())["key"]
                return
            time.sleep(0.01)
        fail(f"the gateway wrote no key to {file}")

    def register(self, slug, url=None, program=None):
        head = {"Authorization": f"Bearer {self.key}"}
        spec = {"replicas": [{"url": url}]} if url else {"transport": "stdio", "command": {"program": str(program)}}
        status, _, text = ask(self.port, "POST", "/api/v1/servers", {"slug": slug, **spec}, head)
        if status not in (200, 201):
            fail(f"registering {slug} was answered with {status}: {text[:500]}")
        for _ in range(500):
            status, _, text = ask(self.port, "GET", f"/api/v1/servers/{slug}", None, head)
            if status == 200 and json.loads(text).get("status", {}).get("state") == "ready":
                return
            time.sleep(0.02)
        fail(f"{slug} does not become ready: {text[:500]}")

    def turn(self, slug, how):
        """Enables or disables a server."""
        status, _, text = ask(self.port, "POST", f"/api/v1/servers/{slug}/{how}", {}, {"Authorization": f"Bearer {self.key}"})
        if status not in (200, 204):
            fail(f"{how} of {slug} was answered with {status}: {text[:500]}")


def open_sessions(gateway, count, path="/mcp", tool=None):
    """Opens sessions of `count` clients over 16 connections, and calls a tool once in each; returns them."""
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Authorization": f"Bearer {gateway.key}"}
    opened, problems, lock = set(), [], threading.Lock()

    def work(share):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        try:
            for _ in range(share):
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                text = answer.read()
                session = answer.getheader("Mcp-Session-Id")
                if tool and session:
                    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
                    connection.request("POST", path, json.dumps(call), {**headers, "Mcp-Session-Id": session})
                    answer = connection.getresponse()
                    text = answer.read()
                    if b'"result"' not in text:
                        session = None
                with lock:
                    opened.add(session) if answer.status == 200 and session else problems.append((answer.status, text[:300]))
                if problems:
                    return
        except (OSError, http.client.HTTPException) as error:
            problems.append(("connection", str(error)))
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(count // 16 + (index < count % 16),)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems or len(opened) != count:
        fail(f"{len(opened)} of {count} sessions were opened; first problem: {problems[:1]}")
    return opened


def open_streams(gateway, sessions, path):
    """One stream for what belongs to no request for each session; they stay open as long as what is returned lives."""
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {gateway.key}", "MCP-Protocol-Version": LEGACY}
    streams = []
    for session in sessions:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        connection.request("GET", path, headers={**headers, "Mcp-Session-Id": session})
        answer = connection.getresponse()
        if answer.status != 200:
            fail(f"a stream was answered with {answer.status}: {answer.read(300)}")
        streams.append((connection, answer))
    return streams


# ---- measuring

# Bytes of the gateway itself with 1,000 sessions on one child.
SHARED_CHILD_GOAL = 45_000_000


def load(folder, port, path, request, connections, seconds, pid):
    body, headers = request
    check(port, path, body, headers)
    env = os.environ | {"BENCH_BODY": str(folder / "body.json"), "BENCH_HEADERS": str(folder / "headers"), "BENCH_OUT": str(folder / "out.json")}
    (folder / "body.json").write_text(json.dumps(body, separators=(",", ":")))
    (folder / "headers").write_text("".join(f"{name}: {value}\n" for name, value in headers.items()))
    command = ["wrk", "--latency", "-t", str(min(connections, 2)), "-c", str(connections), "--timeout", "10s", "-s", str(HERE / "post.lua")]
    for duration in (1, seconds):  # a second to warm up, not counted
        before = cpu_seconds(pid)
        done = subprocess.run([*command, "-d", f"{duration}s", f"http://127.0.0.1:{port}{path}"], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            fail(f"wrk: {done.stdout}{done.stderr}")
        spent = cpu_seconds(pid) - before
    out = json.loads((folder / "out.json").read_text())
    errors = sum(out["errors"].values())
    answered = max(out["requests"], 1)
    return {
        "requests_per_second": round(out["requests"] / out["seconds"], 1),
        "p50_ms": round(out["p50_us"] / 1000, 3),
        "p99_ms": round(out["p99_us"] / 1000, 3),
        "cpu_us_per_request": round(spent / answered * 1e6, 2),
        "requests": out["requests"],
        "errors": errors,
    }


def check(port, path, body, headers):
    """A wrong answer is fast: what is measured must be right first."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    message = message_of(text) or {}
    result = message.get("result")
    if answer.status != 200 or message.get("id") != body["id"] or not isinstance(result, dict) or result.get("isError"):
        fail(f"{body['method']} at port {port}{path} was answered with {answer.status}: {text[:500]}")


def main():
    parser = argparse.ArgumentParser(prog="bench/run.sh", description="Measures the gateway against nginx, both in front of the same upstream.")
    parser.add_argument("--seconds", type=int, default=10, help="length of each run (10)")
    parser.add_argument("--era", choices=("modern", "legacy"), default="modern", help=f"protocol of the client: {MODERN}, or {LEGACY} with a session")
    parser.add_argument("--connections", type=lambda text: tuple(map(int, text.split(","))), default=CONNECTIONS, help="1,32,256")
    parser.add_argument("--only", help="only cases whose name holds this text")
    parser.add_argument("--servers", type=int, default=50, help="tools/list is measured once more with this many servers registered (50); 0 leaves it out")
    parser.add_argument("--shared-child", type=int, default=1_000, metavar="COUNT", help="how many client sessions to open on one child process that they share, for the memory figure (1000)")
    parser.add_argument("--sessions", type=int, default=10_000, help="how many client sessions to open for the memory figure (10000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as JSON too")
    parser.add_argument("--bin-dir", type=Path, required=True, help="take mcp-gateway and bench_upstream from here and build nothing")
    parser.add_argument("--no-gateway", action="store_true", help="nginx and the upstream alone, to look at the machine")
    options = parser.parse_args()
    for program in ("mcp-gateway", "bench_upstream"):
        if not (options.bin_dir / program).exists():
            fail(f"{options.bin_dir / program} is not there")

    folder = Path(tempfile.mkdtemp(prefix="mcp-gateway-bench-"))
    try:
        with Processes(folder) as processes:
            report = measure(options, folder, processes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def measure(options, folder, processes):
    upstream_port, nginx_port = free_port(), free_port()
    upstream = processes.start("upstream", [str(options.bin_dir / "bench_upstream"), "--port", str(upstream_port)])
    processes.until_answers(upstream, upstream_port)
    conf = (HERE / "nginx.conf").read_text().replace("@DIR@", str(folder)).replace("@UPSTREAM@", str(upstream_port)).replace("@PORT@", str(nginx_port))
    (folder / "nginx.conf").write_text(conf)
    nginx = processes.start("nginx", ["nginx", "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(folder / "nginx.conf")])
    processes.until_answers(nginx, nginx_port)

    version = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False).stderr.strip()
    report = {
        "machine": {"cpus": os.cpu_count(), "model": cpu_model(), "kernel": platform.release()},
        "nginx": version, "era": options.era, "seconds": options.seconds, "programs": str(options.bin_dir), "runs": [],
    }
    targets = {"direct": (upstream_port, upstream.pid), "nginx": (nginx_port, nginx.pid)}
    gateway = None
    if not options.no_gateway:
        gateway = Gateway(processes, options.bin_dir / "mcp-gateway", folder)
        first = gateway.start()
        gateway.read_key()
        gateway.register("bench", f"http://127.0.0.1:{upstream_port}/mcp")
        starts = []
        for _ in range(5):
            gateway.stop()
            starts.append(gateway.start())
        report["start_ms"] = {"first_ever": round(first, 1), "median_of_5": round(sorted(starts)[2], 1)}
        until_listed(gateway)
        time.sleep(2)
        report["idle_bytes"] = resident_bytes(gateway.child.pid)
        targets["gateway"] = (gateway.port, gateway.child.pid)

    def run(case, connections, name):
        port, pid = targets[name]
        path = ("/mcp/bench" if case.at_server else "/mcp") if name == "gateway" else "/mcp"
        key = gateway.key if name == "gateway" else None
        session = initialize(port, path, key) if options.era == "legacy" else None
        result = load(folder, port, path, case.request(options.era, session, key), connections, options.seconds, pid)
        print(f"  {result['requests_per_second']:>10} req/s  {name}, {connections} connections, {case.name}", file=sys.stderr)
        report["runs"].append({"case": case.name, "connections": connections, "target": name, **result})

    print("measuring", file=sys.stderr)
    for case in CASES:
        if options.only and options.only not in case.name:
            continue
        for connections in options.connections:
            for name in targets:
                run(case, connections, name)
    if gateway and options.servers > 1 and not (options.only and options.only not in "tools/list"):
        measure_lists(options, processes, gateway, upstream_port, run)
    if gateway and options.sessions:
        # A new process, so that what the load left behind is not counted.
        gateway.stop()
        gateway.start()
        until_listed(gateway)
        open_sessions(gateway, options.sessions)
        time.sleep(1)
        report["sessions"] = {"count": options.sessions, "bytes": resident_bytes(gateway.child.pid)}
    if gateway and options.shared_child:
        gateway.stop()
        gateway.start()
        until_listed(gateway)
        gateway.register("child", program=options.bin_dir / "stdio_server")
        sessions = open_sessions(gateway, options.shared_child, "/mcp/child", "echo")
        time.sleep(1)
        # The gateway's own memory: what the program behind it needs is not its doing.
        shared = {"count": options.shared_child, "bytes": resident_bytes(gateway.child.pid, children=False)}
        streams = open_streams(gateway, sessions, "/mcp/child")
        time.sleep(1)
        shared["bytes_with_streams"] = resident_bytes(gateway.child.pid, children=False)
        children = [member for member in family(gateway.child.pid) if Path(f"/proc/{member}/exe").resolve().name == "stdio_server"]
        if len(children) != 1:
            fail(f"{len(children)} children serve {options.shared_child} sessions that share one")
        del streams
        report["shared_child"] = shared
    return report


def measure_lists(options, processes, gateway, upstream_port, run):
    """`tools/list` at the address of all servers: as many tools of one server, then of many with an equal part each."""
    servers, tools = options.servers, options.servers * TOOLS
    wide_port = free_port()
    wide = processes.start("wide", [str(options.bin_dir / "bench_upstream"), "--port", str(wide_port), "--tools", str(tools)])
    processes.until_answers(wide, wide_port)
    gateway.turn("bench", "disable")
    gateway.register("wide", f"http://127.0.0.1:{wide_port}/mcp")
    for connections in options.connections:
        run(Case(f"tools/list, {tools} tools of 1 server", "tools/list", {}, at_server=False), connections, "gateway")
    gateway.turn("wide", "disable")
    gateway.turn("bench", "enable")
    for number in range(2, servers + 1):
        gateway.register(f"bench-{number}", f"http://127.0.0.1:{upstream_port}/mcp")
    for connections in options.connections:
        run(Case(f"tools/list, {tools} tools of {servers} servers", "tools/list", {}, at_server=False), connections, "gateway")


def until_listed(gateway):
    head = {"Authorization": f"Bearer {gateway.key}"}
    for _ in range(500):
        status, _, text = ask(gateway.port, "GET", "/api/v1/servers/bench", None, head)
        if status == 200 and json.loads(text).get("status", {}).get("state") == "ready":
            return
        time.sleep(0.02)
    fail("after a new start the server does not become ready")


def cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def show(report):
    machine = report["machine"]
    print(f"{machine['cpus']} × {machine['model']}, Linux {machine['kernel']}, {report['nginx']}, client {report['era']}, {report['seconds']} s a run\n")
    rows = [("case", "connections", "target", "req/s", "p50 ms", "p99 ms", "CPU µs", "CPU ÷ nginx", "errors")]
    by = {(run["case"], run["connections"], run["target"]): run for run in report["runs"]}
    for run in report["runs"]:
        # tools/list with more servers is held against nginx with one: it is to stay flat.
        nginx = by.get((run["case"].partition(",")[0], run["connections"], "nginx"))
        ratio = "" if not nginx or run["target"] != "gateway" or not nginx["cpu_us_per_request"] else f"{run['cpu_us_per_request'] / nginx['cpu_us_per_request']:.2f}"
        rows.append((run["case"], str(run["connections"]), run["target"], f"{run['requests_per_second']:.0f}", f"{run['p50_ms']:.3f}", f"{run['p99_ms']:.3f}", f"{run['cpu_us_per_request']:.1f}", ratio, str(run["errors"])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) if column in (0, 2) else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths))) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    mega = 1_000_000
    print()
    first = [by.get((CASES[0].name, 1, target)) for target in ("direct", "gateway")]
    if all(first):
        print(f"added p50, {CASES[0].name}, one connection: {first[1]['p50_ms'] - first[0]['p50_ms']:.3f} ms over asking the upstream directly")
    if "idle_bytes" in report:
        print(f"memory, idle: {report['idle_bytes'] / mega:.1f} MB")
    if "sessions" in report:
        print(f"memory, {report['sessions']['count']} client sessions: {report['sessions']['bytes'] / mega:.1f} MB")
    if "shared_child" in report:
        shared = report["shared_child"]
        goals = [("", shared["bytes"]), (" and a stream each", shared["bytes_with_streams"])]
        for more, size in goals:
            met = "met" if size < SHARED_CHILD_GOAL else "MISSED"
            print(f"memory, {shared['count']} client sessions on one shared child{more}: {size / mega:.1f} MB (goal {SHARED_CHILD_GOAL / mega:.0f} MB: {met})")
    if "start_ms" in report:
        print(f"start to first answer: {report['start_ms']['median_of_5']} ms (first start of all, with an empty folder: {report['start_ms']['first_ever']} ms)")


if __name__ == "__main__":
    main()
