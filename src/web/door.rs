//! The door that every request passes before a surface sees it, and every answer on its way out. One function, because the
//! order is the point: name the request, refuse what is not meant for us, answer preflights, bound the body, let it in, then
//! dress the answer.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Version};
use http_body::Body as _;
use tower::Service as _;

use super::body;
use super::gate::{Gate, Refusal, Trust};
use super::open::{ANY_ORIGIN, is_open};
use super::problem::Problem;
use crate::audit::{KeptBody, NotKept, kept};
use crate::config::{Limits, Settings};
use crate::reuse::{Reused, Shelf};
use crate::telemetry::{Counter, Metrics, RequestId};

/// What the door knows of a request; an extension of it.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Its name.
    pub request_id: RequestId,
    /// The client's address, proxies taken into account.
    pub client: IpAddr,
    /// The other end of the connection.
    pub peer: SocketAddr,
}

/// An answer's extension: the connection is closed behind it.
#[derive(Debug, Clone, Copy)]
pub struct Goodbye;

/// An answer's extension: its status says nothing of who asked. It is that of a server which the request was passed on to, or was told
/// to the guard of addresses before.
#[derive(Debug, Clone, Copy)]
pub struct Unjudged;

/// The door of one process. Cheap to clone.
#[derive(Clone)]
pub struct Door(Arc<Parts>);

struct Parts {
    gate: Gate,
    limits: Limits,
    metrics: Arc<Metrics>,
    surfaces: Box<dyn Surfaces>,
}

/// What answers behind the door.
pub trait Surfaces: Send + Sync + 'static {
    /// Answers a request that was let in; its [`Visit`] is an extension.
    fn serve(&self, request: Request<Body>) -> Serving;

    /// The answer to a request that is refused before anybody looks at it, because of where it comes from.
    fn barred(&self, _client: IpAddr, _path: &str, _headers: &HeaderMap, _id: &RequestId) -> Option<Response> {
        None
    }

    /// Whether somebody may connect; else for how long not.
    fn may_connect(&self, _peer: IpAddr) -> Result<(), Duration> {
        Ok(())
    }

    /// Hears how a request of `client` was answered, and whether it was one of signing in.
    fn answered(&self, _client: IpAddr, _signs_in: bool, _status: StatusCode) {}

    /// Whether messages of MCP come to this path, whose errors have a form of their own.
    fn takes_messages(&self, _path: &str) -> bool {
        false
    }

    /// Whether a request for this path can be recorded if it is begun now; if not, what waits until it can be, and says whether it is
    /// so far.
    fn cannot_record(&self, _path: &str) -> Option<BoxFuture<'static, bool>> {
        None
    }

    /// The answer in place of one that cannot be recorded.
    fn unrecorded(&self, _takes_messages: bool, id: &RequestId) -> Response {
        unrecorded().respond(id)
    }

    /// The answer to a body that is announced as too large, where errors have a form of their own.
    fn too_large(&self, _path: &str) -> Option<Response> {
        None
    }
}

/// An answer that is being made.
pub type Serving = Reused<Response>;

thread_local!(static ROUTED: Shelf<Response> = const { Shelf::new(Vec::new()) });

impl Surfaces for Router {
    fn serve(&self, request: Request<Body>) -> Serving {
        let answer = self.clone().call(request);
        Reused::new(&ROUTED, async { answer.await.unwrap_or_else(|never| match never {}) })
    }
}

