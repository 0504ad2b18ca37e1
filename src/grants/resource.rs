//! Who issues tokens, and what a token is good for (RFC 8707): all servers together, one server, or the REST API. The issuer is
//! one text for the life of the process, from the settings and never from a request, because clients compare it byte for byte
//! (RFC 8414 section 3.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use url::{Position, Url};

use super::scope::{Scope, ScopeSet};
use crate::access::Opening;
use crate::config::is_loopback;
use crate::id::Slug;

/// Where metadata of resources begins (RFC 9728 section 3).
pub const PROTECTED_RESOURCE: &str = "/.well-known/oauth-protected-resource";
/// Where metadata of authorization servers begins (RFC 8414 section 3).
pub const AUTHORIZATION_SERVER: &str = "/.well-known/oauth-authorization-server";

/// What tokens are issued for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Every server that the account sees: `{issuer}/mcp`.
    All,
    /// One server: `{issuer}/mcp/{server}`.
    One(Slug),
    /// The REST API: `{issuer}/api/v1`.
    Api,
}

impl Resource {
    /// The resource that a path of ours belongs to, without the issuer: `/mcp`, `/mcp/{server}`, `/api/v1`. The older transport
    /// has other paths (`/sse`, `/sse/{server}`) to the same resources.
    pub fn of_path(path: &str) -> Option<Self> {
        match path {
            "/mcp" | "/sse" => Some(Self::All),
            "/api/v1" => Some(Self::Api),
            path => {
                let server = path.strip_prefix("/mcp/").or_else(|| path.strip_prefix("/sse/"))?;
                Slug::parse(server).ok().map(Self::One)
            }
        }
    }

    /// Its path below the issuer.
    pub fn path(&self) -> Opening<'_> {
        match self {
            Self::All => Opening::All,
            Self::One(server) => Opening::One(server.as_str()),
            Self::Api => Opening::Api,
        }
    }

    /// Whether whoever may use this one may use the other: it is the same, or one of all servers.
    pub fn covers(&self, other: &Self) -> bool {
        self == other || (*self == Self::All && matches!(other, Self::One(_)))
    }

    /// The scopes that mean something there.
    pub fn offers(&self) -> ScopeSet {
        let all = ScopeSet::DEFAULT.with(Scope::OfflineAccess);
        if *self == Self::Api { all.with(Scope::Admin) } else { all }
    }
}

/// A text that names none of our resources.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no resource of {issuer}; there are {issuer}/mcp, {issuer}/mcp/{{server}} and {issuer}/api/v1")]
pub struct NotOurs {
    issuer: Issuer,
}

/// The issuer's identifier: a URL without a slash at its end. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Issuer(Arc<str>);

