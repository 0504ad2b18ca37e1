//! Tasks: calls whose result is fetched later (2025-11-25, basic/utilities/tasks; 2026-07-28, the extension
//! `io.modelcontextprotocol/tasks`). A server may take everybody who comes through here for one client, so that its id of a task
//! would open the task to whoever says it. A client is told another id: the server's own, sealed together with the tool that made
//! the task, for this account and this server. To everybody else it is the id of nothing.
//!
//! Nothing is kept here: such an id outlasts a restart, and is good at every replica of the gateway.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::access::Caller;
use crate::crypto::{Ids, Place};
use crate::id::ServerId;
use crate::json;
use crate::mcp::allow::still;
use crate::mcp::error::Refusal;
use crate::mcp::exchange::Call;
use crate::mcp::session::Reach;
use crate::policy::{Hints, What};
use crate::protocol::era::Era;
use crate::protocol::message::Message;
use crate::protocol::meta;
use crate::registry::catalog::Kind;
use crate::registry::snapshot::{Entry, Tenant};

/// Longest id that a server gives a task, bytes; a UUID has 36.
pub(super) const LONGEST_THEIRS: usize = 512;
/// Longest one that a client names, bytes: ours, of the longest id and the longest name of a tool.
pub(super) const LONGEST_OURS: usize = 2_304;
/// Where such an id is good.
const TASKS: &str = "mcp.tasks";

/// What ties the ids in one answer to the caller.
#[derive(Debug)]
pub struct Tie {
    seal: Seal,
    tool: Box<str>,
    /// The server's id and ours, as soon as there is one.
    ids: OnceLock<(Box<str>, Box<str>)>,
}

/// For whom, and where, an id is good.
#[derive(Debug)]
struct Seal {
    ids: Ids,
    caller: Caller,
    server: ServerId,
}

impl Seal {
    fn new(call: &Call, server: ServerId) -> Self {
        // Only clients keep it, so that the key which every replica has will do.
        Self { ids: call.app.vault.ids().clone(), caller: call.caller.clone(), server }
    }

    fn row(&self) -> String {
        // Not the principal: an account comes with keys of the gateway's own and with tokens of its provider.
        format!("{} {}", self.server, self.caller.user_id().uuid())
    }

    fn close(&self, tool: &str, theirs: &str) -> Option<Box<str>> {
        let length = u16::try_from(tool.len()).ok().filter(|_| theirs.len() <= LONGEST_THEIRS)?;
        let plain = [&length.to_be_bytes()[..], tool.as_bytes(), theirs.as_bytes()].concat();
        let place = Place { table: TASKS, row: &self.row(), tenant: self.caller.tenant(), subject: None };
        let sealed = self.ids.seal(place, &plain).ok()?;
        Some(URL_SAFE_NO_PAD.encode(sealed).into())
    }

    /// The tool and the server's id.
    fn open(&self, ours: &str) -> Option<(Box<str>, Box<str>)> {
        let sealed = URL_SAFE_NO_PAD.decode(ours).ok()?;
        let place = Place { table: TASKS, row: &self.row(), tenant: self.caller.tenant(), subject: None };
        let plain = self.ids.open(place, &sealed).ok()?;
        let (length, rest) = plain.split_first_chunk()?;
        let (tool, theirs) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Into::into);
        Some((text(tool)?, text(theirs)?))
    }
}

/// A server's id that no client can be told.
pub struct TooLong;

