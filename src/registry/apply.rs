//! The whole registry at once, as a file describes it: planned and checked as one, then written in one transaction or not at
//! all. A dry run is the same plan, not carried out; so it cannot say anything else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use crate::access::Caller;
use crate::field::FieldError;
use crate::registry::model::ServerSpec;
use crate::registry::servers::{Record, Servers, ServersError, changed_record, masked_json, new_record};
use crate::secret::Secret;
use crate::store::servers::ServerChange;
use crate::store::tenants::TenantStep;
use crate::store::{StoreError, micros};

/// What brings the registry to what is wanted.
#[derive(Debug)]
pub struct Plan {
    /// One for each server that is not as it should be.
    pub steps: Vec<Step>,
    /// How many are.
    pub unchanged: usize,
}

/// One change.
#[derive(Debug)]
pub enum Step {
    /// Is registered.
    Create(Box<Record>),
    /// Is changed, from what it was.
    Change(Box<Record>, Box<Record>),
    /// Is removed.
    Remove(Box<Record>),
}

/// One change, for people.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ServerStep")]
pub struct StepView {
    /// Of which server.
    pub slug: String,
    /// `create`, `change` or `remove`.
    pub action: &'static str,
    /// The description before, masked.
    pub before: Option<Value>,
    /// The description after, masked.
    pub after: Option<Value>,
    /// Secrets that get another value, `headers.Authorization`.
    pub secrets: Vec<String>,
}

impl Step {
    /// The server that goes, if one does.
    pub fn removed(&self) -> Option<&Record> {
        match self {
            Self::Remove(before) => Some(before),
            Self::Create(_) | Self::Change(..) => None,
        }
    }

    /// The server as it will be; none when it is removed.
    pub fn after(&self) -> Option<&Record> {
        match self {
            Self::Create(after) | Self::Change(_, after) => Some(after),
            Self::Remove(_) => None,
        }
    }

    /// For people; no secret is in it.
    pub fn view(&self) -> StepView {
        let masked = |record: &Record| Some(masked_json(&record.server.spec));
        let (action, before, after, of) = match self {
            Self::Create(after) => ("create", None, masked(after), after),
            Self::Change(before, after) => ("change", masked(before), masked(after), after),
            Self::Remove(before) => ("remove", masked(before), None, before),
        };
        let secrets = match self {
            Self::Change(before, after) => changed_secrets(&before.server.spec, &after.server.spec),
            _ => Vec::new(),
        };
        StepView { slug: of.server.spec.slug.to_string(), action, before, after, secrets }
    }
}

fn changed_secrets(before: &ServerSpec, after: &ServerSpec) -> Vec<String> {
    let other = |field: &str, before: &BTreeMap<String, Secret>, after: &BTreeMap<String, Secret>| {
        let changed = after.iter().filter(|(name, value)| before.get(*name).is_some_and(|old| old != *value));
        changed.map(|(name, _)| format!("{field}.{name}")).collect::<Vec<_>>()
    };
    let mut changed =
        [other("headers", &before.headers, &after.headers), other("env", &before.env, &after.env)].concat();
    for ((field, before), (_, after)) in before.auths().into_iter().zip(after.clone().auths_mut()) {
        let secrets = after.secrets();
        let secrets = secrets.filter(|(name, value)| before.secret(name).is_some_and(|old| *old != **value));
        changed.extend(secrets.map(|(name, _)| format!("{field}.{name}")));
    }
    changed
}

