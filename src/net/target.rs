//! Where to connect to, taken from a URL once, and the rule for where a redirect may lead.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use url::{Host, Url};

use crate::fault::{Fault, Kind, Retry};

/// Most redirects in a row that anything of ours follows.
pub const MAX_REDIRECTS: usize = 3;

/// Scheme, host and port of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whether TLS is spoken (`https`).
    pub tls: bool,
    /// The host.
    pub host: TargetHost,
    /// The port, named or the scheme's own.
    pub port: u16,
}

/// A name to be resolved, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TargetHost {
    /// A name, lower case, in ASCII.
    Name(Arc<str>),
    /// An address, however the URL spelled it.
    Address(IpAddr),
}

impl Target {
    /// Reads scheme, host and port of `url`; the rest of it is not looked at.
    pub fn of(url: &Url) -> Result<Self, Fault> {
        let setup = |detail: String| Fault::gateway(Kind::Setup, detail);
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(setup(format!("only http and https URLs can be called, not `{other}`"))),
        };
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => TargetHost::Name(name.into()),
            Some(Host::Ipv4(address)) => TargetHost::Address(address.into()),
            Some(Host::Ipv6(address)) => TargetHost::Address(address.into()),
            _ => return Err(setup("the URL names no host".into())),
        };
        let port = url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host, port })
    }

    /// Reads scheme, host and port of the text of a URL.
    pub fn parse(url: &str) -> Result<Self, Fault> {
        let url = Url::parse(url).map_err(|error| Fault::gateway(Kind::Setup, format!("not a URL: {error}")))?;
        Self::of(&url)
    }

    /// What belongs into a `Host` header: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let own = if self.tls { 443 } else { 80 };
        if self.port == own { self.host.to_string() } else { self.to_string() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for TargetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A redirect that may be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Where to.
    pub url: Url,
    /// Whether scheme, host and port stay the same. Only then may a credential go along.
    pub same_origin: bool,
}

/// Judges a redirect: to http or https, never from https to http, no credentials in the URL, at most [`MAX_REDIRECTS`] in a
/// row. The address behind it is checked like any other when it is dialled. A call to an MCP server follows none.
///
/// `followed` is how many have been followed already.
pub fn check_redirect(from: &Url, location: &str, followed: usize) -> Result<Redirect, Fault> {
    let host = from.host_str().unwrap_or_default();
    let bad = |what: &str| {
        Fault::upstream(Kind::Garbage, Retry::MaybeSent, format!("{host} answered with a redirect {what}"))
    };
    if followed >= MAX_REDIRECTS {
        return Err(bad("too many"));
    }
    let url = from.join(location).map_err(|_| bad("to something that is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("to something other than http or https"));
    }
    if from.scheme() == "https" && url.scheme() == "http" {
        return Err(bad("from https to http"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("to a URL with credentials in it"));
    }
    let same_origin = url.origin() == from.origin();
    Ok(Redirect { url, same_origin })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_scheme_host_and_port() {
        for (url, tls, shown, authority) in [
            ("http://Example.COM/mcp?x=1", false, "example.com:80", "example.com"),
            ("https://example.com:8443/", true, "example.com:8443", "example.com:8443"),
            ("https://[2001:db8::1]/", true, "[2001:db8::1]:443", "[2001:db8::1]"),
            ("http://bücher.example/", false, "xn--bcher-kva.example:80", "xn--bcher-kva.example"),
            ("http://example.com:443/", false, "example.com:443", "example.com:443"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.tls, target.to_string().as_str(), target.authority().as_str()), (tls, shown, authority));
        }
        assert!(Target::parse("ftp://example.com/").unwrap_err().detail.contains("ftp"));
        assert_eq!(Target::parse("/mcp").unwrap_err().kind, Kind::Setup);
    }

    #[test]
    fn an_address_is_one_however_it_is_spelled() {
        for url in
            ["http://127.0.0.1/", "http://127.1/", "http://0x7f.0.0.1/", "http://2130706433/", "http://0177.0.0.1/"]
        {
            assert_eq!(Target::parse(url).unwrap().host, TargetHost::Address("127.0.0.1".parse().unwrap()), "{url}");
        }
    }

    #[test]
    fn a_redirect_may_go_on_but_not_down() {
        let from = Url::parse("https://a.example/x/y").unwrap();
        let next = check_redirect(&from, "../z", 0).unwrap();
        assert_eq!((next.url.as_str(), next.same_origin), ("https://a.example/z", true));
        assert!(!check_redirect(&from, "https://b.example/", 0).unwrap().same_origin);
        assert!(!check_redirect(&from, "//a.example:444/", 2).unwrap().same_origin);
        for location in ["http://a.example/", "file:///etc/passwd", "https://u:p@a.example/", "https://[::"] {
            assert!(check_redirect(&from, location, 0).is_err(), "{location}");
        }
        assert!(check_redirect(&from, "/z", MAX_REDIRECTS).is_err());
    }
}
