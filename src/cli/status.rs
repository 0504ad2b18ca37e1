//! `status`: how the gateway is, who the key is, how many servers are in which state, and, for administrators, who is there now and what
//! that takes.

mod now;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::Method;
use serde_json::{Value, json};

use super::Verdict;
use super::failure::Failure;
use super::gateway::Gateway;
use super::screen::{Screen, Table, Tone, clean, text_at};
use super::view::state_tone;

/// Shows it. Bad when the gateway does not call itself well.
pub async fn run(gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    // A gateway that is unwell answers 503 with the same body.
    let answer = gateway.raw(Method::GET, &gateway.url(&["health"]), None, None).await?;
    let health: Value = serde_json::from_slice(&answer.body)
        .ok()
        .filter(|health: &Value| health["status"].is_string())
        .ok_or_else(|| Failure::from_answer(answer.status.as_u16(), &answer.body))?;
    let me = if gateway.has_key() { Some(gateway.get(&["me"]).await?.value) } else { None };
    let servers = if me.is_some() { gateway.all(&["servers"]).await? } else { Vec::new() };
    let mut states: BTreeMap<String, u64> = BTreeMap::new();
    for server in &servers {
        *states.entry(text_at(server, "/status/state")).or_default() += 1;
    }
    let now = if me.is_some() { now::read(gateway).await? } else { None };
    let document = json!({ "gateway": gateway.base(), "health": health, "me": me, "servers": states, "now": now });
    let well = is_well(&text_at(&health, "/status"));
    screen.show(&document, || {
        let now = now.as_ref().map(now::render).unwrap_or_default();
        render(gateway.base(), &health, me.as_ref(), &states) + &now
    })?;
    if !well {
        super::screen::note("`mcp-gateway doctor` says what to do about what is not well");
    }
    Ok(if well { Verdict::Fine } else { Verdict::Bad })
}

/// Whether a word of `/health` means that nothing is broken.
pub fn is_well(status: &str) -> bool {
    matches!(status, "ok" | "healthy" | "up" | "pass" | "ready" | "degraded" | "warn")
}

fn tone(status: &str) -> Tone {
    match status {
        "degraded" | "warn" => Tone::Warn,
        status if is_well(status) => Tone::Good,
        _ => Tone::Bad,
    }
}

fn render(base: &str, health: &Value, me: Option<&Value>, states: &BTreeMap<String, u64>) -> String {
    let status = text_at(health, "/status");
    let mut out = format!("gateway  {base}  {}\n", tone(&status).paint(&clean(&status)));
    match me {
        Some(me) => {
            let name = ["/name", "/subject", "/id"].iter().map(|at| text_at(me, at)).find(|name| name != "-");
            let name = name.unwrap_or_else(|| "-".to_owned());
            let _ = writeln!(out, "key      {} ({})", clean(&name), clean(&text_at(me, "/role")));
            let counts =
                states.iter().map(|(state, count)| state_tone(state).paint(&format!("{count} {}", clean(state))));
            let counts: Vec<String> = counts.collect();
            let _ = writeln!(out, "servers  {}", if counts.is_empty() { "none".into() } else { counts.join(", ") });
        }
        None => out.push_str("key      none; give one with --key or MREG_API_KEY to see more\n"),
    }
    let mut table = Table::new(&["COMPONENT", "STATUS", "DETAIL"]);
    for (name, component) in health["components"].as_object().into_iter().flatten() {
        let status = component.as_str().map_or_else(|| text_at(component, "/status"), str::to_owned);
        let detail =
            ["/detail", "/reason", "/message"].iter().map(|at| text_at(component, at)).find(|text| text != "-");
        let shown = tone(&status);
        table.row([(name.clone(), Tone::Plain), (status, shown), (detail.unwrap_or_default(), Tone::Dim)]);
    }
    if health["components"].as_object().is_some_and(|all| !all.is_empty()) {
        out.push('\n');
        out.push_str(&table.render(""));
    }
    out
}
