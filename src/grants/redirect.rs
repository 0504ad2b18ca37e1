//! Redirect URIs: where the answer to an authorization may be sent. A URI is judged once, when a client names it, and compared
//! as a text from then on; a program on the same machine alone may come back at another port (RFC 8252 section 7.3).
//!
//! Hosts are read strictly: what one reader takes for another host than we do is refused, and never corrected.

use std::net::IpAddr;
use std::sync::Arc;

use url::Url;

use crate::config::{BROWSER_SCHEMES, is_scheme};

/// Most bytes of a URI.
pub const LONGEST: usize = 2_000;

/// Schemes of programs on people's machines that are allowed from the start.
pub const KNOWN_SCHEMES: [&str; 12] = [
    "claude",
    "code-oss",
    "cursor",
    "goose",
    "kiro",
    "raycast",
    "trae",
    "vscode",
    "vscode-insiders",
    "vscodium",
    "windsurf",
    "zed",
];

/// Why a URI is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRedirect {
    /// Not an absolute URI of printable ASCII within the bound.
    #[error("a redirect URI is an absolute URI of printable ASCII, at most {LONGEST} bytes")]
    Syntax,
    /// It has a part that a redirect URI cannot have.
    #[error("a redirect URI has no {0}")]
    Part(&'static str),
    /// Plain HTTP to somewhere else.
    #[error("http is only for 127.0.0.1, [::1] and localhost; use https")]
    PlainHttp,
    /// Its host is written in a way that others may read differently.
    #[error("write the host plainly: a name in ASCII, or an address in its usual form")]
    Host,
    /// A scheme that is never allowed.
    #[error("the scheme `{0}` cannot be redirected to")]
    Dangerous(String),
    /// A scheme that the operator did not allow.
    #[error("the scheme `{0}` is not allowed here; an administrator can allow it (MREG_ALLOWED_REDIRECT_SCHEMES)")]
    Scheme(String),
}

/// The private-use schemes (RFC 8252 section 7.1) that redirect URIs may have. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Schemes(Arc<[Box<str>]>);

impl Default for Schemes {
    fn default() -> Self {
        Self::with(&[])
    }
}

impl Schemes {
    /// [`KNOWN_SCHEMES`] and these besides.
    pub fn with(more: &[String]) -> Self {
        Self(KNOWN_SCHEMES.into_iter().chain(more.iter().map(String::as_str)).map(Into::into).collect())
    }

    fn allows(&self, scheme: &str) -> bool {
        self.0.iter().any(|allowed| **allowed == *scheme)
    }
}

/// What kind of place a redirect URI leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A web site.
    Web,
    /// A program that listens on the person's own machine: any program there could.
    Loopback,
    /// A program that claimed a scheme: any program there could claim it.
    App,
}

/// A redirect URI that was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectUri {
    text: Arc<str>,
    place: Place,
}