impl Servers<'_> {
    /// What brings the caller's tenant to `wanted`; with `prune`, servers that the caller may change and that are not wanted
    /// are removed. Every mistake and every refusal is told at once, by its place in the list.
    pub async fn plan(
        &self,
        caller: &Caller,
        wanted: Vec<ServerSpec>,
        prune: bool,
        now: OffsetDateTime,
    ) -> Result<Plan, ServersError> {
        let mut there = HashMap::new();
        for row in self.store.servers(caller.tenant(), "", i64::MAX).await? {
            let record = self.record(row).await?;
            there.insert(record.server.spec.slug.clone(), record);
        }
        let (mut creates, mut changes, mut unchanged) = (Vec::new(), Vec::new(), 0);
        let (mut invalid, mut refused) = (Vec::new(), Vec::new());
        let mut named = BTreeSet::new();
        for (index, spec) in wanted.into_iter().enumerate() {
            let at = format!("servers[{index}]");
            let slug = spec.slug.clone();
            if !named.insert(slug.clone()) {
                invalid.push(FieldError::new(format!("{at}.slug"), format!("`{slug}` is wanted twice")));
                continue;
            }
            let step = match there.get(&slug) {
                None => new_record(caller, spec, now).map(|after| Some(Step::Create(Box::new(after)))),
                // What the caller may not know of is only in the way, and only of who could register it.
                Some(hidden) if !hidden.may_be_seen_by(caller) => {
                    new_record(caller, spec, now).and_then(|_| Err(ServersError::Taken(slug)))
                }
                Some(before) => changed_record(caller, before, spec, now)
                    .map(|after| Some(Step::Change(Box::new(before.clone()), Box::new(after?)))),
            };
            match step {
                Ok(Some(step @ Step::Create(_))) => creates.push(step),
                Ok(Some(step)) => changes.push(step),
                Ok(None) => unchanged += 1,
                Err(ServersError::Invalid(errors)) => {
                    let placed = |error: FieldError| FieldError { field: format!("{at}.{}", error.field), ..error };
                    invalid.extend(errors.into_iter().map(placed));
                }
                Err(error @ ServersError::Taken(_)) => {
                    invalid.push(FieldError::new(format!("{at}.slug"), error.to_string()));
                }
                Err(ServersError::Forbidden(why) | ServersError::Scope(why)) => {
                    refused.push(FieldError::new(at, why));
                }
                Err(error) => return Err(error),
            }
        }
        if !invalid.is_empty() {
            invalid.extend(refused);
            return Err(ServersError::Invalid(invalid));
        }
        if !refused.is_empty() {
            return Err(ServersError::Refused(refused));
        }
        let mut steps: Vec<Step> = there
            .into_values()
            .filter(|record| prune && !named.contains(&record.server.spec.slug) && record.may_be_changed_by(caller))
            .map(|record| Step::Remove(Box::new(record)))
            .collect();
        steps.sort_by_key(|step| step.view().slug);
        steps.extend(changes);
        steps.extend(creates);
        Ok(Plan { steps, unchanged })
    }

    /// Makes these changes of tenants and every change of a plan, or none. `Stale` when the registry is not any more what the plan
    /// was made from.
    pub async fn carry_out(
        &self,
        caller: &Caller,
        tenants: &[TenantStep<'_>],
        plan: &Plan,
        now: OffsetDateTime,
    ) -> Result<(), ServersError> {
        let mut rows = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            rows.push(match step.after() {
                Some(after) => Some(self.row(after).await?),
                None => None,
            });
        }
        let mut changes = Vec::with_capacity(rows.len());
        for (step, row) in plan.steps.iter().zip(&rows) {
            changes.extend(match (step, row) {
                (Step::Create(_), Some(row)) => Some(ServerChange::Insert(row)),
                (Step::Change(before, _), Some(row)) => Some(ServerChange::Update(row, before.server.revision)),
                (Step::Remove(before), _) => {
                    Some(ServerChange::Delete(before.server.id.0, Some(before.server.revision)))
                }
                (_, None) => None,
            });
        }
        match self.store.change_all(tenants, caller.tenant(), &changes, micros(now)).await {
            // Somebody else was faster.
            Err(StoreError::Taken | StoreError::Missing) => Err(ServersError::Stale),
            done => Ok(done?),
        }
    }
}
