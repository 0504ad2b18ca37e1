//! The description of the REST API: that it is of all of it and of nothing else, that every call is described whole, and that what
//! it gives as examples is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use axum::Router;
use http_body_util::BodyExt as _;
use mcp_registry_gateway::admin::reference::openapi_document;
use mcp_registry_gateway::router;
use serde_json::{Value, json};

use crate::routes::{filled, rows, send};
use crate::store_databases::Database;
use crate::store_rest::{World, server};

/// One call as it is described.
pub struct Operation {
    /// `GET /api/v1/servers`.
    pub call: String,
    pub about: Value,
}

impl Operation {
    pub fn id(&self) -> &str {
        self.about["operationId"].as_str().unwrap()
    }

    pub fn method(&self) -> &str {
        self.call.split(' ').next().unwrap()
    }

    pub fn path(&self) -> &str {
        self.call.split(' ').nth(1).unwrap()
    }

    pub fn takes(&self, parameter: &str) -> bool {
        self.about["parameters"].as_array().unwrap().iter().any(|one| one["name"] == parameter)
    }

    pub fn role(&self) -> Option<&str> {
        self.about["x-required-role"].as_str()
    }
}

/// All of them, in the order of the document.
pub fn operations() -> Vec<Operation> {
    let document = openapi_document();
    let mut all = Vec::new();
    for (path, calls) in document["paths"].as_object().unwrap() {
        for (method, about) in calls.as_object().unwrap() {
            all.push(Operation { call: format!("{} {path}", method.to_uppercase()), about: about.clone() });
        }
    }
    all
}

/// The body that the table of routes has for a call.
pub fn body(call: &str) -> Value {
    rows().into_iter().find(|(row, ..)| *row == call).unwrap().1
}

/// Every `$ref` in it.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn it_is_of_every_rest_route_and_of_nothing_else() {
    let described: BTreeSet<String> = operations().into_iter().map(|operation| operation.call).collect();
    let routes = rows().into_iter().map(|(call, ..)| call.to_owned());
    let routes: BTreeSet<String> = routes.filter(|call| call.contains(" /api/v1/")).collect();
    assert_eq!(described, routes);
}

#[test]
fn every_call_is_described_whole() {
    let document = openapi_document();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], "1", "which gateway runs is nobody's business who is not let in");
    let mut ids = BTreeSet::new();
    for operation in operations() {
        let (call, about) = (&operation.call, &operation.about);
        assert!(ids.insert(operation.id().to_owned()), "{call}: the name is taken");
        assert!(!about["summary"].as_str().unwrap().is_empty() && about["tags"][0].is_string(), "{call}");
        let signed_in = operation.role().is_some();
        assert_eq!(about["security"], if signed_in { json!([{"bearer": []}]) } else { json!([]) }, "{call}");
        let responses = about["responses"].as_object().unwrap();
        let has = |status: &str| responses.contains_key(status);
        assert!(responses.keys().any(|status| status.starts_with('2')), "{call}");
        // With a default every status would be described, and nothing judged.
        assert!(!has("default"), "{call}");
        for status in ["400", "403", "413", "429", "431", "5XX"] {
            assert!(has(status), "{call}: the door answers {status}");
        }
        assert_eq!(has("401"), signed_in || operation.id() == "login", "{call}");
        assert!(has("404") || !call.contains('{'), "{call}");
        assert_eq!(has("412"), operation.takes("If-Match") || has("304"), "{call}");
        assert_eq!(has("409"), operation.method() != "GET", "{call}");
        assert_eq!(operation.takes("Idempotency-Key"), operation.method() == "POST" && signed_in, "{call}");
        let open: Vec<&str> = call.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        assert!(open.iter().all(|name| operation.takes(name)), "{call}");
        if let Some(body) = about.get("requestBody") {
            assert!(body["content"]["application/json"]["example"].is_object(), "{call} has no example");
            assert!(has("400") && has("415") && has("422"), "{call}");
        }
    }
    let problems = &document["components"]["responses"];
    for header in ["/Problem401/headers/WWW-Authenticate", "/Problem429/headers/Retry-After"] {
        assert_eq!(problems.pointer(header).unwrap()["required"], true, "{header} always comes");
    }
    for operation in operations() {
        for (status, answer) in operation.about["responses"].as_object().unwrap() {
            let tag = &answer["headers"]["ETag"];
            assert!(tag.is_null() || tag["required"] == true, "{} {status}: the ETag always comes", operation.call);
        }
        if ["createKey", "createClient", "addClientSecret"].contains(&operation.id()) {
            let headers = &operation.about["responses"]["201"]["headers"];
            assert_eq!(
                (&headers["ETag"], &headers["Location"]["required"]),
                (&Value::Null, &json!(true)),
                "{}",
                operation.call
            );
        }
    }
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for place in found {
        assert!(document.pointer(place.trim_start_matches('#')).is_some(), "{place} is not there");
    }
    let server = &document["components"]["schemas"]["Server"];
    assert!(server["properties"]["replicas"].is_object() && server.get("additionalProperties").is_none(), "{server}");
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(!name.ends_with(|letter: char| letter.is_ascii_digit()), "two types are called {name}: rename one");
    }
}

