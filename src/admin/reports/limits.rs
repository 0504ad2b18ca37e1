//! `/admin/rate-limit-analytics` and `/admin/diagnostics/rate-limits`: how close what was let through came to what is fair, what
//! was refused and why, and what that says. Of all tenants, so only for administrators of the gateway.

use axum::response::Json;
use schemars::JsonSchema;
use serde::Serialize;

use super::envelope::{Asked, Report, Target};
use super::finding::Finding;
use crate::access::{AccessError, Admin};
use crate::app::App;
use crate::id::TenantId;
use crate::limit::figures::{Closeness, Sums};
use crate::limit::guard::{Figures, HitsByType};
use crate::limit::share::Share;
use crate::store::now;
use crate::web::json::Parameters;
use crate::web::problem::Problem;

/// Most tenants that are named.
const TOP: usize = 10;

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RateLimitAnalytics")]
pub(in crate::admin) struct Analytics {
    fairness_efficiency: Option<f64>,
    jain_index: Option<f64>,
    ddos_blocks_prevented: u64,
    ddos_bans: u64,
    rate_limit_accuracy: Accuracy,
    hits_by_type: HitsByType,
    top_throttled_tenants: Vec<Throttled>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Accuracy {
    false_positive_rate: Option<f64>,
    false_negative_rate: Option<f64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ThrottledTenant")]
struct Throttled {
    tenant_id: TenantId,
    requests: u64,
    refused: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RateLimitDiagnostics")]
pub(in crate::admin) struct Diagnostics {
    /// Of all replicas together, so not of one among several.
    tenant_fairness_violations: Option<u64>,
    global_quota_exhaustion: u64,
    ddos_blocks_prevented: u64,
    ddos_false_positives: u64,
    findings: Vec<Finding>,
}

/// Only an administrator of the gateway goes on.
pub(super) fn of_gateway(admin: &Admin) -> Result<(), Problem> {
    if admin.administers_gateway() {
        return Ok(());
    }
    Err(AccessError::Forbidden("only an administrator of the gateway reads what is of all tenants").into())
}

pub(in crate::admin) async fn analytics(
    app: App,
    admin: Admin,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<Report<Analytics>>, Problem> {
    of_gateway(&admin)?;
    let (all, guard) = (sums(&app, &asked), figures(&app, &asked));
    let mut closeness = Closeness::default();
    if asked.is_of_all(&app) {
        for (_, sums) in &all {
            closeness.take_in(sums);
        }
    }
    let (efficiency, wrongly_refused) = (closeness.efficiency(), closeness.wrongly_refused());
    let fields = Analytics {
        fairness_efficiency: efficiency,
        jain_index: closeness.jain_index(),
        ddos_blocks_prevented: guard.ddos_blocks_prevented,
        ddos_bans: guard.ddos_bans,
        rate_limit_accuracy: Accuracy {
            false_positive_rate: wrongly_refused,
            false_negative_rate: closeness.wrongly_given(),
        },
        hits_by_type: guard.hits_by_type,
        top_throttled_tenants: throttled(all),
    };
    let report = Report::new(&app, &asked, fields)
        .with("fairness_efficiency", Target::above(">0.99", 0.99, efficiency))
        .with("rate_limit_accuracy.false_positive_rate", Target::below("<0.01", 0.01, wrongly_refused));
    Ok(Json(report))
}

pub(in crate::admin) async fn diagnostics(
    app: App,
    admin: Admin,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<Report<Diagnostics>>, Problem> {
    of_gateway(&admin)?;
    let (all, guard) = (sums(&app, &asked), figures(&app, &asked));
    let moments = app.limits.fair().moments(app.limits.now());
    let of_all = asked.is_of_all(&app);
    let exhausted = if of_all { moments.exhausted } else { moments.exhausted_here };
    let violations = of_all.then_some(moments.violations);
    let window = app.settings.rate_limits.fairness_window_seconds;
    let mut findings = Vec::new();
    if exhausted > 0 {
        findings.push(Finding {
            severity: if exhausted > u64::from(window) / 2 { "critical" } else { "warning" },
            what: "The gateway's capacity was used up".into(),
            evidence: format!("in {exhausted} of the last {window} seconds a request found none left"),
            advice: "raise MREG_RATE_LIMIT_GLOBAL_RPM if the servers behind can take more, or cap the tenants that ask most",
        });
    }
    if let Some(violations) = violations.filter(|violations| *violations > 0) {
        findings.push(Finding {
            severity: "critical",
            what: "Tenants had more than their share while others were owed theirs".into(),
            evidence: format!("{violations} times, counted by tenant and second"),
            advice: "compare the weights of the tenants; if they are as meant, this is a defect worth reporting",
        });
    }
    if let Some(most) = throttled(all).into_iter().next().filter(|most| most.refused * 2 > most.requests) {
        findings.push(Finding {
            severity: "warning",
            what: format!("The tenant `{}` asks for more than twice what it has", most.tenant_id),
            evidence: format!("{} of its {} requests were refused", most.refused, most.requests),
            advice: "look at its clients for one that does not wait as Retry-After says, or raise its weight or base_rpm",
        });
    }
    if guard.ddos_false_positives > 0 {
        findings.push(Finding {
            severity: "warning",
            what: "Bans met somebody who should not have been banned".into(),
            evidence: format!("{} bans were lifted as wrong or met a good credential", guard.ddos_false_positives),
            advice: "raise MREG_DDOS_DETECTION_THRESHOLD, or name the networks in MREG_DDOS_ALLOWED_NETWORKS",
        });
    }
    let fields = Diagnostics {
        tenant_fairness_violations: violations,
        global_quota_exhaustion: exhausted,
        ddos_blocks_prevented: guard.ddos_blocks_prevented,
        ddos_false_positives: guard.ddos_false_positives,
        findings,
    };
    Ok(Json(Report::new(&app, &asked, fields)))
}

/// What each tenant asked for and was given, up to the last whole second.
fn sums(app: &App, asked: &Asked) -> Vec<(TenantId, Sums)> {
    let (shares, now, of_all) = (app.limits.settled(), app.limits.now(), asked.is_of_all(app));
    let sums = |share: &Share| {
        let sums = app.limits.fair().sums(share, now);
        if of_all { sums } else { Sums { wanted: sums.wanted_here, given: sums.given_here, ..sums } }
    };
    shares.iter().map(|share| (share.tenant.clone(), sums(share))).collect()
}

/// What the guard did, and what was refused because of limits.
pub(super) fn figures(app: &App, asked: &Asked) -> Figures {
    if asked.is_of_all(app) { app.guard.figures_of_all(now()) } else { app.guard.figures(now()) }
}

/// The tenants of which most was refused, most first.
fn throttled(all: Vec<(TenantId, Sums)>) -> Vec<Throttled> {
    let mut all: Vec<Throttled> = all
        .into_iter()
        .filter(|(_, sums)| sums.wanted > sums.given)
        .map(|(tenant_id, sums)| Throttled { tenant_id, requests: sums.wanted, refused: sums.wanted - sums.given })
        .collect();
    all.sort_by(|one, other| other.refused.cmp(&one.refused).then_with(|| one.tenant_id.cmp(&other.tenant_id)));
    all.truncate(TOP);
    all
}
