//! Who a proxy says the client is. The lists grow at the right end, one hop each; they are read from there, and reading stops
//! at the first hop that is no proxy of ours, because whatever stands left of it was written by strangers.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::FORWARDED;
use ipnet::IpNet;

/// The client behind `peer`. `X-Forwarded-For` is read where it is present, else `Forwarded` (RFC 7239).
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    let trusted = |address: IpAddr| proxies.iter().any(|network| network.contains(&address));
    if !trusted(peer) {
        return peer;
    }
    let mut last = peer;
    if headers.contains_key("x-forwarded-for") {
        for hop in from_the_right(headers, "x-forwarded-for") {
            let Some(address) = address(hop) else { break };
            last = address;
            if !trusted(address) {
                break;
            }
        }
    } else {
        for hop in from_the_right(headers, FORWARDED.as_str()) {
            let Some(address) = forwarded_for(hop).and_then(address) else { break };
            last = address;
            if !trusted(address) {
                break;
            }
        }
    }
    last
}

fn from_the_right<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().rev();
    lines.flat_map(|line| line.to_str().unwrap_or("unreadable").rsplit(',').map(str::trim))
}

fn forwarded_for(hop: &str) -> Option<&str> {
    let value = hop.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    })?;
    Some(value.trim_matches('"'))
}

/// An address, with or without port and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, list: &[(&'static str, &'static str)]) -> String {
        let proxies = ["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, value.parse().unwrap());
        }
        client(peer.parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn the_rightmost_stranger_is_the_client() {
        for (peer, list, expected) in [
            ("9.9.9.9", &[("x-forwarded-for", "1.1.1.1")][..], "9.9.9.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, 1.1.1.1, 10.0.0.2")], "1.1.1.1"),
            ("10.0.0.1", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.1.1.1")], "1.1.1.1"),
            ("10.0.0.1", &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, junk")], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "[2001:db8::1]:443")], "2001:db8::1"),
            ("10.0.0.1", &[("x-forwarded-for", "::ffff:1.1.1.1")], "1.1.1.1"),
            ("10.0.0.1", &[("forwarded", "for=6.6.6.6, For=\"[2001:db8::7]:1\";proto=https")], "2001:db8::7"),
            ("10.0.0.1", &[("forwarded", "for=unknown")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "1.1.1.1:80")], "1.1.1.1"),
        ] {
            assert_eq!(seen(peer, list), expected, "{list:?}");
        }
    }
}
