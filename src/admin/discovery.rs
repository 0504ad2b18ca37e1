//! `/discovery`: which server has what. Searches what servers were found to offer, as far as the caller may use it.

use axum::response::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::access::Caller;
use crate::app::App;
use crate::json;
use crate::registry::catalog::Kind;
use crate::registry::names;
use crate::web::json::{Page, PageQuery, Parameters};
use crate::web::problem::Problem;

/// What to find.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// Text in name, title or description, in any case.
    q: Option<String>,
    /// Only of this server.
    server: Option<String>,
    /// Only of servers with this tag.
    tag: Option<String>,
    limit: Option<u16>,
    cursor: Option<String>,
}

/// Something found.
#[derive(Serialize, JsonSchema)]
pub(super) struct Found {
    /// Whose it is.
    server: String,
    /// Name of a tool, URI of a resource or template.
    key: String,
    /// The name under which `/mcp` lists a tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    exposed_name: Option<String>,
    /// `tool`, `resource` or `template`.
    kind: &'static str,
    /// The server's tags.
    tags: Vec<String>,
    /// It, as the server describes it.
    item: Box<RawValue>,
}

pub(super) async fn tools(
    app: App,
    caller: Caller,
    Parameters(search): Parameters<Search>,
) -> Result<Json<Page<Found>>, Problem> {
    find(&app, &caller, &search, true).await
}

pub(super) async fn resources(
    app: App,
    caller: Caller,
    Parameters(search): Parameters<Search>,
) -> Result<Json<Page<Found>>, Problem> {
    find(&app, &caller, &search, false).await
}

/// Servers read at once.
const BATCH: u16 = 100;

async fn find(app: &App, caller: &Caller, search: &Search, tools: bool) -> Result<Json<Page<Found>>, Problem> {
    let page = PageQuery { limit: search.limit, cursor: search.cursor.clone() };
    let most = page.limit()?;
    let limit = usize::from(most);
    let (from, kind_before, key_before) = page.place(position)?.unwrap_or_default();
    let wanted = search.q.as_deref().map(str::to_lowercase);
    let mut items = Vec::new();
    let mut at = from.clone();
    // The server in which the page before ended is read again, apart: lists begin behind a slug.
    let mut first = if from.is_empty() { None } else { app.servers().get(caller, &from).await.ok() };
    loop {
        let (records, next) = match first.take() {
            Some(record) => (vec![record], Some(from.clone())),
            None => app.servers().list(caller, &at, BATCH).await?,
        };
        for record in records {
            let server = &record.server;
            let record = &record;
            let slug = server.spec.slug.as_str();
            if !server.spec.enabled
                || !server.may_be_used_by(caller)
                || search.server.as_deref().is_some_and(|only| only != slug)
                || search.tag.as_ref().is_some_and(|tag| !server.spec.tags.contains(tag))
            {
                continue;
            }
            let offered = if tools { Kind::Tools } else { Kind::Resources };
            let offers = app.offers(&server.tenant, server.id);
            let lists: &[(&str, &str, &[u8])] = if tools {
                &[("tool", "name", &offers.tools)]
            } else {
                &[("resource", "uri", &offers.resources), ("template", "uriTemplate", &offers.templates)]
            };
            let matches = lists.iter().flat_map(|&(kind, key, list)| {
                json::elements(list).filter_map(move |item| Some((kind, text(item, key)?, item)))
            });
            let allowed = matches
                .filter(|(_, key, _)| !tools || caller.may_call_tool(slug, key))
                .filter(|(_, key, item)| app.offers_to(caller, record, offered, key, item))
                .filter(|(_, key, item)| wanted.as_deref().is_none_or(|wanted| mentions(item, key, wanted)));
            let shown = |kind: &str, key: &str| slug == from && (kind, key) <= (&*kind_before, &*key_before);
            let mut rest: Vec<_> = allowed.filter(|(kind, key, _)| !shown(kind, key)).collect();
            rest.sort_unstable_by(|(kind, key, _), (other_kind, other, _)| (kind, key).cmp(&(other_kind, other)));
            for (kind, key, item) in rest {
                let Some(item) = raw(item) else { continue };
                if items.len() > limit {
                    break;
                }
                let exposed_name = tools.then(|| names::exposed(slug, &key));
                let (server, tags) = (slug.to_owned(), server.spec.tags.clone());
                items.push(Found { server, key, exposed_name, kind, tags, item });
            }
        }
        match next {
            Some(next) if items.len() <= limit => at = next,
            _ => return Ok(Json(Page::of(items, most, place))),
        }
    }
}

/// What a cursor names: the last item that was shown, by server, kind and key.
fn place(last: &Found) -> String {
    format!("{} {} {}", last.server, last.kind, last.key)
}

fn position(text: &str) -> Option<(String, String, String)> {
    let mut parts = text.splitn(3, ' ').map(str::to_owned);
    Some((parts.next()?, parts.next()?, parts.next()?))
}

fn mentions(item: &[u8], key: &str, wanted: &str) -> bool {
    key.to_lowercase().contains(wanted)
        || ["name", "title", "description"]
            .iter()
            .any(|field| text(item, field).is_some_and(|text| text.to_lowercase().contains(wanted)))
}

/// The text of a member of an object.
pub(super) fn text(object: &[u8], name: &str) -> Option<String> {
    let (_, value) = json::members(object).find(|(key, _)| *key == name.as_bytes())?;
    serde_json::from_slice(value).ok()
}

/// JSON as it was written.
pub(super) fn raw(json: &[u8]) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(json.to_vec()).ok()?).ok()
}
