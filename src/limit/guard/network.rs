//! Who counts as one. An address of IPv4 is one; of IPv6 it is the /64 that one household or machine has, within which it picks
//! addresses as it likes. Around each is the neighbourhood that one customer often has: a /24, a /48.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Shortest prefixes that may be banned by hand: less is half a continent.
const SHORTEST: [u8; 2] = [8, 16];
/// What counts as one address.
const OWN: [u8; 2] = [32, 64];
/// What counts as a neighbourhood.
const AROUND: [u8; 2] = [24, 48];

/// The network that counts as this address.
pub fn own(address: IpAddr) -> IpNet {
    cut(address, OWN)
}

/// The neighbourhood that the address is in.
pub fn around(address: IpAddr) -> IpNet {
    cut(address, AROUND)
}

fn cut(address: IpAddr, bits: [u8; 2]) -> IpNet {
    shortened(address.to_canonical(), bits[usize::from(!address.to_canonical().is_ipv4())])
}

/// The network of so many bits that the address is in.
pub(super) fn shortened(address: IpAddr, bits: u8) -> IpNet {
    match address {
        IpAddr::V4(address) => IpNet::V4(Ipv4Net::new_assert(address, bits.min(32)).trunc()),
        IpAddr::V6(address) => IpNet::V6(Ipv6Net::new_assert(address, bits.min(128)).trunc()),
    }
}

/// What somebody wrote: an address, which stands for what counts as one, or a network. In a path, where a slash may not pass every
/// proxy, `192.0.2.0-24` is a network too.
pub fn parse(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let network = text.parse().map(own).ok().or_else(|| text.replace('-', "/").parse::<IpNet>().ok());
    let network = network.ok_or("write an address such as 192.0.2.7, or a network such as 192.0.2.0/24")?.trunc();
    let which = usize::from(matches!(network, IpNet::V6(_)));
    if !(SHORTEST[which]..=OWN[which]).contains(&network.prefix_len()) {
        let (shortest, own) = (SHORTEST[which], OWN[which]);
        return Err(format!(
            "a network of this kind has a prefix of {shortest} to {own} bits; an address is enough for one"
        ));
    }
    Ok(network)
}

/// As it is written for people: an address of IPv4 without its length.
pub fn written(network: &IpNet) -> String {
    match network {
        IpNet::V4(one) if one.prefix_len() == OWN[0] => one.addr().to_string(),
        other => other.to_string(),
    }
}

/// Whether one of the two holds something of the other.
pub(super) fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stands_for_what_counts_as_one() {
        for (text, said) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("192.0.2.0-24", "192.0.2.0/24"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            ("2001:db8:1::-48", "2001:db8:1::/48"),
        ] {
            assert_eq!(parse(text).map(|network| written(&network)).as_deref(), Ok(said), "{text}");
        }
        for wrong in ["", "here", "0.0.0.0/0", "::/8", "2001:db8::1/128", "192.0.2.0/33"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(around("192.0.2.7".parse().unwrap()).to_string(), "192.0.2.0/24");
        assert_eq!(around("2001:db8:1:2::1".parse().unwrap()).to_string(), "2001:db8:1::/48");
    }
}
