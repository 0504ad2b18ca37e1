//! `/admin/diagnostics/auth-failures`: how people and programs failed to come in within a day, why, and what helps.

use axum::response::Json;
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;

use super::envelope::{Asked, Report, Target};
use super::past::Past;
use super::tokens;
use crate::access::Admin;
use crate::admin::sign_ins::advice;
use crate::app::App;
use crate::store::rollups::Span;
use crate::store::{at, now};
use crate::web::json::Parameters;
use crate::web::problem::Problem;

/// Hours that the report is of.
const HOURS: i64 = 24;
/// Most reasons that are named.
const TOP: usize = 50;

/// See `docs/analytics.md`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuthFailures")]
pub(in crate::admin) struct Diagnosis {
    /// Of all refreshes.
    token_refresh_failures: Option<f64>,
    /// Sign-ins that took too long, or never came back.
    login_timeout_errors: i64,
    /// Keys and tokens that were no good.
    invalid_token_errors: i64,
    by_reason: Vec<Reason>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuthFailureReason")]
struct Reason {
    /// The reason, or the provider's code.
    code: String,
    /// `login`, `validate`, `api_key` or `token`.
    method: String,
    count: i64,
    #[serde(with = "crate::clock::Moment")]
    last_at: OffsetDateTime,
    advice: Option<String>,
}

/// What helps where a credential is no good; sign-ins have words of their own.
const ADVICE: [(&str, &str); 9] = [
    ("missing", "The client shows no credential: it has to sign in, or needs a key."),
    (
        "too_many_bare",
        "The client asks again and again without a credential: it should sign in, and wait as Retry-After says.",
    ),
    (
        "malformed",
        "The client sends something that is no key or token of this gateway: see what it is configured with.",
    ),
    ("unknown", "The key does not exist, or was removed: make a new one, and see which client still has the old one."),
    ("revoked", "The key was revoked: give the client a new one."),
    ("expired", "It has ended: sign in again, or make a new key."),
    ("disabled", "The account is disabled: an administrator of its tenant enables it."),
    ("ended_token", "The session has ended: the client signs in again."),
    ("wrong_resource", "The token is for another resource: the client asks for one for the address that it calls."),
];

fn advice(method: &str, reason: &str) -> Option<String> {
    let step = if method == "login" { "account" } else { "token" };
    let own = || ADVICE.iter().find(|(word, _)| *word == reason).map(|(_, advice)| (*advice).to_owned());
    advice::of(step, reason).or_else(own)
}

/// Whether somebody was waited for in vain.
fn is_timeout(reason: &str) -> bool {
    ["timeout", "timed_out", "expired", "abandoned", "too_late"].iter().any(|word| reason.contains(word))
}

pub(in crate::admin) async fn read(
    app: App,
    admin: Admin,
    Parameters(_): Parameters<Asked>,
) -> Result<Json<Report<Diagnosis>>, Problem> {
    let now = now();
    let Past { range, seconds } = Past::hours(HOURS, now);
    let own = Some(admin.tenant()).filter(|_| !admin.administers_gateway());
    let refreshes = tokens::sums(&app, &admin, now).await?;
    let mut failures = app.store.event_totals(own, Span::Hour, range, "auth").await?;
    failures.retain(|sum| sum.result != "success");
    let count = |of_it: &dyn Fn(&str, &str) -> bool| {
        failures.iter().filter(|sum| of_it(&sum.what, &sum.reason)).map(|sum| sum.count).sum()
    };
    let fields = Diagnosis {
        token_refresh_failures: refreshes.success_rate().map(|rate| 1.0 - rate),
        login_timeout_errors: count(&|what, reason| what == "login" && is_timeout(reason)),
        invalid_token_errors: count(&|what, _| matches!(what, "validate" | "api_key")),
        by_reason: failures
            .into_iter()
            .take(TOP)
            .map(|sum| Reason {
                advice: advice(&sum.what, &sum.reason),
                code: sum.reason,
                method: sum.what,
                count: sum.count,
                last_at: at(sum.last_at),
            })
            .collect(),
    };
    let refreshes = fields.token_refresh_failures;
    let report =
        Report::of_all(&app, seconds, fields).with("token_refresh_failures", Target::below("<0.05", 0.05, refreshes));
    Ok(Json(report))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_provider_and_words_of_ours_are_explained() {
        assert!(advice("login", "AADSTS50057").unwrap().contains("disabled"));
        assert!(advice("api_key", "unknown").is_some() && advice("login", "suspended").is_some());
        assert_eq!(advice("login", "AADSTS1"), None);
        assert!(is_timeout("provider_timeout") && !is_timeout("denied"));
    }
}
