//! What a request of the REST API is about, by its route and its path.

use percent_encoding::percent_decode_str;

use crate::id::TenantId;

/// The tenant that a path names where its route leaves that open, however it is spelled.
pub fn tenant_in(route: &str, path: &str) -> Option<TenantId> {
    let route = route.split_once(' ').map_or(route, |(_, route)| route);
    let open = |(before, part): (&str, &str)| part == "{tenant_id}" || (before == "tenants" && part == "{id}");
    let parts = || route.split('/');
    let place = parts().zip(parts().skip(1)).position(open)? + 1;
    let named = percent_decode_str(path.split('/').nth(place)?).decode_utf8().ok()?;
    TenantId::parse(&named).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_tenant_where_its_route_leaves_that_open() {
        for (route, path, tenant) in [
            ("GET /api/v1/admin/tenants/{id}", "/api/v1/admin/tenants/acme", Some("acme")),
            ("GET /api/v1/admin/tenants/{id}", "/api/v1/admin/tenants/ac%6de", Some("acme")),
            ("GET /api/v1/admin/tenants/{id}", "/api/v1/admin/tenants/ac%ffme", None),
            ("POST /api/v1/admin/tenant-limits/{tenant_id}", "/api/v1/admin/tenant-limits/acme", Some("acme")),
            ("GET /api/v1/admin/policies/{tenant_id}/versions", "/api/v1/admin/policies/a-b/versions", Some("a-b")),
            ("GET /api/v1/users/{id}", "/api/v1/users/acme", None),
            ("GET /api/v1/admin/tenants", "/api/v1/admin/tenants", None),
            ("GET /api/v1/admin/tenants/{id}", "/cut", None),
        ] {
            let found = tenant_in(route, path);
            assert_eq!(found.as_ref().map(TenantId::as_str), tenant, "{route} {path}");
        }
    }
}