/// Headers that a page's script may read besides the safe-listed ones.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "mcp-session-id, www-authenticate, mcp-protocol-version, x-request-id, retry-after, ratelimit, ratelimit-policy, \
     ratelimit-limit, ratelimit-remaining, ratelimit-reset, etag, location, idempotency-replayed",
);
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, OPTIONS");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl Door {
    /// A door in front of `surfaces`.
    pub fn new(settings: &Settings, metrics: Arc<Metrics>, surfaces: impl Surfaces) -> Self {
        let (gate, limits, surfaces) = (Gate::new(&settings.listen), settings.limits.clone(), Box::new(surfaces));
        Self(Arc::new(Parts { gate, limits, metrics, surfaces }))
    }

    /// Answers one request of `peer`.
    pub async fn answer<B>(&self, peer: SocketAddr, mut request: Request<B>) -> Response
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let parts = &*self.0;
        let request_id = RequestId::of(request.headers());
        let client = parts.gate.client(peer, request.headers());
        let path = request.uri().path();
        if let Some(answer) = parts.surfaces.barred(client, path, request.headers(), &request_id) {
            return self.turn_away(answer, client == peer.ip().to_canonical(), request.version(), &request_id);
        }
        // Host before origin: an origin may be ours by being the host's.
        let (open, signs_in) = (is_open(path), path.starts_with("/oauth/"));
        let checked = parts
            .gate
            .host(request.headers(), request.uri().authority())
            .and_then(|()| if open { Ok(Trust::NoPage) } else { parts.gate.origin(request.headers()) });
        if head_length(&request) > parts.limits.head() {
            return self.refuse(Refusal::LongHead, client, &request_id);
        }
        let trust = match checked {
            Ok(trust) => trust,
            Err(refusal) => return self.refuse(refusal, client, &request_id),
        };
        // Where every page may call, the answer is the same for each, and may be kept for all of them.
        let page = match trust {
            _ if open => Some(ANY_ORIGIN),
            Trust::Page => request.headers().get(header::ORIGIN).cloned(),
            Trust::NoPage => None,
        };
        let mut response = if page.is_some() && is_preflight(&request) {
            preflight(request.headers())
        } else if announces_more_than(parts.limits.request_body, request.headers()) {
            let response = self.too_large(request.uri().path(), &request_id);
            parts.surfaces.answered(client, signs_in, response.status());
            response
        } else {
            let takes_messages = parts.surfaces.takes_messages(request.uri().path());
            if let Some(coming) = parts.surfaces.cannot_record(request.uri().path())
                && !coming.await
            {
                parts.metrics.requests_refused.on(["unrecorded"], Counter::inc);
                let mut response = parts.surfaces.unrecorded(takes_messages, &request_id);
                self.dress(response.headers_mut(), page, &request_id);
                return response;
            }
            request.extensions_mut().insert(Visit { request_id: request_id.clone(), client, peer });
            let (most, time) = (parts.limits.request_body, parts.limits.body_read_timeout);
            let request = request.map(|body| body::bounded(body, most, time));
            // A panic is answered, so that the other requests of the connection do not go down with it.
            let serving = std::panic::catch_unwind(AssertUnwindSafe(|| parts.surfaces.serve(request)));
            let served = match serving {
                Ok(serving) => kept(AssertUnwindSafe(serving).catch_unwind()).await,
                Err(panic) => Ok(Err(panic)),
            };
            let mut response = match served {
                Ok(served) => served.unwrap_or_else(|_| broken(&request_id)),
                Err(NotKept) => parts.surfaces.unrecorded(takes_messages, &request_id),
            };
            // What is made whole was recorded with it; a stream is later.
            if response.body().size_hint().exact().is_none() {
                response = response.map(|body| Body::new(KeptBody::new(body)));
            }
            if response.extensions_mut().remove::<Unjudged>().is_none() {
                parts.surfaces.answered(client, signs_in, response.status());
            }
            response
        };
        self.dress(response.headers_mut(), page, &request_id);
        response
    }

    /// Whether `peer` may connect; else for how long not. Whoever is behind a proxy of ours is asked about with each request.
    pub fn may_connect(&self, peer: SocketAddr) -> Result<(), Duration> {
        self.0.surfaces.may_connect(peer.ip())
    }

    /// Ends the connection behind an answer, if it is the client's own: that of a proxy is others' too.
    fn turn_away(&self, mut answer: Response, direct: bool, version: Version, id: &RequestId) -> Response {
        self.dress(answer.headers_mut(), None, id);
        if direct {
            answer.extensions_mut().insert(Goodbye);
            if version <= Version::HTTP_11 {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        answer
    }

    fn refuse(&self, refusal: Refusal, client: IpAddr, id: &RequestId) -> Response {
        let (status, code, reason) = match refusal {
            Refusal::BadHost => (StatusCode::BAD_REQUEST, "BAD_HOST", "bad_host"),
            Refusal::ForeignHost => (StatusCode::FORBIDDEN, "FOREIGN_HOST", "foreign_host"),
            Refusal::LongHead => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "HEAD_TOO_LARGE", "head_too_large"),
            Refusal::ForeignOrigin => (StatusCode::FORBIDDEN, "FOREIGN_ORIGIN", "foreign_origin"),
        };
        self.0.metrics.requests_refused.on([reason], Counter::inc);
        self.0.surfaces.answered(client, false, status);
        let mut response = Problem::new(status, code, refusal.to_string()).respond(id);
        self.dress(response.headers_mut(), None, id);
        response
    }

    fn too_large(&self, path: &str, id: &RequestId) -> Response {
        self.0.metrics.requests_refused.on(["body_too_large"], Counter::inc);
        if let Some(answer) = self.0.surfaces.too_large(path) {
            return answer;
        }
        let detail = format!(
            "the body is larger than the {} bytes that this gateway accepts (MREG_REQUEST_BODY_LIMIT)",
            self.0.limits.request_body
        );
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", detail).respond(id)
    }

    fn dress(&self, headers: &mut HeaderMap, page: Option<HeaderValue>, id: &RequestId) {
        headers.insert(REQUEST_ID, id.to_header());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if is_page(headers) {
            headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
            headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if self.0.gate.has_tls() {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        }
        if let Some(origin) = page {
            if origin != ANY_ORIGIN {
                headers.append(header::VARY, HeaderValue::from_static("origin"));
            }
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}

/// What a browser shows, and could show in somebody's frame; a message of MCP is none.
fn is_page(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|kind| !kind.as_bytes().starts_with(b"application/") && kind != "text/event-stream")
}

/// The bytes of a head as it came, more or less: what reads it has no exact bound of its own, and none at all for one that comes
/// in one piece.
fn head_length<B>(request: &Request<B>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    request.headers().iter().fold(target, |sum, (name, value)| sum + name.as_str().len() + value.len() + 4)
}

fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What the page asked for is allowed: its origin is already trusted or the path open to all, and parameters of tools travel in headers whose names
/// nobody can list beforehand. Credentials are bearer tokens; cookies are not allowed across origins.
fn preflight(headers: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    if let Some(asked) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    answer.append(header::VARY, HeaderValue::from_static("access-control-request-headers"));
    response
}

fn announces_more_than(most: usize, headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok())
        .is_some_and(|length| length > most as u64)
}

/// Says that what cannot be recorded is not done.
pub fn unrecorded() -> Problem {
    let detail = "the audit trail takes no records now, and nothing is done that it does not hold; try again later. Who runs the \
                  gateway finds why at /health and in its log";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "AUDIT_UNAVAILABLE", detail)
        .with_header(header::RETRY_AFTER, 2.into())
}

