//! The application's registration in the directory, read from Microsoft Graph; and, where Graph says nothing, whether Entra would
//! send a browser back to the gateway, asked the way a browser asks.

use http::StatusCode;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;

use super::{Asked, Seen, State, ends, seen};
use crate::config::AzureTenant;
use crate::idp::entra::Entra;
use crate::net::Answer;
use crate::secret::Secret;

/// Largest answer, bytes.
const MOST: usize = 1 << 20;
/// What to do for all that Graph would show.
const PERMIT: &str = "to have it checked here, grant the application permission Application.Read.All of Microsoft Graph with admin \
                      consent; else see the admin centre";

/// Looks at what there is to see. `graph` is a token for Microsoft Graph; `secrets` are those that Entra took, by the names of
/// their checks.
pub(super) async fn look(
    asked: &Asked<'_>,
    home: &AzureTenant,
    graph: Option<&Secret>,
    secrets: &[(&str, &Secret)],
    found: &mut Vec<Seen>,
) {
    let application = match graph {
        Some(token) => {
            let select = "$select=passwordCredentials,web,spa,publicClient,api,identifierUris";
            ask(asked, token, &format!("/v1.0/applications(appId='{}')?{select}", asked.client)).await
        }
        None => None,
    };
    let Some(application) = application else {
        if asked.azure.client_secret.is_some() {
            let text = "when the secret ends can be read with Graph only";
            found.push(seen("secret's end", State::NotVisible, text, PERMIT));
        }
        found.push(probed(asked, home).await);
        let text = "whether the scope is offered, and consented to, can be read with Graph only";
        found.push(seen("scope", State::NotVisible, text, PERMIT));
        return;
    };
    for (name, secret) in secrets {
        found.push(end_of_secret(asked, &application, (name, secret), secrets.len() > 1));
    }
    found.push(redirect(asked, &application));
    found.push(version(&application));
    found.push(scope(asked, &application));
    if let Some(token) = graph {
        found.push(consent(asked, token).await);
    }
}

/// A document of Graph; `None` where it may not be read.
async fn ask(asked: &Asked<'_>, token: &Secret, path: &str) -> Option<Value> {
    let base = asked.azure.graph_url.as_str().trim_end_matches('/');
    let url = Url::parse(&format!("{base}{path}")).ok()?;
    let answer = asked.http.bearer(&url, token, MOST).await.ok()?;
    (answer.status == StatusCode::OK).then(|| serde_json::from_slice(&answer.body).ok())?
}

fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// When a secret in use ends; of `several` it is told which one. Entra shows its first three characters only.
fn end_of_secret(asked: &Asked<'_>, application: &Value, (name, secret): (&str, &Secret), several: bool) -> Seen {
    let what = "secret's end";
    let which = |mut seen: Seen| {
        if several {
            seen.text = format!("{name}: {}", seen.text);
        }
        seen
    };
    let all = application["passwordCredentials"].as_array().map_or(&[][..], Vec::as_slice);
    let fits =
        |one: &&Value| one["hint"].as_str().is_some_and(|hint| !hint.is_empty() && secret.expose().starts_with(hint));
    let own: Vec<_> = all.iter().filter(fits).filter_map(|one| one["endDateTime"].as_str()).collect();
    // Entra took it, so it has not ended; of several that begin alike the earliest is the one to look out for.
    let times = own.iter().filter_map(|text| OffsetDateTime::parse(text, &Rfc3339).ok()).filter(|end| *end > asked.now);
    which(match times.min() {
        Some(end) => {
            let advice = "make a second secret, set it as MREG_AZURE_CLIENT_SECRET_NEXT, and remove the old one later";
            ends(what, end, asked.now, advice)
        }
        None => seen(
            what,
            State::NotVisible,
            "no secret of the registration begins like the one in use",
            "see Certificates & secrets",
        ),
    })
}

fn redirect(asked: &Asked<'_>, application: &Value) -> Seen {
    let what = "redirect URI";
    let own = asked.callback.as_str();
    if texts(application, "/web/redirectUris").contains(&own) {
        return seen(what, State::Right, format!("{own} is registered"), "");
    }
    for (platform, name) in
        [("/spa/redirectUris", "Single-page application"), ("/publicClient/redirectUris", "Mobile and desktop")]
    {
        if texts(application, platform).contains(&own) {
            let text = format!("{own} is registered under the platform {name}");
            return seen(what, State::Wrong, text, "remove it there and add it under the platform Web");
        }
    }
    not_registered(own)
}

fn not_registered(own: &str) -> Seen {
    let advice = format!(
        "add {own} under App registrations, the gateway, Authentication, platform Web; if that is not the gateway's address, set \
         MREG_PUBLIC_URL"
    );
    seen("redirect URI", State::Wrong, format!("{own} is not registered (AADSTS50011)"), advice)
}

