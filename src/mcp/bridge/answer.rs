//! Answers on their way back to the client: the client's own id and progress token again, and what its era demands.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::fault::{Fault, Kind as FaultKind, Retry};
use crate::json;
use crate::mcp::tasks::{self, LONGEST_THEIRS, Tie};
use crate::protocol::era::Era;
use crate::protocol::level::Level;
use crate::protocol::members::insert;
use crate::protocol::message::{self, Message, Shape};
use crate::protocol::meta;
use crate::telemetry::Outcome;

/// What must be changed in the messages of one answer.
#[derive(Debug, Clone)]
pub struct Fix {
    /// The client's era.
    pub client: Era,
    /// The server's.
    pub server: Era,
    /// The client's id, as written.
    pub id: Bytes,
    /// The id that the server saw, where that is another.
    pub renumbered: Option<Bytes>,
    /// The client's progress token, where the server saw another.
    pub token: Option<Bytes>,
    /// What ties the tasks in the answer to the caller, where there may be some.
    pub tie: Option<Arc<Tie>>,
    /// Whether results of this method say how long they may be kept (2026-07-28, server/utilities/caching).
    pub cacheable: bool,
    /// Least severe log message of a legacy server that the client wants, where that is not the server's to know. Its era
    /// forbids a modern client all others; a legacy client that has said nothing gets what there is.
    pub log_level: Option<Box<str>>,
}

impl Fix {
    /// No change, between ends of one era.
    pub fn nothing(era: Era) -> Self {
        let (id, token, tie, log_level) = Default::default();
        Self { client: era, server: era, id, renumbered: None, token, tie, cacheable: false, log_level }
    }

    /// Whether messages pass as they are.
    fn is_nothing(&self) -> bool {
        self.client == self.server && self.renumbered.is_none()
    }

    /// Whether a response is the one to this request. An error may be without an id: the server could not read ours. A number
    /// may come back written in another way.
    fn is_answered_by(&self, response: &Message) -> bool {
        match response.id() {
            None | Some(b"null") => response.shape() == Shape::Error,
            Some(id) => self.is_the_id(id),
        }
    }

    /// Whether this is the id under which the server was asked.
    pub fn is_the_id(&self, id: &[u8]) -> bool {
        let sent = self.renumbered.as_ref().unwrap_or(&self.id);
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
        id == sent
            || match (json::text(id), json::text(sent)) {
                (Some(theirs), Some(ours)) => theirs == ours,
                (None, None) => number(id).is_some_and(|theirs| number(sent) == Some(theirs)),
                _ => false,
            }
    }

    /// Fails for a response to something else.
    pub fn check(&self, response: &Message) -> Result<(), Fault> {
        if self.is_answered_by(response) {
            return Ok(());
        }
        let id: String = String::from_utf8_lossy(response.id().unwrap_or_default()).chars().take(40).collect();
        let text = format!("the server answered another request (id {id})");
        Err(Fault::upstream(FaultKind::Garbage, Retry::MaybeSent, text))
    }

    /// The response as the client should see it, and how the operation ended.
    pub fn response(&self, response: &Message) -> (Bytes, Outcome) {
        if response.shape() == Shape::Error {
            return (self.error(response), Outcome::Error { whose: crate::fault::Whose::Upstream, kind: "rpc_error" });
        }
        let failed = response.member("isError") == Some(b"true");
        let outcome = if failed { Outcome::ToolError } else { Outcome::Success };
        let tied = self.tie.as_ref().map_or(Ok(Cow::Borrowed(response)), |tie| tie.result(response));
        let Ok(response) = tied.as_deref() else {
            let text = format!("the server names its task in more than {LONGEST_THEIRS} bytes");
            let error = message::error(Some(&self.id), meta::INTERNAL_ERROR, &text, None);
            return (error, Outcome::Error { whose: crate::fault::Whose::Upstream, kind: "garbage" });
        };
        if self.is_nothing() {
            return (response.bytes().clone(), outcome);
        }
        let result = response.body().unwrap_or_default();
        let kind = json::get_text(result, "resultType");
        let bytes = match (self.client, self.server) {
            (Era::Legacy, Era::Modern) if kind.as_deref() == Some("input_required") => {
                let error = message::error(Some(&self.id), ERA_CODE, ERA_LEGACY, Some("{\"kind\":\"era\"}"));
                return (error, Outcome::Error { whose: crate::fault::Whose::Client, kind: "era" });
            }
            (Era::Modern, Era::Legacy) => {
                let mut members = String::new();
                if kind.is_none() {
                    members.push_str("\"resultType\":\"complete\"");
                }
                for (name, member) in CACHE {
                    if self.cacheable && json::get(result, name).is_none() {
                        members.push_str(if members.is_empty() { "" } else { "," });
                        members.push_str(member);
                    }
                }
                if members.is_empty() { response.bytes().clone() } else { insert(response.bytes(), result, &members) }
            }
            _ => response.bytes().clone(),
        };
        (self.with_client_id(bytes), outcome)
    }

