"""Counts the instructions that the gateway spends on a call, function by function, with callgrind (Debian: valgrind).

Unlike time they are the same on a busy machine and a quiet one. Two programs are compared with --to: what grew by how much.
What the kernel does for a call, and what waits for memory, is not in them: `bench/run.sh` has the last word.
"""

import argparse
import collections
import http.client
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import measure

WARM_UP = 300
LINE = re.compile(r"\s*([\d,]+)\s+\([^)]*\)\s+(?:[^:\s]*:(?!:))?(.*)")


def count(program, upstream, case, calls, folder):
    """Instructions a call, inclusive, by function; `PROGRAM TOTALS` is all of them."""
    folder.mkdir()
    out, wrapper = folder / "callgrind.out", folder / "gateway"
    wrapper.write_text(f'#!/bin/sh\nexec valgrind -q --tool=callgrind --instr-atstart=no --callgrind-out-file={out} {program} "$@"\n')
    wrapper.chmod(0o755)
    with measure.Processes(folder) as processes:
        port = measure.free_port()
        processes.until_answers(processes.start("upstream", [str(upstream), "--port", str(port)]), port)
        gateway = measure.Gateway(processes, wrapper, folder)
        # So few calls need no other limits than there are, and an earlier build may know other ones.
        gateway.env = {name: value for name, value in gateway.env.items() if "_RATE_LIMIT_" not in name}
        gateway.start(seconds=120)
        gateway.read_key()
        gateway.register("bench", f"http://127.0.0.1:{port}/mcp")
        body, headers = case.request("modern", None, gateway.key)
        path, text = "/mcp/bench" if case.at_server else "/mcp", json.dumps(body, separators=(",", ":"))
        measure.check(gateway.port, path, body, headers)
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)

        def call(times):
            for _ in range(times):
                connection.request("POST", path, text, headers)
                answer = connection.getresponse()
                read = answer.read()
                if answer.status != 200:
                    measure.fail(f"a call was answered with {answer.status}: {read[:500]}")

        def control(*what):
            subprocess.run(["callgrind_control", *what, str(gateway.child.pid)], check=True, stdout=subprocess.DEVNULL)

        call(WARM_UP)
        control("--instr=on")
        call(calls)
        control("--instr=off")
        control("--dump")
    listed = subprocess.run(["callgrind_annotate", "--auto=no", "--inclusive=yes", "--threshold=100", f"{out}.1"], check=True, capture_output=True, text=True)
    found = collections.Counter()
    for line in listed.stdout.splitlines():
        if match := LINE.match(line):
            # Where it is, how deep a recursion, and how often it was called are no part of its name.
            name = re.sub(r"('\d+)?( \([\d,]+x\))?( \[.*)?$", "", match[2].strip())
            found[name] = max(found[name], int(match[1].replace(",", "")) / calls)
    return found


def main():
    parser = argparse.ArgumentParser(prog="bench/instructions.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, help="a release build of mcp-gateway")
    parser.add_argument("--to", type=Path, metavar="PROGRAM", help="an earlier build, to compare with")
    parser.add_argument("--upstream", type=Path, help="bench_upstream; the one beside the program where it is not given")
    parser.add_argument("--case", default=measure.CASES[0].name, choices=[case.name for case in measure.CASES])
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--rows", type=int, default=40)
    options = parser.parse_args()
    for program in ("valgrind", "callgrind_control", "callgrind_annotate"):
        if not shutil.which(program):
            measure.fail(f"{program} is missing (Debian: apt-get install valgrind)")
    case = next(case for case in measure.CASES if case.name == options.case)
    upstream = options.upstream or options.program.with_name("bench_upstream")
    folder = Path(tempfile.mkdtemp(prefix="mcp-gateway-instructions-"))
    try:
        now = count(options.program.resolve(), upstream.resolve(), case, options.calls, folder / "now")
        before = count(options.to.resolve(), upstream.resolve(), case, options.calls, folder / "before") if options.to else collections.Counter()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'change' if options.to else '':>9} {'a call':>9}  {case.name}, instructions, what they call included")
    rows = sorted(now.keys() | before.keys(), key=lambda name: -abs(now[name] - before[name]))
    for name in ["PROGRAM TOTALS", *(name for name in rows if name != "PROGRAM TOTALS")][: options.rows]:
        change = f"{now[name] - before[name]:+.0f}" if options.to else ""
        print(f"{change:>9} {now[name]:>9.0f}  {name[:140]}")


if __name__ == "__main__":
    sys.exit(main())
