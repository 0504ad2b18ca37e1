//! For how long what is recorded of a tenant is kept: the range of each, and the form in which people read and write it.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::field::FieldError;
use crate::store::tenants::RetentionChange;

/// Days of the audit trail.
const AUDIT_DAYS: RangeInclusive<i64> = 30..=3650;
/// Days of analytics.
const ANALYTICS_DAYS: RangeInclusive<i64> = 1..=1096;

/// For how many days it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Retention {
    /// The audit trail, 30 to 3650.
    pub audit_days: i64,
    /// Analytics, 1 to 1096.
    pub analytics_days: i64,
}

/// The same as somebody wrote it, before it is checked, so that every mistake is told at once; what is none stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RetentionOrder", description = "For how many days it is to be kept; what is none stays.")]
pub struct RetentionSaid {
    #[schemars(with = "Option<u32>", range(min = 30, max = 3650))]
    audit_days: Option<Value>,
    #[schemars(with = "Option<u32>", range(min = 1, max = 1096))]
    analytics_days: Option<Value>,
}

impl RetentionSaid {
    /// What is to change; adds a mistake for each number that is none, or out of its range.
    pub(super) fn read(&self, wrong: &mut Vec<FieldError>) -> RetentionChange {
        let mut days = |name: &str, said: &Option<Value>, range: RangeInclusive<i64>| {
            let days = said.as_ref()?.as_i64().filter(|days| range.contains(days));
            if days.is_none() {
                let text = format!("must be a whole number of days from {} to {}", range.start(), range.end());
                wrong.push(FieldError::new(format!("retention.{name}"), text));
            }
            days
        };
        RetentionChange {
            audit_days: days("audit_days", &self.audit_days, AUDIT_DAYS),
            analytics_days: days("analytics_days", &self.analytics_days, ANALYTICS_DAYS),
        }
    }
}
