//! The OpenAPI document (3.1) of routes.

use http::Method;
use serde_json::{Map, Value, json};

use super::Schemas;
use super::route::{Call, Route};
use crate::access::Role;
use crate::web::idempotent;
use crate::web::problem;

/// What is said of the whole.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// What the routes stand below.
    pub base: &'static str,
    /// Its name.
    pub title: &'static str,
    /// Its version: not that of the gateway, which is nobody's business who is not let in.
    pub version: &'static str,
    /// What there is to know before.
    pub description: &'static str,
}

/// All that there is to say of these routes.
pub fn document(about: About, routes: &[Route]) -> Value {
    let mut schemas = Schemas::default();
    let problem = schemas.written::<problem::Document<'_>>();
    let mut paths = Map::new();
    let mut headings: Vec<&str> = Vec::new();
    for route in routes {
        if !headings.contains(&route.heading) {
            headings.push(route.heading);
        }
        let mut calls = Map::new();
        for call in &route.calls {
            calls.insert(call.method.as_str().to_ascii_lowercase(), operation(route, call, &mut schemas));
        }
        paths.insert(format!("{}{}", about.base, route.path), calls.into());
    }
    let operations = paths.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut);
    let mut reading: Vec<&mut Value> = operations
        .filter_map(Value::as_object_mut)
        .flat_map(Map::iter_mut)
        .filter_map(|(name, part)| matches!(name.as_str(), "parameters" | "requestBody").then_some(part))
        .collect();
    let schemas = schemas.finish(&mut reading);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": about.title,
            "description": about.description,
            "version": about.version,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": headings.into_iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": problems(&problem),
            "securitySchemes": { "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key, or an access token of this gateway or of an identity provider that it trusts.",
            } },
        },
    })
}

/// What the door answers to any call, before it is looked at.
const AT_THE_DOOR: [u16; 5] = [400, 403, 413, 429, 431];

/// Whether a header always comes.
type Always = bool;
/// Headers of an answer.
type Headers = &'static [(&'static str, Always)];

/// Statuses of problems, each with what it means here and its headers.
const PROBLEMS: [(&str, &str, Headers); 13] = [
    ("400", "The body is not whole, or no JSON; or the request names no host.", &[]),
    ("401", "No credential was shown, or none that is good.", &[("WWW-Authenticate", true)]),
    (
        "403",
        "The caller is known and may not do this; or web pages of that origin, or nobody by that host name.",
        &[("WWW-Authenticate", false)],
    ),
    ("404", "There is no such thing, or not for this caller.", &[]),
    ("409", "It does not go with what is there; `code` says why.", &[("Retry-After", false)]),
    ("412", "It is another than `If-Match` names.", &[]),
    ("413", "The body is too large.", &[]),
    ("415", "The body is not sent as JSON.", &[]),
    ("422", "Something that was sent does not fit; `errors` names each field.", &[]),
    ("424", "Somebody else who was needed for it failed; `error_code` is theirs.", &[("Retry-After", false)]),
    (
        "429",
        "Too many requests; try again after `Retry-After`.",
        &[("Retry-After", true), ("RateLimit", false), ("RateLimit-Policy", false)],
    ),
    ("431", "The head of the request is too large.", &[]),
    ("5XX", "The gateway could not answer: it may have been done or not.", &[("Retry-After", false)]),
];

fn problems(schema: &Value) -> Map<String, Value> {
    let content = json!({ "application/problem+json": { "schema": schema } });
    let header = |(name, always): &(&str, Always)| {
        ((*name).to_owned(), json!({ "required": always, "schema": { "type": "string" } }))
    };
    let all = PROBLEMS.iter().map(|(status, description, headers)| {
        let headers: Map<String, Value> = headers.iter().map(header).collect();
        (format!("Problem{status}"), json!({ "description": description, "headers": headers, "content": content }))
    });
    all.collect()
}

fn operation(route: &Route, call: &Call, schemas: &mut Schemas) -> Value {
    let mut told = call.told(schemas);
    let reads = call.method == Method::GET;
    let named = placeholders(route.path);
    if !named.is_empty() {
        told.may_fail(&[404]);
    }
    if !reads {
        // A stray parameter, and what is in the way of a change.
        told.may_fail(&[409, 422]);
    }
    if call.takes_key(&told) {
        idempotent::describe(&mut told);
    }
    told.may_fail(call.fails);
    told.may_fail(&AT_THE_DOOR);
    let path = named.iter().map(
        |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }),
    );
    let mut responses: Map<String, Value> =
        told.answers.iter().map(|(s, answer)| (s.to_string(), answer.clone())).collect();
    if reads && told.answers.get(&200).is_some_and(|answer| !answer["headers"]["ETag"].is_null()) {
        responses.insert("304".to_owned(), json!({ "description": "It is as `If-None-Match` says." }));
        told.may_fail(&[412]);
    }
    let problems = told.problems.iter().map(u16::to_string).chain(["5XX".to_owned()]);
    responses.extend(problems.map(|status| {
        let problem = json!({ "$ref": format!("#/components/responses/Problem{status}") });
        (status, problem)
    }));
    let parameters: Vec<Value> = path.chain(told.parameters).collect();
    let security = if told.role.is_some() { json!([{ "bearer": [] }]) } else { json!([]) };
    let mut operation = json!({
        "operationId": call.id,
        "tags": [route.heading],
        "summary": call.summary,
        "description": takes(told.role),
        "x-required-role": told.role.map(Role::as_str),
        "security": security,
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = told.body {
        operation["requestBody"] = body;
    }
    operation
}

/// Who may.
fn takes(role: Option<Role>) -> String {
    match role {
        None => "Nobody is asked who calls.".to_owned(),
        Some(role) => format!("Takes the role `{}` or a greater one.", role.as_str()),
    }
}

/// What a path leaves open.
fn placeholders(path: &str) -> Vec<&str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
}
