//! A small MCP server over standard input and output, for tests of how a gateway runs other people's programs.
//!
//! No runtime and no SDK: it starts in a millisecond or two, and each request has a thread, so that a call which sleeps
//! holds nothing up. `--legacy VERSION` leaves only the handshake of that version, `--modern` only the stateless era;
//! `--chatter` writes to standard error first, and `--ignore-eof` stays when standard input ends. With `--state` it also has
//! what a server keeps for its client in the legacy era: a resource to subscribe to, and a level of logging.
//!
//! | tool | arguments | does |
//! |---|---|---|
//! | `echo` | any | returns its arguments |
//! | `sleep` | `ms` | answers late, unless cancelled |
//! | `progress` | `steps`, `ms` | reports each step |
//! | `crash` | `code`, `abort` | ends the process without an answer |
//! | `spawn_grandchild` | `kind`: `plain`, `ignore_term` or `setsid` | starts a process that outlives this one; returns its id |
//! | `env` | – | returns its environment, arguments and folder |
//! | `stderr` | `lines`, `bytes` | writes to standard error |
//! | `noise` | `text` | writes a line that is no message to standard output |
//! | `big` | `bytes` | returns that many letters |
//! | `ask` | `kind` | asks the client (legacy) or says what it needs (stateless) |
//! | `change` | – | says that the list of tools changed |
//! | `stats` | – | returns how many requests, notifications and cancellations came, and with `--state` that |
//! | `update` | `uri` | says that a resource was updated, if it is subscribed to |
//! | `log` | `level` | logs, if that is severe enough |
//! | `close_stdout` | – | stops answering for good, but stays |
#![expect(clippy::print_stderr, reason = "what a server says on standard error is part of what is tested")]

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io::{BufRead as _, Write as _},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::{
    jsonrpc::{self, Envelope, LEGACY, META_CAPABILITIES, META_SERVER, META_SUBSCRIPTION, META_VERSION, MODERN},
    upstream::filler,
};

const NAME: &str = "stdio-stand-in";

#[derive(Default)]
struct Server {
    legacy: Option<String>,
    modern_only: bool,
    keeps_state: bool,
    state: Mutex<State>,
    capabilities: Mutex<Value>,
    asked: Mutex<HashMap<String, mpsc::Sender<Value>>>,
    cancelled: Mutex<HashSet<String>>,
    listening: Mutex<Vec<String>>,
    deaf: AtomicBool,
    next: AtomicU64,
    requests: AtomicU64,
    notifications: AtomicU64,
    cancellations: AtomicU64,
}

/// What it keeps for its one client.
#[derive(Default)]
struct State {
    level: String,
    subscribed: BTreeSet<String>,
    /// Subscriptions, whether new or not.
    subscriptions: u64,
}

/// Severities, least severe first.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut server, mut ignore_eof) = (Server::default(), false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--legacy" => server.legacy = arguments.next(),
            "--modern" => server.modern_only = true,
            "--state" => server.keeps_state = true,
            "--grandchild" => return grandchild(arguments.next().as_deref()),
            "--chatter" => (1..=3).for_each(|line| eprintln!("starting up, step {line}")),
            "--ignore-eof" => ignore_eof = true,
            other => eprintln!("not understood: {other}"),
        }
    }
    read(&Arc::new(server));
    if ignore_eof {
        loop {
            thread::park();
        }
    }
}

fn read(server: &Arc<Server>) {
    for line in std::io::stdin().lock().split(b'\n') {
        let Ok(line) = line else { return };
        if line.is_empty() {
            continue;
        }
        match serde_json::from_slice::<Envelope>(&line) {
            Ok(message) => take(server, message),
            Err(error) => server.write(&jsonrpc::error("null", -32700, &error.to_string(), None)),
        }
    }
}

fn take(server: &Arc<Server>, message: Envelope) {
    let id = message.id.map(|id| id.get().to_owned());
    match (message.method, id) {
        (Some(method), Some(id)) => {
            server.requests.fetch_add(1, Ordering::Relaxed);
            let (server, params) = (Arc::clone(server), message.params);
            thread::spawn(move || server.request(&id, &method, &params));
        }
        (Some(method), None) => {
            server.notifications.fetch_add(1, Ordering::Relaxed);
            if method == "notifications/cancelled" {
                let id = message.params["requestId"].to_string();
                server.cancellations.fetch_add(1, Ordering::Relaxed);
                lock(&server.listening).retain(|listening| *listening != id);
                lock(&server.cancelled).insert(id);
            }
        }
        (None, Some(id)) => {
            if let Some(waiting) = lock(&server.asked).remove(&id) {
                _ = waiting.send(message.result.or(message.error).unwrap_or_default());
            }
        }
        (None, None) => {}
    }
}

