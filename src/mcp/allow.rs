//! What the access rules say of one call: the same decision that made the lists. What may not be seen is answered as what is not
//! there; what may be seen and not be called so is refused by the name of the rule.

use std::borrow::Cow;

use axum::http::StatusCode;
use time::OffsetDateTime;

use crate::access::Caller;
use crate::app::App;
use crate::id::ServerId;
use crate::json;
use crate::mcp::error::{Denied, Refusal};
use crate::mcp::exchange::Call;
use crate::mcp::uri::bare;
use crate::policy::{Given, Thing, Verdict, What, Why};
use crate::protocol::message::Message;
use crate::registry::snapshot::{Entry, Tenant};
use crate::store::micros;

/// The JSON-RPC code of a call that a rule refuses.
pub const REFUSED: i32 = -31_013;

/// Fails unless the rules let the caller use it as `message` asks. `unknown` is the answer where it is not there for the caller;
/// `listed` says whether it is known to the registry, and not only a name that a client chose.
pub fn allow(
    call: &Call,
    tenant: &Tenant,
    entry: &Entry,
    what: What<'_>,
    message: &Message,
    listed: bool,
    unknown: impl FnOnce() -> Refusal,
) -> Result<(), Refusal> {
    let verdict = tenant.decide(&call.caller, entry, what, Given::Call(arguments(message)));
    if listed {
        observe(call, entry, what, verdict == Verdict::Allowed);
    }
    let denied = |why: &Why| denied(entry, what, listed, why);
    match verdict {
        Verdict::Allowed => Ok(()),
        Verdict::Hidden(why) => Err(Refusal { denied: Some(Box::new(denied(&why))), ..unknown() }),
        Verdict::Refused(why) => {
            let mut refusal = refused(what, &why);
            refusal.denied = Some(Box::new(denied(&why)));
            Err(refusal)
        }
    }
}

/// Counts what is asked for, for rules that are tried later.
pub fn observe(call: &Call, entry: &Entry, what: What<'_>, allowed: bool) {
    let thing = Thing { place: entry.place(), what };
    call.app.observed.note(call.caller.subject(), &thing, allowed, micros(OffsetDateTime::now_utc()));
}

/// Fails unless what was made by a call before is still there for the caller: how it was called was decided then.
pub fn still(
    call: &Call,
    tenant: &Tenant,
    entry: &Entry,
    what: What<'_>,
    listed: bool,
    unknown: impl FnOnce() -> Refusal,
) -> Result<(), Refusal> {
    match tenant.decide(&call.caller, entry, what, Given::Listing) {
        Verdict::Allowed => Ok(()),
        Verdict::Hidden(why) | Verdict::Refused(why) => {
            Err(Refusal { denied: Some(Box::new(denied(entry, what, listed, &why))), ..unknown() })
        }
    }
}

/// Whether the caller may still hear what a server says on a stream that was opened before: of a resource as long as that is there for
/// it.
pub fn may_hear(app: &App, caller: &Caller, server: ServerId, said: &Message) -> bool {
    if said.method() != "notifications/resources/updated" {
        return true;
    }
    let snapshot = app.registry.snapshot();
    let Some((tenant, uri)) = snapshot.tenant(caller.tenant()).zip(said.text("uri")) else { return false };
    let entry = tenant.entry_by_id(caller, server);
    entry.is_some_and(|entry| tenant.permits(caller, entry, What::Resource(&uri)))
}

fn denied(entry: &Entry, what: What<'_>, listed: bool, why: &Why) -> Denied {
    let name = match what {
        What::Resource(uri) => Cow::Owned(bare(uri)),
        _ => Cow::Borrowed(what.name()),
    };
    Denied {
        rule: why.rule.clone(),
        server: entry.upstream.server.spec.slug.clone(),
        name: (listed && !name.is_empty()).then(|| name.into()),
    }
}

/// What a call brings to what it calls. Completing an argument of something is no use of it with arguments.
fn arguments(message: &Message) -> Option<&[u8]> {
    matches!(message.method().as_ref(), "tools/call" | "prompts/get").then(|| message.member("arguments")).flatten()
}

fn refused(what: What<'_>, why: &Why) -> Refusal {
    let named = what.name().chars().take(200).collect::<String>();
    let rule = why.rule.as_deref().map_or_else(String::new, |rule| format!(" by the access rule `{rule}`"));
    let message = why.message.as_deref().map_or_else(String::new, |message| format!(": {message}"));
    let text = format!("The {} {named} is refused with these arguments{rule}{message}", what.kind());
    let mut refusal = Refusal::new(StatusCode::OK, REFUSED, text);
    let quoted = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), json::quote);
    refusal.data =
        Some(format!("{{\"rule\":{},\"message\":{}}}", quoted(why.rule.as_deref()), quoted(why.message.as_deref())));
    refusal
}
