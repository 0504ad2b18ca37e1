//! `/admin/token-refresh-status`, `/admin/user-token-status` and `/admin/force-token-refresh`: how well what identity providers gave for
//! people is kept fresh, how that of one account stands, and a refresh at once. Administrators of a tenant see what is the tenant's.

use std::time::Duration;

use axum::response::Json;
use http::StatusCode;
use http::header::RETRY_AFTER;
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::envelope::{Asked, Report, Target};
use crate::access::{Admin, users};
use crate::admin::keys::named;
use crate::analytics::kpis::ratio;
use crate::app::{App, Forced};
use crate::grants::{Credential, CredentialState, Figures, Kind, RefreshResult};
use crate::id::TenantId;
use crate::idp::aadsts::explain;
use crate::store::{at_opt, now};
use crate::web::json::Parameters;
use crate::web::path::Named;
use crate::web::problem::Problem;
use crate::web::record::Trail;

/// Hours that the report is of, besides the part of this one.
const HOURS: i64 = 23;

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TokenRefreshStatus")]
pub(in crate::admin) struct Status {
    successful_refreshes: i64,
    /// Those of which nothing came, and those after which the person must come back.
    failed_refreshes: i64,
    proactive_refreshes: i64,
    emergency_refreshes: i64,
    active_monitoring_tasks: i64,
    success_rate: Option<f64>,
    /// Of what the gateway did by itself.
    proactive_ratio: Option<f64>,
    emergency_ratio: Option<f64>,
    average_retries: Option<f64>,
    reauth_required: i64,
    #[serde(with = "crate::clock::MaybeMoment")]
    next_due_at: Option<OffsetDateTime>,
    queue_depth: i64,
}

impl Status {
    fn of(figures: &Figures) -> Self {
        let sum = |kind: Option<Kind>, result: Option<RefreshResult>| -> i64 {
            let of = figures.sums.iter().filter(|sum| {
                kind.is_none_or(|kind| sum.kind == kind.as_str())
                    && result.is_none_or(|result| sum.result == result.as_str())
            });
            of.map(|sum| sum.count).sum()
        };
        let success = Some(RefreshResult::Success);
        let (all, successful) = (sum(None, None), sum(None, success));
        let (proactive, emergency) = (sum(Some(Kind::Proactive), success), sum(Some(Kind::Emergency), success));
        let queue = figures.queue;
        Self {
            successful_refreshes: successful,
            failed_refreshes: all - successful,
            proactive_refreshes: proactive,
            emergency_refreshes: emergency,
            active_monitoring_tasks: queue.watched,
            success_rate: ratio(successful, all),
            proactive_ratio: ratio(proactive, proactive + emergency),
            emergency_ratio: ratio(emergency, proactive + emergency),
            average_retries: ratio(figures.sums.iter().map(|sum| sum.retries).sum(), all),
            reauth_required: queue.parked,
            next_due_at: at_opt(queue.next_at),
            queue_depth: queue.due,
        }
    }
}

/// How refreshes came out within a day, of what the administrator may see.
pub(super) struct Sums {
    pub(super) successful: i64,
    pub(super) failed: i64,
}

impl Sums {
    pub(super) fn success_rate(&self) -> Option<f64> {
        ratio(self.successful, self.successful + self.failed)
    }
}

/// See [`Sums`].
pub(super) async fn sums(app: &App, admin: &Admin, now: OffsetDateTime) -> Result<Sums, Problem> {
    let own = Some(admin.tenant()).filter(|_| !admin.administers_gateway());
    let status = Status::of(&app.grants.refresh_figures(own, false, HOURS, now).await?);
    Ok(Sums { successful: status.successful_refreshes, failed: status.failed_refreshes })
}

