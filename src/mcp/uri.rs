//! The address of a resource as records say it: without what it may carry besides.

use std::borrow::Cow;

use crate::crypto::masked;

/// Longest that is kept, bytes.
const LONGEST: usize = 512;

/// Without user and password, query and fragment, which may be anything, secrets too; of what holds its content itself, the scheme.
pub fn bare(uri: &str) -> String {
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = uri.split_once(':').unwrap_or(("", uri));
    if scheme.eq_ignore_ascii_case("data") {
        return "data:".to_owned();
    }
    let bare = match rest.strip_prefix("//") {
        None => Cow::Borrowed(uri),
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            Cow::Owned(format!("{scheme}://{host}{path}"))
        }
    };
    let bare = masked(&bare);
    bare[..bare.floor_char_boundary(LONGEST)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_address_carries_besides_is_left_out() {
        for (uri, kept) in [
            ("file:///a/b.txt", "file:///a/b.txt"),
            ("https://root:hunter2@db.example/x/@y?token=1#z", "https://db.example/x/@y"),
            ("postgres://a@b:c@db.example", "postgres://db.example"),
            ("note:one", "note:one"),
            ("DATA:text/plain,secret", "data:"),
            ("plain words?x", "plain words"),
            ("", ""),
        ] {
            assert_eq!(bare(uri), kept, "{uri}");
        }
        assert_eq!(bare(&"\u{fc}".repeat(1_000)).len(), LONGEST);
        let secret = format!("mcpg_{}", "0123456789abcdef".repeat(4));
        assert!(!bare(&format!("x://y/{secret}")).contains(&secret));
    }
}
