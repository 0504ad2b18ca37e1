//! What to do about an attempt that stopped: by what the provider's number means, by the reason, or by the step that never came.

use crate::idp::aadsts;

/// What to do about a stop at `step` for `reason`; `None` where nothing is known that helps.
pub(in crate::admin) fn of(step: &str, reason: &str) -> Option<String> {
    if let Some(known) = aadsts::explain(reason).filter(|_| reason.starts_with("AADSTS")) {
        return Some(format!("{} {}", known.what, known.advice));
    }
    if reason == "never_came" || reason == "awaited" {
        return never_came(step).map(str::to_owned);
    }
    let found = ADVICE.iter().find(|(word, at, _)| *word == reason && (at.is_empty() || *at == step));
    found.map(|(.., advice)| (*advice).to_owned())
}

/// About a step that was waited for.
fn never_came(step: &str) -> Option<&'static str> {
    Some(match step {
        "authorize" => {
            "The program stopped after it read the gateway's metadata or registered. Mostly the address that it was given is not \
             the public URL, or it refuses something in the metadata: `mcp-gateway doctor oauth` plays it and names what."
        }
        "consent" => {
            "Ask the person to begin again in the program and to press Allow on the gateway's page. A browser that opens the page \
             and shows nothing may be kept from it by a proxy."
        }
        "account" => "Ask the person to begin again and finish signing in; the page is good for ten minutes.",
        "callback" => {
            "What Entra shows when it sends nobody back is on the person's screen: ask for the AADSTS number there. AADSTS50011 is \
             a redirect URI that is not registered; `mcp-gateway entra check` looks at that and more."
        }
        "token" => {
            "The browser had the code and the program did not fetch its token. Either the redirect did not reach it (it was \
             stopped, another program has its port, a browser asked whether to open it), or it refuses the answer, as when `iss` is \
             not the issuer that it was told."
        }
        "call" => {
            "The program has what it needs. If it says that it is not signed in, restart it; it may have stored nothing. If its \
             calls go to another address than the public URL, that is why they do not come."
        }
        _ => return None,
    })
}

/// About `prompt=none`.
const WITHOUT_A_PAGE: &str = "The program asked to sign in without a page (prompt=none), which this gateway never does, whoever is \
     signed in and whatever was allowed: begin in the program, in a way that opens a page.";

/// About scopes.
const SCOPES: &str = "The program asks for scopes that it may not have here; for a registered one: `mcp-gateway clients edit ID --scope`.";

