//! What a tenant is granted: its weight when tenants share, caps of its own, and what is done for it beyond the rest. Here are the
//! ranges and the form in which people read and write it; rows hold it, and an administrator of the gateway sets it.

use std::fmt::Display;
use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::config::BURST_FACTORS;
use crate::field::FieldError;
use crate::id::TenantId;
use crate::store::tenants::{TermsChange, TermsRow};
use crate::store::{Store, StoreError};

/// Requests a minute.
const BASE_RPM: RangeInclusive<u32> = 1..=10_000_000;
/// Requests under way at once.
const CONCURRENT: RangeInclusive<u32> = 1..=100_000;
/// Weights when tenants share.
const WEIGHTS: RangeInclusive<f64> = 0.01..=1000.0;

/// What one tenant is granted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// Its weight when tenants share, 0.01 to 1000.
    pub weight: f64,
    /// Most requests a minute; none: no cap of its own.
    pub base_rpm: Option<u32>,
    /// How many times its share it may borrow, 1 to 10; none: as the settings say.
    pub burst_factor: Option<f64>,
    /// Most requests under way at once; none: no cap of its own.
    pub max_concurrent_requests: Option<u32>,
    /// Whether its requests that wait go before others of the same share.
    pub priority_support: bool,
    /// Whether each of its tools is measured apart.
    pub enhanced_monitoring: bool,
    /// Whether its records show what tools are called with.
    pub recorded_arguments: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            weight: 1.0,
            base_rpm: None,
            burst_factor: None,
            max_concurrent_requests: None,
            priority_support: false,
            enhanced_monitoring: false,
            recorded_arguments: false,
        }
    }
}

impl From<TermsRow> for Terms {
    /// What a row holds that no door lets in is as if it were not said.
    fn from(row: TermsRow) -> Self {
        let whole = |value: Option<i64>, range: RangeInclusive<u32>| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| range.contains(value))
        };
        Self {
            weight: Some(row.fairness_weight).filter(|weight| WEIGHTS.contains(weight)).unwrap_or(1.0),
            base_rpm: whole(row.base_rpm, BASE_RPM),
            burst_factor: row.burst_factor.filter(|factor| BURST_FACTORS.contains(factor)),
            max_concurrent_requests: whole(row.max_concurrent_requests, CONCURRENT),
            priority_support: row.priority_support,
            enhanced_monitoring: row.enhanced_monitoring,
            recorded_arguments: row.recorded_arguments,
        }
    }
}

impl Terms {
    /// Those of every tenant, and whether the tenant is active, with one query.
    pub async fn of_all(store: &Store) -> Result<Vec<(TenantId, bool, Self)>, StoreError> {
        let rows = store.tenant_terms().await?;
        Ok(rows.into_iter().map(|(tenant, active, row)| (tenant, active, row.into())).collect())
    }

    /// The numbers, for people.
    pub fn rate_limits(&self) -> RateLimits {
        RateLimits {
            base_rpm: self.base_rpm,
            fairness_weight: self.weight,
            burst_factor: self.burst_factor,
            max_concurrent_requests: self.max_concurrent_requests,
        }
    }

    /// The rest, for people.
    pub fn features(&self) -> Features {
        let Self { enhanced_monitoring, priority_support, recorded_arguments, .. } = *self;
        Features { enhanced_monitoring, priority_support, recorded_arguments }
    }
}

/// How much a tenant may call, as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "as in `Terms`")]
#[schemars(rename = "TenantRateLimits")]
pub struct RateLimits {
    pub base_rpm: Option<u32>,
    pub fairness_weight: f64,
    pub burst_factor: Option<f64>,
    pub max_concurrent_requests: Option<u32>,
}

/// What is done for a tenant beyond the rest, as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "as in `Terms`")]
#[schemars(rename = "TenantFeatures")]
pub struct Features {
    pub enhanced_monitoring: bool,
    pub priority_support: bool,
    pub recorded_arguments: bool,
}

/// Numbers as somebody wrote them, before they are checked, so that every mistake is told at once. What is not said stays; `null`
/// takes away what may be absent.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(
    rename = "TenantRateLimitsOrder",
    description = "How much a tenant may call. What is not said stays; `null` takes away what may be absent.",
    example = serde_json::json!({ "base_rpm": 6000, "fairness_weight": 2.0 })
)]
pub struct RateLimitsSaid {
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u32>", range(min = 1, max = 10_000_000))]
    base_rpm: Option<Value>,
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>", range(min = 0.01, max = 1000.0))]
    fairness_weight: Option<Value>,
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>", range(min = 1.0, max = 10.0))]
    burst_factor: Option<Value>,
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u32>", range(min = 1, max = 100_000))]
    max_concurrent_requests: Option<Value>,
}

/// What is done for a tenant beyond the rest, as somebody wrote it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "TenantFeaturesOrder")]
pub struct FeaturesSaid {
    enhanced_monitoring: Option<bool>,
    priority_support: Option<bool>,
    recorded_arguments: Option<bool>,
}