pub(in crate::admin) async fn status(
    app: App,
    admin: Admin,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<Report<Status>>, Problem> {
    let (own, now) = (Some(admin.tenant()).filter(|_| !admin.administers_gateway()), now());
    let figures = app.grants.refresh_figures(own, asked.is_of_one(), HOURS, now).await?;
    let window = (now - figures.since).whole_seconds().try_into().unwrap_or_default();
    let fields = Status::of(&figures);
    let (success, proactive) = (fields.success_rate, fields.proactive_ratio);
    let (emergency, retries) = (fields.emergency_ratio, fields.average_retries);
    let report = Report::over(&app, &asked, window, fields)
        .with("success_rate", Target::above(">0.95", 0.95, success))
        .with("proactive_ratio", Target::above(">0.8", 0.8, proactive))
        .with("emergency_ratio", Target::below("<0.1", 0.1, emergency))
        .with("average_retries", Target::below("<1.5", 1.5, retries));
    Ok(Json(report))
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UserTokenStatus")]
pub(in crate::admin) struct OfUser {
    user_id: Uuid,
    tenant_id: TenantId,
    credentials: Vec<View>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Credential")]
struct View {
    provider: String,
    audience: Option<String>,
    scopes: Vec<String>,
    #[serde(with = "crate::clock::MaybeMoment")]
    expires_at: Option<OffsetDateTime>,
    #[serde(with = "crate::clock::MaybeMoment")]
    refresh_due_at: Option<OffsetDateTime>,
    last_refresh: Option<Last>,
    state: CredentialState,
    /// The provider could not be asked, as often as it is tried; it is tried on.
    failing: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LastRefresh")]
struct Last {
    #[serde(with = "crate::clock::Moment")]
    at: OffsetDateTime,
    kind: Option<String>,
    result: Option<String>,
    error_code: Option<String>,
}

async fn report(app: &App, asked: &Asked, tenant: TenantId, user: Uuid) -> Result<Json<Report<OfUser>>, Problem> {
    let mut credentials = Vec::new();
    for credential in app.grants.credentials(&tenant, user, now()).await? {
        let kept = app.kept_of(&tenant, &credential).await?;
        let audience = app.providers.get(&credential.provider).and_then(|provider| provider.audience());
        let Credential { provider, state, failing, expires_at, due_at: refresh_due_at, last, .. } = credential;
        let expires_at = kept.as_ref().map(|kept| kept.expires_at).or(expires_at);
        let scopes = kept.map(|kept| kept.scopes).unwrap_or_default();
        let last_refresh = at_opt(last.last_at).map(|at| Last {
            at,
            kind: last.last_kind,
            result: last.last_result,
            error_code: last.last_code,
        });
        let audience = audience.map(str::to_owned);
        credentials.push(View { provider, audience, scopes, expires_at, refresh_due_at, last_refresh, state, failing });
    }
    Ok(Json(Report::over(app, asked, 0, OfUser { user_id: user, tenant_id: tenant, credentials })))
}

pub(in crate::admin) async fn of_user(
    app: App,
    admin: Admin,
    trail: Trail,
    Named(id): Named,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<Report<OfUser>>, Problem> {
    let (tenant, user) = place(&app, &admin, &trail, &id).await?;
    report(&app, &asked, tenant, user).await
}

pub(in crate::admin) async fn force(
    app: App,
    admin: Admin,
    trail: Trail,
    Named(id): Named,
) -> Result<Json<Report<OfUser>>, Problem> {
    let (tenant, user) = place(&app, &admin, &trail, &id).await?;
    let outcome = app.refresh_now(&tenant, user).await?;
    let by = admin.username();
    tracing::info!(%user, %tenant, by, ?outcome, "an administrator wanted an account's provider tokens refreshed");
    match outcome {
        Forced::Done => report(&app, &Asked::default(), tenant, user).await,
        Forced::Nothing => Err(Problem::new(
            StatusCode::CONFLICT,
            "NOTHING_TO_REFRESH",
            "no identity provider gave anything for this account that can be refreshed; the person has to sign in",
        )),
        Forced::UnderWay => Err(Problem::new(
            StatusCode::CONFLICT,
            "REFRESH_UNDER_WAY",
            "it is being refreshed at this moment; read /api/v1/admin/user-token-status for what comes of it",
        )),
        Forced::TooSoon(left) => Err(later(StatusCode::CONFLICT, "REFRESHED_LATELY", left, |seconds| {
            format!(
                "the identity provider was asked about it a moment ago, or will not answer yet; try again in {seconds} seconds"
            )
        })),
        Forced::Paused(left) => Err(later(StatusCode::FAILED_DEPENDENCY, "PROVIDER_THROTTLES", left, |seconds| {
            format!("the identity provider wants to be left alone for {seconds} seconds (429); try again then")
        })),
        Forced::Failed(code) => {
            let advice = explain(&code).map_or_else(String::new, |known| format!(": {} {}", known.what, known.advice));
            let text = format!("the identity provider did not refresh it ({code}){advice}");
            Err(Problem::new(StatusCode::FAILED_DEPENDENCY, "REFRESH_FAILED", text).with_error_code(code))
        }
    }
}

fn later(status: StatusCode, code: &'static str, left: Duration, text: impl Fn(u64) -> String) -> Problem {
    let seconds = left.as_secs() + 1;
    Problem::new(status, code, text(seconds)).with_header(RETRY_AFTER, seconds.into())
}

async fn place(app: &App, admin: &Admin, trail: &Trail, id: &str) -> Result<(TenantId, Uuid), Problem> {
    let (tenant, user) = users::place(&app.store, admin, id).await.map_err(|error| named(error.into(), "user"))?;
    trail.acts_on(&tenant);
    Ok((tenant, user))
}
