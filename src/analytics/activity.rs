//! What tenants do, as a metric: `mcp_tenant_activity_total`.

use std::sync::Arc;

use ahash::AHashMap;

use crate::audit::{Brief, Surface};
use crate::telemetry::Metrics;

/// Activities of a batch.
#[derive(Debug, Default)]
pub(super) struct Activities<'a>(AHashMap<(&'a str, &'static str, &'a str), u64>);

/// The same when the batch is gone.
#[derive(Debug, Default)]
pub(super) struct Done(Vec<(Arc<str>, &'static str, Arc<str>, u64)>);

impl<'a> Activities<'a> {
    /// Counts a record, if it is one.
    pub(super) fn count(&mut self, record: &Brief<'a>) {
        let Some(tenant) = record.tenant else { return };
        let (activity, resource) = match (record.action, record.surface) {
            ("tools/call", Surface::Mcp) => ("tool_call", "tool"),
            ("resources/read", Surface::Mcp) => ("resource_read", "resource"),
            ("prompts/get", Surface::Mcp) => ("prompt_get", "prompt"),
            ("auth.login", _) if record.outcome == "success" => ("login", "session"),
            ("session.end", _) if record.reason == Some("logout") => ("logout", "session"),
            (route, Surface::Admin) => ("admin", resource(route)),
            _ => return,
        };
        *self.0.entry((tenant, activity, resource)).or_default() += 1;
    }

    /// That was all of the batch.
    pub(super) fn done(self) -> Done {
        let all = self.0.into_iter();
        Done(
            all.map(|((tenant, activity, resource), count)| (tenant.into(), activity, resource.into(), count))
                .collect(),
        )
    }
}

impl Done {
    /// Counts them into the metric.
    pub(super) fn show(self, metrics: &Metrics) {
        for (tenant, activity, resource, count) in self.0 {
            metrics.tenant_activity.on([&tenant, activity, &resource], |counter| counter.add(count));
        }
    }
}

/// What a route of the REST API is about: the first part of its path.
fn resource(route: &str) -> &str {
    let path = route.split_once(' ').map_or(route, |(_, path)| path);
    let path = path.strip_prefix("/api/v1/").unwrap_or(path);
    let path = path.strip_prefix("admin/").unwrap_or(path);
    path.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_about_the_first_part_of_its_path() {
        for (route, about) in [
            ("GET /api/v1/servers/{slug}", "servers"),
            ("POST /api/v1/admin/tenants", "tenants"),
            ("GET /api/v1/me", "me"),
            ("GET none", "none"),
        ] {
            assert_eq!(resource(route), about);
        }
    }
}
