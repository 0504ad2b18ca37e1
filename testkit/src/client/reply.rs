//! What came back: read whole, by event, or by message.

use std::collections::VecDeque;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use super::Connection;
use crate::{
    pulse::PATIENCE,
    sse::{self, Event},
};

/// What came back, its body still to be read.
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    decoder: sse::Decoder,
    whole: VecDeque<Value>,
    read: bool,
    connection: Option<Connection>,
}

/// A request that was answered to the end.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The messages that preceded the answer.
    pub before: Vec<Value>,
    /// The answer: a JSON-RPC response, or null when none came.
    pub response: Value,
}

impl Outcome {
    /// The result, or null.
    pub fn result(&self) -> &Value {
        &self.response["result"]
    }

    /// The code of the error, if it is one.
    pub fn code(&self) -> Option<i64> {
        self.response["error"]["code"].as_i64()
    }

    /// The text of the first content block.
    pub fn text(&self) -> &str {
        self.response["result"]["content"][0]["text"].as_str().unwrap_or_default()
    }
}

impl Reply {
    /// A header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether the body is a stream of events.
    pub fn is_stream(&self) -> bool {
        self.header("content-type").starts_with("text/event-stream")
    }

    /// The next piece of the body as it came; `None` at its end.
    pub async fn piece(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.context("nothing came")?;
            match frame.transpose()?.map(hyper::body::Frame::into_data) {
                Some(Ok(data)) => return Ok(Some(data)),
                Some(Err(_trailers)) => {}
                None => return Ok(None),
            }
        }
    }

    /// What is left of the body.
    pub async fn bytes(mut self) -> anyhow::Result<Bytes> {
        let mut all = Vec::new();
        while let Some(piece) = self.piece().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }

    /// What is left of the body, as text.
    pub async fn text(self) -> anyhow::Result<String> {
        Ok(String::from_utf8(self.bytes().await?.into())?)
    }

    /// The next event; `None` when the stream ended.
    pub async fn event(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some(event) = self.decoder.pop() {
                return Ok(Some(event));
            }
            match self.piece().await? {
                Some(piece) => self.decoder.push(&piece),
                None => return Ok(None),
            }
        }
    }

    /// The next message, from whichever form the body has; `None` at its end. Events without data are passed over.
    pub async fn message(&mut self) -> anyhow::Result<Option<Value>> {
        if self.is_stream() {
            while let Some(event) = self.event().await? {
                if !event.data.is_empty() {
                    return Ok(Some(serde_json::from_str(&event.data)?));
                }
            }
            return Ok(None);
        }
        if !std::mem::replace(&mut self.read, true) {
            let mut all = Vec::new();
            while let Some(piece) = self.piece().await? {
                all.extend_from_slice(&piece);
            }
            if !all.is_empty() {
                self.whole = match serde_json::from_slice(&all).with_context(|| {
                    format!("{} with a body that is no JSON: {}", self.status, String::from_utf8_lossy(&all))
                })? {
                    Value::Array(batch) => batch.into(),
                    one => VecDeque::from([one]),
                };
            }
        }
        Ok(self.whole.pop_front())
    }

    pub(super) fn new(response: http::Response<Incoming>, connection: Option<Connection>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            body,
            decoder: sse::Decoder::new(),
            whole: VecDeque::new(),
            read: false,
            connection,
        }
    }

    /// Reads until the answer with this id (or an error without one), or the end.
    pub async fn finish(mut self, id: &str) -> anyhow::Result<Outcome> {
        let wanted: Value = serde_json::from_str(id)?;
        let (mut before, mut response) = (Vec::new(), Value::Null);
        while let Some(message) = self.message().await? {
            let answer = message.get("method").is_none();
            if answer && (message["id"] == wanted || message["id"].is_null()) {
                response = message;
                break;
            }
            before.push(message);
        }
        if self.kept() {
            while self.piece().await?.is_some() {}
        }
        Ok(Outcome { status: self.status, headers: self.headers, before, response })
    }

    fn kept(&self) -> bool {
        self.connection.is_none()
    }
}
