//! A client that sends exactly what it is told to, and shows exactly what came back.
//!
//! [`Client`] knows the headers of both eras and keeps a session, but [`Request`] takes any bytes: duplicate keys,
//! batches, a wrong header or none. Every request has a connection of its own unless [`Client::keep_alive`] is on, and
//! dropping a [`Reply`] closes it: that is how a client of the stateless era cancels.

mod reply;

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::AbortHandle,
};

pub use self::reply::{Outcome, Reply};
use crate::jsonrpc::{self, MODERN};

type Sender = http1::SendRequest<Full<Bytes>>;

/// A client of one MCP address.
pub struct Client {
    authority: String,
    path: String,
    headers: HeaderMap,
    capabilities: Value,
    era: Mutex<Era>,
    next: AtomicU64,
    kept: Option<tokio::sync::Mutex<Option<(Sender, Connection)>>>,
    source: Option<IpAddr>,
}

#[derive(Clone, Debug, Default)]
struct Era {
    /// The legacy version agreed on; none in the stateless era.
    legacy: Option<String>,
    session: Option<String>,
}

/// A request that is put together by hand.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    path: Option<String>,
    headers: HeaderMap,
    without: Vec<HeaderName>,
    body: Bytes,
}

/// Ends the connection when dropped.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Request {
    /// A POST with this body and, unless taken away again, the headers every MCP request has.
    pub fn post(body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, body.into())
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
    }

    /// A GET that wants events.
    pub fn get() -> Self {
        Self::new(Method::GET, Bytes::new()).header("accept", "text/event-stream")
    }

    /// A DELETE.
    pub fn delete() -> Self {
        Self::new(Method::DELETE, Bytes::new())
    }

    /// Any request.
    pub fn new(method: Method, body: Bytes) -> Self {
        Self { method, path: None, headers: HeaderMap::new(), without: Vec::new(), body }
    }

    /// Sets a header, over what the client would send.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let (name, value) = parts(name, value);
        self.headers.insert(name, value);
        self
    }

    /// Adds a header beside others of its name.
    #[must_use]
    pub fn also(mut self, name: &str, value: &str) -> Self {
        let (name, value) = parts(name, value);
        self.headers.append(name, value);
        self
    }

    /// Leaves a header out, whoever would send it.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.without.push(parts(name, "").0);
        self
    }

    /// Goes to another path of the same server.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }
}

fn parts(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    let name = HeaderName::try_from(name).expect("a test names a header that can be sent");
    (name, HeaderValue::from_bytes(value.as_bytes()).expect("a test gives a header value that can be sent"))
}

impl Client {
    /// A client of the stateless era for this `http://` address.
    pub fn new(url: &str) -> Self {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        Self {
            authority: authority.to_owned(),
            path: format!("/{path}"),
            headers: HeaderMap::new(),
            capabilities: json!({}),
            era: Mutex::default(),
            next: AtomicU64::new(1),
            kept: None,
            source: None,
        }
    }