fn version(application: &Value) -> Seen {
    let what = "manifest";
    match application.pointer("/api/requestedAccessTokenVersion").and_then(Value::as_u64) {
        Some(2) => seen(what, State::Right, "requestedAccessTokenVersion is 2", ""),
        other => {
            let is = other.map_or_else(|| "not set".to_owned(), |version| version.to_string());
            let advice = "set it to 2: App registrations, the gateway, Manifest, in `api`";
            seen(what, State::Doubtful, format!("requestedAccessTokenVersion is {is}"), advice)
        }
    }
}

fn scope(asked: &Asked<'_>, application: &Value) -> Seen {
    let what = "scope";
    let (name, client) = (&asked.azure.scope, asked.client);
    let uri = asked.azure.audience.clone().unwrap_or_else(|| format!("api://{client}"));
    if !texts(application, "/identifierUris").contains(&uri.as_str()) {
        let advice = "add it under Expose an API, or set MREG_AZURE_AUDIENCE to the one that is there";
        return seen(what, State::Wrong, format!("the Application ID URI {uri} is not there"), advice);
    }
    let all = application.pointer("/api/oauth2PermissionScopes").and_then(Value::as_array);
    let offered = all.into_iter().flatten().any(|one| one["value"] == name.as_str() && one["isEnabled"] != false);
    if offered {
        return seen(what, State::Right, format!("{uri}/{name} is offered"), "");
    }
    let advice = "add it under Expose an API, for admins and users, or set MREG_AZURE_SCOPE to the one that is there";
    seen(what, State::Wrong, format!("the scope {name} is not there, or disabled"), advice)
}

/// Whether an administrator consented to the scope for everybody.
async fn consent(asked: &Asked<'_>, token: &Secret) -> Seen {
    let what = "consent";
    let hidden = |text: &str| {
        let advice = "see Enterprise applications, the gateway, Permissions; to have it checked here, grant the application \
                      permission DelegatedPermissionGrant.Read.All of Microsoft Graph with admin consent";
        seen(what, State::NotVisible, text, advice)
    };
    let path = format!("/v1.0/servicePrincipals(appId='{}')?$select=id", asked.client);
    let principal = ask(asked, token, &path).await;
    let Some(id) = principal.as_ref().and_then(|found| found["id"].as_str()) else {
        return hidden("the enterprise application cannot be read");
    };
    let path = format!("/v1.0/oauth2PermissionGrants?$filter=clientId%20eq%20'{id}'");
    let Some(grants) = ask(asked, token, &path).await else { return hidden("grants of consent cannot be read") };
    let name = asked.azure.scope.as_str();
    let given = grants["value"].as_array().into_iter().flatten().any(|grant| {
        // The scope of that name is the gateway's own only where the gateway is what the consent is for.
        grant["consentType"] == "AllPrincipals"
            && grant["resourceId"] == id
            && grant["scope"].as_str().unwrap_or_default().split(' ').any(|scope| scope == name)
    });
    if given {
        return seen(what, State::Right, format!("an administrator consented to {name} for everybody"), "");
    }
    let text = format!("no administrator consented to {name} for everybody");
    let advice = "API permissions, Grant admin consent; without it each person is asked, or refused where people may not consent";
    seen(what, State::Doubtful, text, advice)
}

/// Asks as a browser would that shows no page (prompt=none): Entra sends an error back to a redirect URI that is registered, and
/// shows a page about one that is not.
pub(super) async fn probed(asked: &Asked<'_>, home: &AzureTenant) -> Seen {
    let what = "redirect URI";
    let own = asked.callback.as_str();
    let hidden = || {
        let text = format!("whether {own} is registered was not answered");
        seen(what, State::NotVisible, text, format!("compare it with Authentication, platform Web; {PERMIT}"))
    };
    let entra = Entra::new(asked.azure, home.clone(), asked.client);
    let Some(url) = authorize(asked, &entra) else { return hidden() };
    let Ok(answer) = asked.http.page(&url, MOST).await else { return hidden() };
    if sent_to(&answer).is_some_and(|to| to.starts_with(own)) {
        return seen(what, State::Right, format!("{own} is registered"), "");
    }
    let page = String::from_utf8_lossy(&answer.body);
    if page.contains("AADSTS50011") || page.contains("AADSTS500113") { not_registered(own) } else { hidden() }
}

fn authorize(asked: &Asked<'_>, entra: &Entra) -> Option<Url> {
    let mut url = Url::parse(&entra.base()).ok()?;
    let path = url.path().strip_suffix("/v2.0")?.to_owned();
    url.set_path(&format!("{path}/oauth2/v2.0/authorize"));
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("response_mode", "query")
        .append_pair("client_id", &asked.client.to_string())
        .append_pair("redirect_uri", asked.callback.as_str())
        .append_pair("scope", "openid")
        .append_pair("prompt", "none")
        .append_pair("state", "check");
    Some(url)
}

fn sent_to(answer: &Answer) -> Option<&str> {
    answer.status.is_redirection().then(|| answer.headers.get(http::header::LOCATION)?.to_str().ok())?
}