/// Every description in it, with what holds it.
fn descriptions(value: &Value, place: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if name == "description" => found.push((place.to_owned(), text.clone())),
                    _ => descriptions(value, &format!("{place}/{name}"), found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|value| descriptions(value, place, found)),
        _ => {}
    }
}

#[test]
fn it_speaks_to_who_calls_and_not_of_the_code() {
    let mut found = Vec::new();
    descriptions(&openapi_document(), "", &mut found);
    assert!(found.len() > 100, "there is something to read");
    for (place, text) in found {
        for code in [
            "[`",
            "`Debug`",
            "`Display`",
            "erialis",
            "serde",
            "#[",
            "See the module",
            "type of its own",
            "checked, so that",
        ] {
            assert!(!text.contains(code), "{place} speaks of the code: {text}");
        }
    }
}

#[test]
fn names_and_roles_of_calls() {
    let mut text = String::new();
    for operation in operations() {
        let _ = writeln!(text, "{} {} {}", operation.id(), operation.call, operation.role().unwrap_or("-"));
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn examples_are_taken() {
    for operation in operations() {
        let Some(body) = operation.about.get("requestBody") else { continue };
        let database = Database::sqlite();
        let world = World::open(&database).await;
        world.call("POST /servers", server("files")).await.expect(201);
        world.call("POST /users", json!({"username": "target"})).await.expect(201);
        world.call("POST /admin/tenants", json!({"tenant_id": "other"})).await.expect(201);
        if operation.id() == "explainRules" {
            world.call("POST /users", json!({"username": "ada"})).await.expect(201);
        }
        if operation.id() == "createServer" {
            world.call("DELETE /servers/files", Value::Null).await.expect(204);
        }
        let router = router::routes(world.app.clone());
        let example = &body["content"]["application/json"]["example"];
        let path = filled(operation.path());
        let answer = send(&router, operation.method(), &path, &world.admin, example).await;
        let status = answer.status().as_u16();
        assert!(![400, 413, 415, 422].contains(&status) && status < 500, "{}: {status} for {example}", operation.call);
    }
}

async fn got(router: &Router, path: &str) -> (u16, BTreeMap<String, String>, String) {
    let answer = send(router, "GET", path, "", &Value::Null).await;
    let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let (status, headers) = (answer.status().as_u16(), headers.collect());
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    (status, headers, String::from_utf8(text.to_vec()).unwrap())
}

#[tokio::test]
async fn it_is_served_to_everybody_and_shown_without_anything_from_elsewhere() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let router = router::routes(world.app.clone());
    let (status, headers, text) = got(&router, "/api/openapi.json").await;
    assert_eq!((status, headers["content-type"].as_str()), (200, "application/json"));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), openapi_document());
    let mut again = crate::store_rest::request("GET", "/api/openapi.json", "", &Value::Null);
    again.headers_mut().insert("if-none-match", headers["etag"].parse().unwrap());
    assert_eq!(world.send(again).await.expect(304).text, "");

    let (status, headers, page) = got(&router, "/api/docs").await;
    assert_eq!((status, headers["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    assert!(headers["content-security-policy"].starts_with("default-src 'none'; style-src 'sha256-"));
    for operation in operations() {
        assert!(page.contains(&format!("<details id=\"{}\">", operation.id())), "{} is not shown", operation.call);
    }
    assert!(page.contains("<code>If-Match</code>") && !page.contains('`'), "what is code is shown as code");
    assert!(page.contains("$MREG_GATEWAY_URL/api/v1/servers"), "the page is the same wherever the gateway is");
    for foreign in ["<script", "<img", "<link", "src=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}
