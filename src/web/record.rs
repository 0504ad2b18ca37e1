//! The layer around the REST surfaces: one [`Operation`] for each request, from its route, its caller and its status. It also
//! writes a handler's [`Problem`] with the request's id, which handlers do not know.
//!
//! The caller is known only once an extractor has let it in; the extractor leaves word in [`Trail`].

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{ALLOW, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body::Body as _;

use super::challenge::insufficient_scope;
use super::door::Visit;
use super::problem::Problem;
use crate::access::{Caller, Opening, Role};
use crate::app::App;
use crate::audit::{PLATFORM, tenant_in};
use crate::fault::Whose;
use crate::id::TenantId;
use crate::telemetry::{Operation, Outcome, Recorder, RequestId, TraceParent};

/// Where the extractor of a [`Caller`] says who it was, and a handler whose affair it is. An extension of the request.
#[derive(Clone, Default)]
pub struct Trail(Arc<Mutex<Word>>);

/// What was left.
#[derive(Default)]
struct Word {
    caller: Option<Caller>,
    chain: Option<Arc<str>>,
}

impl Trail {
    fn word(&self) -> MutexGuard<'_, Word> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves word of who was let in.
    pub fn leave(&self, caller: &Caller) {
        self.word().caller = Some(caller.clone());
    }

    /// Leaves word that this tenant is acted on, where the path does not say it.
    pub fn acts_on(&self, tenant: &TenantId) {
        self.word().chain = Some(tenant.as_str().into());
    }

    /// Leaves word that it concerns more than one tenant.
    pub fn acts_on_gateway(&self) {
        self.word().chain = Some(PLATFORM.into());
    }

    fn take(&self) -> Word {
        std::mem::take(&mut *self.word())
    }
}

impl FromRequestParts<App> for Trail {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

impl Word {
    /// Says of the operation, whose outcome is known, who did it, and in whose trail it stands. What an administrator of the gateway does to
    /// a tenant is that one's to see; what concerns none is not for the tenant's where such an administrator is at home.
    fn tell(self, operation: &mut Operation) {
        let Some(caller) = self.caller else { return };
        operation.who = Some(Arc::clone(caller.actor()));
        if caller.role() < Role::Admin {
            return;
        }
        // What a path names that was refused may be nobody. What broke, or whose client went away, may have been done.
        let refused = match operation.outcome {
            Outcome::Success => false,
            Outcome::Error { whose, .. } => whose == Whose::Client && operation.outcome != Outcome::GONE,
            _ => true,
        };
        let path = operation.name.as_deref().filter(|_| !refused);
        let named = || tenant_in(&operation.method, path?).map(|tenant| tenant.as_str().into());
        let above = operation.endpoint.starts_with(ABOVE) || operation.endpoint == "none";
        let chain = self.chain.or_else(named).or_else(|| above.then(|| PLATFORM.into()));
        operation.chain = chain.filter(|chain| **chain != *caller.tenant().as_str());
    }
}

/// Below it is what concerns the gateway, where no tenant is named.
const ABOVE: &str = "/api/v1/admin/";

/// How the request ended, where the status of the answer says something else: an extension of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub Outcome);

/// The layer. A path that no route has is recorded under the route `none`, because clients choose it.
pub async fn record(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let visit = request.extensions().get::<Visit>().cloned();
    let id = visit.as_ref().map_or_else(RequestId::default, |visit| visit.request_id.clone());
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let mut operation = Operation::start(id.clone(), route);
    operation.routed = true;
    operation.method = Cow::Owned(format!("{} {}", verb(request.method()), operation.endpoint));
    operation.name = Some(request.uri().path().chars().take(200).collect::<String>().into());
    operation.address = visit.map(|visit| visit.client);
    app.recorder.trace(&mut operation, TraceParent::of(request.headers()));
    operation.sizes.request = request.body().size_hint().exact().unwrap_or_default();
    let trail = Trail::default();
    request.extensions_mut().insert(trail.clone());

    let mut under_way = UnderWay { operation: Some(operation), trail, recorder: app.recorder.clone() };
    let mut response = next.run(request).await;
    let word = under_way.trail.take();
    let Some(mut operation) = under_way.operation.take() else { return response };
    let problem = response.extensions_mut().remove::<Problem>();
    if let Some(problem) = &problem {
        let allow = response.headers_mut().remove(ALLOW);
        response = problem.respond(&id);
        response.headers_mut().extend(allow.map(|allow| (ALLOW, allow)));
        if let Some(scope) = problem.lacks() {
            let bound = word.caller.as_ref().is_some_and(|caller| caller.key().is_some());
            response.headers_mut().insert(WWW_AUTHENTICATE, insufficient_scope(&app, Opening::Api, scope, bound));
        }
        operation.detail = Some(problem.detail().into());
        operation.told = Some(problem.recorded());
    }
    operation.sizes.response = response.body().size_hint().exact().unwrap_or_default();
    let unknown = problem.as_ref().and_then(Problem::unknown_caller);
    let refused = response.extensions_mut().remove::<Refused>();
    let told = || refused.map_or_else(|| outcome(response.status()), |Refused(outcome)| outcome);
    operation.finish(unknown.map_or_else(told, Outcome::Denied));
    word.tell(&mut operation);
    app.recorder.record(&operation);
    response
}

/// What is said of what has no answer.
const UNANSWERED: &str = "it ended before its answer: what was asked for may have been done";

/// An operation whose answer is not made yet. Dropped so, its client went away or its handler panicked: what was asked for may have been
/// done, and is recorded.
struct UnderWay {
    operation: Option<Operation>,
    trail: Trail,
    recorder: Recorder,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Some(mut operation) = self.operation.take() else { return };
        operation.detail = Some(UNANSWERED.into());
        operation.told = Some(UNANSWERED);
        operation.finish(Outcome::of_dropped());
        self.trail.take().tell(&mut operation);
        self.recorder.record(&operation);
    }
}

/// The method, or a word for all that no route takes: clients make those up.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn outcome(status: StatusCode) -> Outcome {
    let of = |whose, kind| Outcome::Error { whose, kind };
    match status {
        StatusCode::UNAUTHORIZED => Outcome::Denied("unauthenticated"),
        StatusCode::FORBIDDEN => Outcome::Denied("forbidden"),
        StatusCode::TOO_MANY_REQUESTS => Outcome::RateLimited,
        StatusCode::NOT_FOUND => of(Whose::Client, "not_found"),
        StatusCode::METHOD_NOT_ALLOWED => of(Whose::Client, "unknown_method"),
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => of(Whose::Client, "conflict"),
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => of(Whose::Upstream, "unreachable"),
        _ if status.is_client_error() => of(Whose::Client, "bad_request"),
        _ if status.is_server_error() => of(Whose::Gateway, "internal"),
        _ => Outcome::Success,
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::telemetry::{Event, Metrics, Sink};

    #[derive(Default)]
    struct Heard(Mutex<Vec<Outcome>>);

    impl Sink for Heard {
        fn operation(&self, operation: &Operation) {
            self.0.lock().unwrap().push(operation.outcome);
        }

        fn event(&self, _: Event) {}
    }

    #[test]
    fn what_has_no_answer_has_a_record() {
        let heard = Arc::new(Heard::default());
        let recorder = Recorder::new(Arc::new(Metrics::new(10))).kept_by(Arc::<Heard>::clone(&heard));
        let under_way = || UnderWay {
            operation: Some(Operation::start(RequestId::new(), "/api/v1/users")),
            trail: Trail::default(),
            recorder: recorder.clone(),
        };
        drop(under_way());
        let panicked = under_way();
        _ = catch_unwind(AssertUnwindSafe(|| {
            let _panicked = panicked;
            std::panic::resume_unwind(Box::new(()));
        }));
        under_way().operation.take();
        let of = |whose, kind| Outcome::Error { whose, kind };
        let expected = [of(Whose::Client, "cancelled"), of(Whose::Gateway, "internal")];
        assert_eq!(*heard.0.lock().unwrap(), expected);
    }
}
