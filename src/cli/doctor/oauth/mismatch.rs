//! Why two addresses of one gateway are two to a client, and what makes them one. Clients compare texts: scheme, host and port.

use url::Url;

use crate::config::is_loopback;

/// What to do where the client was given `asked` and the gateway calls itself `told`.
pub(super) fn advice(asked: &Url, told: &Url) -> String {
    let public = asked.origin().ascii_serialization();
    let right = told.origin().ascii_serialization();
    if asked.scheme() != told.scheme() && asked.host() == told.host() {
        return if asked.scheme() == "https" {
            format!(
                "TLS ends before the gateway, which does not know of it: start it with --behind-proxy and MREG_PUBLIC_URL={public}"
            )
        } else {
            format!("give the client the address with https: {right}")
        };
    }
    if is_loopback(asked) && is_loopback(told) && asked.host() != told.host() {
        return format!(
            "`localhost` and `127.0.0.1` are two hosts to a client: give it {right}, or set MREG_PUBLIC_URL={public} and start the \
             gateway again"
        );
    }
    format!("give the client {right}, or set MREG_PUBLIC_URL={public} and start the gateway again")
}

/// Whether a client that was given `asked` takes metadata of the resource `told` for its own: the same origin, and a path that
/// `asked` begins with.
pub(super) fn is_of(asked: &Url, told: &Url) -> bool {
    let folder = |url: &Url| format!("{}/", url.path().trim_end_matches('/'));
    asked.origin() == told.origin() && folder(asked).starts_with(&folder(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn each_difference_has_its_own_advice() {
        for (asked, told, word) in [
            ("https://g.example/mcp", "http://g.example/mcp", "--behind-proxy and MREG_PUBLIC_URL=https://g.example"),
            ("http://g.example/mcp", "https://g.example/mcp", "address with https: https://g.example"),
            ("http://localhost:8001/mcp", "http://127.0.0.1:8001/mcp", "two hosts to a client"),
            ("https://a.example/mcp", "https://b.example/mcp", "give the client https://b.example, or set"),
            ("http://127.0.0.1:1/mcp", "http://127.0.0.1:2/mcp", "MREG_PUBLIC_URL=http://127.0.0.1:1"),
        ] {
            let advice = advice(&url(asked), &url(told));
            assert!(advice.contains(word), "{asked} {told}: {advice}");
        }
    }

    #[test]
    fn a_resource_is_the_address_or_a_folder_above_it() {
        let is = |asked: &str, told: &str| is_of(&url(asked), &url(told));
        assert!(is("https://g.example/mcp/files", "https://g.example/mcp"));
        assert!(is("https://g.example/mcp/", "https://g.example/mcp"));
        assert!(!is("https://g.example/mcp", "https://g.example/mcp/files"));
        assert!(!is("https://g.example/mcpx", "https://g.example/mcp"));
        assert!(!is("https://g.example:8443/mcp", "https://g.example/mcp"));
    }
}
