//! What servers say by themselves: wherever they say it, it is read here and told to everybody who listens. Whom it concerns is
//! for the listeners to know.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::broadcast::{Receiver, Sender, error::RecvError};
use tokio::time::sleep;

use crate::fault::Fault;
use crate::id::ServerId;
use crate::protocol::era::Era;
use crate::protocol::message::{self, Message, Shape};
use crate::upstream::channel::Who;
use crate::upstream::events::EventStream;
use crate::upstream::http::{Answer, Content, HttpServer, Outgoing, read_message};
use crate::upstream::mux::{Call, Origin};
use crate::upstream::peer::modern_request;
use crate::upstream::trip::Trip;
use crate::upstream::{SELF, Transport, Upstream};

/// About how long what ended is left alone before it is opened again.
const REOPEN: Duration = Duration::from_secs(5);
/// The parameters of a subscription to everything that changes in lists.
pub const LISTS: &str =
    r#"{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}}"#;
/// What says that a list changed.
const CHANGES: &[&str] =
    &["notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed"];
/// The id and method of every subscription of the gateway's own.
pub const LISTEN: (&str, &str) = ("mcpg-listen", "subscriptions/listen");

/// Waits before a stream or channel that ended is opened again.
pub async fn pause() {
    sleep(REOPEN.mul_f64(rand::random_range(0.8..1.2))).await;
}

/// A notification that a server sent by itself.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Which server.
    pub server: ServerId,
    /// The client session whose own channel it came on; none for a channel that many share.
    pub session: Option<Arc<str>>,
    /// The notification.
    pub message: Message,
}

/// Where a server says something.
pub enum Voice {
    /// On a channel, to nobody in particular; `owed` is said in place of what was missed.
    Channel {
        /// The channel.
        from: Receiver<Bytes>,
        /// Methods of notifications.
        owed: &'static [&'static str],
    },
    /// On a channel, to a subscription.
    Call(Box<Call>),
    /// On a stream over HTTP.
    Stream(Box<EventStream>),
}

impl Voice {
    /// What is said on a channel. Where its reader was too slow, any list may have changed, and that is what it hears.
    pub fn channel(from: Receiver<Bytes>) -> Self {
        Self::Channel { from, owed: &[] }
    }

    /// The stream that a server opened as its answer; `None` if it opened none. A quiet one is well, and is no load.
    pub fn of(server: &HttpServer, answer: Answer) -> Option<Self> {
        let Answer { content: Content::Events(body), mut attempt, .. } = answer else { return None };
        attempt.report(Ok(()), Instant::now());
        let mut events = EventStream::new(body, server.limits().message);
        events.be_patient();
        Some(Self::Stream(Box::new(events)))
    }

    /// The next message, not read yet; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        match self {
            Self::Channel { from, owed } => loop {
                if let Some((method, rest)) = owed.split_first() {
                    *owed = rest;
                    return Some(Ok(message::call(None, method, b"{}")));
                }
                match from.recv().await {
                    Ok(message) => return Some(Ok(message)),
                    Err(RecvError::Lagged(_)) => *owed = CHANGES,
                    Err(RecvError::Closed) => return None,
                }
            },
            Self::Call(call) => call.next().await.map(|event| event.map(|event| event.message().clone())),
            Self::Stream(events) => events.data().await,
        }
    }
}

/// Tells what a server says.
#[derive(Clone)]
pub struct Herald {
    /// Which server.
    pub server: ServerId,
    /// The client session whose own channel it is.
    pub session: Option<Arc<str>>,
    /// Everybody who listens.
    pub to: Sender<Notice>,
}

impl Herald {
    /// Tells it if it is a notification; what else it is comes back.
    pub fn tell(&self, message: Bytes) -> Option<Message> {
        let message = read_message(message).ok()?;
        if message.shape() != Shape::Notification {
            return Some(message);
        }
        let _ = self.to.send(Notice { server: self.server, session: self.session.clone(), message });
        None
    }

    /// Tells everything until the end.
    pub async fn hear(self, mut voice: Voice) -> Result<(), Fault> {
        while let Some(message) = voice.next().await {
            self.tell(message?);
        }
        Ok(())
    }
}

impl Upstream {
    /// Tells what is said to the gateway itself.
    pub fn herald(&self) -> Herald {
        Herald { server: self.server.id, session: None, to: self.ground.notices.clone() }
    }

    /// Asks a server of the modern era to tell of what `wanted` names, parameters without `_meta`; `None` if it does not.
    pub async fn subscribe(&self, wanted: &str) -> Result<Option<Voice>, Fault> {
        let (id, method) = LISTEN;
        if let Transport::Http(server) = &self.transport {
            let outgoing = Outgoing::modern(id, method, wanted);
            let answer = server.post(&Trip::default(), SELF, true, &outgoing).await?;
            return Ok(Voice::of(server, answer));
        }
        let channel = self.channel(&Trip::default(), &Who::default(), Era::Modern).await?;
        let Some(channel) = channel else { return Ok(None) };
        let call = channel.mux.call(modern_request(id, method, wanted), Origin::GATEWAY).await?;
        Ok(Some(Voice::Call(Box::new(call))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_something_was_missed_every_list_may_have_changed() {
        let (everybody, from) = tokio::sync::broadcast::channel(2);
        for number in 1..=4 {
            let log = format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"data":{number}}}}}"#);
            everybody.send(Bytes::from(log)).unwrap();
        }
        drop(everybody);
        let (to, mut told) = tokio::sync::broadcast::channel(16);
        Herald { server: ServerId(uuid::Uuid::nil()), session: None, to }.hear(Voice::channel(from)).await.unwrap();
        let mut methods = Vec::new();
        while let Ok(notice) = told.recv().await {
            methods.push(notice.message.method().into_owned());
        }
        let lists = ["tools", "prompts", "resources"].map(|list| format!("notifications/{list}/list_changed"));
        let kept = ["notifications/message", "notifications/message"].map(str::to_owned);
        assert_eq!(methods, [&lists[..], &kept[..]].concat());
    }
}
