//! A scriptable MCP server over Streamable HTTP, of either era or both.
//!
//! It is strict: a request that the protocol says must be refused is refused, so that a gateway which forgets a header
//! fails its test. Its tools are those of the `tools` module, and whatever a test scripts. What it shows and how it
//! behaves can be changed while it runs; telling the listeners of a change is a separate step, as it is in life.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use serde_json::Value;

use super::{
    core::{Change, lock},
    engine::Engine,
    host::{Host, Recorded},
    words::{Answer, Call, Cancelled, Eras, ReplyForm, Settings},
};

/// A scriptable MCP server.
pub struct Plain {
    host: Host,
    engine: Arc<Engine>,
}

impl Plain {
    /// Serves both eras, with sessions for the legacy one.
    pub async fn start() -> io::Result<Self> {
        Self::with(Eras::Dual).await
    }

    /// Serves these eras.
    pub async fn with(eras: Eras) -> io::Result<Self> {
        Self::on(eras, 0).await
    }

    /// Serves these eras on a port of the test's choice: the one of a server that went away, say.
    pub async fn on(eras: Eras, port: u16) -> io::Result<Self> {
        let engine = Arc::new(Engine::new(eras));
        let serving = Arc::clone(&engine);
        let host = Host::start(port, move |request, _| {
            let engine = Arc::clone(&serving);
            async move { engine.handle(request).await }
        })
        .await?;
        Ok(Self { host, engine })
    }

    /// Where MCP is served.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.host.address())
    }

    /// The listener: recorded requests, connections.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Changes what is shown; nobody is told.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) -> &Self {
        change(&mut lock(&self.engine.core.settings));
        self
    }

    /// Answers in this form from now on.
    pub fn reply(&self, form: ReplyForm) -> &Self {
        *lock(&self.engine.form) = form;
        self
    }

    /// Whether `initialize` opens a session; it does unless told otherwise.
    pub fn sessions(&self, on: bool) -> &Self {
        self.engine.sessions.store(on, Ordering::Relaxed);
        self
    }

    /// Wants this token in `Authorization: Bearer …` and answers 401 without it.
    pub fn bearer(&self, token: &str) -> &Self {
        *lock(&self.engine.bearer) = Some(token.to_owned());
        self
    }

    /// Lets in whom `door` does not refuse: it gives `WWW-Authenticate` for who gets 401, or 403 where it says `insufficient_scope`.
    pub fn door(&self, door: impl Fn(&http::HeaderMap) -> Option<String> + Send + Sync + 'static) -> &Self {
        *lock(&self.engine.door) = Some(Arc::new(door));
        self
    }

    /// Says this of the authorization servers whose tokens it takes, at the well-known place.
    pub fn describe(&self, description: Value) -> &Self {
        *lock(&self.engine.described) = Some(description);
        self
    }

    /// Takes only what this authorization server gives for people, and says so.
    pub fn takes_tokens_of(&self, server: &crate::people_server::PeopleServer) -> &Self {
        let whose = server.door();
        let named = self.url().replace("/mcp", "/.well-known/oauth-protected-resource/mcp");
        self.describe(serde_json::json!({
            "resource": self.url(), "authorization_servers": [server.issuer()], "scopes_supported": ["read"],
        }));
        self.door(move |headers| {
            whose(headers).is_none().then(|| format!("Bearer error=\"invalid_token\", resource_metadata=\"{named}\""))
        })
    }

    /// Speaks these eras from now on, as after an upgrade of the server.
    pub fn eras(&self, eras: Eras) -> &Self {
        *lock(&self.engine.core.eras) = eras;
        self
    }

    /// Lets a test answer the calls of one tool, which is not listed by this, or the requests of one method.
    pub fn script(&self, tool: &str, answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> &Self {
        lock(&self.engine.core.scripts).insert(tool.to_owned(), Arc::new(answer));
        self
    }

    /// Tells the listeners that the list of tools changed; says how many there were.
    pub fn tools_changed(&self) -> usize {
        self.engine.core.announce(&Change::Tools)
    }

    /// Tells the listeners that the list of prompts changed; says how many there were.
    pub fn prompts_changed(&self) -> usize {
        self.engine.core.announce(&Change::Prompts)
    }

    /// Tells the listeners that the list of resources changed; says how many there were.
    pub fn resources_changed(&self) -> usize {
        self.engine.core.announce(&Change::Resources)
    }

    /// Tells those who watch this resource that it changed; says how many there were.
    pub fn resource_changed(&self, uri: &str) -> usize {
        self.engine.core.announce(&Change::Resource(uri.to_owned()))
    }

    /// Sends any notification to every listener; says how many there were.
    pub fn notify(&self, method: &str, params: Value) -> usize {
        self.engine.core.announce(&Change::Other(method.to_owned(), params))
    }

    /// Ends every subscription of the stateless era gracefully.
    pub fn close_subscriptions(&self) {
        self.engine.core.close_subscriptions();
    }

    /// How many streams wait for notifications.
    pub fn listeners(&self) -> usize {
        self.engine.core.listeners()
    }

    /// Waits until this many streams wait for notifications.
    pub async fn wait_listeners(&self, count: usize) -> bool {
        self.engine.core.pulse.until(|| (self.listeners() == count).then_some(())).await.is_some()
    }

    /// Lets the calls of `gate` through (`true`), or holds the next ones (`false`).
    pub fn open_gate(&self, open: bool) {
        self.engine.core.gate.send_replace(open);
    }

    /// How many requests are being worked on.
    pub fn in_flight(&self) -> usize {
        self.engine.core.in_flight()
    }

    /// Waits until this many requests are being worked on.
    pub async fn wait_in_flight(&self, count: usize) -> bool {
        self.engine.core.pulse.until(|| (self.in_flight() == count).then_some(())).await.is_some()
    }

    /// What clients gave up so far.
    pub fn cancelled(&self) -> Vec<Cancelled> {
        self.engine.core.cancellations()
    }

    /// Waits until a client gives something up.
    pub async fn wait_cancelled(&self) -> Option<Cancelled> {
        self.engine.core.pulse.until(|| self.cancelled().pop()).await
    }

    /// The ids of the open sessions.
    pub fn session_ids(&self) -> Vec<String> {
        lock(&self.engine.core.sessions).keys().cloned().collect()
    }

    /// Forgets all sessions, as a restart does; their requests get 404 from now on.
    pub fn forget_sessions(&self) {
        lock(&self.engine.core.sessions).clear();
    }

    /// How many bytes of long answers have been handed to the network.
    pub fn sent(&self) -> u64 {
        self.engine.core.sent.load(Ordering::Relaxed)
    }

    /// The requests with this JSON-RPC method, oldest first.
    pub fn asked(&self, method: &str) -> Vec<Recorded> {
        self.host.requests().into_iter().filter(|request| request.rpc() == method).collect()
    }

    /// The calls of this tool, oldest first.
    pub fn calls(&self, tool: &str) -> Vec<Recorded> {
        let mut calls = self.asked("tools/call");
        calls.retain(|call| call.json()["params"]["name"] == tool);
        calls
    }

    /// Waits for a request with this JSON-RPC method.
    pub async fn wait_asked(&self, method: &str) -> Option<Recorded> {
        self.host.wait_for(|request| request.rpc() == method).await
    }
}
