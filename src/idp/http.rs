//! The few requests that a provider is asked: bounded in size and time, never redirected, under the policy for addresses that
//! an administrator chose. Each carries an id of its own, by which the provider's operators find it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::classify::classify;
use super::error::{Class, IdpError};
use super::latency::Latency;
use crate::fault::{Fault, Kind};
use crate::net::{AddressPolicy, Answer, Bounds, Outbound};
use crate::secret::Secret;

const TIME: Duration = Duration::from_secs(10);
const REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");

/// See the module. Clones share the dialler, and what was measured.
#[derive(Clone)]
pub(super) struct Http {
    outbound: Outbound,
    time: Duration,
    tokens: Arc<Latency>,
}

impl Http {
    pub(super) fn new(outbound: &Outbound) -> Self {
        Self { outbound: outbound.under(AddressPolicy::ADMIN), time: TIME, tokens: Arc::default() }
    }

    /// The same for another provider: it measures by itself.
    #[must_use]
    pub(super) fn apart(&self) -> Self {
        Self { tokens: Arc::default(), ..self.clone() }
    }

    /// The same to other addresses.
    #[must_use]
    pub(super) fn under(self, policy: AddressPolicy) -> Self {
        Self { outbound: self.outbound.under(policy), ..self }
    }

    #[cfg(test)]
    pub(super) fn within(outbound: &Outbound, time: Duration) -> Self {
        Self { time, ..Self::new(outbound) }
    }

    /// The body of a document; any status but 200 is a failure.
    pub(super) async fn document(&self, url: &Url, most: usize) -> Result<Bytes, IdpError> {
        let answer = self.send(url, Request::new(Bytes::new()), most).await?;
        if answer.status == StatusCode::OK {
            Ok(answer.body)
        } else {
            Err(classify(&answer, OffsetDateTime::now_utc()))
        }
    }

    /// A document under a bearer token; the answer may have any status.
    pub(super) async fn bearer(&self, url: &Url, token: &Secret, most: usize) -> Result<Answer, IdpError> {
        let mut request = Request::new(Bytes::new());
        request.headers_mut().insert(AUTHORIZATION, bearer(token)?);
        self.send(url, request, most).await
    }

    /// A page; a redirect is an answer like any other.
    pub(super) async fn page(&self, url: &Url, most: usize) -> Result<Answer, IdpError> {
        self.send(url, Request::new(Bytes::new()), most).await
    }

    /// What half of the questions to the token endpoint took at most, lately.
    pub(super) fn token_latency(&self, now: Instant) -> Option<Duration> {
        self.tokens.median(now)
    }

    /// Posts a form to a token endpoint; the answer may have any status.
    pub(super) async fn form(
        &self,
        url: &Url,
        form: &Zeroizing<String>,
        authorization: Option<HeaderValue>,
        most: usize,
    ) -> Result<Answer, IdpError> {
        let mut request = post("application/x-www-form-urlencoded", Bytes::copy_from_slice(form.as_bytes()));
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        let began = Instant::now();
        let answer = self.send(url, request, most).await;
        // Who waits for an answer in vain waits too.
        self.tokens.note(began.elapsed(), Instant::now());
        answer
    }

    /// Posts JSON under a bearer token; the answer may have any status.
    pub(super) async fn json(
        &self,
        url: &Url,
        token: &Secret,
        body: &'static str,
        most: usize,
    ) -> Result<Answer, IdpError> {
        let mut request = post("application/json", Bytes::from_static(body.as_bytes()));
        request.headers_mut().insert(AUTHORIZATION, bearer(token)?);
        self.send(url, request, most).await
    }

    /// Posts JSON; the answer may have any status.
    pub(super) async fn post_json(&self, url: &Url, body: String, most: usize) -> Result<Answer, IdpError> {
        self.send(url, post("application/json", body.into()), most).await
    }

    async fn send(&self, url: &Url, mut request: Request<Bytes>, most: usize) -> Result<Answer, IdpError> {
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let id = Uuid::from_bytes(crate::crypto::random_bytes());
        if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
            headers.insert(REQUEST_ID, id);
        }
        self.fetch(url, request, most).await
    }

    /// Sends a request as it is; the answer may have any status.
    pub(super) async fn fetch(&self, url: &Url, request: Request<Bytes>, most: usize) -> Result<Answer, IdpError> {
        crate::place::reached("before a question");
        let answer = self.outbound.fetch(url, request, Bounds { body: most, time: self.time }).await;
        crate::place::reached("after an answer");
        answer.map_err(|fault| not_asked(&fault))
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, IdpError> {
    let bearer = Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut bearer = HeaderValue::from_str(&bearer)
        .map_err(|_| IdpError::temporary("the provider gave a token that no header can hold"))?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

fn post(kind: &'static str, body: Bytes) -> Request<Bytes> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    request
}

/// No answer: the provider's illness, or an address that may not be called.
fn not_asked(fault: &Fault) -> IdpError {
    let class = match fault.kind {
        Kind::Setup => Class::Configuration,
        _ => Class::Temporary { retry_after: fault.retry_after },
    };
    IdpError::new(class, format!("the identity provider: {}", fault.detail))
}
