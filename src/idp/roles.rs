//! From what a provider says about somebody to a role of the gateway. The greatest role that anything names counts; who is
//! named by nothing is a user where everybody is one, and else is not let in.

use uuid::Uuid;

use crate::access::Role;

/// The rules of one provider.
#[derive(Debug, Clone)]
pub(super) struct RoleMap {
    /// Greatest role first.
    names: Vec<(Role, Vec<String>)>,
    groups: Vec<(Role, Vec<Uuid>)>,
    everybody: bool,
}

impl RoleMap {
    /// Rules from settings, each a list of names, with `*` in the last for everybody. If `groups`, a GUID is the id of a group
    /// and no name.
    pub(super) fn new(
        [admin, tenant_admin, server_owner, user]: [&[String]; 4],
        groups: bool,
        everybody_if_unset: bool,
    ) -> Self {
        let mut map = Self { names: Vec::new(), groups: Vec::new(), everybody: false };
        let said: Vec<_> = user.iter().map(|value| value.trim()).filter(|value| !value.is_empty()).collect();
        map.everybody = said.contains(&"*") || (said.is_empty() && everybody_if_unset);
        for (role, values) in [
            (Role::Admin, admin),
            (Role::TenantAdmin, tenant_admin),
            (Role::ServerOwner, server_owner),
            (Role::User, user),
        ] {
            let values = values.iter().map(|value| value.trim()).filter(|value| !value.is_empty() && *value != "*");
            let (ids, names): (Vec<_>, Vec<_>) = values.partition(|value| groups && is_group(value));
            map.names.push((role, names.into_iter().map(str::to_owned).collect()));
            map.groups.push((role, ids.into_iter().filter_map(|id| Uuid::try_parse(id).ok()).collect()));
        }
        map
    }

    /// Whether who is named by nothing is a user.
    pub(super) fn everybody(&self) -> bool {
        self.everybody
    }

    /// The role of somebody with these names and groups.
    pub(super) fn role(&self, names: &[&str], groups: &[Uuid]) -> Option<Role> {
        let by_name = self.names.iter().find(|(_, known)| known.iter().any(|known| names.contains(&known.as_str())));
        let by_group = self.groups.iter().find(|(_, known)| known.iter().any(|known| groups.contains(known)));
        let named = by_name.map(|(role, _)| *role).max(by_group.map(|(role, _)| *role));
        named.or(self.everybody.then_some(Role::User))
    }

    /// Whether a group could give more than `role`.
    pub(super) fn groups_could_raise(&self, role: Option<Role>) -> bool {
        self.groups.iter().any(|(named, ids)| !ids.is_empty() && Some(*named) > role)
    }
}

/// Whether a value is the id of a group, and no name.
pub(super) fn is_group(value: &str) -> bool {
    value.len() == 36 && Uuid::try_parse(value).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPS: &str = "aaaaaaaa-0000-4000-8000-000000000001";

    fn map(admin: &[&str], user: &[&str]) -> RoleMap {
        let own = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        RoleMap::new([&own(admin), &own(&["Mcp.TenantAdmin"]), &own(&[""]), &own(user)], true, true)
    }

    #[test]
    fn the_greatest_role_that_anything_names_counts() {
        let map = map(&["Mcp.Admin", OPS], &[]);
        let ops = Uuid::parse_str(OPS).unwrap();
        assert_eq!(map.role(&["Mcp.TenantAdmin", "Mcp.Admin"], &[]), Some(Role::Admin));
        assert_eq!(map.role(&["Mcp.TenantAdmin"], &[ops]), Some(Role::Admin));
        assert_eq!(map.role(&["mcp.admin", "Other"], &[]), Some(Role::User), "names are compared as they are");
        assert_eq!(map.role(&[OPS], &[]), Some(Role::User), "a name is no group");
        assert!(map.groups_could_raise(Some(Role::TenantAdmin)) && !map.groups_could_raise(Some(Role::Admin)));
    }

    #[test]
    fn who_is_named_by_nothing_is_a_user_only_where_everybody_is() {
        assert_eq!(map(&[], &["Mcp.User"]).role(&["Other"], &[]), None);
        assert_eq!(map(&[], &["Mcp.User"]).role(&["Mcp.User"], &[]), Some(Role::User));
        assert_eq!(map(&[], &["*"]).role(&[], &[]), Some(Role::User));
        assert_eq!(map(&[], &[]).role(&[""], &[]), Some(Role::User));
        assert!(!map(&["Mcp.Admin"], &[]).groups_could_raise(None));
        assert_eq!(RoleMap::new([&[], &[], &[], &[]], false, false).role(&[], &[]), None);
    }
}
