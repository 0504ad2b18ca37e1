# A server that answers what the tests ask of it; every request in a thread of its own.
import json, os, sys, threading

lock = threading.Lock()
waiting = {}
gate = threading.Event()


def say(message):
    with lock:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def complain(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def serve(message):
    params = message.get("params", {})
    name = params.get("name")

    def answer(result):
        say({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def progress(**more):
        token = params["_meta"]["progressToken"]
        say({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, **more}})

    if name == "progress":
        for step in range(3):
            progress(progress=step)
        answer({"steps": 3})
    elif name == "ask":
        box = [threading.Event(), None]
        waiting["q-%s" % message["id"]] = box
        say({"jsonrpc": "2.0", "id": "q-%s" % message["id"], "method": "roots/list"})
        box[0].wait()
        answer({"heard": box[1]})
    elif name == "gate":
        gate.wait()
    elif name == "crash":
        complain("going down with " + os.environ.get("TOKEN", ""))
        os._exit(3)
    elif name == "long":
        with lock:
            sys.stdout.write("x" * params["bytes"])
            sys.stdout.flush()
    elif name == "environment":
        answer({"names": sorted(os.environ), "cwd": os.getcwd()})
    elif name == "flood":
        for _ in range(params["lines"]):
            progress(data="x" * 60000)
        answer({"done": True})
    else:
        answer({"echo": params})


for line in sys.stdin:
    message = json.loads(line)
    if "method" not in message:
        box = waiting[message["id"]]
        box[1] = message.get("error", message.get("result"))
        box[0].set()
    elif "id" in message:
        threading.Thread(target=serve, args=(message,), daemon=True).start()
    elif message["method"] == "notifications/cancelled":
        complain("cancelled %s" % message["params"]["requestId"])