impl RedirectUri {
    /// Judges a URI.
    pub fn parse(text: &str, schemes: &Schemes) -> Result<Self, BadRedirect> {
        if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadRedirect::Syntax);
        }
        for (part, mark) in [("fragment", '#'), ("wildcard", '*'), ("backslash", '\\')] {
            if text.contains(mark) {
                return Err(BadRedirect::Part(part));
            }
        }
        let (scheme, rest) = text.split_once(':').ok_or(BadRedirect::Syntax)?;
        let scheme = scheme.to_ascii_lowercase();
        if !is_scheme(&scheme) || rest.is_empty() {
            return Err(BadRedirect::Syntax);
        }
        if BROWSER_SCHEMES.contains(&scheme.as_str()) {
            return Err(BadRedirect::Dangerous(scheme));
        }
        let place = match scheme.as_str() {
            "http" | "https" => {
                let web = Web::split(text)?;
                if scheme == "https" {
                    Place::Web
                } else if is_loopback(web.host) {
                    Place::Loopback
                } else {
                    return Err(BadRedirect::PlainHttp);
                }
            }
            _ if !schemes.allows(&scheme) => return Err(BadRedirect::Scheme(scheme)),
            _ => {
                let authority = rest.strip_prefix("//").map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
                if authority.is_some_and(|authority| authority.contains('@')) {
                    return Err(BadRedirect::Part("user name"));
                }
                Url::parse(text).map_err(|_| BadRedirect::Syntax)?;
                Place::App
            }
        };
        Ok(Self { text: text.into(), place })
    }

    /// Whether `asked` is this URI: byte for byte, but for the port of a loopback one.
    pub fn matches(&self, asked: &str) -> bool {
        if *self.text == *asked {
            return true;
        }
        if self.place != Place::Loopback || asked.len() > LONGEST {
            return false;
        }
        match (Web::split(&self.text), Web::split(asked)) {
            (Ok(own), Ok(asked)) => {
                (own.scheme, own.host, own.path_and_query) == (asked.scheme, asked.host, asked.path_and_query)
            }
            _ => false,
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What kind of place it leads to.
    pub fn place(&self) -> Place {
        self.place
    }

    /// What of it a person can judge: the host with its port, or the scheme of a program.
    pub fn shown(&self) -> &str {
        match (self.place, Web::split(&self.text)) {
            (Place::Web | Place::Loopback, Ok(web)) => web.authority,
            _ => self.text.split(':').next().unwrap_or_default(),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    matches!(host, "127.0.0.1" | "[::1]" | "localhost")
}

/// An http or https URI in its parts, as written.
struct Web<'a> {
    scheme: &'a str,
    authority: &'a str,
    host: &'a str,
    path_and_query: &'a str,
}

impl<'a> Web<'a> {
    fn split(text: &'a str) -> Result<Self, BadRedirect> {
        let (scheme, rest) = text.split_once("://").ok_or(BadRedirect::Syntax)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(end);
        if authority.contains('@') {
            return Err(BadRedirect::Part("user name"));
        }
        let host_end = match authority.find(']') {
            Some(bracket) => bracket + 1,
            None => authority.find(':').unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at(host_end);
        if !port.is_empty() {
            let digits = port.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let number = digits.and_then(|digits| digits.parse::<u16>().ok());
            if number.is_none_or(|port| port == 0) {
                return Err(BadRedirect::Syntax);
            }
        }
        // What the standard reads (numbers as addresses, letters of other scripts, escapes) must be what stands there.
        let url = Url::parse(text).map_err(|_| BadRedirect::Host)?;
        let same = url.host_str().is_some_and(|read| read.eq_ignore_ascii_case(host));
        let plain = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => inner.parse::<IpAddr>().is_ok(),
            None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')),
        };
        if !same || !plain || host.ends_with('.') {
            return Err(BadRedirect::Host);
        }
        Ok(Self { scheme, authority, host, path_and_query })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(text: &str) -> Result<Place, BadRedirect> {
        RedirectUri::parse(text, &Schemes::default()).map(|uri| uri.place())
    }

    #[test]
    fn where_known_clients_come_back_is_allowed() {
        for (text, place) in [
            ("https://claude.ai/api/mcp/auth_callback", Place::Web),
            ("https://claude.com/api/mcp/auth_callback", Place::Web),
            ("https://vscode.dev/redirect", Place::Web),
            ("https://app.example:8443/cb?tenant=a&x=%20y", Place::Web),
            ("https://10.1.2.3/cb", Place::Web),
            ("HTTPS://App.Example/cb", Place::Web),
            ("https://xn--bcher-kva.example/cb", Place::Web),
            ("https://app.example", Place::Web),
            ("http://localhost:7777/oauth/callback", Place::Loopback),
            ("http://127.0.0.1/", Place::Loopback),
            ("http://127.0.0.1:33418", Place::Loopback),
            ("http://[::1]:9/cb", Place::Loopback),
            ("cursor://anysphere.cursor-mcp/oauth/callback", Place::App),
            ("vscode-insiders://vscode.github-authentication/did-authenticate", Place::App),
            ("windsurf:/callback", Place::App),
        ] {
            assert_eq!(judge(text), Ok(place), "{text}");
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused_and_told() {
        let never = |scheme: &str| BadRedirect::Dangerous(scheme.to_owned());
        for (text, bad) in [
            ("", BadRedirect::Syntax),
            ("/callback", BadRedirect::Syntax),
            ("app.example/cb", BadRedirect::Syntax),
            ("https:", BadRedirect::Syntax),
            ("https:app.example/cb", BadRedirect::Syntax),
            ("https:/app.example/cb", BadRedirect::Syntax),
            ("https:///cb", BadRedirect::Host),
            ("https://app.example/a b", BadRedirect::Syntax),
            ("https://app.example/\n", BadRedirect::Syntax),
            ("https://app.example/\u{7f}", BadRedirect::Syntax),
            ("https://bücher.example/", BadRedirect::Syntax),
            ("https://app.example:0/", BadRedirect::Syntax),
            ("https://app.example:99999/", BadRedirect::Syntax),
            ("https://app.example:/", BadRedirect::Syntax),
            ("https://app.example/#f", BadRedirect::Part("fragment")),
            ("https://*.example/cb", BadRedirect::Part("wildcard")),
            ("https://app.example\\@evil.example/", BadRedirect::Part("backslash")),
            ("https://app.example@evil.example/", BadRedirect::Part("user name")),
            ("https://user:pw@app.example/", BadRedirect::Part("user name")),
            ("cursor://a@b/c", BadRedirect::Part("user name")),
            ("http://app.example/cb", BadRedirect::PlainHttp),
            ("http://127.0.0.2/cb", BadRedirect::PlainHttp),
            ("http://localhost.evil.example/cb", BadRedirect::PlainHttp),
            ("http://2130706433/cb", BadRedirect::Host),
            ("http://127.1/cb", BadRedirect::Host),
            ("http://0x7f.0.0.1/cb", BadRedirect::Host),
            ("http://[0:0:0:0:0:0:0:1]/cb", BadRedirect::Host),
            ("https://app%2eexample/cb", BadRedirect::Host),
            ("https://app.example./cb", BadRedirect::Host),
            ("https://[v1.x]/cb", BadRedirect::Host),
            ("javascript:alert(1)", never("javascript")),
            ("JavaScript://app.example/%0aalert(1)", never("javascript")),
            ("data:text/html,x", never("data")),
            ("file:///etc/passwd", never("file")),
            ("blob:https://app.example/x", never("blob")),
            ("about:blank", never("about")),
            ("vbscript:x", never("vbscript")),
            ("com.example.app:/cb", BadRedirect::Scheme("com.example.app".into())),
        ] {
            assert_eq!(judge(text), Err(bad), "{text}");
        }
        assert_eq!(judge(&format!("https://app.example/{}", "a".repeat(1_981))), Err(BadRedirect::Syntax));
        assert_eq!(judge(&format!("https://app.example/{}", "a".repeat(1_980))), Ok(Place::Web));
    }

    #[test]
    fn an_operator_may_allow_the_scheme_of_a_program_but_none_of_a_browser() {
        let schemes = Schemes::with(&["com.example.app".to_owned()]);
        assert!(RedirectUri::parse("com.example.app:/cb", &schemes).is_ok());
        assert!(RedirectUri::parse("cursor://x/y", &schemes).is_ok());
        let all = Schemes::with(&BROWSER_SCHEMES.map(str::to_owned));
        assert!(RedirectUri::parse("javascript:x", &all).is_err());
    }

    #[test]
    fn only_the_port_of_a_loopback_uri_may_differ() {
        let uri = |text: &str| RedirectUri::parse(text, &Schemes::default()).unwrap();
        let local = uri("http://127.0.0.1:33418/cb?a=b");
        for same in ["http://127.0.0.1:33418/cb?a=b", "http://127.0.0.1/cb?a=b", "http://127.0.0.1:1/cb?a=b"] {
            assert!(local.matches(same), "{same}");
        }
        for other in [
            "http://127.0.0.1:33418/cb",
            "http://127.0.0.1:33418/cb?a=b&c",
            "http://127.0.0.1:33418/CB?a=b",
            "http://127.0.0.1:33418/x/../cb?a=b",
            "http://127.0.0.1:33418/cb/?a=b",
            "http://127.0.0.1:0/cb?a=b",
            "http://127.0.0.1:x/cb?a=b",
            "http://127.0.0.1:1@evil.example/cb?a=b",
            "http://localhost:33418/cb?a=b",
            "http://[::1]:33418/cb?a=b",
            "http://127.0.0.1.evil.example:33418/cb?a=b",
            "https://127.0.0.1:33418/cb?a=b",
            "HTTP://127.0.0.1:1/cb?a=b",
            "http://127.0.0.1:33418/cb?a=b#f",
        ] {
            assert!(!local.matches(other), "{other}");
        }
        let web = uri("https://app.example/cb");
        for other in [
            "https://app.example:8443/cb",
            "https://APP.example/cb",
            "https://app.example/cb/",
            "https://app.example:443/cb",
        ] {
            assert!(!web.matches(other), "{other}");
        }
        assert_eq!(
            (web.shown(), local.shown(), uri("cursor://a/b").shown()),
            ("app.example", "127.0.0.1:33418", "cursor")
        );
    }

    proptest! {
        #[test]
        fn what_matches_differs_in_nothing_but_a_loopback_port(
            port in 1u16..,
            other in 1u16..,
            path in "(/[a-zA-Z0-9._~-]{0,8}){0,3}(\\?[a-z=&]{0,8})?",
            at in any::<prop::sample::Index>(),
            put in "[!-~]",
        ) {
            let text = format!("http://127.0.0.1:{port}{path}");
            let uri = RedirectUri::parse(&text, &Schemes::default()).unwrap();
            let elsewhere = format!("http://127.0.0.1:{other}{path}");
            prop_assert!(uri.matches(&text) && uri.matches(&elsewhere));
            let at = at.index(text.len());
            let mut bent = text.clone();
            bent.replace_range(at..=at, &put);
            let port_of = "http://127.0.0.1:".len()..text.len() - path.len();
            if uri.matches(&bent) && bent != text {
                prop_assert!(port_of.contains(&at), "{bent} passes for {text}");
            }
        }

        #[test]
        fn what_is_accepted_is_what_a_browser_would_go_to(text in "(https|http|cursor)://[a-z0-9.:@\\[\\]%/?\\\\-]{0,30}") {
            if let Ok(uri) = RedirectUri::parse(&text, &Schemes::default()) {
                let read = Url::parse(&text).unwrap();
                prop_assert!(uri.matches(&text) && read.username().is_empty() && read.fragment().is_none());
                if uri.place() == Place::Loopback {
                    prop_assert!(is_loopback(read.host_str().unwrap()));
                }
            }
        }
    }
}
