//! The cookies of browsers: one for each sign-in under way, named after it, and one for "my access". They are the gateway's host's
//! own (`__Host-`), out of reach of scripts, and come along when another site sends the browser here (`Lax`), as a provider does.
//!
//! A gateway reached without TLS, which is one on the same machine, has plain names, since browsers refuse the prefix there.

use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use crate::grants::resource::Issuer;

/// Most sign-ins under way in one browser; the oldest gives way to a new one.
pub(super) const MOST: usize = 8;
/// Most cookies of a request that are looked at.
const READ: usize = 100;

const UNDER_WAY: &str = "mcpg-txn-";
const SESSION: &str = "mcpg-session";

/// The cookies that a browser sent, as far as they are ours.
#[derive(Debug, Clone)]
pub(super) struct Cookies {
    sent: Vec<(String, String)>,
    secure: bool,
}

impl Cookies {
    /// Those of a request.
    pub(super) fn of(headers: &HeaderMap, issuer: &Issuer) -> Self {
        let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let each = texts.flat_map(cookie::Cookie::split_parse).flatten().take(READ);
        let sent = each.map(|one| (one.name().to_owned(), one.value().to_owned()));
        let secure = !issuer.is_plain();
        let prefix = if secure { "__Host-mcpg-" } else { "mcpg-" };
        Self { sent: sent.filter(|(name, _)| name.starts_with(prefix)).collect(), secure }
    }

    /// What the browser shows for a sign-in.
    pub(super) fn under_way(&self, id: Uuid) -> Option<&str> {
        self.get(&self.name_of(id))
    }

    /// What it shows for "my access".
    pub(super) fn session(&self) -> Option<&str> {
        self.get(&self.named(SESSION))
    }

    /// Sets the cookie of a new sign-in and ends those of the oldest, so that there are at most [`MOST`].
    pub(super) fn begin(&self, id: Uuid, value: &str, lasts: Duration) -> Vec<HeaderValue> {
        let prefix = self.named(UNDER_WAY);
        let mut others: Vec<&str> = self.sent.iter().map(|(name, _)| name.as_str()).collect();
        others.retain(|name| name.starts_with(&prefix));
        // The ids are of version 7: in the order of their names they are in the order of their time.
        others.sort_unstable();
        let over = (others.len() + 1).saturating_sub(MOST);
        let ended = others[..over].iter().map(|name| self.cookie(name, "", 0));
        ended.chain([self.cookie(&self.name_of(id), value, lasts.as_secs())]).collect()
    }

    /// Ends the cookie of a sign-in.
    pub(super) fn end(&self, id: Uuid) -> HeaderValue {
        self.cookie(&self.name_of(id), "", 0)
    }

    /// Sets the cookie of "my access".
    pub(super) fn open_session(&self, value: &str, lasts: Duration) -> HeaderValue {
        self.cookie(&self.named(SESSION), value, lasts.as_secs())
    }

    /// Ends it.
    pub(super) fn close_session(&self) -> HeaderValue {
        self.cookie(&self.named(SESSION), "", 0)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.sent.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn named(&self, name: &str) -> String {
        if self.secure { format!("__Host-{name}") } else { name.to_owned() }
    }

    fn name_of(&self, id: Uuid) -> String {
        self.named(&format!("{UNDER_WAY}{}", id.simple()))
    }

    fn cookie(&self, name: &str, value: &str, seconds: u64) -> HeaderValue {
        let secure = if self.secure { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        // Names were read from a header and values are made here: there is nothing in them that a header cannot hold.
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn cookies(issuer: &str, header: &str) -> Cookies {
        let issuer = Issuer::new(Some(&Url::parse(issuer).unwrap()), false, "127.0.0.1:1".parse().unwrap());
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(header).unwrap());
        Cookies::of(&headers, &issuer)
    }

    #[test]
    fn over_tls_only_the_guarded_name_counts() {
        let id = Uuid::from_u128(7);
        let name = format!("mcpg-txn-{}", id.simple());
        let there = cookies("https://gateway.example", &format!("{name}=planted; __Host-{name}=own; other=x"));
        assert_eq!(there.under_way(id), Some("own"));
        assert_eq!(cookies("https://gateway.example", &format!("{name}=planted")).under_way(id), None);
        assert_eq!(cookies("http://127.0.0.1:8001", &format!("{name}=own")).under_way(id), Some("own"));
        let set = there.begin(id, "v", Duration::from_mins(10));
        let text = set.last().unwrap().to_str().unwrap();
        assert_eq!(text, format!("__Host-{name}=v; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"));
    }

    #[test]
    fn the_oldest_of_too_many_give_way() {
        let name = |n: u128| format!("mcpg-txn-{}", Uuid::from_u128(n).simple());
        let header = (0..10).map(|n| format!("{}=v", name(n))).collect::<Vec<_>>().join("; ");
        let set = cookies("http://127.0.0.1:1", &header).begin(Uuid::from_u128(99), "new", Duration::from_mins(10));
        let texts: Vec<_> = set.iter().map(|value| value.to_str().unwrap().to_owned()).collect();
        assert_eq!(texts.len(), 4);
        for (n, text) in texts[..3].iter().enumerate() {
            assert!(text.starts_with(&format!("{}=; ", name(n as u128))) && text.contains("Max-Age=0"), "{text}");
        }
    }
}