    fn error(&self, error: &Message) -> Bytes {
        if self.is_nothing() {
            return error.bytes().clone();
        }
        let code = error.error_code().and_then(|code| i32::try_from(code).ok());
        let needs_exchange = match (self.client, self.server) {
            (Era::Legacy, Era::Modern) => (code == Some(meta::MISSING_CAPABILITY)).then_some(ERA_LEGACY),
            (Era::Modern, Era::Legacy) => (code == Some(URL_ELICITATION)).then_some(ERA_MODERN),
            _ => None,
        };
        if let Some(text) = needs_exchange {
            return message::error(Some(&self.id), ERA_CODE, text, Some("{\"kind\":\"era\"}"));
        }
        let bytes = match (self.client, code, error.member("code")) {
            // The old code for "no such resource" must not be sent under the new version.
            (Era::Modern, Some(meta::RESOURCE_NOT_FOUND), Some(text)) => {
                error.splice(&[(text, meta::INVALID_PARAMS.to_string().as_bytes())])
            }
            _ => error.bytes().clone(),
        };
        self.with_client_id(bytes)
    }

    fn with_client_id(&self, bytes: Bytes) -> Bytes {
        if self.renumbered.is_none() {
            return bytes;
        }
        match json::get(&bytes, "id").map(|id| json::span(&bytes, id)) {
            Some(span) => json::splice(&bytes, &[(span, &self.id)]),
            None => bytes,
        }
    }

    /// The notification as the client should see it; `None` if it should not.
    pub fn notification(&self, notification: &Message) -> Option<Bytes> {
        let tied = self.tie.as_ref().map(|tie| tie.other(notification));
        if tasks::is_news(&notification.method()) && !self.tie.as_ref().is_some_and(|tie| tie.is_about(notification)) {
            return None;
        }
        let notification = tied.as_deref().unwrap_or(notification);
        match (notification.method().as_ref(), &self.token) {
            ("notifications/progress", Some(token)) => {
                let held = notification.member("progressToken")?;
                Some(notification.splice(&[(held, token)]))
            }
            // The answer of a shared session may carry what another client caused.
            ("notifications/progress", None) if self.renumbered.is_some() => None,
            ("notifications/message", _) if self.server == Era::Legacy => {
                let wanted = self.log_level.as_deref().and_then(Level::parse);
                let has = notification.text("level").and_then(|name| Level::parse(&name));
                let hears = match (wanted, has) {
                    (Some(wanted), Some(has)) => has >= wanted,
                    _ => self.client == Era::Legacy,
                };
                hears.then(|| notification.bytes().clone())
            }
            _ => Some(notification.bytes().clone()),
        }
    }
}

/// MCP 2025-11-25: the client must first bring its user to a URL, and then ask again (client/elicitation, "URL Elicitation
/// Required Error").
pub const URL_ELICITATION: i32 = -32_042;
/// Our code for what cannot be carried between eras.
pub const ERA_CODE: i32 = -31_011;
/// What a modern result that may be kept holds, and what is put there for a server that does not say it: not to be kept, and not
/// for others (2026-07-28, server/utilities/caching).
pub(super) const CACHE: [(&str, &str); 2] = [("ttlMs", "\"ttlMs\":0"), ("cacheScope", "\"cacheScope\":\"private\"")];

/// Said to a legacy client.
const ERA_LEGACY: &str = "the server speaks protocol 2026-07-28 and wants input from the client, which cannot be carried to a \
     client of an earlier version; use a client that speaks 2026-07-28";

