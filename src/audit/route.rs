//! What a request of the REST API is about, by its route and its path.

/// The tenant that a path names where its route leaves that open.
pub fn tenant_in<'a>(route: &str, path: &'a str) -> Option<&'a str> {
    let route = route.split_once(' ').map_or(route, |(_, route)| route);
    let open = |(before, part): (&str, &str)| part == "{tenant_id}" || (before == "tenants" && part == "{id}");
    let parts = || route.split('/');
    let place = parts().zip(parts().skip(1)).position(open)? + 1;
    path.split('/').nth(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_tenant_where_its_route_leaves_that_open() {
        for (route, path, tenant) in [
            ("GET /api/v1/admin/tenants/{id}", "/api/v1/admin/tenants/acme", Some("acme")),
            ("POST /api/v1/admin/tenant-limits/{tenant_id}", "/api/v1/admin/tenant-limits/acme", Some("acme")),
            ("GET /api/v1/admin/policies/{tenant_id}/versions", "/api/v1/admin/policies/a-b/versions", Some("a-b")),
            ("GET /api/v1/users/{id}", "/api/v1/users/acme", None),
            ("GET /api/v1/admin/tenants", "/api/v1/admin/tenants", None),
            ("GET /api/v1/admin/tenants/{id}", "/cut", None),
        ] {
            assert_eq!(tenant_in(route, path), tenant, "{route}");
        }
    }
}