impl Tie {
    /// The result as the client should see it: ids that it may come back with.
    pub fn result<'a>(&self, result: &'a Message) -> Result<Cow<'a, Message>, TooLong> {
        let begun = result.member("task").and_then(|task| json::get(task, "taskId"));
        let named = || result.member("taskId");
        let begun = begun.or_else(|| named().filter(|_| result.text("resultType").as_deref() == Some("task")));
        if self.ids.get().is_none()
            && let Some(theirs) = begun.and_then(json::text)
        {
            let ours = self.seal.close(&self.tool, &theirs).ok_or(TooLong)?;
            let _ = self.ids.set((theirs.into(), ours));
        }
        Ok(self.renamed(result, begun.or_else(named)))
    }

    /// What else comes in the course of the answer. A server may tell there of tasks of others: only the own one is named.
    pub fn other<'a>(&self, message: &'a Message) -> Cow<'a, Message> {
        self.renamed(message, message.member("taskId"))
    }

    fn renamed<'a>(&self, message: &'a Message, named: Option<&'a [u8]>) -> Cow<'a, Message> {
        let Some((theirs, ours)) = self.ids.get() else { return Cow::Borrowed(message) };
        let ours = json::quote(ours);
        let mut parts: Vec<&[u8]> = [named, related(message)].into_iter().flatten().collect();
        parts.retain(|part| json::text(part).is_some_and(|id| *id == **theirs));
        parts.sort_by_key(|part| json::span(message.bytes(), part).start);
        let edits: Vec<_> = parts.into_iter().map(|part| (part, ours.as_bytes())).collect();
        changed(message, &edits)
    }

    /// Whether a notification is of the task of this answer.
    pub fn is_about(&self, notification: &Message) -> bool {
        let named = notification.text("taskId");
        self.ids.get().is_some_and(|(theirs, _)| named.is_some_and(|named| *named == **theirs))
    }
}

/// Whether a notification tells of the state of a task. Nobody relies on being told, and on a stream that belongs to no task it
/// could be anybody's.
pub fn is_news(method: &str) -> bool {
    method.starts_with("notifications/tasks")
}

/// The id of the task that a message says it belongs to, as written.
pub fn related(message: &Message) -> Option<&[u8]> {
    json::get(message.meta(meta::RELATED_TASK)?, "taskId")
}

fn changed<'a>(message: &'a Message, edits: &[(&[u8], &[u8])]) -> Cow<'a, Message> {
    if edits.is_empty() {
        return Cow::Borrowed(message);
    }
    Message::parse(message.splice(edits)).map_or(Cow::Borrowed(message), Cow::Owned)
}

/// The request with the server's ids of tasks in the place of ours, and what ties those in its answer to the caller. A task of
/// somebody else, or of a tool that is no longer there for the caller, is one that never was.
pub fn tied<'a>(
    call: &Call,
    tenant: &Tenant,
    entry: &Entry,
    sent: Cow<'a, Message>,
) -> Result<(Cow<'a, Message>, Option<Arc<Tie>>), Refusal> {
    let method = sent.method();
    let about = match method.as_ref() {
        "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/update" => true,
        // A server lists the tasks of all who come through here, and does not say whose they are.
        "tasks/list" => return Err(Refusal::no_method(call.era(), "tasks/list")),
        _ => false,
    };
    let begins = method == "tools/call" && may_begin(call.era(), &sent);
    let other = related(&sent);
    if !about && !begins && other.is_none() {
        drop(method);
        return Ok((sent, None));
    }
    let seal = Seal::new(call, entry.upstream.server.id);
    let open = |part: &[u8]| {
        let ours = json::text(part).unwrap_or_default();
        let unknown = || Refusal::unknown("task", &ours);
        let (tool, theirs) = seal.open(&ours).ok_or_else(unknown)?;
        let item = entry.catalog.item(Kind::Tools, &tool);
        let what = What::Tool(&tool, item.map_or_else(Hints::default, |item| item.hints));
        still(call, tenant, entry, what, item.is_some(), unknown)?;
        if call.caller.may_call_tool(entry.slug(), &tool) { Ok((tool, theirs, ours.into())) } else { Err(unknown()) }
    };
    let mut edits: Vec<(&[u8], String)> = Vec::new();
    let (tool, ids) = if about {
        let part = sent.member("taskId").filter(|part| part.starts_with(b"\"")).ok_or_else(unnamed)?;
        let (tool, theirs, ours): (_, Box<str>, _) = open(part)?;
        edits.push((part, json::quote(&theirs)));
        (tool, OnceLock::from((theirs, ours)))
    } else {
        (sent.text("name").unwrap_or_default().into(), OnceLock::new())
    };
    if let Some(part) = other {
        edits.push((part, json::quote(&open(part)?.1)));
    }
    edits.sort_by_key(|(part, _)| json::span(sent.bytes(), part).start);
    let edits: Vec<_> = edits.iter().map(|(part, new)| (*part, new.as_bytes())).collect();
    let edited = match changed(&sent, &edits) {
        Cow::Borrowed(_) => None,
        Cow::Owned(edited) => Some(edited),
    };
    drop(method);
    let tie = (about || begins).then(|| Arc::new(Tie { seal, tool, ids }));
    Ok((edited.map_or(sent, Cow::Owned), tie))
}

