//! Where a request goes: which server, and what that server calls the thing. What concerns no single server, or what a server
//! of the other era cannot know, the gateway answers itself. Nothing is sent from here, but to learn what a server speaks.

use std::borrow::Cow;
use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;

use crate::access::Allow;
use crate::json;
use crate::mcp::allow::{allow, observe};
use crate::mcp::error::Refusal;
use crate::mcp::exchange::Call;
use crate::mcp::session::Reach;
use crate::mcp::{answers, connect, listen, tasks};
use crate::policy::{Hints, What};
use crate::protocol::era::Era;
use crate::protocol::level::{Level, NAMES};
use crate::protocol::message::Message;
use crate::protocol::meta;
use crate::registry::catalog::{Item, Kind as ListKind};
use crate::registry::snapshot::{Entry, Tenant};

/// Longest name of a tool or prompt in a call, bytes. MCP recommends at most 128 characters (2025-11-25, server/tools).
const LONGEST_NAME: usize = 1_024;
/// Longest URI of a resource, or of a template, in a call, bytes. Programs are to take 8,000 (RFC 9110, section 4.1).
pub(super) const LONGEST_URI: usize = 8_192;

/// Where a request goes.
pub enum Target<'a> {
    /// To a server.
    Server {
        /// Which.
        entry: &'a Entry,
        /// The request, names the server's own.
        message: Cow<'a, Message>,
        /// The tool that it calls, if it is listed.
        item: Option<&'a Item>,
    },
    /// To a server, as it is, over a channel that others may share: what it wants there may be nothing new to the server.
    Wish(&'a Entry),
    /// Nowhere: the gateway answers.
    Here(Response),
}

/// Finds out where the request goes.
pub async fn resolve<'a>(
    call: &Call,
    tenant: Option<&'a Arc<Tenant>>,
    message: &'a Message,
) -> Result<Target<'a>, Refusal> {
    check_lengths(message)?;
    match call.reach {
        Reach::All => among_all(call, tenant, message, call.era()).await,
        Reach::One(id) => {
            let found = tenant.and_then(|tenant| Some((tenant, tenant.entry_by_id(&call.caller, id)?)));
            let (tenant, entry) = found.ok_or_else(gone)?;
            if tenant.rules().is_open() {
                observe_at_one(call, entry, message);
            } else {
                if let Some(kind) = ListKind::of_method(&message.method()) {
                    return answers::items_of(tenant, entry, &call.caller, message, kind, call.era()).map(Target::Here);
                }
                allow_at_one(call, tenant, entry, message)?;
            }
            at_one(call, tenant, entry, message, call.era()).await
        }
    }
}

