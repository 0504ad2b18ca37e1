//! Names of OAuth that the gateway both says, as a client, and hears, as an authorization server.

/// The grant of an assertion (RFC 7523 section 2.1).
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The grant of another token (RFC 8693 section 2.1).
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Kinds of tokens (RFC 8693 section 3).
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// See there.
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// How a client says that an assertion proves it (RFC 7523 section 2.2).
pub const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What such an assertion says that it is (draft-ietf-oauth-rfc7523bis): nobody takes another text of the same key for one.
pub const CLIENT_PROOF: &str = "client-authentication+jwt";
/// The same of what vouches for a person (draft-ietf-oauth-identity-assertion-authz-grant section 3).
pub const ID_JAG: &str = "oauth-id-jag+jwt";
