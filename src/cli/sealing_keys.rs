//! `keys rotate` and `keys status`: the keys that seal secrets, which have nothing to do with API keys but the word.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Verdict;
use super::failure::{Failure, unknown};
use super::gateway::Gateway;
use super::screen::{Screen, Table, Tone, note, text_at};

const ROTATE: &str = "\
These keys seal what the gateway keeps: headers and environments of servers, tokens of identity
providers. Each tenant has its own, and all are sealed under the master key. A new key seals from
now on; what older ones sealed is sealed anew while everything goes on, and then they go.

An API key is not rotated: make another with `keys create`, and end the old one with `keys revoke`.

Examples:
  mcp-gateway keys rotate                   # a new key for each tenant
  mcp-gateway keys rotate --tenant acme
  mcp-gateway keys rotate --master          # after the gateway was started with a new master key";

const STATUS: &str = "Examples:\n  mcp-gateway keys status\n  mcp-gateway keys status --tenant acme --json";

/// Replace the keys that seal stored secrets (not API keys)
#[derive(Debug, Args)]
#[command(after_help = ROTATE)]
pub(super) struct Rotate {
    /// Only of this tenant [default: of each]
    #[arg(long, value_name = "ID", conflicts_with = "master")]
    tenant: Option<String>,
    /// Seal under the new master key what the previous ones sealed
    #[arg(long)]
    master: bool,
    /// Do not wait until everything is sealed anew
    #[arg(long)]
    no_wait: bool,
    /// Longest wait
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait: u64,
    // Whoever takes this for the rotation of an API key is told.
    #[arg(hide = true)]
    name: Option<String>,
}

/// Show which keys seal stored secrets, and what still names an old one
#[derive(Debug, Args)]
#[command(after_help = STATUS)]
pub(super) struct Status {
    /// The keys of one tenant
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
}

