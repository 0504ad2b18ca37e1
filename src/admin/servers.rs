//! `/servers`: register, read, change, remove; enable, disable, refresh; a server's tools.

use std::time::Duration;

use axum::response::Json;
use http::StatusCode;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::access::Caller;
use crate::app::{App, Goes, ServerStatus};
use crate::connections::Site;
use crate::id::ServerId;
use crate::json;
use crate::registry::catalog::Kind;
use crate::registry::model::ServerSpec;
use crate::registry::servers::ServersError;
use crate::registry::servers::{Record, masked_json, must_register};
use crate::store::now;
use crate::web::answer::{Created, NoContent, Tagged, tag};
use crate::web::condition::IfMatch;
use crate::web::json::{Page, PageQuery, Parameters, Unread, cursor_after, read as read_json};
use crate::web::path::Named;
use crate::web::problem::Problem;

/// How long registering waits for a new server to say what it offers. It is registered whether it does or not.
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(5);

/// A server as it is read: the description, masked; to whom may not change it, without where and how it is reached.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Server", transform = as_shown)]
pub(super) struct View {
    id: ServerId,
    #[serde(flatten)]
    #[schemars(with = "ServerSpec")]
    spec: Map<String, Value>,
    revision: i64,
    #[serde(with = "crate::clock::Moment")]
    created_at: OffsetDateTime,
    #[serde(with = "crate::clock::Moment")]
    updated_at: OffsetDateTime,
    status: ServerStatus,
    /// What was taken over and may be a mistake; only in the answer to a change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Of the description, who may not change the server does not see all; who is of another tenant sees whose it is.
fn as_shown(schema: &mut Schema) {
    schema.remove("additionalProperties");
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| name != "visibility");
    }
    if let Some(Value::Object(fields)) = schema.get_mut("properties") {
        let offered_by = json!({ "type": "string", "description": "The tenant that offers it, if it is another." });
        fields.insert("offered_by".to_owned(), offered_by);
    }
}

fn view(app: &App, caller: &Caller, record: &Record) -> View {
    let server = &record.server;
    let mut status = app.status(server);
    let mut spec = match masked_json(&server.spec) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    if !caller.may_call_all_tools(server.spec.slug.as_str()) {
        // They name tools.
        status.problems.clear();
    }
    if !record.may_be_changed_by(caller) {
        for hidden in [
            "replicas",
            "command",
            "headers",
            "env",
            "auth",
            "discovery_auth",
            "visibility",
            "offered_to",
            "rate_limits",
        ] {
            spec.remove(hidden);
        }
        status.replicas.clear();
        status.connect = None;
        // It may quote an address.
        status.last_error = status.last_error.map(|_| "the server cannot be reached".to_owned());
    }
    if server.tenant != *caller.tenant() {
        spec.insert("offered_by".to_owned(), server.tenant.as_str().into());
    }
    View {
        id: server.id,
        spec,
        revision: server.revision,
        created_at: server.created_at,
        updated_at: server.updated_at,
        status,
        warnings: Vec::new(),
    }
}

fn answer(view: View) -> Tagged<View> {
    Tagged::version(view.revision, view)
}

/// The answer to who described the server anew.
async fn answer_change(app: &App, caller: &Caller, record: &Record) -> Result<Tagged<View>, Problem> {
    let warnings = app.servers().warnings(caller, &[&record.server.spec], &[]).await?;
    let read = view(app, caller, record);
    let tag = tag(Some(read.revision), &serde_json::to_string(&read).map_err(Problem::internal)?);
    Ok(Tagged::read_as(tag, View { warnings, ..read }))
}

pub(super) async fn list(
    app: App,
    caller: Caller,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Json<Page<View>>, Problem> {
    let (records, next) = app.servers().list(&caller, &query.after()?, query.limit()?).await?;
    let mut items = Vec::with_capacity(records.len());
    for record in records.iter().filter(|record| app.shows(&caller, record)) {
        items.push(view(&app, &caller, record));
    }
    Ok(Json(Page { items, next_cursor: next.as_deref().map(cursor_after) }))
}

pub(super) async fn create(app: App, caller: Caller, body: Unread<ServerSpec>) -> Result<Created<View>, Problem> {
    must_register(&caller)?;
    let record = app.servers().create(&caller, body.read().await?, now()).await?;
    app.changed().await?;
    if record.server.spec.enabled {
        // Unreachable or slow, it is kept, shows so in the answer, and is asked again by itself.
        let _ = tokio::time::timeout(FIRST_LOOK, app.registry.first_look(record.server.id)).await;
    }
    let location = format!("/api/v1/servers/{}", record.server.spec.slug);
    Ok(Created::at(location, answer_change(&app, &caller, &record).await?))
}

/// The server of that slug, if the caller may see it: by visibility, scopes and access rules.
async fn shown(app: &App, caller: &Caller, slug: &str) -> Result<Record, Problem> {
    let record = app.servers().get(caller, slug).await?;
    if app.shows(caller, &record) { Ok(record) } else { Err(Problem::missing("server")) }
}

pub(super) async fn read(app: App, caller: Caller, Named(slug): Named) -> Result<Tagged<View>, Problem> {
    let record = shown(&app, &caller, &slug).await?;
    Ok(answer(view(&app, &caller, &record)))
}

pub(super) async fn replace(
    app: App,
    caller: Caller,
    Named(slug): Named,
    version: IfMatch,
    body: Unread<ServerSpec>,
) -> Result<Tagged<View>, Problem> {
    app.servers().to_describe(&caller, &slug).await?;
    let expected = version.expected()?;
    let replaced = app.servers().replace(&caller, &slug, body.read().await?, expected, now()).await;
    let record = replaced.map_err(|error| version.refused(error.into()))?;
    app.changed().await?;
    answer_change(&app, &caller, &record).await
}

/// JSON Merge Patch (RFC 7396) of a description: what is null goes, what is not there stays.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "ServerPatch", with = "Map<String, Value>", example = json!({ "title": "Files of the team" }))]
pub(super) struct Patch(Value);

/// Changes the description as it is read.
pub(super) async fn patch(
    app: App,
    caller: Caller,
    Named(slug): Named,
    version: IfMatch,
    body: Unread<Patch>,
) -> Result<Tagged<View>, Problem> {
    let before = app.servers().to_describe(&caller, &slug).await?;
    let Patch(change) = body.read().await?;
    if !change.is_object() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "MALFORMED_JSON", "a patch is a JSON object"));
    }
    let expected = version.expected()?;
    let mut fields = masked_json(&before.server.spec);
    merge(&mut fields, change);
    let spec: ServerSpec = read_json(&serde_json::to_vec(&fields).map_err(Problem::internal)?)?;
    // What was read here is what is changed: somebody else's change in between is not undone.
    let from = expected.unwrap_or(before.server.revision);
    let replaced = app.servers().replace(&caller, &slug, spec, Some(from), now()).await;
    let record = replaced.map_err(|error| version.refused(error.into()))?;
    app.changed().await?;
    answer_change(&app, &caller, &record).await
}