    /// Sends this header with every request.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let (name, value) = parts(name, value);
        self.headers.insert(name, value);
        self
    }

    /// Sends this token with every request.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Declares these capabilities.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Value) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Connects from this address; on loopback every one of 127.0.0.0/8 is there.
    #[must_use]
    pub fn source(mut self, address: IpAddr) -> Self {
        self.source = Some(address);
        self
    }

    /// Sends all requests over one connection, one after the other. Only replies that were read to their end are fit
    /// for this.
    #[must_use]
    pub fn keep_alive(mut self) -> Self {
        self.kept = Some(tokio::sync::Mutex::default());
        self
    }

    /// The session that `initialize` opened.
    pub fn session(&self) -> Option<String> {
        self.era().session
    }

    /// Goes on in this session, or in none.
    pub fn set_session(&self, session: Option<&str>) {
        self.era.lock().unwrap_or_else(PoisonError::into_inner).session = session.map(str::to_owned);
    }

    /// The legacy version agreed on.
    pub fn version(&self) -> Option<String> {
        self.era().legacy
    }

    fn era(&self) -> Era {
        self.era.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next id, as JSON.
    pub fn next_id(&self) -> String {
        self.next.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// The headers that belong to a request of this client's era.
    pub fn era_headers(&self, method: &str, params: &Value) -> HeaderMap {
        let era = self.era();
        let mut headers = HeaderMap::new();
        let mut set = |name: &str, value: &str| {
            let (name, value) = parts(name, value);
            headers.insert(name, value);
        };
        if let Some(version) = &era.legacy {
            // The header is younger than the two oldest versions.
            if version.as_str() >= "2025-06-18" {
                set("mcp-protocol-version", version);
            }
            if let Some(session) = &era.session {
                set("mcp-session-id", session);
            }
        } else if method != "initialize" {
            set("mcp-protocol-version", MODERN);
            set("mcp-method", method);
            if let Some(name) = jsonrpc::name_of(method, params) {
                set("mcp-name", &jsonrpc::header_value(name));
            }
        }
        headers
    }

    /// The request as this client would send it, to be spoilt before it is sent.
    pub fn request(&self, id: &str, method: &str, params: Value) -> Request {
        let params = self.with_meta(params);
        let mut request = Request::post(jsonrpc::request(id, method, &params));
        request.headers.extend(self.era_headers(method, &params));
        request
    }

    fn with_meta(&self, mut params: Value) -> Value {
        if self.era().legacy.is_none() {
            if !params.is_object() {
                params = json!({});
            }
            let mut meta = jsonrpc::modern_meta(&self.capabilities);
            if let Some(own) = params["_meta"].as_object() {
                own.iter().for_each(|(key, value)| meta[key] = value.clone());
            }
            params["_meta"] = meta;
        }
        params
    }

    /// Sends a request as it is, with this client's own headers where the request does not say otherwise.
    pub async fn send(&self, request: Request) -> anyhow::Result<Reply> {
        let mut headers = self.headers.clone();
        headers.insert(header::HOST, HeaderValue::try_from(&self.authority)?);
        let mut named = HashSet::new();
        for (name, value) in &request.headers {
            if named.insert(name) {
                headers.insert(name, value.clone());
            } else {
                headers.append(name, value.clone());
            }
        }
        request.without.iter().for_each(|name| _ = headers.remove(name));
        let mut built = http::Request::new(Full::new(request.body));
        *built.method_mut() = request.method;
        *built.uri_mut() = request.path.as_deref().unwrap_or(&self.path).parse()?;
        *built.headers_mut() = headers;

        let sending = async {
            if let Some(kept) = &self.kept {
                let mut slot = kept.lock().await;
                let usable = slot.as_ref().is_some_and(|(sender, _)| !sender.is_closed());
                if !usable {
                    *slot = Some(self.connect().await?);
                }
                let (sender, _) = slot.as_mut().context("a connection was just made")?;
                sender.ready().await?;
                return Ok::<_, anyhow::Error>((sender.send_request(built).await?, None));
            }
            let (mut sender, connection) = self.connect().await?;
            Ok((sender.send_request(built).await?, Some(connection)))
        };
        let (response, connection) = sending.await?;
        Ok(Reply::new(response, connection))
    }

    async fn connect(&self) -> anyhow::Result<(Sender, Connection)> {
        let stream = match self.source {
            Some(source) => {
                let target: SocketAddr = self.authority.parse().context("a source needs an address to connect to")?;
                let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                socket.bind((source, 0).into())?;
                socket.connect(target).await.context("connecting")?
            }
            None => TcpStream::connect(&self.authority).await.context("connecting")?,
        };
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let running = tokio::spawn(async move { _ = connection.await });
        Ok((sender, Connection(running.abort_handle())))
    }

    /// Writes these bytes to a new connection and returns all that comes back until it is closed, or until nothing has
    /// come for as long as `quiet`: for requests that are no HTTP.
    pub async fn raw(&self, bytes: &[u8], quiet: Duration) -> anyhow::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.authority).await?;
        stream.write_all(bytes).await?;
        let (mut all, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
        while let Ok(Ok(count @ 1..)) = tokio::time::timeout(quiet, stream.read(&mut buffer)).await {
            all.extend_from_slice(&buffer[..count]);
        }
        Ok(all)
    }

    /// Shakes hands in a legacy version: `initialize`, then `notifications/initialized`.
    pub async fn initialize(&self, version: &str) -> anyhow::Result<Outcome> {
        let params = json!({
            "protocolVersion": version,
            "capabilities": self.capabilities,
            "clientInfo": { "name": "testkit", "version": "1.0.0" },
        });
        let id = self.next_id();
        let outcome = self.send(Request::post(jsonrpc::request(&id, "initialize", &params))).await?.finish(&id).await?;
        let agreed = outcome.result()["protocolVersion"].as_str();
        let Some(agreed) = agreed else { bail!("initialize was refused: {} {}", outcome.status, outcome.response) };
        {
            let mut era = self.era.lock().unwrap_or_else(PoisonError::into_inner);
            era.legacy = Some(agreed.to_owned());
            era.session =
                outcome.headers.get("mcp-session-id").and_then(|session| session.to_str().ok()).map(str::to_owned);
        }
        self.notify("notifications/initialized", json!({})).await?;
        Ok(outcome)
    }

    /// Sends a request and reads until its answer.
    pub async fn call(&self, method: &str, params: Value) -> anyhow::Result<Outcome> {
        let id = self.next_id();
        self.send(self.request(&id, method, params)).await?.finish(&id).await
    }

    /// Calls a tool.
    pub async fn tool(&self, name: &str, arguments: Value) -> anyhow::Result<Outcome> {
        self.call("tools/call", json!({ "name": name, "arguments": arguments })).await
    }

    /// Sends a request and leaves the reading to the caller.
    pub async fn open(&self, method: &str, params: Value) -> anyhow::Result<(String, Reply)> {
        let id = self.next_id();
        let reply = self.send(self.request(&id, method, params)).await?;
        Ok((id, reply))
    }

    /// Sends a notification; the status says what became of it.
    pub async fn notify(&self, method: &str, params: Value) -> anyhow::Result<StatusCode> {
        let mut request = Request::post(jsonrpc::notification(method, &params));
        request.headers.extend(self.era_headers(method, &params));
        Ok(self.send(request).await?.status)
    }

    /// Answers a request that the server sent; the status says what became of it.
    pub async fn respond(&self, request: &Value, result: &Value) -> anyhow::Result<StatusCode> {
        let mut answer = Request::post(jsonrpc::result(&request["id"].to_string(), &result.to_string()));
        answer.headers.extend(self.era_headers("", &Value::Null));
        Ok(self.send(answer).await?.status)
    }

    /// Opens the legacy stream of notifications, after this event if one is named.
    pub async fn listen(&self, last_event: Option<&str>) -> anyhow::Result<Reply> {
        let mut request = Request::get();
        request.headers.extend(self.era_headers("", &Value::Null));
        if let Some(last) = last_event {
            request = request.header("last-event-id", last);
        }
        self.send(request).await
    }

    /// Opens a subscription of the stateless era.
    pub async fn subscribe(&self, notifications: Value) -> anyhow::Result<(String, Reply)> {
        self.open("subscriptions/listen", json!({ "notifications": notifications })).await
    }

    /// Ends the legacy session.
    pub async fn end(&self) -> anyhow::Result<StatusCode> {
        let mut request = Request::delete();
        request.headers.extend(self.era_headers("", &Value::Null));
        Ok(self.send(request).await?.status)
    }
}