/// Reasons with what to do; a step's name where the word alone would not say which it is.
const ADVICE: &[(&str, &str, &str)] = &[
    (
        "other_tenant",
        "account",
        "The account is of another tenant, in which it was made: an administrator of that one removes it (`mcp-gateway users remove \
         NAME`), or the directory is named there again.",
    ),
    (
        "unknown_directory",
        "",
        "No tenant names the person's directory: `mcp-gateway tenants edit TENANT --directory GUID`, with all of that tenant's in \
         one call.",
    ),
    (
        "no_tenant",
        "",
        "The tenant of the provider's people (MREG_OIDC_TENANT) does not exist: `mcp-gateway tenants add TENANT`, or name one \
         that does.",
    ),
    (
        "guest",
        "",
        "The person is a guest of the directory, and the tenant takes none: `mcp-gateway tenants edit TENANT --guests`, or the \
         person chooses an account that is at home there.",
    ),
    ("suspended", "", "The tenant is suspended: `mcp-gateway tenants edit TENANT --resume`."),
    (
        "lapsed",
        "",
        "The identity provider has said that the person may not come in. When it lets the person in again, signing in at the \
         gateway's pages is enough.",
    ),
    (
        "not_anew",
        "",
        "The program wants the person to sign in anew, and the provider took an earlier sign-in: begin again.",
    ),
    (
        "untrusted",
        "assertion",
        "Nobody here trusts the issuer for this, or only somebody of a lesser role than the program's: `mcp-gateway trust list`.",
    ),
    (
        "never_signed_in",
        "",
        "People of this issuer sign in at the gateway once, before it introduces them to programs: ask the person to open the \
         gateway's address with /access.",
    ),
    (
        "other_client",
        "assertion",
        "The issuer made the assertion for another client id: tell it the one that the program has here.",
    ),
    (
        "expired",
        "assertion",
        "The assertion was too old, or good for too long; get a new one, and see that the clocks agree.",
    ),
    (
        "unknown_client",
        "",
        "In the program, remove the connection to this gateway and add it anew, so that it registers again. Client ids end when \
         the gateway gets another master key, and one made at another gateway is none here.",
    ),
    (
        "invalid_document",
        "",
        "The program's metadata document is at fault; its maker has to correct it. Until then register the program: \
         `mcp-gateway clients add`.",
    ),
    (
        "document_unreachable",
        "",
        "The gateway fetches the document in which the program describes itself. Let it reach that host over https, name a host \
         inside your network in MREG_CLIENT_METADATA_HOSTS, or register the program: `mcp-gateway clients add`.",
    ),
    (
        "redirect_uri",
        "client",
        "The program asks for another address than it registered. If an administrator registered it: `mcp-gateway clients edit ID \
         --redirect URI`; else remove and add the connection in the program, so that it registers again.",
    ),
    (
        "redirect_uri",
        "token",
        "The program showed another redirect URI than it began with: its maker has to correct that.",
    ),
    ("no_client", "", "The request was cut off or made by hand: begin in the program."),
    (
        "denied",
        "",
        "Somebody pressed Deny, or Cancel at the provider. If that was a mistake, begin again in the program.",
    ),
    (
        "invalid_target",
        "",
        "The program asks for an address that is no resource here. Give it the public URL with /mcp or /mcp/SERVER.",
    ),
    (
        "resource",
        "",
        "The program changed the address between two steps. Give it the public URL, exactly, and sign in again.",
    ),
    ("invalid_scope", "", SCOPES),
    ("scope", "", SCOPES),
    (
        "unauthorized_client",
        "",
        "The program is not registered for this way of getting tokens: `mcp-gateway clients edit ID --grant`, with each that it has.",
    ),
    ("login_required", "", WITHOUT_A_PAGE),
    ("consent_required", "", WITHOUT_A_PAGE),
    ("interaction_required", "", WITHOUT_A_PAGE),
    (
        "invalid_request",
        "request",
        "The program's request lacks something that OAuth 2.1 requires, such as PKCE with S256: a newer version of it may not.",
    ),
    (
        "other_browser",
        "",
        "The person began in one browser and ended in another, or the browser keeps no cookies of this site. Begin again, stay in \
         one browser, and allow cookies of the gateway's host. A gateway behind a proxy must be reached by its public URL.",
    ),
    (
        "state",
        "",
        "The answer came too late (ten minutes), twice (somebody went back), or belongs to another gateway that uses the same \
         application. Begin again in the program.",
    ),
    ("csrf", "", "The page was not the one that the gateway showed: begin again, and do not go back in the browser."),
    ("gone", "", "It took longer than ten minutes, or was finished in another tab: begin again in the program."),
    ("wrong_password", "", "Try again, or set a new one: `mcp-gateway users password NAME`."),
    (
        "throttled",
        "",
        "Too many wrong passwords came from the person's network address within a minute: wait as long as the page says. Where many \
         people share an address, raise MREG_RATE_LIMIT_FAILURES_RPM; behind a proxy, look at MREG_TRUSTED_PROXIES.",
    ),
    ("too_many_attempts", "", "Wait as long as the page says; then try the right password, or set a new one."),
    (
        "refused",
        "",
        "The directory is not let in (MREG_AZURE_ALLOWED_TENANTS), or the person has no role of the application: give one under \
         Enterprise applications, Users and groups, or leave MREG_AZURE_ROLE_USER empty.",
    ),
    ("disabled", "", "The account is disabled: `mcp-gateway users enable NAME`, or enable it at the provider."),
    (
        "our_credential",
        "",
        "The provider refuses the gateway's own credential: `mcp-gateway entra check` says which and what to do.",
    ),
    (
        "configuration",
        "",
        "The gateway's registration at the provider is not right: `mcp-gateway entra check` looks at it.",
    ),
    (
        "consent_missing",
        "",
        "An administrator of the directory grants consent: Enterprise applications, the gateway, Permissions.",
    ),
    (
        "temporary",
        "",
        "The provider did not answer. Try again; if it stays, look at the network and at the provider's service health.",
    ),
    ("loop", "", "Wait some minutes: the provider was asked the same too often."),
    (
        "forged",
        "",
        "What came back does not hold. Look at MREG_AZURE_AUTHORITY and at who stands between gateway and provider.",
    ),
    ("needs_interaction", "", "The provider wants to see the person again: sign in again in the program."),
    (
        "dead",
        "",
        "The provider's session is over, after a change of password or by an administrator: sign in again in the program.",
    ),
    (
        "other_tenant",
        "",
        "The program is registered for another tenant: register it for this one too, under another id.",
    ),
    (
        "verifier",
        "",
        "The program showed a verifier that is not its challenge's: two sign-ins were mixed up. Begin again in the program.",
    ),
    (
        "expired",
        "token",
        "The code came later than a minute after it was given: begin again. If it happens each time, look at what slows it.",
    ),
    (
        "proof_time",
        "",
        "The clock of the program's machine is more than five minutes off the gateway's: set one of them.",
    ),
    (
        "proof_address",
        "",
        "The program signs another address than the one below the public URL: give it the public URL, exactly, and let a proxy leave \
         the path as it is.",
    ),
    (
        "proof_missing",
        "",
        "The program, or this session of it, shows tokens only with a proof of its key (DPoP). Sign in again in the program; a \
         registered one is freed of that with `mcp-gateway clients edit ID --dpop=false`.",
    ),
    (
        "proof_replayed",
        "",
        "The program sends the same proof twice, or somebody repeats its requests: its maker has to make a new one for each.",
    ),
    (
        "bound_token",
        "",
        "A token that is bound to the program's key was shown without a proof: by a program that does not know DPoP, or by somebody \
         who has the token and not the key.",
    ),
    (
        "other_key",
        "",
        "The program lost the key that its session is bound to, or somebody else has its token: sign in again in the program.",
    ),
    ("expired", "refresh", "The session is as old as MREG_GRANT_LIFETIME allows: sign in again in the program."),
    ("idle", "", "The session was not used for MREG_GRANT_IDLE_TIMEOUT: sign in again in the program."),
    (
        "ended",
        "",
        "The session was ended: by its person at /access, by an administrator, or by the provider. Sign in again.",
    ),
    (
        "unknown",
        "",
        "What was shown is not known here: it was used and forgotten, or is of another gateway. Sign in again in the program.",
    ),
    (
        "code_reuse",
        "",
        "The code was shown twice. The program retries, or somebody else saw the code: sign in again, and look who.",
    ),
    (
        "reuse",
        "",
        "A refresh token came back after its successor was used, so two hold it: copies of one configuration on two machines do \
         that, and so does theft. Sign in again, on each machine by itself.",
    ),
    ("other_client", "", "The code or token is another program's. Each signs in by itself."),
    (
        "invalid_client",
        "",
        "The program did not prove who it is: its registration or its secret has ended. Remove and add the connection in the \
         program; for a registered one, `mcp-gateway clients rotate ID`.",
    ),
    (
        "wrong_resource",
        "",
        "A token is good at the address that it was asked for and nowhere else. Sign in for each address in the program.",
    ),
    ("lacks_scope", "", "The token lacks the scope `mcp`: sign in again and let the program ask for it."),
    (
        "invalid_client_metadata",
        "",
        "The program's registration cannot be taken: the line says what of it. Its maker has to correct it, or register it: \
         `mcp-gateway clients add`.",
    ),
    (
        "invalid_redirect_uri",
        "",
        "The program wants to be answered at an address that is not allowed; a scheme of a program can be allowed with \
         MREG_ALLOWED_REDIRECT_SCHEMES.",
    ),
    (
        "access_denied",
        "register",
        "Programs do not register themselves here (MREG_CLIENT_REGISTRATION=off): register it with `mcp-gateway clients add`.",
    ),
    (
        "invalid_token",
        "register",
        "Registering takes the token of MREG_CLIENT_REGISTRATION_TOKEN, which the program did not show.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stop_has_the_advice_that_fits_it() {
        assert!(of("callback", "AADSTS50011").unwrap().contains("redirect URI"));
        assert!(of("callback", "never_came").unwrap().contains("entra check"));
        assert!(of("token", "redirect_uri").unwrap().contains("began with"));
        assert!(of("client", "redirect_uri").unwrap().contains("clients edit"));
        for reason in ["login_required", "consent_required", "interaction_required"] {
            assert!(of("request", reason).unwrap().contains("which this gateway never does"), "{reason}");
        }
        assert!(of("account", "no_tenant").unwrap().contains("MREG_OIDC_TENANT"));
        assert!(of("account", "throttled").unwrap().contains("MREG_RATE_LIMIT_FAILURES_RPM"));
        assert_eq!(of("client", "50011"), None, "a word that is no number of Entra's");
        assert_eq!(of("anything", "something new"), None);
    }
}
