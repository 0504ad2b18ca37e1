//! The groups of a person who is in more than a token holds. Microsoft Graph is asked at the address that the operator
//! configured; the one that the token names is never called. Without a clear answer nobody gets in by a group.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::Deserialize;
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use super::classify::classify;
use super::error::{Class, IdpError};
use super::http::Http;
use crate::net::Answer;
use crate::secret::Secret;

/// The least that reading one's own groups takes, where an administrator has consented to it.
pub(super) const SCOPE: &str = "GroupMember.Read.All";
/// Largest answer, bytes: some ten thousand groups.
const MOST: usize = 1 << 20;

#[derive(Deserialize)]
struct Objects {
    value: Vec<Uuid>,
}

/// Ids of the security groups that the token's person is in, however deep. A further page, which no answer of this call is
/// known to have, is not asked for: fewer groups never give more.
pub(super) async fn groups(
    http: &Http,
    base: &Url,
    token: &Secret,
    now: OffsetDateTime,
) -> Result<Vec<Uuid>, IdpError> {
    let url = format!("{}/v1.0/me/getMemberObjects", base.as_str().trim_end_matches('/'));
    let url = Url::parse(&url).map_err(|_| IdpError::configuration(format!("`{url}` is no URL")))?;
    let answer = http.json(&url, token, r#"{"securityEnabledOnly":true}"#, MOST).await?;
    match answer.status {
        StatusCode::OK => serde_json::from_slice::<Objects>(&answer.body)
            .map(|found| found.value)
            .map_err(|_| IdpError::temporary("the answer of Microsoft Graph cannot be read")),
        StatusCode::UNAUTHORIZED => {
            let text = "Microsoft Graph wants the person to sign in again";
            Err(IdpError::new(Class::NeedsInteraction { claims: challenge(&answer) }, text))
        }
        StatusCode::FORBIDDEN => {
            let text = format!("Microsoft Graph does not let the gateway read groups: consent to {SCOPE} is missing");
            Err(IdpError::new(Class::ConsentMissing, text))
        }
        _ => Err(classify(&answer, now)),
    }
}

/// The claims challenge in a `WWW-Authenticate` header, decoded.
fn challenge(answer: &Answer) -> Option<String> {
    let header = answer.headers.get(http::header::WWW_AUTHENTICATE)?.to_str().ok()?;
    let (_, rest) = header.split_once("claims=\"")?;
    let (encoded, _) = rest.split_once('"')?;
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}
