//! What every report carries around its fields: when, of which window, of whom, and whether each field that has a target meets it.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::app::App;
use crate::store::now;

/// What a report is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ReportScope")]
pub(in crate::admin) enum Scope {
    /// This process.
    Replica,
    /// All processes on one database.
    Cluster,
}

/// What a reader may ask for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct Asked {
    /// Absent: the most that there is.
    scope: Option<Scope>,
}

impl Asked {
    /// What a report is of.
    pub(super) fn scope(&self, app: &App) -> Scope {
        // One process alone is all there is; one that does not hear the others speaks for itself.
        if app.limits.fair().hears_all() && self.scope != Some(Scope::Replica) {
            Scope::Cluster
        } else {
            Scope::Replica
        }
    }

    /// Whether one process alone is asked for.
    pub(super) fn is_of_one(&self) -> bool {
        self.scope == Some(Scope::Replica)
    }

    /// What a report of this process's own figures is of: of all there is, if it is alone.
    fn scope_of_own(&self, app: &App) -> Scope {
        let alone = app.limits.fair().is_alone();
        if alone && self.scope != Some(Scope::Replica) { Scope::Cluster } else { Scope::Replica }
    }

    /// Whether figures that only all replicas together have are to be told: also by one that is alone.
    pub(super) fn is_of_all(&self, app: &App) -> bool {
        self.scope(app) == Scope::Cluster || app.limits.fair().is_alone()
    }
}

/// A target of a field.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(super) struct Target {
    /// What it should be, `<0.01`.
    target: &'static str,
    /// Whether it is; unknown where nothing was measured.
    met: Option<bool>,
}

impl Target {
    /// Above this.
    pub(super) fn above(target: &'static str, bound: f64, value: Option<f64>) -> Self {
        Self { target, met: value.map(|value| value > bound) }
    }

    /// Below this.
    pub(super) fn below(target: &'static str, bound: f64, value: Option<f64>) -> Self {
        Self { target, met: value.map(|value| value < bound) }
    }
}

/// A report.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Report")]
pub(in crate::admin) struct Report<T> {
    #[serde(with = "crate::clock::Moment")]
    generated_at: OffsetDateTime,
    window_seconds: u64,
    scope: Scope,
    instance_id: Uuid,
    targets: BTreeMap<&'static str, Target>,
    #[serde(flatten)]
    fields: T,
}

impl<T> Report<T> {
    /// Around these fields, which are of so many seconds and of what the database holds, and so of all processes on it, unless one alone is
    /// asked for.
    pub(super) fn over(app: &App, asked: &Asked, window_seconds: u64, fields: T) -> Self {
        let scope = asked.scope.unwrap_or(Scope::Cluster);
        Self { window_seconds, scope, ..Self::new(app, asked, fields) }
    }

    /// Around these fields, which are of so many seconds and of all processes, whatever is asked for: nobody counts them apart.
    pub(super) fn of_all(app: &App, window_seconds: u64, fields: T) -> Self {
        Self::of(app, Scope::Cluster, window_seconds, fields)
    }

    /// Around these fields, which are of the window of the shares.
    pub(super) fn new(app: &App, asked: &Asked, fields: T) -> Self {
        let window_seconds = app.settings.rate_limits.fairness_window_seconds.into();
        Self::of(app, asked.scope(app), window_seconds, fields)
    }

    /// Around these fields, which only this process has measured, over this time.
    pub(super) fn of_own(app: &App, asked: &Asked, window: Duration, fields: T) -> Self {
        Self::of(app, asked.scope_of_own(app), window.as_secs(), fields)
    }

    fn of(app: &App, scope: Scope, window_seconds: u64, fields: T) -> Self {
        let (generated_at, instance_id, targets) = (now(), app.instance, BTreeMap::new());
        Self { generated_at, window_seconds, scope, instance_id, targets, fields }
    }

    /// The same with a target of this field.
    pub(super) fn with(mut self, field: &'static str, target: Target) -> Self {
        self.targets.insert(field, target);
        self
    }
}