fn merge(target: &mut Value, change: Value) {
    let Value::Object(change) = change else {
        *target = change;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in change {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

pub(super) async fn delete(
    app: App,
    caller: Caller,
    Named(slug): Named,
    version: IfMatch,
) -> Result<NoContent, Problem> {
    let expected = version.expected()?;
    let refused = |error: ServersError| version.refused(error.into());
    // What people gave is read for whom it is to go, and for nobody else.
    let there = app.servers().changeable(&caller, &slug, expected).await.map_err(refused)?;
    let servers = app.servers();
    let removing = servers.delete(&caller, &slug, expected);
    app.giving_back(Goes::Servers(vec![&there.server]), removing).await.map_err(refused)?;
    app.changed().await?;
    Ok(NoContent)
}

pub(super) async fn enable(
    app: App,
    caller: Caller,
    Named(slug): Named,
    version: IfMatch,
) -> Result<Tagged<View>, Problem> {
    set_enabled(&app, &caller, &slug, &version, true).await
}

pub(super) async fn disable(
    app: App,
    caller: Caller,
    Named(slug): Named,
    version: IfMatch,
) -> Result<Tagged<View>, Problem> {
    set_enabled(&app, &caller, &slug, &version, false).await
}

async fn set_enabled(
    app: &App,
    caller: &Caller,
    slug: &str,
    version: &IfMatch,
    enabled: bool,
) -> Result<Tagged<View>, Problem> {
    let set = app.servers().set_enabled(caller, slug, enabled, version.expected()?, now()).await;
    let record = set.map_err(|error| version.refused(error.into()))?;
    app.changed().await?;
    Ok(answer(view(app, caller, &record)))
}

/// Asks the server anew and waits for it. One that does not answer is no error of this request: the view says so.
pub(super) async fn refresh(app: App, caller: Caller, Named(slug): Named) -> Result<Tagged<View>, Problem> {
    let record = shown(&app, &caller, &slug).await?;
    if !record.may_be_changed_by(&caller) {
        let detail = "only who registered the server or an administrator may have it asked anew";
        return Err(Problem::new(StatusCode::FORBIDDEN, "FORBIDDEN", detail));
    }
    if !record.server.spec.enabled {
        let detail = "the server is disabled; enable it first";
        return Err(Problem::new(StatusCode::CONFLICT, "SERVER_DISABLED", detail));
    }
    if let Some(site) = Site::of(&record.server) {
        app.connections().look(&site).await;
    }
    if let Err(fault) = app.refresh(record.server.id).await {
        tracing::info!(server = slug, kind = fault.kind.label(), "a refresh that was asked for failed: {fault}");
    }
    Ok(answer(view(&app, &caller, &record)))
}

/// The tools of a server that the caller may call, each as the server describes it.
pub(super) async fn tools(
    app: App,
    caller: Caller,
    Named(slug): Named,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Json<Page<Box<RawValue>>>, Problem> {
    let record = shown(&app, &caller, &slug).await?;
    let server = &record.server;
    if !server.may_be_used_by(&caller) {
        return Err(Problem::missing("server"));
    }
    let name = |tool: &[u8]| super::discovery::text(tool, "name");
    let offers = app.offers(&server.tenant, server.id);
    let items = json::elements(&offers.tools)
        .filter(|tool| {
            name(tool).is_some_and(|name| {
                caller.may_call_tool(&slug, &name) && app.offers_to(&caller, &record, Kind::Tools, &name, tool)
            })
        })
        .filter_map(super::discovery::raw)
        .collect();
    Ok(Json(query.cut(items, |tool| name(tool.get().as_bytes()).unwrap_or_default())?))
}
