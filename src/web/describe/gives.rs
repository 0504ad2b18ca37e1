//! What handlers answer.

use axum::Json;
use schemars::JsonSchema;

use super::{Schemas, Told};
use crate::web::answer::{Accepted, Created, CreatedOnce, MARKDOWN, NoContent, Readable, Shown, Tagged};
use crate::web::problem::Problem;

/// What the answer is.
pub trait Gives {
    /// Says it.
    fn describe(told: &mut Told, schemas: &mut Schemas);
}

impl<T: Gives> Gives for Result<T, Problem> {
    fn describe(told: &mut Told, schemas: &mut Schemas) {
        T::describe(told, schemas);
    }
}

impl<T: JsonSchema> Gives for Json<T> {
    fn describe(told: &mut Told, schemas: &mut Schemas) {
        told.gives(200, "As asked for.", Some(&schemas.written::<T>()));
    }
}

const ETAG: &str = "Changes with everything that the answer holds.";

impl<T: JsonSchema> Gives for Tagged<T> {
    fn describe(told: &mut Told, schemas: &mut Schemas) {
        Json::<T>::describe(told, schemas);
        told.gives_header(200, "ETag", ETAG);
    }
}

impl<T: JsonSchema> Gives for Created<T> {
    fn describe(told: &mut Told, schemas: &mut Schemas) {
        told.gives(201, "It was made.", Some(&schemas.written::<T>()));
        told.may_give_header(201, "Location", "Where it can be read; absent where the caller cannot look.");
        told.gives_header(201, "ETag", ETAG);
    }
}

impl<T: JsonSchema> Gives for CreatedOnce<T> {
    fn describe(told: &mut Told, schemas: &mut Schemas) {
        told.gives(201, "It was made.", Some(&schemas.written::<T>()));
        told.gives_header(201, "Location", "Its path.");
    }
}

impl<T: JsonSchema> Gives for Shown<T> {
    fn describe(told: &mut Told, schemas: &mut Schemas) {
        Json::<T>::describe(told, schemas);
    }
}

impl<T: JsonSchema> Gives for Readable<T> {
    fn describe(told: &mut Told, schemas: &mut Schemas) {
        Json::<T>::describe(told, schemas);
        told.gives_text(200, MARKDOWN);
    }
}

impl<T: JsonSchema> Gives for Accepted<T> {
    fn describe(told: &mut Told, schemas: &mut Schemas) {
        told.gives(202, "It is being done.", Some(&schemas.written::<T>()));
    }
}

impl Gives for NoContent {
    fn describe(told: &mut Told, _: &mut Schemas) {
        told.gives(204, "It was done.", None);
    }
}