impl Server {
    fn write(&self, line: &str) {
        if self.deaf.load(Ordering::Relaxed) {
            return;
        }
        let mut out = std::io::stdout().lock();
        if out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
            // Nobody reads any more.
            std::process::exit(0);
        }
    }

    fn versions(&self) -> Vec<&str> {
        match &self.legacy {
            Some(version) => vec![version],
            None if self.modern_only => vec![MODERN],
            None => std::iter::once(MODERN).chain(LEGACY).collect(),
        }
    }

    fn request(&self, id: &str, method: &str, params: &Value) {
        let modern = !params["_meta"][META_VERSION].is_null() && self.legacy.is_none();
        let outcome = if modern && method != "initialize" {
            self.check(params).and_then(|()| self.answer(id, method, params, true))
        } else if self.modern_only {
            let data = json!({ "supported": [MODERN], "requested": params["protocolVersion"] });
            Err((-32022, "Unsupported protocol version".to_owned(), Some(data)))
        } else {
            self.answer(id, method, params, false)
        };
        if lock(&self.cancelled).remove(id) {
            return;
        }
        match outcome {
            Ok(Some(mut result)) => {
                if modern {
                    if result["resultType"].is_null() {
                        result["resultType"] = "complete".into();
                    }
                    result["_meta"][META_SERVER] = json!({ "name": NAME, "version": "1.0.0" });
                }
                self.write(&jsonrpc::result(id, &result.to_string()));
            }
            Ok(None) => {}
            Err((code, message, data)) => self.write(&jsonrpc::error(id, code, &message, data.as_ref())),
        }
    }

    fn check(&self, params: &Value) -> Result<(), RpcError> {
        let version = &params["_meta"][META_VERSION];
        if *version != MODERN {
            let data = json!({ "supported": self.versions(), "requested": version });
            return Err((-32022, "Unsupported protocol version".to_owned(), Some(data)));
        }
        if params["_meta"][META_CAPABILITIES].is_object() {
            return Ok(());
        }
        Err((-32602, "_meta lacks what every request must carry".to_owned(), None))
    }

    fn answer(&self, id: &str, method: &str, params: &Value, modern: bool) -> Result<Option<Value>, RpcError> {
        let mut capabilities = json!({ "tools": { "listChanged": true } });
        if self.keeps_state {
            capabilities["resources"] = json!({ "subscribe": true });
            capabilities["logging"] = json!({});
        }
        let uri = || params["uri"].as_str().unwrap_or_default().to_owned();
        Ok(Some(match method {
            "initialize" => {
                lock(&self.capabilities).clone_from(&params["capabilities"]);
                let wanted = params["protocolVersion"].as_str().unwrap_or_default();
                let version = match &self.legacy {
                    Some(version) => version,
                    None => LEGACY.into_iter().find(|known| *known == wanted).unwrap_or(LEGACY[0]),
                };
                json!({
                    "protocolVersion": version,
                    "capabilities": capabilities,
                    "serverInfo": { "name": NAME, "version": "1.0.0" },
                })
            }
            "server/discover" if modern => json!({
                "supportedVersions": self.versions(), "capabilities": capabilities, "ttlMs": 0, "cacheScope": "private",
            }),
            "ping" if !modern => json!({}),
            "tools/list" if modern => json!({ "tools": tools(), "ttlMs": 0, "cacheScope": "private" }),
            "tools/list" => json!({ "tools": tools() }),
            "tools/call" => return self.call(id, params, modern),
            "resources/list" if self.keeps_state => json!({ "resources": [{ "uri": "stdio://note", "name": "note" }] }),
            "resources/templates/list" if self.keeps_state => json!({ "resourceTemplates": [] }),
            "resources/subscribe" if self.keeps_state && !modern => {
                let mut state = lock(&self.state);
                state.subscriptions += 1;
                state.subscribed.insert(uri());
                json!({})
            }
            "resources/unsubscribe" if self.keeps_state && !modern => {
                lock(&self.state).subscribed.remove(&uri());
                json!({})
            }
            "logging/setLevel" if self.keeps_state && !modern => {
                params["level"].as_str().unwrap_or_default().clone_into(&mut lock(&self.state).level);
                json!({})
            }
            "subscriptions/listen" if modern => {
                let subscription: Value = serde_json::from_str(id).unwrap_or_default();
                let params =
                    json!({ "notifications": params["notifications"], "_meta": { META_SUBSCRIPTION: subscription } });
                // A change in another thread is told after this, and not passed over.
                let mut listening = lock(&self.listening);
                self.write(&jsonrpc::notification("notifications/subscriptions/acknowledged", &params));
                listening.push(id.to_owned());
                return Ok(None);
            }
            other => return Err((-32601, format!("Method not found: {other}"), None)),
        }))
    }

    fn call(&self, id: &str, params: &Value, modern: bool) -> Result<Option<Value>, RpcError> {
        let arguments = &params["arguments"];
        let number = |key: &str, default: u64| arguments[key].as_u64().unwrap_or(default);
        let pause = || self.pause(id, Duration::from_millis(number("ms", 0)));
        let text = |text: String| Ok(Some(json!({ "content": [{ "type": "text", "text": text }] })));
        match params["name"].as_str().unwrap_or_default() {
            "echo" => text(arguments.to_string()),
            "sleep" => {
                pause();
                text("awake".to_owned())
            }
            "progress" => {
                let (steps, token) = (number("steps", 3), &params["_meta"]["progressToken"]);
                for step in 1..=steps {
                    if !token.is_null() {
                        let params = json!({ "progressToken": token, "progress": step, "total": steps });
                        self.write(&jsonrpc::notification("notifications/progress", &params));
                    }
                    pause();
                }
                text("done".to_owned())
            }
            "crash" if arguments["abort"] == true => std::process::abort(),
            "crash" => std::process::exit(i32::try_from(number("code", 1)).unwrap_or(1)),
            "spawn_grandchild" => match spawn(arguments["kind"].as_str().unwrap_or("plain")) {
                Ok(pid) => text(pid.to_string()),
                Err(error) => Err((-32603, error.to_string(), None)),
            },
            "env" => {
                let variables: serde_json::Map<_, _> = std::env::vars_os()
                    .map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()))
                    .collect();
                let told = json!({
                    "env": variables,
                    "args": std::env::args().collect::<Vec<_>>(),
                    "cwd": std::env::current_dir().unwrap_or_default(),
                    "pid": std::process::id(),
                });
                text(told.to_string())
            }
            "stderr" => {
                let line = filler(usize::try_from(number("bytes", 40)).unwrap_or(40));
                (0..number("lines", 1)).for_each(|count| eprintln!("{count} {line}"));
                text("said".to_owned())
            }
            "noise" => {
                self.write(arguments["text"].as_str().unwrap_or("Server is ready!"));
                text("made".to_owned())
            }
            "big" => text(filler(usize::try_from(number("bytes", 0)).unwrap_or(0))),
            "ask" => self.ask(params, modern),
            "change" => {
                self.change();
                text("told".to_owned())
            }
            "stats" => {
                let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                let state = lock(&self.state);
                let told = json!({
                    "level": state.level,
                    "subscribed": state.subscribed,
                    "subscriptions": state.subscriptions,
                    "requests": read(&self.requests),
                    "notifications": read(&self.notifications),
                    "cancellations": read(&self.cancellations),
                });
                text(told.to_string())
            }
            "update" => {
                let uri = arguments["uri"].as_str().unwrap_or("stdio://note");
                if lock(&self.state).subscribed.contains(uri) {
                    self.write(&jsonrpc::notification("notifications/resources/updated", &json!({ "uri": uri })));
                }
                text("told".to_owned())
            }
            "log" => {
                let place = |level: &str| LEVELS.iter().position(|known| *known == level);
                let level = arguments["level"].as_str().unwrap_or("info");
                if place(level) >= place(&lock(&self.state).level) {
                    let params = json!({ "level": level, "data": "as it happened" });
                    self.write(&jsonrpc::notification("notifications/message", &params));
                }
                text("logged".to_owned())
            }
            "close_stdout" => {
                self.deaf.store(true, Ordering::Relaxed);
                Ok(None)
            }
            other => Err((-32602, format!("Unknown tool: {other}"), None)),
        }
    }

    fn pause(&self, id: &str, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until && !lock(&self.cancelled).contains(id) {
            thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(5)));
        }
    }

    fn change(&self) {
        let method = "notifications/tools/list_changed";
        let listening = lock(&self.listening).clone();
        if listening.is_empty() && !lock(&self.capabilities).is_null() {
            self.write(&jsonrpc::notification(method, &json!({})));
        }
        for id in listening {
            let subscription: Value = serde_json::from_str(&id).unwrap_or_default();
            self.write(&jsonrpc::notification(method, &json!({ "_meta": { META_SUBSCRIPTION: subscription } })));
        }
    }

    fn ask(&self, params: &Value, modern: bool) -> Result<Option<Value>, RpcError> {
        let (method, question) = match params["arguments"]["kind"].as_str().unwrap_or("elicitation") {
            "roots" => ("roots/list", json!({})),
            "sampling" => {
                let message = json!({ "role": "user", "content": { "type": "text", "text": "Who are you?" } });
                ("sampling/createMessage", json!({ "messages": [message], "maxTokens": 10 }))
            }
            _ => {
                let schema = json!({
                    "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"],
                });
                ("elicitation/create", json!({ "mode": "form", "message": "Who are you?", "requestedSchema": schema }))
            }
        };
        let capability = method.split('/').next().unwrap_or_default();
        if modern && params["_meta"][META_CAPABILITIES][capability].is_null() {
            let missing = json!({ "requiredCapabilities": { capability: {} } });
            return Err((-32021, "Missing required client capability".to_owned(), Some(missing)));
        }
        let answer = if !modern {
            let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
            let (sender, receiver) = mpsc::channel();
            lock(&self.asked).insert(id.clone(), sender);
            self.write(&jsonrpc::request(&id, method, &question));
            receiver.recv().unwrap_or_default()
        } else if let Some(answer) = params["inputResponses"].get("question") {
            answer.clone()
        } else {
            return Ok(Some(json!({
                "resultType": "input_required",
                "inputRequests": { "question": { "method": method, "params": question } },
                "requestState": "state of the question",
            })));
        };
        Ok(Some(json!({ "content": [{ "type": "text", "text": answer.to_string() }] })))
    }
}