fn unnamed() -> Refusal {
    let text = "Invalid params: `taskId` is missing or no string";
    Refusal::new(http::StatusCode::OK, meta::INVALID_PARAMS, text)
}

/// Whether the answer to a call may be a task: the client asks for one, or says that it takes one.
fn may_begin(era: Era, call: &Message) -> bool {
    let takes = || json::path(call.meta(meta::CLIENT_CAPABILITIES)?, &["extensions", meta::TASKS]);
    call.member("task").is_some() || (era == Era::Modern && takes().is_some())
}

/// A notification of a client as the server of the session should hear it; `None` where it names a task that is not the caller's.
pub fn heard(call: &Call) -> Option<Message> {
    let message = &call.message;
    let Some(part) = related(message) else { return Some(message.clone()) };
    let Reach::One(server) = call.reach else { return None };
    let (_, theirs) = Seal::new(call, server).open(&json::text(part)?)?;
    Some(changed(message, &[(part, json::quote(&theirs).as_bytes())]).into_owned())
}

/// The client's answer to a question of a server, which belongs to the task that the server said, if to any; `None` where the client
/// names one and the server named none.
pub fn answered(answer: &Message, task: Option<&Bytes>) -> Option<Message> {
    match (related(answer), task) {
        (None, _) => Some(answer.clone()),
        (Some(part), Some(task)) => Some(changed(answer, &[(part, task)]).into_owned()),
        (Some(_), None) => None,
    }
}

/// What a server said of itself, without what it can do with tasks that is not passed on.
pub fn announced(result: Bytes) -> Bytes {
    let Some(tasks) = json::path(&result, &["capabilities", "tasks"]).filter(|tasks| tasks.starts_with(b"{")) else {
        return result;
    };
    let written = |(name, value): (&[u8], &[u8])| [b"\"", name, b"\":", value].concat();
    let kept: Vec<_> = json::members(tasks).filter(|(name, _)| !json::is_name(name, "list")).map(written).collect();
    let object = [&b"{"[..], &kept.join(&b','), b"}"].concat();
    json::splice(&result, &[(json::span(&result, tasks), &object)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_passed_on_is_not_announced() {
        for (said, told) in [
            (
                r#"{"capabilities":{"tasks":{"list":{},"cancel":{}},"tools":{}}}"#,
                r#"{"capabilities":{"tasks":{"cancel":{}},"tools":{}}}"#,
            ),
            (r#"{"capabilities":{"tasks":{"list":{}}}}"#, r#"{"capabilities":{"tasks":{}}}"#),
            (r#"{"capabilities":{"tools":{}}}"#, r#"{"capabilities":{"tools":{}}}"#),
            (r#"{"capabilities":{"tasks":true}}"#, r#"{"capabilities":{"tasks":true}}"#),
        ] {
            assert_eq!(announced(Bytes::from_static(said.as_bytes())), told);
        }
    }
}