/// At the common endpoint: by name, URI or template; what concerns no single server is answered here.
async fn among_all<'a>(
    call: &Call,
    tenant: Option<&'a Arc<Tenant>>,
    message: &'a Message,
    era: Era,
) -> Result<Target<'a>, Refusal> {
    let method = message.method();
    let caller = &call.caller;
    let as_is = |entry| Target::Server { entry, message: Cow::Borrowed(message), item: None };
    if let Some(kind) = ListKind::of_method(&method) {
        return answers::list(&call.app, caller, message, kind, era).map(Target::Here);
    }
    match method.as_ref() {
        "server/discover" if era == Era::Modern => Ok(Target::Here(answers::here(message, &answers::discover()))),
        "ping" if era == Era::Legacy => Ok(Target::Here(answers::here(message, "{}"))),
        "logging/setLevel" if era == Era::Legacy => set_level(call, message),
        "subscriptions/listen" if era == Era::Modern => Box::pin(listen::all(call)).await.map(Target::Here),
        "tools/call" | "prompts/get" => {
            let (what, name) = if method == "tools/call" { ("tool", "name") } else { ("prompt", "name") };
            let raw = message.member(name).ok_or_else(|| missing(name))?;
            let exposed = json::text(raw).ok_or_else(|| missing(name))?;
            // The name is found in the snapshot, and only its bytes change.
            let tenant = tenant.ok_or_else(|| Refusal::unknown(what, &exposed))?;
            let found = if what == "tool" { tenant.tool(caller, &exposed) } else { tenant.prompt(caller, &exposed) };
            let found = found.ok_or_else(|| Refusal::unknown(what, &exposed))?;
            let is = named(what == "tool", &found.name, found.item);
            allow(call, tenant, found.entry, is, message, found.item.is_some(), || Refusal::unknown(what, &exposed))?;
            let message = message.with_text(raw, &found.name);
            Ok(Target::Server {
                entry: found.entry,
                message: Cow::Owned(message),
                item: found.item.filter(|_| what == "tool"),
            })
        }
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            let uri = message.text("uri").ok_or_else(|| missing("uri"))?;
            let found = tenant.and_then(|tenant| Some((tenant, tenant.resource(caller, &uri)?)));
            let (tenant, entry) = found.ok_or_else(|| no_resource(&uri, era))?;
            allow(call, tenant, entry, What::Resource(&uri), message, true, || no_resource(&uri, era))?;
            if method == "resources/read" { Ok(as_is(entry)) } else { Ok(subscribe(call, entry, message)) }
        }
        "completion/complete" => {
            let reference = message.member("ref").ok_or_else(|| missing("ref"))?;
            if json::get(reference, "name").is_some() && json::get(reference, "uri").is_some() {
                return Err(missing("ref.name` or `ref.uri"));
            }
            if let Some(raw) = json::get(reference, "name") {
                let exposed = json::text(raw).ok_or_else(|| missing("ref.name"))?;
                let found = tenant.and_then(|tenant| Some((tenant, tenant.prompt(caller, &exposed)?)));
                let unknown = || Refusal::unknown("prompt", &exposed);
                let (tenant, found) = found.ok_or_else(unknown)?;
                allow(call, tenant, found.entry, What::Prompt(&found.name), message, found.item.is_some(), unknown)?;
                let renamed = message.with_text(raw, &found.name);
                return Ok(Target::Server { entry: found.entry, message: Cow::Owned(renamed), item: None });
            }
            let uri = json::get_text(reference, "uri").ok_or_else(|| missing("ref.name` or `ref.uri"))?;
            let found = tenant.and_then(|tenant| Some((tenant, tenant.template(caller, &uri)?)));
            let (tenant, entry) = found.ok_or_else(|| no_resource(&uri, era))?;
            allow(call, tenant, entry, What::Resource(&uri), message, true, || no_resource(&uri, era))?;
            Ok(as_is(entry))
        }
        other => Err(Refusal::no_method(era, other)),
    }
}

/// A tool or prompt, as rules speak of it; of a tool that is not listed nothing is known that speaks for it.
fn named<'a>(is_tool: bool, name: &'a str, item: Option<&Item>) -> What<'a> {
    if is_tool { What::Tool(name, item.map_or_else(Hints::default, |item| item.hints)) } else { What::Prompt(name) }
}

/// Counts a request at a server's own endpoint where nobody wrote rules, for those that are tried later.
fn observe_at_one(call: &Call, entry: &Entry, message: &Message) {
    let seen = |what: What<'_>| observe(call, entry, what, true);
    match message.method().as_ref() {
        "tools/call" => {
            if let Some(name) = message.text("name")
                && let Some(item) = entry.catalog.item(ListKind::Tools, &name)
            {
                seen(What::Tool(&name, item.hints));
            }
        }
        "prompts/get" => {
            if let Some(name) = message.text("name").filter(|name| entry.catalog.lists(What::Prompt(name))) {
                seen(What::Prompt(&name));
            }
        }
        "resources/read" | "resources/subscribe" => {
            if let Some(uri) = message.text("uri").filter(|uri| entry.catalog.lists(What::Resource(uri))) {
                seen(What::Resource(&uri));
            }
        }
        _ => {}
    }
}

