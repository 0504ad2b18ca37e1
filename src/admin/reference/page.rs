//! The document as a page: everything on it, nothing from elsewhere, and no script.

use std::sync::LazyLock;

use askama::Template;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_FRAME_OPTIONS};
use serde_json::Value;

use super::openapi_document;
use crate::crypto::hash_token;
use crate::web::problem::Problem;

/// That of all pages, and what only this one needs.
const STYLE: &str =
    concat!(include_str!("../../../templates/style.css"), include_str!("../../../templates/reference.css"));
/// Where the schemas of the document stand.
const SCHEMAS: &str = "#/components/schemas/";

#[derive(Template)]
#[template(path = "reference.html")]
struct Page<'a> {
    style: &'static str,
    description: Prose,
    headings: Vec<Heading<'a>>,
    schemas: Vec<Schema<'a>>,
}

struct Heading<'a> {
    name: &'a str,
    anchor: String,
    calls: Vec<Call<'a>>,
}

struct Call<'a> {
    method: String,
    path: &'a str,
    id: &'a str,
    summary: Prose,
    takes: Prose,
    parameters: Vec<Field>,
    body: Option<Kind>,
    answers: Vec<Answer<'a>>,
    curl: String,
}

struct Answer<'a> {
    status: &'a str,
    description: Prose,
    body: Option<Kind>,
}

struct Schema<'a> {
    name: &'a str,
    description: Prose,
    /// What it is, where it has no fields.
    kind: String,
    fields: Vec<Field>,
}

/// A text of the document: its parts, and whether each is code.
struct Prose(Vec<(String, bool)>);

struct Field {
    name: String,
    place: String,
    kind: Kind,
    required: bool,
    description: Prose,
}

/// What a value is, and the schema that says more.
struct Kind {
    text: String,
    schema: Option<String>,
}

pub(super) async fn show() -> Response {
    static TEXT: LazyLock<Result<Bytes, askama::Error>> = LazyLock::new(written);
    let text = match &*TEXT {
        Ok(text) => text.clone(),
        Err(error) => return Problem::internal(error).into_response(),
    };
    // What is written into the page is the one style that it may have.
    let style = STANDARD.encode(hash_token(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    );
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (
            CONTENT_SECURITY_POLICY,
            HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'")),
        ),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, text).into_response()
}

fn written() -> Result<Bytes, askama::Error> {
    let document = openapi_document();
    let page = Page {
        style: STYLE,
        description: prose(&document["info"], "description"),
        headings: headings(&document),
        schemas: schemas(&document),
    };
    Ok(page.render()?.into())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// A text of the document: what stands between two backquotes is code.
fn prose(value: &Value, name: &str) -> Prose {
    let parts: Vec<&str> = text(value, name).split('`').collect();
    let closed = parts.len() - 1 + parts.len() % 2;
    let part = |(place, part): (usize, &&str)| ((*part).to_owned(), place % 2 == 1 && place < closed);
    Prose(parts.iter().enumerate().map(part).collect())
}

fn headings<'a>(document: &'a Value) -> Vec<Heading<'a>> {
    let tags = document["tags"].as_array().into_iter().flatten();
    let paths = || document["paths"].as_object().into_iter().flatten();
    let heading = |name: &'a str| {
        let of = |(path, calls): (&'a String, &'a Value)| {
            let calls = calls.as_object().into_iter().flatten();
            calls
                .filter(|(_, call)| call["tags"][0] == name)
                .map(|(method, one)| call(document, path, method, one))
                .collect::<Vec<_>>()
        };
        Heading { name, anchor: name.replace(' ', "-"), calls: paths().flat_map(of).collect() }
    };
    tags.map(|tag| heading(text(tag, "name"))).collect()
}

