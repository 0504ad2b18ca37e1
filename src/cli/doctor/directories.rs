//! Whether the roles are taken that directories of Entra give: where several are let in, only of those that a tenant names.

use serde_json::Value;

use crate::cli::findings::{Findings, Mark};
use crate::config::{AllowedTenant, Azure, LetIn};

const CHECK: &str = "roles of Entra";
const ADVICE: &str =
    "name each for its tenant: `mcp-gateway tenants edit TENANT`, with --directory for each that it has";

/// Compares the directories that are let in with those that `tenants` name; none where that is not known.
pub(super) fn check(azure: &Azure, tenants: Option<&[Value]>, found: &mut Findings) {
    if azure.lets_in() != LetIn::Several {
        return;
    }
    let Some(tenants) = tenants else {
        let what = "several directories are let in; roles above `user` are taken of those that a tenant names";
        return found.fine(CHECK, what);
    };
    let all = |name: &str| {
        let ids = tenants.iter().filter_map(|tenant| tenant[name].as_array()).flatten();
        ids.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let (there, assumed) = (all("entra_tenant_ids"), all("assumed_entra_tenant_ids"));
    let listed = azure.allowed_tenants.iter().filter_map(|allowed| match allowed {
        AllowedTenant::Id(id) => Some(id.to_string()),
        AllowedTenant::Any => None,
    });
    let mut left: Vec<_> = listed.filter(|id| !there.contains(id)).chain(assumed).collect();
    left.sort();
    left.dedup();
    let any = azure.allowed_tenants.contains(&AllowedTenant::Any);
    if !left.is_empty() {
        let what = format!("no role above `user` is taken of directories that nobody named: {}", left.join(", "));
        found.say(CHECK, Mark::Warn, what, ADVICE);
    } else if there.is_empty() && any {
        let what = "every directory is let in and none is named: no role above `user` is taken of any";
        found.say(CHECK, Mark::Warn, what, ADVICE);
    } else {
        found.fine(CHECK, "taken of the directories that tenants name, and of no other that is let in");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{DotEnv, Settings};

    const CONTOSO: &str = "c0170000-0000-4000-8000-000000000001";
    const FABRIKAM: &str = "fab00000-0000-4000-8000-000000000002";

    fn found(tenant: &str, allowed: &str, tenants: Option<&[Value]>) -> Vec<(Mark, String)> {
        let settings = Settings::from_args(
            [
                format!("--azure-tenant-id={tenant}"),
                "--azure-client-id=11111111-1111-4111-8111-111111111111".to_owned(),
                "--azure-client-secret=gateway-secret-1".to_owned(),
                format!("--azure-allowed-tenants={allowed}"),
            ],
            &DotEnv::default(),
        );
        let mut found = Findings::default();
        check(&settings.unwrap().azure, tenants, &mut found);
        found.0.into_iter().map(|finding| (finding.mark, finding.what)).collect()
    }

    #[test]
    fn a_directory_among_several_that_nobody_named_is_told() {
        let both = format!("{CONTOSO},{FABRIKAM}");
        let named = |assumed: &[&str]| {
            vec![
                json!({ "entra_tenant_ids": [CONTOSO, FABRIKAM], "assumed_entra_tenant_ids": assumed }),
                json!({ "entra_tenant_ids": [], "assumed_entra_tenant_ids": [] }),
            ]
        };
        assert_eq!(found(CONTOSO, CONTOSO, Some(&[])), [], "the only one");
        assert_eq!(found("organizations", CONTOSO, Some(&[])), [], "the only one");
        assert_eq!(found("organizations", &both, None)[0].0, Mark::Ok, "not known");
        let none = &found("organizations", &both, Some(&[]))[0];
        assert!(none.0 == Mark::Warn && none.1.contains(CONTOSO) && none.1.contains(FABRIKAM), "{none:?}");
        let one = &found("organizations", &both, Some(&named(&[FABRIKAM])))[0];
        assert!(one.0 == Mark::Warn && !one.1.contains(CONTOSO) && one.1.contains(FABRIKAM), "{one:?}");
        assert_eq!(found("organizations", &both, Some(&named(&[])))[0].0, Mark::Ok);
        assert_eq!(found("organizations", "*", Some(&[]))[0].0, Mark::Warn);
        assert_eq!(found("organizations", "*", Some(&named(&[])))[0].0, Mark::Ok);
    }
}