impl Issuer {
    /// The public URL if there is one, else the address that is listened on; one that stands for all is the loopback one.
    pub fn new(public_url: Option<&Url>, tls: bool, address: SocketAddr) -> Self {
        if let Some(url) = public_url {
            return Self(url.as_str().trim_end_matches('/').into());
        }
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let (scheme, own) = if tls { ("https", 443) } else { ("http", 80) };
        let host = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        // As a URL is written: the scheme's own port is left out.
        let port = if address.port() == own { String::new() } else { format!(":{}", address.port()) };
        Self(format!("{scheme}://{host}{port}").into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The canonical URI of a resource.
    pub fn uri(&self, resource: &Resource) -> String {
        format!("{}{}", self.0, resource.path())
    }

    /// The resource that a client names. Its URI must be exact, but for one slash at its end, the case of scheme and host, and a
    /// port that goes without saying (RFC 3986 section 6.2.3).
    pub fn resource(&self, text: &str) -> Result<Resource, NotOurs> {
        let text = canonical(text);
        let path = text.strip_prefix(&*self.0).map(|path| path.strip_suffix('/').unwrap_or(path));
        path.and_then(Resource::of_path).ok_or_else(|| NotOurs { issuer: self.clone() })
    }

    /// Where the metadata of the resource at `path` is found (RFC 9728 section 3.1): the resource's own path comes behind the
    /// well-known part. For `WWW-Authenticate` (section 5.1).
    pub fn resource_metadata_url(&self, path: impl fmt::Display) -> String {
        format!("{}{PROTECTED_RESOURCE}{}{path}", self.origin(), self.path())
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> &str {
        &self.0[..self.0.len() - self.path().len()]
    }

    /// What the public URL has behind its host; mostly nothing.
    pub fn path(&self) -> &str {
        let behind_scheme = self.0.find("://").map_or(0, |at| at + 3);
        self.0[behind_scheme..].find('/').map_or("", |at| &self.0[behind_scheme + at..])
    }

    /// Whether it is reached without TLS, which only a loopback address may be.
    pub fn is_plain(&self) -> bool {
        self.0.starts_with("http://")
    }

    /// A URL of ours below the issuer.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A URI with scheme and host in lower case and without its scheme's own port.
fn canonical(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
    let port = if scheme == "https" { ":443" } else { ":80" };
    format!("{scheme}://{}{path}", host.strip_suffix(port).unwrap_or(&host))
}

/// The host of a URL as a person recognises it: with its port, if it names one.
pub fn shown_host(url: &Url) -> &str {
    &url[Position::BeforeHost..Position::AfterPort]
}

/// Whether `host`, as a request names it, is this machine under another name than the issuer's, with the issuer's port: where
/// somebody in front stands between, the ports differ, and the browser is where it should be.
pub fn other_loopback(issuer: &Issuer, host: &str) -> bool {
    let (Ok(own), Ok(asked)) = (Url::parse(issuer.as_str()), Url::parse(&format!("http://{host}"))) else {
        return false;
    };
    let port = |url: &Url| url.port_or_known_default();
    is_loopback(&own) && is_loopback(&asked) && own.host() != asked.host() && port(&own) == port(&asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Issuer {
        Issuer::new(Some(&Url::parse(url).unwrap()), false, "127.0.0.1:1".parse().unwrap())
    }

    fn one(slug: &str) -> Resource {
        Resource::One(Slug::parse(slug).unwrap())
    }

    #[test]
    fn the_issuer_is_the_public_url_or_the_address_without_a_slash() {
        for (public, tls, address, issuer) in [
            (Some("https://Gateway.example/"), false, "0.0.0.0:8001", "https://gateway.example"),
            (Some("https://gateway.example:443"), false, "0.0.0.0:8001", "https://gateway.example"),
            (Some("https://gateway.example/mcp-gw/"), false, "0.0.0.0:8001", "https://gateway.example/mcp-gw"),
            (None, false, "127.0.0.1:8001", "http://127.0.0.1:8001"),
            (None, true, "0.0.0.0:8443", "https://127.0.0.1:8443"),
            (None, true, "0.0.0.0:443", "https://127.0.0.1"),
            (None, false, "[::]:80", "http://[::1]"),
            (None, false, "[2001:db8::1]:8001", "http://[2001:db8::1]:8001"),
        ] {
            let public = public.map(|url| Url::parse(url).unwrap());
            let made = Issuer::new(public.as_ref(), tls, address.parse().unwrap());
            assert_eq!(made.as_str(), issuer);
            assert_eq!(made.is_plain(), issuer.starts_with("http:"));
        }
    }

    #[test]
    fn all_servers_are_more_than_one_and_the_rest_is_apart() {
        let (all, files, api) = (Resource::All, one("files"), Resource::Api);
        assert!(all.covers(&all) && all.covers(&files) && files.covers(&files) && api.covers(&api));
        for (ours, theirs) in [(&files, &all), (&files, &one("mail")), (&api, &all), (&all, &api), (&api, &files)] {
            assert!(!ours.covers(theirs), "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn a_resource_is_exactly_ours_but_for_one_slash_at_its_end_and_the_case_of_its_host() {
        let issuer = at("https://gateway.example");
        for (text, resource) in [
            ("https://gateway.example/mcp", Resource::All),
            ("https://gateway.example/mcp/", Resource::All),
            ("https://gateway.example/sse", Resource::All),
            ("https://gateway.example/mcp/files", one("files")),
            ("https://gateway.example/mcp/files/", one("files")),
            ("https://gateway.example/sse/files", one("files")),
            ("https://gateway.example/api/v1", Resource::Api),
        ] {
            assert_eq!(issuer.resource(text), Ok(resource.clone()), "{text}");
            assert_eq!(issuer.resource(&issuer.uri(&resource)), Ok(resource));
        }
        for text in ["HTTPS://gateway.example/mcp", "https://GATEWAY.example/mcp", "https://Gateway.Example:443/mcp/"] {
            assert_eq!(issuer.resource(text), Ok(Resource::All), "{text}");
        }
        assert_eq!(at("http://[::1]:8001").resource("http://[::1]:8001/mcp"), Ok(Resource::All));
        assert_eq!(at("http://localhost").resource("HTTP://localhost:80/mcp"), Ok(Resource::All));
        assert!(at("https://gateway.example/Gw").resource("https://gateway.example/gw/mcp").is_err());
        for text in [
            "",
            "https://gateway.example",
            "https://gateway.example/",
            "https://gateway.example/mcp//",
            "https://gateway.example/mcp/files//",
            "https://gateway.example/mcp/Files",
            "https://gateway.example/mcp/a/b",
            "https://gateway.example/mcp/files?x",
            "https://gateway.example/mcp#f",
            "https://gateway.example//mcp",
            "https://gateway.example/api",
            "https://gateway.example/api/v1/servers",
            "https://gateway.example:80/mcp",
            "https://gateway.example:4430/mcp",
            "https://you@gateway.example/mcp",
            "https://GATEWAY.example/MCP",
            "https://gateway.example.evil/mcp",
            "http://gateway.example/mcp",
            "https://other.example/mcp",
            " https://gateway.example/mcp",
        ] {
            let refused = issuer.resource(text).unwrap_err().to_string();
            assert!(refused.contains("https://gateway.example/mcp/{server}"), "{text}: {refused}");
        }
    }

    #[test]
    fn metadata_stands_at_the_host_with_the_path_behind() {
        let (plain, below) = (at("https://gateway.example"), at("https://gateway.example/gw/"));
        assert_eq!(
            plain.resource_metadata_url(one("files").path()),
            "https://gateway.example/.well-known/oauth-protected-resource/mcp/files"
        );
        assert_eq!(
            below.resource_metadata_url(Resource::Api.path()),
            "https://gateway.example/.well-known/oauth-protected-resource/gw/api/v1"
        );
        assert_eq!((plain.origin(), below.origin()), ("https://gateway.example", "https://gateway.example"));
        assert_eq!(below.join("/oauth/token"), "https://gateway.example/gw/oauth/token");
        assert_eq!(below.resource("https://gateway.example/gw/mcp"), Ok(Resource::All));
        assert!(below.resource("https://gateway.example/mcp").is_err());
    }

    #[test]
    fn another_name_of_this_machine_is_told_from_another_machine_and_from_who_stands_in_front() {
        let local = at("http://localhost:8001");
        for (host, other) in [
            ("127.0.0.1:8001", true),
            ("[::1]:8001", true),
            ("localhost:8001", false),
            ("LOCALHOST:8001", false),
            ("127.0.0.1:3000", false),
            ("127.0.0.1", false),
            ("gateway.example:8001", false),
            ("", false),
        ] {
            assert_eq!(other_loopback(&local, host), other, "{host}");
        }
        assert!(other_loopback(&at("http://127.0.0.1:8001/gw"), "localhost:8001"));
        assert!(!other_loopback(&at("https://gateway.example"), "127.0.0.1"));
    }

    #[test]
    fn only_the_api_can_be_managed() {
        assert_eq!(Resource::All.offers().to_string(), "mcp offline_access");
        assert_eq!(one("files").offers(), Resource::All.offers());
        assert!(Resource::Api.offers().has(Scope::Admin));
    }
}
