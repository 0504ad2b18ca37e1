//! What handlers extract.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use schemars::JsonSchema;

use super::{Schemas, Told};
use crate::access::{Admin, Caller, Role};
use crate::app::App;
use crate::web::Source;
use crate::web::condition::IfMatch;
use crate::web::json::{Body, Parameters, Unread};
use crate::web::path::Named;
use crate::web::record::Trail;

/// What a request has to hold, or may, for a handler that extracts this.
pub trait Takes {
    /// Says it.
    fn describe(_: &mut Told, _: &mut Schemas) {}
}

impl Takes for App {}
impl Takes for Source {}
impl Takes for Trail {}
// What stands in a path, the path says.
impl Takes for Named {}
impl Takes for Result<Path<(String, String)>, PathRejection> {}

impl Takes for Caller {
    fn describe(told: &mut Told, _: &mut Schemas) {
        told.let_in(Role::User);
    }
}

impl Takes for Admin {
    fn describe(told: &mut Told, _: &mut Schemas) {
        told.let_in(Role::TenantAdmin);
    }
}

impl<T: JsonSchema> Takes for Body<T> {
    fn describe(told: &mut Told, schemas: &mut Schemas) {
        let example = schemas.example::<T>();
        told.takes_body(&schemas.read::<T>(), example);
    }
}

impl<T: JsonSchema> Takes for Unread<T> {
    fn describe(told: &mut Told, schemas: &mut Schemas) {
        Body::<T>::describe(told, schemas);
    }
}

impl<T: JsonSchema> Takes for Parameters<T> {
    fn describe(told: &mut Told, schemas: &mut Schemas) {
        for (name, mut schema, required) in schemas.members::<T>() {
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let mut parameter =
                serde_json::json!({ "name": name, "in": "query", "required": required, "schema": schema });
            if let Some(description) = description {
                parameter["description"] = description;
            }
            told.takes(parameter);
        }
        told.may_fail(&[422]);
    }
}

impl Takes for IfMatch {
    fn describe(told: &mut Told, _: &mut Schemas) {
        let what = "The `ETag` of what was read: nothing is changed if somebody else changed it since.";
        told.takes_header("If-Match", what, &serde_json::json!({ "type": "string" }));
        told.may_fail(&[412]);
    }
}