fn call<'a>(document: &'a Value, path: &'a str, method: &str, call: &'a Value) -> Call<'a> {
    let media = &call["requestBody"]["content"]["application/json"];
    let answers = call["responses"].as_object().into_iter().flatten();
    Call {
        method: method.to_ascii_uppercase(),
        path,
        id: text(call, "operationId"),
        summary: prose(call, "summary"),
        takes: prose(call, "description"),
        parameters: call["parameters"].as_array().into_iter().flatten().map(parameter).collect(),
        body: media.get("schema").map(kind),
        answers: answers.map(|(status, answer)| told(document, status, answer)).collect(),
        curl: curl(path, method, call, media.get("example")),
    }
}

fn parameter(parameter: &Value) -> Field {
    Field {
        name: text(parameter, "name").to_owned(),
        place: text(parameter, "in").to_owned(),
        kind: kind(&parameter["schema"]),
        required: parameter["required"] == true,
        description: prose(parameter, "description"),
    }
}

fn told<'a>(document: &'a Value, status: &'a str, answer: &'a Value) -> Answer<'a> {
    let shared = answer["$ref"].as_str().and_then(|place| document.pointer(place.trim_start_matches('#')));
    let answer = shared.unwrap_or(answer);
    let body = answer["content"].as_object().and_then(|content| content.values().next());
    Answer { status, description: prose(answer, "description"), body: body.map(|media| kind(&media["schema"])) }
}

/// How it is called from a shell.
fn curl(path: &str, method: &str, call: &Value, example: Option<&Value>) -> String {
    let mut line = String::from("curl");
    if method != "get" {
        line = format!("{line} -X {}", method.to_ascii_uppercase());
    }
    line = format!("{line} \"$MREG_GATEWAY_URL{path}\"");
    if call["security"].as_array().is_some_and(|schemes| !schemes.is_empty()) {
        line += " \\\n  -H \"Authorization: Bearer $MREG_API_KEY\"";
    }
    match example {
        // A quote in an example would end the text for the shell.
        Some(example) => {
            let example = example.to_string().replace('\'', "'\\''");
            format!("{line} \\\n  -H 'Content-Type: application/json' \\\n  -d '{example}'")
        }
        None => line,
    }
}

fn schemas(document: &Value) -> Vec<Schema<'_>> {
    let all = document["components"]["schemas"].as_object().into_iter().flatten();
    all.map(|(name, schema)| {
        let required = schema["required"].as_array();
        let fields = schema["properties"].as_object().into_iter().flatten().map(|(name, field)| Field {
            name: name.clone(),
            place: String::new(),
            kind: kind(field),
            required: required.is_some_and(|required| required.iter().any(|one| one == name)),
            description: prose(field, "description"),
        });
        Schema { name, description: prose(schema, "description"), kind: kind(schema).text, fields: fields.collect() }
    })
    .collect()
}

/// What a schema is in a few words.
fn kind(schema: &Value) -> Kind {
    if let Some(name) = schema["$ref"].as_str().and_then(|place| place.strip_prefix(SCHEMAS)) {
        return Kind { text: name.to_owned(), schema: Some(name.to_owned()) };
    }
    if let Some(one) = schema.get("const") {
        return Kind { text: one.to_string(), schema: None };
    }
    if let Some(values) = schema["enum"].as_array() {
        return Kind { text: values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | "), schema: None };
    }
    if let Some(choices) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        let kinds: Vec<Kind> = choices.iter().map(kind).collect();
        let text = kinds.iter().map(|kind| kind.text.as_str()).collect::<Vec<_>>().join(" | ");
        return Kind { text, schema: kinds.into_iter().find_map(|kind| kind.schema) };
    }
    let name = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | "),
        other => other.as_str().unwrap_or("any").to_owned(),
    };
    if schema["items"].is_object() {
        let inner = kind(&schema["items"]);
        return Kind { text: name.replace("array", &format!("list of {}", inner.text)), schema: inner.schema };
    }
    match schema["format"].as_str() {
        Some(format) => Kind { text: format!("{name} ({format})"), schema: None },
        None => Kind { text: name, schema: None },
    }
}
