//! The limits of the caller at the door of MCP: a request that goes beyond one is answered 429, as JSON-RPC, with what clients need to
//! know when to come again (RFC 9110 section 10.2.3).

use std::time::Duration;

use http::StatusCode;

use crate::access::{AuthError, Caller};
use crate::app::App;
use crate::audit::arguments;
use crate::json;
use crate::limit::guard::Wrong;
use crate::limit::{Absent, Admitted, Limit, Rates, Refused};
use crate::mcp::error::Refusal;
use crate::mcp::exchange::Call;
use crate::mcp::record::Finish;
use crate::store::now;
use crate::telemetry::Outcome;
use crate::web::throttled;

/// The JSON-RPC code of a limit that was reached.
pub(super) const RATE_LIMITED: i32 = -31_014;

/// Lets the call through, or says which limit it has reached. What is returned says what it took: nothing, if it only asks now and then
/// whether anybody is there. A client that heard nothing of that would take the connection for lost.
pub(super) async fn admit(call: &mut Call) -> Result<Option<Admitted>, Refusal> {
    if call.message.method() == "ping" && call.app.limits.admit_ping(call.app.who(&call.caller)) {
        return Ok(None);
    }
    match call.app.limits.admit(call.app.who(&call.caller)).await {
        Ok(mut admitted) => {
            if let Some(permit) = admitted.permit.take() {
                call.finish.keep(permit);
            }
            call.finish.fill(|operation| operation.tool_apart = admitted.measures_tools());
            if admitted.shows_arguments() {
                show(call);
            }
            Ok(Some(admitted))
        }
        Err(refused) => Err(refuse_call(call, refused)),
    }
}

/// Has the record show what is called with, as the tenant wants it.
fn show(call: &mut Call) {
    if !matches!(&*call.message.method(), "tools/call" | "prompts/get") {
        return;
    }
    let shown = call.message.member("arguments").map(arguments);
    call.finish.fill(|operation| operation.shown = shown);
}

/// The same for what is no call: only the user's own limit counts.
pub(super) fn admit_user(app: &App, caller: &Caller, finish: &mut Finish) -> Result<(), Refusal> {
    app.limits.admit_user(app.who(caller)).map_err(|refused| refuse(app, caller, finish, refused))
}

/// The same for a message that wants no answer.
pub(super) fn admit_note(call: &mut Call) -> Result<(), Refusal> {
    admit_user(&call.app, &call.caller, &mut call.finish).inspect_err(|_| tell_guard(call))
}

/// Lets on a call that made room for others while it waited for its user.
pub(super) async fn admit_again(call: &mut Call, absent: Absent) -> Result<(), Refusal> {
    match call.app.limits.admit_again(absent).await {
        Ok(permit) => {
            if let Some(permit) = permit {
                call.finish.keep(permit);
            }
            Ok(())
        }
        Err(refused) => Err(refuse_call(call, refused)),
    }
}

/// Lets the call on to a server of which only so much may be asked, or gives back what it took before. `tool` is what it calls there.
pub(super) fn admit_at(call: &mut Call, rates: &Rates, tool: Option<&str>, admitted: Admitted) -> Result<(), Refusal> {
    call.app.limits.admit_at(rates, tool).map_err(|refused| {
        call.app.limits.undo(admitted);
        refuse_call(call, refused)
    })
}

fn refuse_call(call: &mut Call, refused: Refused) -> Refusal {
    tell_guard(call);
    refuse(&call.app, &call.caller, &mut call.finish, refused)
}

/// An answer among others on one stream has no status, by which the guard of addresses would hear of it.
fn tell_guard(call: &Call) {
    if let Some(address) = call.finish.address().filter(|_| call.carried) {
        call.app.guard.refused(address, Wrong::Throttled, now());
    }
}

fn refuse(app: &App, caller: &Caller, finish: &mut Finish, refused: Refused) -> Refusal {
    app.throttled(caller.tenant().as_str(), refused.limit);
    let refusal = refusal(refused, caller);
    finish.note(&refusal);
    finish.end(Outcome::RateLimited);
    refusal
}

/// The same for an address that shows no credential.
pub(super) fn without_credential(error: AuthError, rpm: u32, seconds: u32) -> Refusal {
    let mut refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, RATE_LIMITED, format!("Rate limited: {error}"));
    refusal.retry_after = Some(Duration::from_secs(seconds.into()));
    refusal.headers = throttled::fields(Limit::Ip, rpm.into(), seconds.into()).collect();
    refusal
}

fn refusal(refused: Refused, caller: &Caller) -> Refusal {
    let Refused { limit, rpm, wait, at_once } = refused;
    let whose = match limit {
        Limit::Global => "this gateway".to_owned(),
        Limit::Tenant => format!("the tenant `{}`", caller.tenant()),
        Limit::User => "your account".to_owned(),
        Limit::Ip | Limit::Ddos => "your address".to_owned(),
        Limit::Server => "this server".to_owned(),
        Limit::Tool => "this tool".to_owned(),
    };
    let seconds = refused.seconds();
    let what = if at_once { "served at once" } else { "a minute" };
    let text =
        format!("Rate limited: {whose} has had what it may have now, {rpm} requests {what}; try again in {seconds} s");
    let mut refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, RATE_LIMITED, text);
    refusal.data = Some(format!(
        "{{\"limit\":{},\"rpm\":{},\"retryAfterMs\":{}}}",
        json::quote(limit.label()),
        if at_once { "null".to_owned() } else { rpm.to_string() },
        wait.as_millis()
    ));
    refusal.retry_after = Some(wait);
    if !at_once {
        refusal.headers = throttled::fields(limit, rpm, seconds).collect();
    }
    refusal
}