type RpcError = (i64, String, Option<Value>);

fn tools() -> Vec<Value> {
    [
        ("echo", "Returns its arguments"),
        ("sleep", "Answers late"),
        ("progress", "Reports each step"),
        ("crash", "Ends the process"),
        ("spawn_grandchild", "Starts a process"),
        ("env", "Returns its environment"),
        ("stderr", "Writes to standard error"),
        ("noise", "Writes a line that is no message"),
        ("big", "Returns a long text"),
        ("ask", "Asks the client"),
        ("change", "Says that the tools changed"),
        ("stats", "Returns what came so far"),
        ("update", "Says that a resource was updated"),
        ("log", "Logs"),
        ("close_stdout", "Stops answering"),
    ]
    .into_iter()
    .map(|(name, about)| json!({ "name": name, "description": about, "inputSchema": { "type": "object" } }))
    .collect()
}

fn spawn(kind: &str) -> std::io::Result<u32> {
    let itself = std::env::current_exe()?;
    let mut command = if kind == "ignore_term" {
        // What is ignored stays ignored over exec.
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' TERM HUP INT; exec \"$0\" --grandchild plain"]).arg(itself);
        shell
    } else {
        let mut command = Command::new(itself);
        command.args(["--grandchild", kind]);
        command
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    // The grandchild says when it has become what it is to be.
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        std::io::BufReader::new(out).read_line(&mut said)?;
    }
    Ok(child.id())
}

/// What a grandchild does: nothing, for ten minutes.
fn grandchild(kind: Option<&str>) {
    if kind == Some("setsid")
        && let Err(error) = rustix::process::setsid()
    {
        eprintln!("setsid: {error}");
    }
    _ = std::io::stdout().write_all(b"here\n");
    _ = std::io::stdout().flush();
    thread::sleep(Duration::from_mins(10));
}