/// Said to a legacy server that asks a modern client.
pub const ERA_MODERN: &str = "the server wants input from the client, which cannot be carried from a session of an earlier \
     version to a client that speaks 2026-07-28; use a client that opens a session, or a server that speaks 2026-07-28";

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn fix(client: Era, server: Era) -> Fix {
        let id = Bytes::from_static(b"\"mine\"");
        let renumbered = ((client, server) == (Era::Modern, Era::Legacy)).then(|| Bytes::from_static(b"7"));
        Fix { client, server, id, renumbered, token: None, tie: None, cacheable: true, log_level: None }
    }

    #[test]
    fn between_equals_not_a_byte_changes() {
        let text = r#"{"result":{"x":1.0,"isError":true},"id":7,"jsonrpc":"2.0"}"#;
        let (bytes, outcome) = fix(Era::Modern, Era::Modern).response(&message(text));
        assert_eq!((bytes, outcome), (Bytes::from_static(text.as_bytes()), Outcome::ToolError));
    }

    #[test]
    fn a_legacy_result_becomes_a_modern_one() {
        let fixed =
            fix(Era::Modern, Era::Legacy).response(&message(r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}"#)).0;
        assert_eq!(
            fixed,
            r#"{"jsonrpc":"2.0","id":"mine","result":{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[]}}"#
        );
        for (said, lacks) in
            [("\"cacheScope\":\"public\"", "\"ttlMs\":0"), ("\"ttlMs\":5", "\"cacheScope\":\"private\"")]
        {
            let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{{{said}}}}}");
            let fixed = fix(Era::Modern, Era::Legacy).response(&message(&text)).0;
            let wanted = format!("{{\"resultType\":\"complete\",{lacks},{said}}}");
            assert_eq!(message(&String::from_utf8_lossy(&fixed)).body(), Some(wanted.as_bytes()), "no name twice");
        }
        let empty = fix(Era::Modern, Era::Legacy).response(&message(r#"{"result":{},"jsonrpc":"2.0","id":7}"#)).0;
        serde_json::from_slice::<serde_json::Value>(&empty).unwrap();
        let missing = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32002,"message":"x"}}"#;
        let fixed = fix(Era::Modern, Era::Legacy).response(&message(missing)).0;
        assert_eq!(fixed, r#"{"jsonrpc":"2.0","id":"mine","error":{"code":-32602,"message":"x"}}"#);
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        let fix = fix(Era::Modern, Era::Modern);
        let answers =
            |id: &str| fix.is_answered_by(&message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)));
        assert!(answers(r#""mine""#) && answers(r#""m\u0069ne""#));
        assert!(!answers(r#""other""#) && !answers("7"));
        let numbered = Fix { id: Bytes::from_static(b"1.0"), ..fix.clone() };
        assert!(numbered.is_answered_by(&message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)));
        assert!(fix.is_answered_by(&message(r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"x"}}"#)));
    }

    #[test]
    fn what_cannot_cross_says_so() {
        let (old, new) = (Era::Legacy, Era::Modern);
        for (client, server, text) in [
            (old, new, r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","inputRequests":{}}}"#),
            (old, new, r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32021,"message":"x"}}"#),
            (new, old, r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32042,"message":"x","data":{"elicitations":[]}}}"#),
        ] {
            let fixed = message(&String::from_utf8_lossy(&fix(client, server).response(&message(text)).0));
            assert_eq!(fixed.error_code(), Some(i64::from(ERA_CODE)));
            assert_eq!(fixed.id(), Some(&b"\"mine\""[..]));
        }
    }

    #[test]
    fn a_modern_client_gets_the_log_messages_it_asked_for_and_no_other() {
        let log = |level: &str| {
            message(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"{level}","data":1}}}}"#
            ))
        };
        let mut fix = fix(Era::Modern, Era::Legacy);
        assert_eq!(fix.notification(&log("emergency")), None);
        fix.log_level = Some("warning".into());
        assert_eq!(fix.notification(&log("notice")), None);
        assert!(fix.notification(&log("warning")).is_some());
    }

    #[test]
    fn a_legacy_client_gets_the_log_messages_it_asked_for_and_all_when_it_asked_for_none() {
        let log = |level: &str| {
            message(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"{level}","data":1}}}}"#
            ))
        };
        let mut fix = fix(Era::Legacy, Era::Legacy);
        assert!(fix.notification(&log("debug")).is_some());
        fix.log_level = Some("warning".into());
        assert_eq!(fix.notification(&log("notice")), None);
        for level in ["warning", "alert", "of tomorrow"] {
            assert!(fix.notification(&log(level)).is_some(), "{level}");
        }
    }

    #[test]
    fn progress_comes_under_the_clients_own_token() {
        let mut fix = fix(Era::Modern, Era::Legacy);
        let progress = message(
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"mcpg-7","progress":1.0}}"#,
        );
        assert_eq!(fix.notification(&progress), None);
        fix.token = Some(Bytes::from_static(b"9"));
        let passed = fix.notification(&progress).unwrap();
        assert_eq!(
            passed,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":9,"progress":1.0}}"#
        );
    }
}