/// Asks the rules about a request at a server's own endpoint, which the server itself would answer.
fn allow_at_one(call: &Call, tenant: &Tenant, entry: &Entry, message: &Message) -> Result<(), Refusal> {
    let era = call.era();
    let resource = |uri: &str| {
        let what = What::Resource(uri);
        allow(call, tenant, entry, what, message, entry.catalog.lists(what), || no_resource(uri, era))
    };
    let prompt = |name: &str| {
        let what = What::Prompt(name);
        allow(call, tenant, entry, what, message, entry.catalog.lists(what), || Refusal::unknown("prompt", name))
    };
    let method = message.method();
    match method.as_ref() {
        "tools/call" => {
            let name = message.text("name").ok_or_else(|| missing("name"))?;
            let item = entry.catalog.item(ListKind::Tools, &name);
            let tool = named(true, &name, item);
            allow(call, tenant, entry, tool, message, item.is_some(), || Refusal::unknown("tool", &name))
        }
        "prompts/get" => prompt(&message.text("name").ok_or_else(|| missing("name"))?),
        "resources/read" | "resources/subscribe" => resource(&message.text("uri").ok_or_else(|| missing("uri"))?),
        "completion/complete" => {
            let reference = message.member("ref").ok_or_else(|| missing("ref"))?;
            match (json::get_text(reference, "name"), json::get_text(reference, "uri")) {
                (Some(name), None) => prompt(&name),
                (None, Some(uri)) => resource(&uri),
                _ => Err(missing("ref.name` or `ref.uri")),
            }
        }
        // They name nothing that rules speak of, or belong to what was decided before.
        "initialize"
        | "ping"
        | "server/discover"
        | "logging/setLevel"
        | "resources/unsubscribe"
        | "subscriptions/listen"
        | "tasks/get"
        | "tasks/result"
        | "tasks/list"
        | "tasks/cancel"
        | "tasks/update" => Ok(()),
        // What no version knows could be anything: that takes the server as a whole.
        other => allow(call, tenant, entry, What::Server, message, false, || Refusal::no_method(era, other)),
    }
}

/// At a server's own endpoint: everything goes to it, but for what it cannot know.
async fn at_one<'a>(
    call: &Call,
    tenant: &Tenant,
    entry: &'a Entry,
    message: &'a Message,
    era: Era,
) -> Result<Target<'a>, Refusal> {
    let method = message.method();
    let to_server = |item| Ok(Target::Server { entry, message: Cow::Borrowed(message), item });
    let item = match method.as_ref() {
        "tools/call" => message.text("name").and_then(|name| entry.catalog.item(ListKind::Tools, &name)),
        _ => None,
    };
    match method.as_ref() {
        "tools/list" if call.caller.scopes().tools != Allow::All => {
            return answers::items_of(tenant, entry, &call.caller, message, ListKind::Tools, era).map(Target::Here);
        }
        "ping" if call.session.as_ref().is_some_and(|session| connect::is_early(session, entry)) => {
            return Ok(Target::Here(answers::here(message, "{}")));
        }
        "server/discover" | "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => {}
        _ => return to_server(item),
    }
    // Between ends of one era, on a session of one's own, the server answers everything itself.
    let peer = match entry.upstream.peer_for(era, Some(&call.caller)).await {
        Ok(peer) => peer,
        Err(fault) => {
            let asked = connect::asked(call, &fault, entry);
            return Err(asked.unwrap_or_else(|| Refusal::of(&fault, entry.slug(), era)));
        }
    };
    let theirs = peer.era_for(era);
    match (method.as_ref(), era, theirs) {
        ("server/discover", Era::Modern, Era::Legacy) => {
            Ok(Target::Here(answers::here(message, &answers::discover_for(&peer))))
        }
        ("ping", Era::Legacy, Era::Modern) => Ok(Target::Here(answers::here(message, "{}"))),
        ("logging/setLevel", Era::Legacy, Era::Modern) => set_level(call, message),
        ("logging/setLevel", Era::Legacy, Era::Legacy) => {
            // Kept for a session with the server that takes the place of this one; what is no level the server refuses itself.
            if let (Some(session), Some(params), Ok(())) = (&call.session, message.body(), names_level(message)) {
                session.set_level(params);
            }
            Ok(Target::Wish(entry))
        }
        ("resources/subscribe" | "resources/unsubscribe", Era::Legacy, _) => match message.text("uri") {
            Some(_) => Ok(subscribe(call, entry, message)),
            None => to_server(None),
        },
        _ => to_server(item),
    }
}

