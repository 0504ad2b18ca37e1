//! The page that somebody sees when a sign-in cannot go on: what happened, what to do next, whom to ask, and under which number the
//! log knows it. It never sends the browser on by itself.

use std::time::Duration;

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};

use super::back::Back;
use super::pages::{Frame, show};
use super::visitor::Visitor;
use crate::grants::rate::Exceeded;
use crate::grants::{OauthCode, Refusal};
use crate::idp::{Class, IdpError};

/// See the module.
#[derive(Debug)]
pub(super) struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    title: &'static str,
    text: String,
    advice: String,
    facts: Vec<(&'static str, String)>,
    back: Option<(String, Option<String>)>,
    /// Whether whom to ask is told.
    help: bool,
    retry_after: Option<u64>,
}

/// Whom to ask where the operator does not say.
const NO_HELP: &str = "Ask whoever gave you the address of this gateway, and send them what is written below.";

#[derive(Template)]
#[template(path = "failure.html")]
struct Page<'a> {
    frame: Frame<'a>,
    it: &'a Inner,
    help: Option<&'a str>,
}

impl Failure {
    /// With a status, a heading, what happened and what to do.
    pub(super) fn new(
        status: StatusCode,
        title: &'static str,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            status,
            title,
            text: text.into(),
            advice: advice.into(),
            facts: Vec::new(),
            back: None,
            help: false,
            retry_after: None,
        }))
    }

    /// 400 with a heading and a sentence or two.
    pub(super) fn bad(title: &'static str, text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, title, text, "")
    }

    /// What a client asked for so wrongly that it cannot be told: 400, and no way back.
    pub(super) fn of_client(text: impl Into<String>) -> Self {
        let advice =
            "Nothing was allowed. Whoever makes the program has to correct this; the number below helps to find it.";
        Self::new(StatusCode::BAD_REQUEST, "The program's request cannot be taken", text, advice)
    }

    /// What a client asked for wrongly that is answered at a web site which nobody here has checked: the person chooses whether to go
    /// there.
    pub(super) fn of_stranger(back: &Back, code: &str, text: &str) -> Self {
        let what = format!("It asks for something that it cannot have: {}", sentence(text));
        let advice = format!(
            "Nothing was allowed. The program is answered at {}, and nobody here has checked whose that is: go back only if you came from there.",
            back.site().unwrap_or_default()
        );
        Self::new(StatusCode::BAD_REQUEST, "The program's request cannot be taken", what, advice)
            .with_fact("Code", code)
            .with_back(Some(back), code, text)
    }

    /// What the core refused.
    pub(super) fn of_refusal(refusal: &Refusal) -> Self {
        let (status, title) = match refusal.code {
            OauthCode::TemporarilyUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Please try again in a moment"),
            OauthCode::ServerError => (StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong here"),
            OauthCode::AccessDenied => (StatusCode::FORBIDDEN, "You are not let in"),
            _ => (StatusCode::BAD_REQUEST, "This sign-in cannot go on"),
        };
        let mut failure = Self::new(status, title, sentence(refusal.text), "");
        failure.0.help = refusal.code == OauthCode::AccessDenied;
        failure.0.retry_after = refusal.retry_after.map(whole_seconds);
        failure
    }

    /// Who has to wait.
    pub(super) fn too_many(exceeded: Exceeded) -> Self {
        let seconds = whole_seconds(exceeded.retry_after);
        let advice = format!("Wait {} and begin again from the program that you came from.", counted(seconds));
        let text = "Too many sign-ins have begun at your network address within a minute.";
        let mut failure = Self::new(StatusCode::TOO_MANY_REQUESTS, "Please wait a moment", text, advice);
        failure.0.retry_after = Some(seconds);
        failure
    }

    /// What an identity provider, called `title`, answered.
    pub(super) fn of_provider(error: &IdpError, title: &str) -> Self {
        let (status, heading, text, advice) = match &error.class {
            Class::Temporary { .. } | Class::Loop => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Please try again in a moment",
                format!("{title} does not answer at present."),
                "Wait a minute and begin again from the program that you came from.",
            ),
            Class::NeedsInteraction { .. } | Class::Dead => (
                StatusCode::FORBIDDEN,
                "The sign-in was not completed",
                format!("{title} did not complete the sign-in."),
                "Begin again from the program that you came from, and do what the sign-in page asks for.",
            ),
            Class::ConsentMissing => (
                StatusCode::FORBIDDEN,
                "A permission is missing",
                format!("{title} knows no consent to what this gateway asks for."),
                "Begin again and accept, or ask an administrator of your organisation to grant consent.",
            ),
            Class::Refused => (
                StatusCode::FORBIDDEN,
                "You are not let in",
                "This gateway is not for your organisation, or the account that you chose has no role here.".to_owned(),
                "If you have another account, begin again and choose that one.",
            ),
            Class::OurCredential | Class::Configuration => (
                StatusCode::BAD_GATEWAY,
                "Sign-in is not set up correctly",
                format!("{title} does not take what this gateway sends. It is nothing that you did."),
                "Tell an administrator of this gateway, with what is written below.",
            ),
            Class::Forged => (
                StatusCode::FORBIDDEN,
                "The sign-in could not be verified",
                format!("What came back from {title} is not what it should be, and was not accepted."),
                "Begin again from the program that you came from. If it happens again, tell an administrator.",
            ),
        };
        let mut failure = Self::new(status, heading, text, advice);
        if let Some(explained) = error.explained() {
            explained.what.clone_into(&mut failure.0.text);
            explained.advice.clone_into(&mut failure.0.advice);
        }
        let facts = [
            ("Code", error.code.clone()),
            ("Trace id", error.trace_id.clone()),
            ("Reason", Some(error.detail.clone())),
        ];
        failure.0.facts.extend(facts.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
        failure.0.help = true;
        if let Class::Temporary { retry_after } = error.class {
            failure.0.retry_after = Some(retry_after.map_or(60, |wait| whole_seconds(wait).min(3_600)));
        }
        failure
    }

    /// With the way back for the client, which then hears of it.
    #[must_use]
    pub(super) fn with_back(mut self, back: Option<&Back>, code: &str, text: &str) -> Self {
        self.0.back = back.map(|back| (back.error_url(code, text), back.site()));
        self
    }

    /// With whom to ask.
    #[must_use]
    pub(super) fn with_help(mut self) -> Self {
        self.0.help = true;
        self
    }

    /// With something for whoever is asked.
    #[must_use]
    pub(super) fn with_fact(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.facts.push((name, value.into()));
        self
    }

    /// The page.
    pub(super) fn show(mut self, visitor: &Visitor) -> Response {
        let settings = &visitor.app.settings.sign_in;
        let it = &mut *self.0;
        it.facts.push(("Number of this request", visitor.request_id.as_str().to_owned()));
        let help = it.help.then(|| settings.sign_in_help.as_deref().unwrap_or(NO_HELP));
        self.page(&Frame::of(&visitor.app), help)
    }

    fn page(&self, frame: &Frame<'_>, help: Option<&str>) -> Response {
        let it = &*self.0;
        let mut response = show(&Page { frame: *frame, it, help }, it.status, "'none'");
        if let Some(seconds) = it.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Failure {
    /// Where nothing is known but that the request cannot be read.
    fn into_response(self) -> Response {
        self.page(&Frame::plain(), None)
    }
}

/// A wait in whole seconds, none of it lost.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).max(1)
}

/// So many seconds, in words.
pub(super) fn counted(seconds: u64) -> String {
    if seconds == 1 { "a second".to_owned() } else { format!("{seconds} seconds") }
}

/// A text of the core, as a sentence.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}
