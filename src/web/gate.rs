//! Which host names and origins are ours. A web page that a browser shows may send requests to this machine; it can do so
//! under a name of its own that it lets point here (DNS rebinding), so both headers are checked on every route. When a check
//! passes it allocates nothing.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use http::uri::Authority;
use ipnet::IpNet;

use super::forwarded;
use crate::config::Listen;

/// Why a request does not get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No `Host`, or more than one, or one that cannot be read.
    #[error("the request needs exactly one Host header that names a host")]
    BadHost,
    /// A host name that is not ours.
    #[error("this gateway does not answer to that host name; an operator can add it to MREG_ALLOWED_HOSTS")]
    ForeignHost,
    /// An origin that is not ours.
    #[error("web pages of that origin may not call this gateway; an operator can add it to MREG_ALLOWED_ORIGINS")]
    ForeignOrigin,
    /// A head that is longer than may be.
    #[error("the head of the request is larger than this gateway accepts (MREG_HEADER_SIZE_LIMIT)")]
    LongHead,
}

/// What an accepted `Origin` header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// None was sent: no web page.
    NoPage,
    /// A page that may call, and whose browser must be told so (CORS).
    Page,
}

/// The names and networks, read once from the settings.
#[derive(Debug, Clone)]
pub struct Gate {
    bound: IpAddr,
    tls: bool,
    behind_proxy: bool,
    proxies: Box<[IpNet]>,
    /// Lower-case `name` (any port) or `name:port`.
    hosts: Box<[Box<str>]>,
    origins: Box<[Box<str>]>,
}

impl Gate {
    /// The gate of these settings.
    pub fn new(listen: &Listen) -> Self {
        let public = listen.public_url.as_ref();
        let public_host = public.and_then(|url| url.host_str()).map(str::to_ascii_lowercase);
        let public_origin = public.map(|url| url.origin().ascii_serialization());
        Self {
            bound: listen.host,
            tls: listen.has_tls(),
            behind_proxy: listen.behind_proxy,
            proxies: listen.trusted_proxies.clone().into(),
            hosts: listen.allowed_hosts.iter().cloned().chain(public_host).map(Into::into).collect(),
            origins: listen.allowed_origins.iter().cloned().chain(public_origin).map(Into::into).collect(),
        }
    }

    /// Whether the request names a host of ours: in `Host`, and in the target's authority where there is one (HTTP/2, or a
    /// target in absolute form).
    pub fn host(&self, headers: &HeaderMap, authority: Option<&Authority>) -> Result<(), Refusal> {
        if let Some(authority) = authority {
            self.host_name(authority.as_str())?;
        }
        match one(headers, &HOST)? {
            Some(host) => self.host_name(host.to_str().map_err(|_| Refusal::BadHost)?),
            None if authority.is_some() => Ok(()),
            None => Err(Refusal::BadHost),
        }
    }

    fn host_name(&self, given: &str) -> Result<(), Refusal> {
        let (name, _) = split_port(given).ok_or(Refusal::BadHost)?;
        if let Some(address) = address(name) {
            // No page can have an address as the name it lets point elsewhere. What is bound to every interface is asked for by
            // any of its addresses; a probe of an orchestrator does so.
            if address.is_loopback() || address == self.bound || self.bound.is_unspecified() {
                return Ok(());
            }
        } else if name.eq_ignore_ascii_case("localhost") {
            return Ok(());
        }
        let ours = |host: &str| host.eq_ignore_ascii_case(given) || host.eq_ignore_ascii_case(name);
        if self.hosts.iter().any(|host| ours(host)) { Ok(()) } else { Err(Refusal::ForeignHost) }
    }

    /// Whether the page that sent the request, if one did, may. To be asked after [`Self::host`].
    pub fn origin(&self, headers: &HeaderMap) -> Result<Trust, Refusal> {
        let Some(origin) = one(headers, &ORIGIN).map_err(|_| Refusal::ForeignOrigin)? else {
            return Ok(Trust::NoPage);
        };
        let origin = origin.to_str().map_err(|_| Refusal::ForeignOrigin)?;
        if self.origins.iter().any(|known| known.eq_ignore_ascii_case(origin)) {
            return Ok(Trust::Page);
        }
        let (scheme, authority) = origin.split_once("://").ok_or(Refusal::ForeignOrigin)?;
        if !matches!(scheme, "http" | "https") {
            return Err(Refusal::ForeignOrigin);
        }
        let local = self.bound.is_loopback() && !self.behind_proxy && is_loopback(authority);
        // Our own pages, when nobody told us our public URL. Behind a proxy the scheme outside is not known.
        let own_scheme = self.behind_proxy || (scheme == "https") == self.tls;
        let own = || {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            own_scheme && host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
        };
        if local || own() { Ok(Trust::Page) } else { Err(Refusal::ForeignOrigin) }
    }

    /// The client's address: the peer's, or what proxies that we trust say about it.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.ip().to_canonical();
        if self.behind_proxy { forwarded::client(peer, headers, &self.proxies) } else { peer }
    }

    /// Whether clients reach this listener by TLS.
    pub fn has_tls(&self) -> bool {
        self.tls
    }
}

/// The only value of a header; two of them are two different messages to two readers.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Refusal::BadHost),
    }
}

/// `name[:port]`, `[v6][:port]`: the name with its brackets, and the port. None when it is neither.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (name, rest) = text.split_at(end);
    let port = match rest.strip_prefix(':') {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Some(port.parse().ok()?),
        None if rest.is_empty() => None,
        _ => return None,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    (!name.is_empty() && name.bytes().all(plain)).then_some((name, port))
}

fn address(name: &str) -> Option<IpAddr> {
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => name.parse().ok().map(IpAddr::V4),
    }
}

