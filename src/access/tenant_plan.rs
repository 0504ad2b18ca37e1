//! Tenants as a file describes them: planned and checked as one, to be written in one transaction with the servers of the file. What
//! the file does not name, a tenant or something of one, stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::tenants::{TenantEdit, TenantSaid, TenantState, TenantView, may_go, of_gateway};
use super::{AccessError, Admin, invalid, role_mappings};
use crate::field::FieldError;
use crate::id::TenantId;
use crate::store::tenants::{Tenant, TenantStep};
use crate::store::{Store, StoreError};

/// What brings the tenants to what is wanted.
#[derive(Debug, Default)]
pub struct Plan {
    steps: Vec<Step>,
    /// How many are as they should be.
    pub unchanged: usize,
}

/// A tenant that is made or changed.
#[derive(Debug)]
struct Step {
    /// Its place among those that are wanted.
    index: usize,
    edit: TenantEdit,
    mappings: Option<Value>,
    before: Option<Tenant>,
    after: Tenant,
}

impl Step {
    fn change(&self) -> Result<TenantStep<'_>, AccessError> {
        let held = self.before.as_ref().and_then(|tenant| tenant.role_mappings.as_ref());
        let change = self.edit.checked((self.mappings.as_ref(), held), Vec::new())?;
        let made = self.before.is_none();
        Ok(if made { TenantStep::Insert(&self.after.id, change) } else { TenantStep::Update(&self.after.id, change) })
    }
}

/// One change, for people.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TenantStep")]
pub struct StepView {
    /// Of which tenant.
    pub tenant_id: TenantId,
    /// `create` or `change`.
    pub action: &'static str,
    /// As it was.
    pub before: Option<Value>,
    /// As it will be.
    pub after: Value,
}

impl Plan {
    /// What brings the tenants to what is wanted, for an administrator of the gateway. Every mistake is told at once, by its place in
    /// the list.
    pub async fn of(
        store: &Store,
        admin: &Admin,
        wanted: Vec<TenantSaid>,
        now: OffsetDateTime,
    ) -> Result<Self, AccessError> {
        of_gateway(admin)?;
        let all = store.tenants("", i64::MAX).await?.into_iter();
        let there: BTreeMap<TenantId, Tenant> = all.map(|tenant| (tenant.id.clone(), tenant)).collect();
        let (mut plan, mut wrong, mut named) = (Self::default(), Vec::new(), BTreeSet::new());
        for (index, said) in wanted.into_iter().enumerate() {
            match step(admin, &there, index, said, now) {
                Ok(step) if !named.insert(step.after.id.clone()) => {
                    let text = format!("`{}` is wanted twice", step.after.id);
                    wrong.push(FieldError::new(format!("tenants[{index}].tenant_id"), text));
                }
                Ok(step) if step.before.as_ref() == Some(&step.after) => plan.unchanged += 1,
                Ok(step) => plan.steps.push(step),
                Err(AccessError::Invalid(errors)) => {
                    let placed =
                        |error: FieldError| FieldError::new(format!("tenants[{index}].{}", error.field), error.message);
                    wrong.extend(errors.into_iter().map(placed));
                }
                Err(error) => return Err(error),
            }
        }
        wrong.extend(plan.held(there));
        if wrong.is_empty() { Ok(plan) } else { Err(AccessError::Invalid(wrong)) }
    }

    /// Directories that would be of two tenants.
    fn held(&self, mut there: BTreeMap<TenantId, Tenant>) -> Vec<FieldError> {
        there.extend(self.steps.iter().map(|step| (step.after.id.clone(), step.after.clone())));
        let mut held = Vec::new();
        for Step { index, after, .. } in self.steps.iter().filter(|step| step.edit.entra_tenant_ids.is_some()) {
            for directory in &after.directories {
                let has = |other: &&Tenant| {
                    other.id != after.id && other.directories.iter().any(|own| own.id == directory.id)
                };
                if let Some(other) = there.values().find(has) {
                    let text = format!("the directory {} is that of the tenant `{}`", directory.id, other.id);
                    held.push(FieldError::new(format!("tenants[{index}].entra_tenant_ids"), text));
                }
            }
        }
        held
    }

    /// What is to be written.
    pub fn changes(&self) -> Result<Vec<TenantStep<'_>>, AccessError> {
        self.steps.iter().map(Step::change).collect()
    }

    /// Those that are made.
    pub fn made(&self) -> Vec<&TenantId> {
        self.steps.iter().filter(|step| step.before.is_none()).map(|step| &step.after.id).collect()
    }

    /// For people.
    pub fn views(&self) -> Result<Vec<StepView>, AccessError> {
        let view = |step: &Step| {
            let before = step.before.as_ref().map(described).transpose()?;
            let action = if before.is_none() { "create" } else { "change" };
            Ok(StepView { tenant_id: step.after.id.clone(), action, before, after: described(&step.after)? })
        };
        self.steps.iter().map(view).collect()
    }
}

fn step(
    admin: &Admin,
    there: &BTreeMap<TenantId, Tenant>,
    index: usize,
    said: TenantSaid,
    now: OffsetDateTime,
) -> Result<Step, AccessError> {
    let (id, mut edit) = said.split();
    let id = TenantId::parse(&id).map_err(|error| invalid("tenant_id", error.to_string()))?;
    if edit.state == Some(TenantState::Suspended) {
        may_go(&id)?;
    }
    edit.sort();
    let before = there.get(&id).cloned();
    let mut wrong = Vec::new();
    if let Some(wanted) = &edit.role_mappings {
        role_mappings::check(wanted, &id, &mut wrong);
        let held = role_mappings::read(before.as_ref().and_then(|tenant| tenant.role_mappings.clone()))?;
        role_mappings::may_set(admin, &held, wanted)?;
    }
    let mappings = edit.mappings()?;
    let mut after = before.clone().unwrap_or_else(|| Tenant::new(id, now));
    edit.checked((mappings.as_ref(), None), wrong)?.onto(&mut after);
    Ok(Step { index, edit, mappings, before, after })
}

/// What a file may say of it; and directories that nobody named, so that naming them shows.
fn described(tenant: &Tenant) -> Result<Value, AccessError> {
    let view = TenantView::try_from(tenant.clone())?;
    let nobody_named = view.assumed_entra_tenant_ids.is_empty();
    let mut value = serde_json::to_value(&view).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| match name.as_str() {
            "created_at" | "updated_at" => false,
            "assumed_entra_tenant_ids" => !nobody_named,
            _ => true,
        });
    }
    Ok(value)
}
