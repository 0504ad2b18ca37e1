//! What a REST call takes and gives, read from the types of its handler: each type that a handler extracts is a [`Takes`], what it
//! answers a [`Gives`]. A [`Route`] is made of handlers and of a name and a sentence for each, so that none is served without being
//! described, and none described that is not served.

mod document;
mod gives;
mod route;
mod schemas;
mod taken;
mod takes;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub use document::{About, document};
pub use gives::Gives;
pub use route::{Call, Described, Route, at, delete, get, patch, post, put};
pub use schemas::Schemas;
pub use takes::Takes;

use crate::access::Role;

/// What is known of one call.
#[derive(Debug, Default)]
pub struct Told {
    /// The least role that it takes; none: nobody is asked who calls.
    pub role: Option<Role>,
    parameters: Vec<Value>,
    body: Option<Value>,
    /// By status.
    answers: BTreeMap<u16, Value>,
    /// Statuses of problems.
    problems: Vec<u16>,
}

impl Told {
    /// Only who is let in may call it, with this role at least.
    pub fn let_in(&mut self, role: Role) {
        self.role = Some(self.role.map_or(role, |known| known.max(role)));
        self.may_fail(&[401, 403, 429]);
    }

    /// It may answer with problems of these statuses.
    pub fn may_fail(&mut self, statuses: &[u16]) {
        self.problems.extend(statuses);
    }

    /// It takes this parameter.
    pub fn takes(&mut self, parameter: Value) {
        self.parameters.push(parameter);
    }

    /// It takes a header.
    pub fn takes_header(&mut self, name: &str, description: &str, schema: &Value) {
        self.takes(json!({ "name": name, "in": "header", "description": description, "schema": schema }));
    }

    /// It takes a JSON body.
    pub fn takes_body(&mut self, schema: &Value, example: Option<Value>) {
        let mut media = json!({ "schema": schema });
        if let Some(example) = example {
            media["example"] = example;
        }
        self.body = Some(json!({ "required": true, "content": { "application/json": media } }));
        self.may_fail(&[400, 413, 415, 422]);
    }

    /// It answers with this status, and JSON of this schema if there is one.
    pub fn gives(&mut self, status: u16, description: &str, schema: Option<&Value>) {
        let mut answer = json!({ "description": description });
        if let Some(schema) = schema {
            answer["content"] = json!({ "application/json": { "schema": schema } });
        }
        self.answers.insert(status, answer);
    }

    /// The answer of this status may be a text of this kind instead.
    pub fn gives_text(&mut self, status: u16, media_type: &str) {
        if let Some(answer) = self.answers.get_mut(&status) {
            answer["content"][media_type] = json!({ "schema": { "type": "string" } });
        }
    }

    /// The answer of this status always has a header.
    pub fn gives_header(&mut self, status: u16, name: &str, description: &str) {
        self.header(status, name, description, true);
    }

    /// The answer of this status may have a header.
    pub fn may_give_header(&mut self, status: u16, name: &str, description: &str) {
        self.header(status, name, description, false);
    }

    fn header(&mut self, status: u16, name: &str, description: &str, required: bool) {
        if let Some(answer) = self.answers.get_mut(&status) {
            answer["headers"][name] =
                json!({ "description": description, "required": required, "schema": { "type": "string" } });
        }
    }
}
