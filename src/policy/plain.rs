//! Whether a name or URI that somebody asks for can be read in one way only. One that a server lists means what it lists; any other
//! could be a second spelling of something that a rule speaks of, as the server reads it (RFC 3986, section 6).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::What;

impl What<'_> {
    /// Whether there is no other spelling of it that a server is likely to take for the same. Errs towards no.
    pub fn is_plain(self) -> bool {
        match self {
            Self::Server => true,
            Self::Tool(name, _) | Self::Prompt(name) => is_plain_name(name),
            Self::Resource(uri) => is_plain_uri(uri),
        }
    }

    /// Other URIs that a server may take for the same although both are plain: without the query, without a slash at the end, and of a
    /// host by itself with one.
    pub fn shorter(self) -> Vec<String> {
        let Self::Resource(uri) = self else { return Vec::new() };
        let (bare, query) = uri.split_at(uri.find('?').unwrap_or(uri.len()));
        let is_host = |(scheme, rest): (&str, &str)| {
            WEB.iter().any(|(name, _)| *name == scheme)
                && rest.strip_prefix("//").is_some_and(|rest| !rest.contains('/'))
        };
        let other = match bare.strip_suffix('/') {
            Some(cut) => Some(cut.to_owned()).filter(|cut| !cut.ends_with(['/', ':'])),
            None => bare.split_once(':').is_some_and(is_host).then(|| format!("{bare}/")),
        };
        let mut all: Vec<String> = other.iter().map(|other| format!("{other}{query}")).collect();
        if !query.is_empty() {
            all.extend([bare.to_owned()].into_iter().chain(other));
        }
        all
    }
}

/// The characters that names of tools are made of (MCP 2025-11-25, server/tools, "Tool Names"), and those that say where one belongs.
fn is_plain_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b':'))
}

/// Schemes whose URIs the web reads in one way only, each with the port that need not be said (WHATWG URL, "special schemes").
const WEB: [(&str, u16); 5] = [("ftp", 21), ("http", 80), ("https", 443), ("ws", 80), ("wss", 443)];

fn is_plain_uri(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (place, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (Some(place), path)
        }
        None => (None, rest),
    };
    is_plain_scheme(scheme)
        && is_plain_place(scheme, place)
        && is_plain_path(path)
        && is_plain_text(path)
        && is_plain_text(query)
}

/// `place` is what stands behind `//`. Of a file that is nothing: some read `file:/a`, `file://localhost/a` and `file:///a` as one.
fn is_plain_place(scheme: &str, place: Option<&str>) -> bool {
    let text = place.unwrap_or_default();
    let web = WEB.iter().find(|(name, _)| *name == scheme);
    text.bytes().all(|byte| !byte.is_ascii_uppercase() && !matches!(byte, b'@' | b'%'))
        && is_plain_text(text)
        && match (web, place) {
            (Some((_, usual)), place) => place.is_some_and(|place| is_plain_host(place, *usual)),
            (None, place) => scheme != "file" || place == Some(""),
        }
}

/// A host of the web, with a port only where it is not the usual one.
fn is_plain_host(place: &str, usual: u16) -> bool {
    let end = if place.starts_with('[') { place.rfind(']').map(|at| at + 1) } else { place.find(':') };
    let (host, port) = place.split_at(end.unwrap_or(place.len()));
    let is_plain_port = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|number| number != usual && number.to_string() == port),
        None => port.is_empty(),
    };
    let number = |label: &str| label.starts_with("0x") || label.bytes().all(|byte| byte.is_ascii_digit());
    is_plain_port
        && match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner
                .parse::<Ipv6Addr>()
                .is_ok_and(|address| address.to_ipv4_mapped().is_none() && address.to_string() == inner),
            // A last label that is a number makes it an address, which has other spellings than this one; an empty one is none at all.
            None if host.rsplit('.').next().is_none_or(number) => host.parse::<Ipv4Addr>().is_ok(),
            None => !host.contains(['[', ']']),
        }
}

fn is_plain_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'))
}

/// No segment that means another one, or nothing.
fn is_plain_path(path: &str) -> bool {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.is_empty() || path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

/// The characters of a URI, and what must be encoded in the one way that is normal; a fragment is no part of what is asked for.
fn is_plain_text(text: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let reserved = |byte: u8| b":/?[]@!$&'()*+,;=".contains(&byte);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            if unreserved(byte) || reserved(byte) {
                continue;
            }
            return false;
        }
        let digit = |byte: Option<u8>| match byte? {
            digit @ b'0'..=b'9' => Some(digit - b'0'),
            digit @ b'A'..=b'F' => Some(digit - b'A' + 10),
            _ => None,
        };
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else { return false };
        let meant = high << 4 | low;
        if unreserved(meant) || reserved(meant) || meant == b'\\' || meant.is_ascii_control() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_plain_if_nobody_else_spells_it_otherwise() {
        for plain in [
            "stand-in://notes/7",
            "file:///a/b.txt",
            "file:///a/",
            "file:///",
            "urn:isbn:1",
            "https://example.com:8443/a?x=1&y=%20",
            "https://example.com",
            "https://example.com/a?",
            "http://127.0.0.1:443/",
            "http://[::1]:8080/",
            "https://10.example/",
            "db:/a",
            "notes://localhost:80.",
            "a:b",
            "file:///caf%C3%A9",
        ] {
            assert!(is_plain_uri(plain), "{plain}");
        }
        for other in [
            "",
            "notes",
            "FILE:///a",
            "file://Host/a",
            "file:/a",
            "file:a",
            "file://localhost/a",
            "file://host/a",
            "https:host/a",
            "https:/host/a",
            "https:///host/a",
            "https://host:443/a",
            "http://host:80/a",
            "ws://host:80/a",
            "ftp://host:21/a",
            "https://host:/a",
            "https://host:08443/a",
            "https://host:+1/a",
            "https://host:1:2/a",
            "https://host./a",
            "http://127.1/a",
            "http://2130706433/a",
            "http://0x7f000001/a",
            "http://127.0.0.01/a",
            "http://[0:0::1]/a",
            "http://[::ffff:127.0.0.1]/a",
            "http://[::1/a",
            "http://[::1]x/a",
            "http://somebody@host/a",
            "file:///a/../b",
            "file:///a/./b",
            "file:///a//b",
            "file:///a/%2e%2e/b",
            "file:///a/%2E%2E/b",
            "file:///a%2Fb",
            "file:///%61",
            "file:///a%c3%a9",
            "file:///a%5Cb",
            "file:///a%00",
            "file:///a%",
            "file:///a%4",
            "file:///a\\b",
            "file:///a b",
            "file:///caf\u{e9}",
            "file:///a#b",
            "file:///a{b}",
            "a:..",
        ] {
            assert!(!is_plain_uri(other), "{other}");
        }
    }

    #[test]
    fn what_somebody_may_take_for_a_shorter_uri_is_named() {
        for (uri, others) in [
            ("notes://a", &[][..]),
            ("notes://a/b", &[]),
            ("notes://a/", &["notes://a"]),
            ("notes://a?x", &["notes://a"]),
            ("notes://a?", &["notes://a"]),
            ("notes://a/?x", &["notes://a?x", "notes://a/", "notes://a"]),
            ("file:///", &[]),
            ("file:///a/?", &["file:///a?", "file:///a/", "file:///a"]),
            ("a:/", &[]),
            ("https://host", &["https://host/"]),
            ("https://host/", &["https://host"]),
            ("https://host?x=/", &["https://host/?x=/", "https://host", "https://host/"]),
        ] {
            assert_eq!(What::Resource(uri).shorter(), others, "{uri}");
        }
    }
}
