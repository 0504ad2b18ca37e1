//! Whether a name or URI that somebody asks for can be read in one way only. One that a server lists means what it lists; any other
//! could be a second spelling of something that a rule speaks of, as the server reads it (RFC 3986, section 6).

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
}

/// The characters that names of tools are made of (MCP 2025-11-25, server/tools, "Tool Names"), and those that say where one belongs.
fn is_plain_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b':'))
}

fn is_plain_uri(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    is_plain_scheme(scheme)
        && host.bytes().all(|byte| !byte.is_ascii_uppercase() && !matches!(byte, b'@' | b'%'))
        && is_plain_path(path)
        && is_plain_text(path)
        && is_plain_text(host)
        && is_plain_text(query)
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
}