fn broken(id: &RequestId) -> Response {
    Problem::internal("a request handler panicked; this is a bug of the gateway").respond(id)
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use axum::{Extension, extract::DefaultBodyLimit};

    use super::*;
    use crate::config::DotEnv;

    fn door(args: &[&str]) -> Door {
        let settings = Settings::from_args(args, &DotEnv::default()).unwrap();
        let router = Router::new()
            .route(
                "/who",
                get(async |Extension(visit): Extension<Visit>| format!("{} {}", visit.client, visit.request_id)),
            )
            .route("/echo", post(async |body: Bytes| body))
            .route("/panic", get(async || -> String { panic!("on purpose") }))
            .layer(DefaultBodyLimit::disable());
        Door::new(&settings, Arc::new(Metrics::new(10)), router)
    }

    async fn ask(
        door: &Door,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Response<String> {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).unwrap();
        let (head, body) = door.answer("127.0.0.1:9".parse().unwrap(), request).await.into_parts();
        let body = body::read(body).await.unwrap();
        Response::from_parts(head, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_request_is_named_and_its_answer_dressed() {
        let door = door(&["--behind-proxy"]);
        let headers = [("x-request-id", "mine-1"), ("x-forwarded-for", "192.0.2.7")];
        let answer = ask(&door, "GET", "/who", &headers, "").await;
        assert_eq!(answer.body(), "192.0.2.7 mine-1");
        let value = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(value("x-request-id"), Some("mine-1"));
        assert_eq!(value("x-content-type-options"), Some("nosniff"));
        assert_eq!(value("cache-control"), Some("no-store"));
        assert_eq!(value("x-frame-options"), Some("DENY"), "it is a page as far as anybody can tell");
        assert_eq!(value("access-control-allow-origin"), None);
        assert_eq!(value("strict-transport-security"), None);
    }

    #[tokio::test]
    async fn strangers_get_a_problem_that_says_what_to_do() {
        let door = door(&[]);
        let answer = ask(&door, "GET", "/who", &[("origin", "https://evil.example")], "").await;
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert!(answer.headers().get("x-frame-options").is_none(), "nothing that a frame would show");
        assert!(answer.headers().get("access-control-allow-origin").is_none());
        let body: serde_json::Value = serde_json::from_str(answer.body()).unwrap();
        assert_eq!((&body["code"], &body["status"]), (&"FOREIGN_ORIGIN".into(), &403.into()));
        assert!(body["detail"].as_str().unwrap().contains("MREG_ALLOWED_ORIGINS"));
        assert_eq!(body["request_id"], answer.headers()["x-request-id"].to_str().unwrap());
        assert_eq!(ask(&door, "GET", "/who", &[("host", "localhost")], "").await.status(), 400, "two hosts");
        assert_eq!(door.0.metrics.requests_refused.with(["foreign_origin"]).get(), 1);
    }

    #[tokio::test]
    async fn a_trusted_page_may_ask_first_and_read_the_answer() {
        let door = door(&[]);
        let origin = ("origin", "http://localhost:6274");
        let asking = [
            origin,
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,mcp-param-city"),
        ];
        let answer = ask(&door, "OPTIONS", "/echo", &asking, "").await;
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.headers()["access-control-allow-headers"], "authorization,mcp-param-city");
        assert_eq!(answer.headers()["access-control-allow-origin"], "http://localhost:6274");
        let answer = ask(&door, "POST", "/echo", &[origin], "hello").await;
        assert_eq!((answer.status().as_u16(), answer.body().as_str()), (200, "hello"));
        let exposed = answer.headers()["access-control-expose-headers"].to_str().unwrap();
        for name in ["mcp-session-id", "www-authenticate", "retry-after", "ratelimit", "ratelimit-reset"] {
            assert!(exposed.split(", ").any(|exposed| exposed == name), "{exposed}");
        }
        assert_eq!(answer.headers()["vary"], "origin");
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused_announced_or_not() {
        let door = door(&["--request-body-limit", "4"]);
        let answer = ask(&door, "POST", "/echo", &[("content-length", "5")], "hello").await;
        assert_eq!(answer.status(), 413);
        assert!(answer.body().contains("MREG_REQUEST_BODY_LIMIT") && answer.body().contains("4 bytes"), "{answer:?}");
        assert_eq!(ask(&door, "POST", "/echo", &[], "hello").await.status(), 413);
        assert_eq!(ask(&door, "POST", "/echo", &[], "hell").await.status(), 200);
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let answer = ask(&door(&[]), "GET", "/panic", &[], "").await;
        assert_eq!(answer.status(), 500);
        assert!(answer.body().contains("INTERNAL") && !answer.body().contains("on purpose"), "{answer:?}");
    }
}
