//! `export`: the registry as a file for `apply`. The gateway never gives secrets out; in their place stands `${NAME}`, to be
//! filled from the environment of whoever applies the file.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Verdict;
use super::failure::Failure;
use super::gateway::Gateway;
use super::manifest::{Brief, FIELDS};
use super::screen::{Screen, clean};

/// Print the registry as a file for `apply`
#[derive(Debug, Args)]
#[command(
    after_help = "Secrets are not printed: in their place stands ${NAME}, filled by `apply` from its environment.\n\n\
Examples:\n  mcp-gateway export > gateway.yaml\n  mcp-gateway export --json"
)]
pub struct Export {}

/// Prints it.
pub async fn run(_export: &Export, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    let mut views = gateway.all(&["servers"]).await?;
    // What another tenant offers is not this one's to describe.
    views.retain(|view| view.get("offered_by").is_none());
    views.sort_by_key(|view| view["slug"].as_str().unwrap_or_default().to_owned());
    let mut names = Vec::new();
    let servers: Vec<Brief> = views.iter().map(|view| Brief::of(without_secrets(fields(view), &mut names))).collect();
    let (tenants, unnamed) = tenants(gateway).await?;
    screen.show(&json!({ "tenants": tenants, "servers": servers }), || yaml(&tenants, &unnamed, &servers, &names))?;
    Ok(Verdict::Fine)
}

/// The tenants, for whoever may apply them, and the names of those whose directories are left out: to name what the gateway wrote down
/// by itself is for somebody to decide.
async fn tenants(gateway: &Gateway) -> anyhow::Result<(Vec<Brief>, Vec<String>)> {
    if gateway.get(&["me"]).await?.value["role"] != "admin" {
        return Ok(Default::default());
    }
    let views = match gateway.all(&["admin", "tenants"]).await.map_err(Failure::of) {
        Ok(views) => views,
        // A key that may less than its holder.
        Err(failure) if failure.status == Some(403) => return Ok(Default::default()),
        Err(failure) => return Err(failure.into()),
    };
    let mut unnamed = Vec::new();
    let brief = |view: Value| {
        let Value::Object(mut whole) = view else { return None };
        let assumed = whole.remove("assumed_entra_tenant_ids");
        if assumed.as_ref().and_then(Value::as_array).is_some_and(|ids| !ids.is_empty()) {
            whole.remove("entra_tenant_ids");
            unnamed.extend(whole.get("tenant_id").and_then(Value::as_str).map(str::to_owned));
        }
        Some(Brief::tenant(whole))
    };
    Ok((views.into_iter().filter_map(brief).collect(), unnamed))
}

/// The part of a server's view that describes it.
pub fn fields(view: &Value) -> Map<String, Value> {
    let pick = |name: &&str| Some(((*name).to_owned(), view.get(*name)?.clone()));
    FIELDS.iter().filter_map(pick).collect()
}

fn without_secrets(mut fields: Map<String, Value>, names: &mut Vec<String>) -> Map<String, Value> {
    let slug = fields.get("slug").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut hide = |key: &str, value: &mut Value| {
        let name = variable(&slug, key);
        *value = format!("${{{name}}}").into();
        names.push(name);
    };
    for field in ["headers", "env"] {
        for (key, value) in fields.get_mut(field).and_then(Value::as_object_mut).into_iter().flatten() {
            hide(key, value);
        }
    }
    for field in ["auth", "discovery_auth"] {
        let Some(auth) = fields.get_mut(field).and_then(Value::as_object_mut) else { continue };
        if let Some(secret) = auth.get_mut("client_secret") {
            hide(&format!("{field}_client_secret"), secret);
        }
        for (key, value) in auth.get_mut("headers").and_then(Value::as_object_mut).into_iter().flatten() {
            hide(&format!("{field}_{key}"), value);
        }
    }
    fields
}

