//! What the answer to a request says of the limit that it has reached, besides `Retry-After`: the fields of today's draft
//! (draft-ietf-httpapi-ratelimit-headers), and those of its earlier versions, which most clients read.

use http::{HeaderName, HeaderValue};

use crate::limit::Limit;

/// The fields of a limit which lets so many a minute through, the next one in so many seconds.
pub fn fields(limit: Limit, rpm: u64, seconds: u64) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let limit = limit.label();
    let fields = [
        ("ratelimit-policy", format!("\"{limit}\";q={rpm};w=60")),
        ("ratelimit", format!("\"{limit}\";r=0;t={seconds}")),
        ("ratelimit-limit", rpm.to_string()),
        ("ratelimit-remaining", "0".to_owned()),
        ("ratelimit-reset", seconds.to_string()),
    ];
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?)))
}