/// A `null` that somebody wrote is not the same as nothing.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl RateLimitsSaid {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        [&self.base_rpm, &self.fairness_weight, &self.burst_factor, &self.max_concurrent_requests]
            .iter()
            .all(|said| said.is_none())
    }

    /// What is to change. Adds a mistake for each number that is none, or out of its range; `at` is the path in front of the
    /// names, `rate_limits.` or nothing.
    pub fn read(&self, at: &str, wrong: &mut Vec<FieldError>) -> TermsChange {
        let mut told = |name: &str, kind: &str, range: (&dyn Display, &dyn Display), null: &str| {
            let message = format!("must be {kind} from {} to {}{null}", range.0, range.1);
            wrong.push(FieldError::new(format!("{at}{name}"), message));
        };
        let mut whole = |name: &str, said: &Option<Value>, range: RangeInclusive<u32>| match said.as_ref()? {
            Value::Null => Some(None),
            value => {
                let number = value.as_u64().and_then(|value| u32::try_from(value).ok());
                if number.is_none_or(|number| !range.contains(&number)) {
                    told(name, "a whole number", (range.start(), range.end()), ", or null for no cap");
                }
                Some(number.map(i64::from))
            }
        };
        let base_rpm = whole("base_rpm", &self.base_rpm, BASE_RPM);
        let max_concurrent_requests = whole("max_concurrent_requests", &self.max_concurrent_requests, CONCURRENT);
        let weight = self.fairness_weight.as_ref().and_then(|value| {
            let weight = value.as_f64().filter(|weight| WEIGHTS.contains(weight));
            if weight.is_none() {
                told("fairness_weight", "a number", (WEIGHTS.start(), WEIGHTS.end()), "");
            }
            weight
        });
        let burst_factor = self.burst_factor.as_ref().map(|value| {
            let factor = value.as_f64().filter(|factor| BURST_FACTORS.contains(factor));
            if factor.is_none() && !value.is_null() {
                let null = ", or null for that of the settings";
                told("burst_factor", "a number", (BURST_FACTORS.start(), BURST_FACTORS.end()), null);
            }
            factor
        });
        TermsChange {
            base_rpm,
            fairness_weight: weight,
            burst_factor,
            max_concurrent_requests,
            ..TermsChange::default()
        }
    }
}

impl FeaturesSaid {
    /// Adds what is said to what is to change.
    pub fn read(self, change: TermsChange) -> TermsChange {
        let Self { enhanced_monitoring, priority_support, recorded_arguments } = self;
        TermsChange { priority_support, enhanced_monitoring, recorded_arguments, ..change }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> (TermsChange, Vec<FieldError>) {
        let said: RateLimitsSaid = serde_json::from_value(value).unwrap();
        let mut wrong = Vec::new();
        (said.read("", &mut wrong), wrong)
    }

    #[test]
    fn every_number_out_of_its_range_is_told() {
        let ends = [
            json!({"base_rpm": 1, "fairness_weight": 0.01, "burst_factor": 1, "max_concurrent_requests": 1}),
            json!({"base_rpm": 10_000_000, "fairness_weight": 1000, "burst_factor": 10, "max_concurrent_requests": 100_000}),
            json!({"base_rpm": null, "burst_factor": null, "max_concurrent_requests": null}),
        ];
        for good in ends {
            assert_eq!(read(good.clone()).1, [], "{good}");
        }
        for bad in [
            json!({"base_rpm": 0, "fairness_weight": 0.009, "burst_factor": 0.99, "max_concurrent_requests": 0}),
            json!({"base_rpm": 10_000_001, "fairness_weight": 1000.1, "burst_factor": 10.1, "max_concurrent_requests": 100_001}),
            json!({"base_rpm": "60", "fairness_weight": "NaN", "burst_factor": [], "max_concurrent_requests": 1.5}),
            json!({"base_rpm": -1, "fairness_weight": null, "burst_factor": true, "max_concurrent_requests": 5e9}),
        ] {
            let names: Vec<String> = read(bad).1.into_iter().map(|wrong| wrong.field).collect();
            assert_eq!(names, ["base_rpm", "max_concurrent_requests", "fairness_weight", "burst_factor"]);
        }
        let told = &read(json!({"base_rpm": 0})).1[0].message;
        assert_eq!(told, "must be a whole number from 1 to 10000000, or null for no cap");
    }

    #[test]
    fn null_takes_away_and_what_is_not_said_stays() {
        let (change, _) = read(json!({"base_rpm": null, "burst_factor": 2}));
        let mut row = TermsRow { base_rpm: Some(5), max_concurrent_requests: Some(7), ..TermsRow::default() };
        change.onto(&mut row);
        let terms = Terms::from(row);
        let expected = Terms { burst_factor: Some(2.0), max_concurrent_requests: Some(7), ..Terms::default() };
        assert_eq!(terms, expected);
    }

    #[test]
    fn a_row_that_no_door_lets_in_grants_what_is_usual() {
        let row = TermsRow {
            base_rpm: Some(-1),
            fairness_weight: f64::NAN,
            burst_factor: Some(f64::INFINITY),
            max_concurrent_requests: Some(i64::MAX),
            ..TermsRow::default()
        };
        assert_eq!(Terms::from(row), Terms::default());
    }
}