const PATH: [&str; 2] = ["admin", "sealing-keys"];
/// Between the first two looks at how far it is; then longer and longer, as each has the gateway count.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Carries out `keys rotate`.
pub(super) async fn rotate(order: Rotate, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    if let Some(name) = &order.name {
        let what = format!("`keys rotate` takes no key (`{}`)", super::screen::clean(name));
        let advice = "an API key is replaced by another: `mcp-gateway keys create`, then `mcp-gateway keys revoke ID`";
        return Err(Failure::usage(what).advise(advice).into());
    }
    let part = if order.master { "master" } else { "data" };
    let mut body = json!({ "what": part });
    if let Some(tenant) = &order.tenant {
        body["tenant_id"] = tenant.as_str().into();
    }
    let asked = gateway.post(&[PATH[0], "rotate-sealing-keys"], &body).await;
    let mut view = match &order.tenant {
        Some(tenant) => {
            asked.map_err(|error| unknown(error, ("tenant", "tenants list"), tenant))?;
            look(&order, gateway).await?
        }
        None => asked?,
    };
    let end = Instant::now() + Duration::from_secs(order.wait);
    let (mut told, mut pause) = (None, PAUSE);
    while !order.no_wait && !is_done(values(&view, &order)) && Instant::now() < end {
        let left = values(&view, &order)["stale"].as_i64().unwrap_or_default();
        if !screen.is_json() && told.replace(left) != Some(left) {
            note(&format!("{left} values are to be sealed anew"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        view = look(&order, gateway).await?;
    }
    screen.show(&view, || if order.tenant.is_some() { keys(&view) } else { lines(&view) })?;
    if order.no_wait || is_done(values(&view, &order)) {
        return Ok(Verdict::Fine);
    }
    note(&format!(
        "not everything is sealed anew after {} s; it goes on: look at `mcp-gateway keys status`",
        order.wait
    ));
    Ok(Verdict::Bad)
}

/// What was rotated, as it is now; of one tenant nothing but what is its own.
async fn look(order: &Rotate, gateway: &Gateway) -> anyhow::Result<Value> {
    let path = PATH.into_iter().chain(order.tenant.as_deref());
    Ok(gateway.get(&path.collect::<Vec<_>>()).await?.value)
}

/// The part of it that says how much is to be sealed anew.
fn values<'a>(view: &'a Value, order: &Rotate) -> &'a Value {
    match (&order.tenant, order.master) {
        (Some(_), _) => view,
        (None, true) => &view["master"],
        (None, false) => &view["data"],
    }
}

/// Whether everything that can be is sealed under the newest key.
fn is_done(values: &Value) -> bool {
    values["stale"] == 0 && values["open"] != true
}

/// Carries out `keys status`.
pub(super) async fn status(status: Status, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    let Some(tenant) = &status.tenant else {
        let view = gateway.get(&PATH).await?.value;
        screen.show(&view, || lines(&view))?;
        return Ok(Verdict::Fine);
    };
    let view = gateway.get(&[PATH[0], PATH[1], tenant]).await;
    let view = view.map_err(|error| unknown(error, ("tenant", "tenants list"), tenant))?.value;
    screen.show(&view, || keys(&view))?;
    Ok(Verdict::Fine)
}

fn lines(view: &Value) -> String {
    let previous: Vec<_> =
        view["master"]["previous"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut table = Table::new(&["", ""]);
    let mut row = |label: &str, text: String| table.row([(label.to_owned(), Tone::Dim), (text, Tone::Plain)]);
    row("master key", text_at(view, "/master/key_id"));
    row("previous master keys", if previous.is_empty() { "-".to_owned() } else { previous.join(", ") });
    row("sealed under it", sealed(&view["master"]));
    row("sealed anew", text_at(view, "/master/resealed_at"));
    row("keys of tenants", format!("{} of {} tenants", text_at(view, "/data/keys"), text_at(view, "/data/tenants")));
    row("of these retired", text_at(view, "/data/retired"));
    row("sealed under them", sealed(&view["data"]));
    row("last rotated", text_at(view, "/data/rotated_at"));
    row("retired keys go after", text_at(view, "/data/retired_until"));
    table.render("") + &unreadable([&view["master"], &view["data"]])
}

/// Which values do not open, where there are any.
fn unreadable<const N: usize>(parts: [&Value; N]) -> String {
    let mut table = Table::new(&["DAMAGED", "ROW", "TENANT"]);
    let named = parts.into_iter().filter_map(|part| part["unreadable_values"].as_array()).flatten();
    let named: Vec<&Value> = named.collect();
    if named.is_empty() {
        return String::new();
    }
    for value in named {
        table.row(["column", "row", "tenant_id"].map(|field| (text_at(value, &format!("/{field}")), Tone::Plain)));
    }
    format!("\n{}", table.render(""))
}

fn sealed(part: &Value) -> String {
    let count = |name: &str| part[name].as_i64().unwrap_or_default();
    let mut text = format!("{} values", count("values"));
    for (name, what) in [
        ("stale", "to be sealed anew"),
        ("running_out", "under an older key, over within minutes"),
        ("unreadable", "damaged, though their key is there"),
        ("lost", "whose key is not there"),
    ] {
        if count(name) > 0 {
            let _ = write!(text, ", {} {what}", count(name));
        }
    }
    text
}

fn keys(view: &Value) -> String {
    let mut table = Table::new(&["KEY", "GENERATION", "VALUES", "MADE", "RETIRED"]);
    for key in view["keys"].as_array().into_iter().flatten() {
        let texts = ["key_id", "generation", "values", "created_at", "retired_at"];
        table.row(texts.map(|field| (text_at(key, &format!("/{field}")), Tone::Plain)));
    }
    table.render("no key yet: nothing of the tenant is sealed") + &unreadable([view])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_open_is_named_and_not_waited_for() {
        let value = json!({"column": "logins.tokens", "row": "0190", "tenant_id": "acme"});
        let data = json!({"values": 9, "stale": 0, "unreadable": 1, "lost": 2, "unreadable_values": [value]});
        let view = json!({"master": {"values": 3, "unreadable": 0, "unreadable_values": []}, "data": data});
        let page = lines(&view);
        assert!(page.contains("9 values, 1 damaged, though their key is there, 2 whose key is not there"), "{page}");
        assert!(page.contains("DAMAGED") && page.contains("logins.tokens") && page.contains("acme"), "{page}");
        assert!(is_done(&view["data"]));
        assert!(!lines(&json!({"master": {}, "data": {}})).contains("DAMAGED"));
    }
}