fn is_loopback(authority: &str) -> bool {
    split_port(authority).is_some_and(|(name, _)| {
        name.eq_ignore_ascii_case("localhost") || address(name).is_some_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DotEnv, Settings};

    fn gate(args: &[&str]) -> Gate {
        Gate::new(&Settings::from_args(args, &DotEnv::default()).unwrap().listen)
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn host_names_matrix() {
        use Refusal::{BadHost, ForeignHost};
        let local = gate(&[]);
        let public = gate(&[
            "--host=0.0.0.0",
            "--behind-proxy",
            "--public-url=https://Mcp.Example.com/x",
            "--allowed-hosts=gw.internal,gw.other:8443",
        ]);
        for (host, at_local, at_public) in [
            ("localhost:8001", Ok(()), Ok(())),
            ("LOCALHOST", Ok(()), Ok(())),
            ("127.0.0.1:8001", Ok(()), Ok(())),
            ("127.9.9.9", Ok(()), Ok(())),
            ("[::1]:8001", Ok(()), Ok(())),
            ("10.1.2.3:8001", Err(ForeignHost), Ok(())),
            ("mcp.example.com", Err(ForeignHost), Ok(())),
            ("MCP.EXAMPLE.COM:443", Err(ForeignHost), Ok(())),
            ("gw.internal:9", Err(ForeignHost), Ok(())),
            ("gw.other:8443", Err(ForeignHost), Ok(())),
            ("gw.other", Err(ForeignHost), Err(ForeignHost)),
            ("gw.other:1", Err(ForeignHost), Err(ForeignHost)),
            ("evil.example:8001", Err(ForeignHost), Err(ForeignHost)),
            ("localhost.evil.example", Err(ForeignHost), Err(ForeignHost)),
            ("127.0.0.1.evil.example", Err(ForeignHost), Err(ForeignHost)),
            ("evil.mcp.example.com", Err(ForeignHost), Err(ForeignHost)),
            ("localhost@evil", Err(BadHost), Err(BadHost)),
            ("localhost:99999", Err(BadHost), Err(BadHost)),
            ("localhost:8001:1", Err(BadHost), Err(BadHost)),
            ("[::1", Err(BadHost), Err(BadHost)),
            ("", Err(BadHost), Err(BadHost)),
        ] {
            let headers = headers(&[("host", host)]);
            assert_eq!(local.host(&headers, None), at_local, "{host} at loopback");
            assert_eq!(public.host(&headers, None), at_public, "{host} in public");
        }
    }

    #[test]
    fn a_host_is_named_once_and_alike() {
        let gate = gate(&[]);
        let ours = Authority::from_static("localhost:8001");
        let foreign = Authority::from_static("evil.example");
        assert_eq!(gate.host(&headers(&[]), None), Err(Refusal::BadHost));
        assert_eq!(gate.host(&headers(&[("host", "localhost"), ("host", "localhost")]), None), Err(Refusal::BadHost));
        assert_eq!(gate.host(&headers(&[]), Some(&ours)), Ok(()));
        assert_eq!(gate.host(&headers(&[("host", "localhost")]), Some(&foreign)), Err(Refusal::ForeignHost));
        assert_eq!(gate.host(&headers(&[("host", "evil.example")]), Some(&ours)), Err(Refusal::ForeignHost));
    }

    #[test]
    fn origins_matrix() {
        let local = gate(&["--allowed-origins=https://app.example.com,chrome-extension://abc"]);
        let public = gate(&["--host=0.0.0.0", "--behind-proxy", "--public-url=https://mcp.example.com"]);
        let tls = gate(&["--host=10.0.0.5", "--tls-cert=a", "--tls-key=b"]);
        let behind_local_proxy = gate(&["--behind-proxy"]);
        for (origin, host, expected) in [
            // origin, host, (loopback, public, own TLS, loopback behind a proxy)
            ("http://localhost:6274", "localhost:8001", [true, false, false, false]),
            ("https://127.0.0.1", "localhost:8001", [true, false, false, false]),
            ("http://[::1]:3000", "localhost:8001", [true, false, false, false]),
            ("https://app.example.com", "localhost", [true, false, false, false]),
            ("HTTPS://APP.example.com", "localhost", [true, false, false, false]),
            ("chrome-extension://abc", "localhost", [true, false, false, false]),
            ("https://mcp.example.com", "mcp.example.com", [false, true, true, true]),
            ("https://mcp.example.com", "x", [false, true, false, false]),
            ("https://10.0.0.5:8001", "10.0.0.5:8001", [false, true, true, true]),
            ("http://10.0.0.5:8001", "10.0.0.5:8001", [true, true, false, true]),
            ("https://evil.example", "localhost:8001", [false; 4]),
            ("http://localhost.evil.example", "localhost:8001", [false; 4]),
            ("http://evil.example@localhost", "localhost:8001", [false; 4]),
            ("file://localhost", "localhost:8001", [false; 4]),
            ("null", "localhost:8001", [false; 4]),
            ("", "localhost:8001", [false; 4]),
        ] {
            let headers = headers(&[("origin", origin), ("host", host)]);
            for (gate, expected) in [&local, &public, &tls, &behind_local_proxy].into_iter().zip(expected) {
                assert_eq!(gate.origin(&headers).is_ok(), expected, "{origin} to {host} at {gate:?}");
            }
        }
        assert_eq!(local.origin(&headers(&[("host", "localhost")])), Ok(Trust::NoPage));
        let twice = headers(&[("origin", "http://localhost"), ("origin", "http://localhost")]);
        assert_eq!(local.origin(&twice), Err(Refusal::ForeignOrigin));
    }
}