/// Begins or ends watching a resource for a legacy client.
fn subscribe<'a>(call: &Call, entry: &'a Entry, message: &'a Message) -> Target<'a> {
    match &call.session {
        Some(_) => Target::Wish(entry),
        None => Target::Server { entry, message: Cow::Borrowed(message), item: None },
    }
}

fn set_level<'a>(call: &Call, message: &'a Message) -> Result<Target<'a>, Refusal> {
    names_level(message)?;
    if let (Some(session), Some(params)) = (&call.session, message.body()) {
        session.set_level(params);
        listen::pass_level_on(call, session, params);
    }
    Ok(Target::Here(answers::here(message, "{}")))
}

/// A request for a level names one that there is (2025-11-25, server/utilities/logging, "Error Handling").
fn names_level(message: &Message) -> Result<(), Refusal> {
    let level = message.text("level").ok_or_else(|| missing("level"))?;
    if Level::parse(&level).is_some() {
        return Ok(());
    }
    let text = format!("Invalid params: `level` is none of {}", NAMES.join(", "));
    Err(Refusal::new(StatusCode::OK, meta::INVALID_PARAMS, text))
}

/// What is looked up and compared has a bound, whichever server would take more.
fn check_lengths(message: &Message) -> Result<(), Refusal> {
    let check = |member: &str, value: Option<&[u8]>, most: usize| {
        // Escapes only make it longer as written.
        let long = |value: &&[u8]| value.len() > most && json::text(value).is_some_and(|text| text.len() > most);
        let text = || format!("Invalid params: `{member}` is longer than {most} bytes");
        let refusal = value.filter(long).map(|_| Refusal::new(StatusCode::OK, meta::INVALID_PARAMS, text()));
        refusal.map_or(Ok(()), Err)
    };
    match message.method().as_ref() {
        "tools/call" | "prompts/get" => check("name", message.member("name"), LONGEST_NAME),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            check("uri", message.member("uri"), LONGEST_URI)
        }
        "completion/complete" => {
            let of = |member| message.member("ref").and_then(|reference| json::get(reference, member));
            check("ref.name", of("name"), LONGEST_NAME)?;
            check("ref.uri", of("uri"), LONGEST_URI)
        }
        "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/update" => {
            check("taskId", message.member("taskId"), tasks::LONGEST_OURS)
        }
        _ => Ok(()),
    }
}

fn missing(member: &str) -> Refusal {
    Refusal::new(StatusCode::OK, meta::INVALID_PARAMS, format!("Invalid params: `{member}` is missing or no string"))
}

fn no_resource(uri: &str, era: Era) -> Refusal {
    let code = if era == Era::Modern { meta::INVALID_PARAMS } else { meta::RESOURCE_NOT_FOUND };
    let uri: String = uri.chars().take(300).collect();
    let mut refusal = Refusal::new(StatusCode::OK, code, format!("Resource not found: {uri}"));
    refusal.data = Some(format!("{{\"uri\":{}}}", json::quote(&uri)));
    refusal
}

fn gone() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, meta::INVALID_REQUEST, "there is no such server")
}
