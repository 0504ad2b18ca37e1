//! Nothing is changed for who asks for something that a call does not know: a parameter, such as for a dry run, or that it be changed only
//! as it was read. What is read says itself which parameters it takes.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use http::header::IF_MATCH;

use super::Told;
use crate::web::problem::Problem;

/// What a call that changes something takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    parameters: bool,
    version: bool,
}

impl Taken {
    /// As it is described.
    pub(super) fn of(told: &Told) -> Self {
        let takes = |what: &dyn Fn(&serde_json::Value) -> bool| told.parameters.iter().any(what);
        Self { parameters: takes(&|one| one["in"] == "query"), version: takes(&|one| one["name"] == "If-Match") }
    }

    fn check(self, query: Option<&str>, headers: &HeaderMap) -> Result<(), Problem> {
        if let Some(query) = query.filter(|query| !query.is_empty() && !self.parameters) {
            let first = url::form_urlencoded::parse(query.as_bytes()).next();
            let name = first.map(|(name, _)| name.chars().take(100).collect::<String>()).unwrap_or_default();
            return Err(Problem::field(name, "this path takes no parameters in its URL; nothing was changed"));
        }
        if headers.contains_key(IF_MATCH) && !self.version {
            return Err(Problem::field("If-Match", "this call looks at no version; nothing was changed"));
        }
        Ok(())
    }
}

/// The layer.
pub(super) async fn nothing_else(State(taken): State<Taken>, request: Request, next: Next) -> Response {
    match taken.check(request.uri().query(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}
