//! What is looked for and counted of a record, in its text where it stands: nothing is copied.

use std::net::IpAddr;

use serde::Deserialize;
use uuid::Uuid;

use super::{Record, Surface};

/// See the module; the fields are those of [`Record`].
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "as in a record")]
pub struct Brief<'a> {
    pub id: Uuid,
    pub at: i64,
    pub instance: Uuid,
    pub surface: Surface,
    pub action: &'a str,
    #[serde(default)]
    pub chain: Option<&'a str>,
    #[serde(default)]
    pub tenant: Option<&'a str>,
    #[serde(default)]
    pub user: Option<Uuid>,
    #[serde(default)]
    pub username: Option<&'a str>,
    #[serde(default)]
    pub role: Option<&'a str>,
    #[serde(default)]
    pub session_type: Option<&'a str>,
    #[serde(default)]
    pub credential: Option<Uuid>,
    #[serde(default)]
    pub client: Option<&'a str>,
    #[serde(default)]
    pub session: Option<&'a str>,
    #[serde(default)]
    pub address: Option<IpAddr>,
    #[serde(default)]
    pub server: Option<&'a str>,
    #[serde(default)]
    pub name: Option<&'a str>,
    pub outcome: &'a str,
    #[serde(default)]
    pub reason: Option<&'a str>,
    #[serde(default)]
    pub request_bytes: u64,
    #[serde(default)]
    pub response_bytes: u64,
    #[serde(default)]
    pub total_us: u64,
    #[serde(default)]
    pub upstream_us: u64,
    #[serde(default)]
    pub request_id: Option<&'a str>,
    #[serde(default = "one")]
    pub count: u64,
}

fn one() -> u64 {
    1
}

impl<'a> Brief<'a> {
    /// In whose trail it stands; empty: in that of none.
    pub(super) fn belongs_to(&self) -> &'a str {
        self.chain.or(self.tenant).unwrap_or_default()
    }

    /// Reads a text, unless something stands there in other words than it is: escaped, or to be cleaned. That is for [`Record::read`].
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let brief: Self = serde_json::from_str(text).ok()?;
        let whole = [brief.action, brief.outcome].map(Some);
        let others =
            [brief.chain, brief.tenant, brief.username, brief.role, brief.session_type, brief.client, brief.server];
        let more = [brief.name, brief.reason, brief.request_id];
        let mut all = whole.into_iter().chain(others).chain(more).flatten();
        (!all.any(|field| field.contains(char::is_control))).then_some(brief)
    }
}

impl<'a> From<&'a Record> for Brief<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            id: record.id,
            at: record.at,
            instance: record.instance,
            surface: record.surface,
            action: &record.action,
            chain: record.chain.as_deref(),
            tenant: record.tenant.as_deref(),
            user: record.user,
            username: record.username.as_deref(),
            role: record.role.as_deref(),
            session_type: record.session_type.as_deref(),
            credential: record.credential,
            client: record.client.as_deref(),
            session: record.session.as_deref(),
            address: record.address,
            server: record.server.as_deref(),
            name: record.name.as_deref(),
            outcome: &record.outcome,
            reason: record.reason.as_deref(),
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
            total_us: record.total_us,
            upstream_us: record.upstream_us,
            request_id: record.request_id.as_deref(),
            count: record.count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_in_place_is_what_a_record_says() {
        let id = Uuid::from_u128(7);
        let text = |name: &str| {
            format!(
                r#"{{"id":"{id}","at":5,"instance":"{id}","surface":"mcp","action":"tools/call","endpoint":"/mcp","chain":"@platform","tenant":"acme","user":"{id}","username":"ada","issuer":"i\"","role":"user","session_type":"oauth","credential":"{id}","client":"editor","session":"s","address":"192.0.2.7","server":"files","replica":0,"name":"{name}","outcome":"error","reason":"timeout","whose":"upstream","request_bytes":1,"response_bytes":2,"total_us":3,"upstream_us":4,"request_id":"r","count":9}}"#
            )
        };
        let plain = text("grüße");
        let record = Record::read(&plain).unwrap();
        assert_eq!(Brief::read(&plain), Some(Brief::from(&record)));
        for other in [r"a\u0000b", r#"a\"b"#, "a\u{7f}b", "a\u{85}b"] {
            assert_eq!(Brief::read(&text(other)), None, "{other:?}");
            assert!(Record::read(&text(other)).is_ok());
        }
    }
}
