//! What the gateway says of itself before anybody signs in: of its resources (RFC 9728), and of itself as an authorization
//! server (RFC 8414). Everything is made of the issuer, never of the request's `Host`, and is the same for whoever asks; it does
//! not tell which servers there are.

use axum::response::{IntoResponse, Json, Response};
use http::Uri;
use http::header::CACHE_CONTROL;
use jsonwebtoken::Algorithm;
use serde::Serialize;

use crate::app::App;
use crate::crypto::dpop;
use crate::grants::authenticate::ASSERTION_ALGORITHMS;
use crate::grants::client::{AuthMethod, GrantType};
use crate::grants::resource::{AUTHORIZATION_SERVER, PROTECTED_RESOURCE, Resource};
use crate::grants::{Scope, ScopeSet, Step};
use crate::store::now;
use crate::web::Source;
use crate::web::open;
use crate::web::problem::no_such_path;

/// How long others may keep it.
const KEPT: &str = "public, max-age=300";
/// An identity provider introduces a person to a client, by an assertion.
const ID_JAG: &str = "urn:ietf:params:oauth:grant-profile:id-jag";
/// What people are shown as the name of a resource.
const NAME: &str = "MCP Registry Gateway";

/// A resource (RFC 9728 section 2).
#[derive(Serialize)]
struct ResourceMetadata<'a> {
    resource: String,
    authorization_servers: [&'a str; 1],
    scopes_supported: Vec<&'static str>,
    bearer_methods_supported: [&'static str; 1],
    resource_name: String,
    /// RFC 9449 section 5.1, by the name that RFC 9728 section 2 registers.
    dpop_signing_alg_values_supported: Vec<String>,
}

/// The authorization server (RFC 8414 section 2, RFC 9207 section 3, client id metadata documents, identity assertion grants).
#[derive(Serialize)]
struct ServerMetadata<'a> {
    issuer: &'a str,
    authorization_endpoint: String,
    token_endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_endpoint: Option<String>,
    revocation_endpoint: String,
    jwks_uri: String,
    scopes_supported: Vec<&'static str>,
    response_types_supported: [&'static str; 1],
    response_modes_supported: [&'static str; 1],
    grant_types_supported: Vec<&'static str>,
    /// That the profile is known; not of whom, which is nobody's business (identity assertion grant, section 7.2).
    authorization_grant_profiles_supported: [&'static str; 1],
    code_challenge_methods_supported: [&'static str; 1],
    token_endpoint_auth_methods_supported: Vec<&'static str>,
    token_endpoint_auth_signing_alg_values_supported: Vec<String>,
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    revocation_endpoint_auth_signing_alg_values_supported: Vec<String>,
    client_id_metadata_document_supported: bool,
    authorization_response_iss_parameter_supported: bool,
    resource_indicators_supported: bool,
    /// RFC 9449 section 5.1.
    dpop_signing_alg_values_supported: Vec<String>,
    #[serde(flatten)]
    openid: Option<OpenId>,
}

/// What clients demand of a document that they find where OpenID Connect has one (OpenID Connect Discovery 1.0 section 3), though
/// they read it as the other. It says the truth: no ID tokens are issued.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "as the specification calls them")]
struct OpenId {
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 0],
    /// Said, as what is not said is `true`.
    request_uri_parameter_supported: bool,
}

/// `/.well-known/oauth-protected-resource` with the path of a resource behind it; without one it is that of `/mcp`.
pub(super) async fn resource(app: App, Source(source): Source, uri: Uri) -> Response {
    let path = uri.path().strip_prefix(PROTECTED_RESOURCE).unwrap_or_default();
    // Whoever stands in front may leave the path of the public URL out or not.
    let own = path.strip_prefix(app.issuer.path()).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let path = match own.unwrap_or(path) {
        "" | "/" => "/mcp",
        path => path,
    };
    let Some(resource) = Resource::of_path(path) else { return no_such_path().await.into_response() };
    let read = format!("the program read what {path} says of itself");
    app.grants.preludes().note(source, Step::good("metadata", read, now()));
    let offered = resource.offers();
    answer(&ResourceMetadata {
        authorization_servers: [app.issuer.as_str()],
        // Whether somebody may stay is between the client and the authorization server, which offers it.
        scopes_supported: words(offered.without(Scope::OfflineAccess)),
        bearer_methods_supported: ["header"],
        resource_name: match &resource {
            Resource::All => NAME.to_owned(),
            Resource::One(server) => format!("{NAME}: {server}"),
            Resource::Api => format!("{NAME}: REST API"),
        },
        dpop_signing_alg_values_supported: names(&dpop::ALGORITHMS),
        // The address that the client was given, which it compares: the older transport's is another one of the same resource.
        resource: app.issuer.join(path),
    })
}

/// `/.well-known/oauth-authorization-server`, and where clients of OpenID Connect look; with the path of the public URL behind
/// it, or without.
pub(super) async fn server(app: App, Source(source): Source, uri: Uri) -> Response {
    let path = [AUTHORIZATION_SERVER, open::OPENID].into_iter().find_map(|known| uri.path().strip_prefix(known));
    if !path.is_some_and(|path| path.is_empty() || path == app.issuer.path()) {
        return no_such_path().await.into_response();
    }
    let read = "the program read what the authorization server says of itself";
    app.grants.preludes().note(source, Step::good("metadata", read, now()));
    let issuer = &app.issuer;
    let openid = uri.path().starts_with(open::OPENID).then_some(OpenId {
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: [],
        request_uri_parameter_supported: false,
    });
    let methods = || AuthMethod::ALL.map(AuthMethod::as_str).to_vec();
    let algorithms = || names(&ASSERTION_ALGORITHMS);
    answer(&ServerMetadata {
        issuer: issuer.as_str(),
        authorization_endpoint: issuer.join("/oauth/authorize"),
        token_endpoint: issuer.join(open::TOKEN),
        registration_endpoint: app.clients.dynamic().is_offered().then(|| issuer.join(open::REGISTER)),
        revocation_endpoint: issuer.join(open::REVOKE),
        jwks_uri: issuer.join(open::KEYS),
        scopes_supported: words(ScopeSet::ALL),
        response_types_supported: ["code"],
        response_modes_supported: ["query"],
        grant_types_supported: GrantType::ALL.map(GrantType::as_str).to_vec(),
        authorization_grant_profiles_supported: [ID_JAG],
        code_challenge_methods_supported: ["S256"],
        token_endpoint_auth_methods_supported: methods(),
        token_endpoint_auth_signing_alg_values_supported: algorithms(),
        revocation_endpoint_auth_methods_supported: methods(),
        revocation_endpoint_auth_signing_alg_values_supported: algorithms(),
        client_id_metadata_document_supported: true,
        authorization_response_iss_parameter_supported: true,
        resource_indicators_supported: true,
        dpop_signing_alg_values_supported: names(&dpop::ALGORITHMS),
        openid,
    })
}

/// The keys that the gateway's word about who calls is signed with (RFC 7517 section 5). Tokens are random, and not signed.
pub(super) async fn keys(app: App) -> Response {
    answer(&app.registry.ground.credentials.signer().published())
}

fn words(scopes: ScopeSet) -> Vec<&'static str> {
    scopes.iter().map(Scope::as_str).collect()
}

fn names(algorithms: &[Algorithm]) -> Vec<String> {
    algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect()
}

fn answer(metadata: &impl Serialize) -> Response {
    ([(CACHE_CONTROL, KEPT)], Json(metadata)).into_response()
}