/// A name for the secret `key` of a server: `FILES_API_TOKEN`. The slug may begin with a digit, a variable may not.
fn variable(slug: &str, key: &str) -> String {
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = format!("{slug}_{key}").chars().map(upper).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn yaml(tenants: &[Brief], unnamed: &[String], servers: &[Brief], names: &[String]) -> String {
    #[derive(Serialize)]
    struct File<'a> {
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        tenants: &'a [Brief],
        servers: &'a [Brief],
    }
    let mut out = "# The registry of an MCP gateway. Apply it with: mcp-gateway apply -f FILE\n".to_owned();
    if !names.is_empty() {
        out.push_str("# Secrets come from the environment of that command:\n");
        for name in names {
            let _ = writeln!(out, "#   {name}");
        }
    }
    for tenant in unnamed {
        let _ =
            writeln!(out, "# The directories of the tenant {} are left out: nobody named some of them.", clean(tenant));
    }
    // A list of JSON values always has a YAML form.
    out.push_str(&serde_saphyr::to_string(&File { tenants, servers }).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::manifest;

    #[test]
    fn secrets_of_credentials_are_left_to_the_environment_too() {
        let client =
            json!({"kind": "client_credentials", "issuer": "https://as", "client_id": "g", "client_secret": "***"});
        let own = json!({"kind": "headers", "headers": {"X-Key": "***"}});
        let view = json!({"slug": "a", "replicas": [{"url": "https://a"}], "auth": client, "discovery_auth": own});
        let mut names = Vec::new();
        let brief = Brief::of(without_secrets(fields(&view), &mut names));
        assert_eq!(names, ["A_AUTH_CLIENT_SECRET", "A_DISCOVERY_AUTH_X_KEY"]);
        let text = yaml(&[], &[], &[brief], &names);
        let read =
            manifest::read("f", &text, |name| names.iter().any(|known| known == name).then(|| "v".into())).unwrap();
        let spec = &read.servers[0];
        assert_eq!(spec.auth.client_secret.as_ref().unwrap().expose(), "v");
        assert_eq!(spec.discovery_auth.headers["X-Key"].expose(), "v");
    }

    #[test]
    fn what_is_exported_can_be_applied_again() {
        let view = json!({"slug": "9-files", "title": "9-files", "description": "a: b # c", "transport": "stdio", "replicas": [],
            "command": {"program": "npx", "args": ["-y", "@x/y", "", "yes", "1"]}, "env": {"API-KEY": "***"}, "headers": {},
            "sharing": "per_user", "tags": ["null"], "visibility": {"everyone": true, "roles": [], "users": []},
            "timeouts": {"connect_ms": 5000, "idle_ms": 1000, "total_ms": 3_600_000},
            "rate_limits": {"rpm": 600, "tools": {"search": 30}}, "protocol": "auto",
            "balance": "round_robin", "enabled": true, "id": "x", "revision": 3, "status": {"state": "ready"}});
        let mut names = Vec::new();
        let brief = Brief::of(without_secrets(fields(&view), &mut names));
        assert_eq!(names, ["_9_FILES_API_KEY"]);
        let tenant = json!({"tenant_id": "acme", "display_name": "yes", "state": "suspended", "guests": false,
            "entra_tenant_ids": ["11111111-1111-4111-8111-111111111111"], "role_mappings": [{"value": "*", "role": "user"}],
            "rate_limits": {"base_rpm": null, "fairness_weight": 2.5}, "features": {"priority_support": true},
            "retention": {"audit_days": 30}, "created_at": "x"});
        let tenant = Brief::tenant(tenant.as_object().unwrap().clone());
        let text = yaml(&[tenant], &["default".into()], &[brief], &names);
        assert!(text.contains("of the tenant default are left out") && !text.contains("created_at"), "{text}");
        let read = manifest::read("f", &text, |name| (name == "_9_FILES_API_KEY").then(|| "v".into())).unwrap();
        let spec = &read.servers[0];
        assert_eq!(spec.command.as_ref().unwrap().args, ["-y", "@x/y", "", "yes", "1"]);
        assert_eq!((spec.description.as_str(), spec.tags[0].as_str()), ("a: b # c", "null"));
        assert_eq!(spec.timeouts.idle_ms, 1000);
        assert_eq!((spec.rate_limits.rpm, spec.rate_limits.tools["search"]), (Some(600), 30));
        assert_eq!(spec.env["API-KEY"].expose(), "v");
        let tenant = serde_json::to_value(&read.tenants[0]).unwrap();
        assert_eq!((&tenant["display_name"], &tenant["state"]), (&json!("yes"), &json!("suspended")));
        assert_eq!(
            tenant["rate_limits"],
            json!({"base_rpm": null, "fairness_weight": 2.5}),
            "what takes away stays said"
        );
    }
}
