//! Which addresses may be called. Three classes: addresses that nobody may make this gateway call (link-local, cloud metadata,
//! multicast …), addresses inside somebody's network (loopback, private, shared …), and the public rest.
//!
//! An IPv6 address that carries an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo, ISATAP) is judged by what it
//! carries, because that is where the packets go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What an [`super::Outbound`] may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Whether addresses inside a network may be called: true for upstreams that an administrator registered, false for
    /// URLs that anybody else chose.
    pub allow_private: bool,
    /// If set, of the addresses inside a network only those of this one.
    pub within: Option<IpNet>,
}

impl AddressPolicy {
    /// For URLs that an administrator chose.
    pub const ADMIN: Self = Self { allow_private: true, within: None };
    /// For URLs that anybody else chose.
    pub const STRANGER: Self = Self { allow_private: false, within: None };

    /// For URLs that anybody chose, at a host that an administrator says is inside this network.
    pub const fn inside(network: IpNet) -> Self {
        Self { allow_private: true, within: Some(network) }
    }

    /// Lets `address` through, or names what it is.
    pub fn check(self, address: IpAddr) -> Result<(), &'static str> {
        match classify(address) {
            Class::Public => Ok(()),
            Class::Private(_)
                if self.allow_private
                    && self.within.is_none_or(|network| network.contains(&address.to_canonical())) =>
            {
                Ok(())
            }
            Class::Private(what) | Class::Never(what) => Err(what),
        }
    }
}

/// What kind of address it is, with words that fit behind "which is".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Reachable by all.
    Public,
    /// Inside somebody's network, or set aside for documentation and tests.
    Private(&'static str),
    /// Nothing that an MCP server could be.
    Never(&'static str),
}

const METADATA: Class = Class::Never("a cloud metadata address");
const LINK_LOCAL: Class = Class::Never("a link-local address (cloud metadata lives there)");
const RESERVED: Class = Class::Private("a reserved address");

/// The class of an address (RFC 6890 and its registries, RFC 4291, RFC 6052, RFC 8215).
pub fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        [0, ..] => Class::Never("an unspecified address"),
        [255, 255, 255, 255] => Class::Never("the broadcast address"),
        [224..=239, ..] => Class::Never("a multicast address"),
        [240..=255, ..] => Class::Never("a reserved address"),
        [169, 254, ..] => LINK_LOCAL,
        // Alibaba Cloud, Oracle Cloud, and the platform address of Azure.
        [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => METADATA,
        [127, ..] => Class::Private("a loopback address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private("a private address"),
        [100, 64..=127, ..] => Class::Private("a shared (carrier-grade NAT) address"),
        // Protocol assignments, documentation, 6to4 relays, benchmarks.
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => RESERVED,
        _ => Class::Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> Class {
    let parts = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        classify_v4(Ipv4Addr::new(a, b, c, d))
    };
    #[expect(clippy::match_same_arms, reason = "one arm for each block of addresses, in the order of precedence")]
    match parts {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Never("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Private("a loopback address"),
        [0xff00..=0xffff, ..] => Class::Never("a multicast address"),
        [0xfe80..=0xfebf, ..] => LINK_LOCAL,
        // The metadata services of Amazon, Google and Oracle in IPv6.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254]
        | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254]
        | [0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe] => METADATA,
        // IPv4-mapped, IPv4-translated, NAT64.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // IPv4-compatible: given up long ago, but some stacks still route it.
        [0, 0, 0, 0, 0, 0, high, low] => at_least_private(v4(high, low)),
        // NAT64 with a prefix of its own. Where in it the IPv4 address stands depends on the length of the prefix (48, 56, 64,
        // 96 bits), which is not known here: none of the readings may lead to a metadata address.
        [0x0064, 0xff9b, 1, high, b, c, d, low] => {
            let readings = [
                v4(high, b << 8 | c >> 8),
                v4(high << 8 | b & 0xff, c),
                v4(b << 8 | c >> 8, c << 8 | d >> 8),
                v4(d, low),
            ];
            readings.into_iter().find(|class| matches!(*class, LINK_LOCAL | METADATA)).unwrap_or(RESERVED)
        }
        [0x2002, high, low, ..] => v4(high, low),
        // Teredo: server in the clear, client inverted.
        [0x2001, 0, high, low, _, _, client_high, client_low] => {
            at_least_private(worse(v4(high, low), v4(!client_high, !client_low)))
        }
        // ISATAP, under any prefix.
        [_, _, _, _, 0x0000 | 0x0200, 0x5efe, high, low] => at_least_private(v4(high, low)),
        [0xfc00..=0xfdff, ..] => Class::Private("a unique local address"),
        // Documentation, benchmarks, ORCHID.
        [0x2001, 0x0db8 | 0x0002 | 0x0010..=0x002f, ..] | [0x3fff, 0..=0x0fff, ..] => RESERVED,
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => RESERVED,
    }
}

fn worse(a: Class, b: Class) -> Class {
    match (a, b) {
        (Class::Never(_), _) | (Class::Private(_), Class::Public) => a,
        _ => b,
    }
}

fn at_least_private(class: Class) -> Class {
    worse(class, RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> Class {
        classify(text.parse().expect(text))
    }

    #[test]
    fn public_addresses_are_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "169.253.1.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:1.1.1.1",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert_eq!(class(text), Class::Public, "{text}");
        }
    }

    #[test]
    fn a_network_may_be_named_in_place_of_all() {
        let inside = AddressPolicy::inside("10.1.0.0/16".parse().unwrap());
        for (address, allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("1.1.1.1", true),
            ("10.2.0.1", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(inside.check(address.parse().unwrap()).is_ok(), allowed, "{address}");
        }
        let all = AddressPolicy::inside("0.0.0.0/0".parse().unwrap());
        assert!(all.check("169.254.169.254".parse().unwrap()).is_err());
    }

    #[test]
    fn addresses_inside_a_network_are_for_administrators() {
        for text in [
            "127.0.0.1",
            "127.255.255.254",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "::1",
            "fc00::1",
            "fd12:3456::1",
            "fec0::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:192.168.1.1",
            "::127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:6440:1::1",
            "2001:0:808:808::f5ff:fffe",
            "2a00::5efe:10.0.0.1",
            "2a00::200:5efe:8.8.8.8",
        ] {
            assert!(matches!(class(text), Class::Private(_)), "{text}: {:?}", class(text));
            assert!(AddressPolicy::ADMIN.check(text.parse().unwrap()).is_ok());
            assert!(AddressPolicy::STRANGER.check(text.parse().unwrap()).is_err());
        }
    }

    #[test]
    fn nobody_makes_the_gateway_call_metadata_or_multicast_in_any_spelling() {
        for text in [
            "169.254.169.254",
            "169.254.0.1",
            "169.254.170.2",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "::ffff:169.254.169.254",
            "::ffff:0:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0.0.0.0",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00:0",
            "2002:a9fe:a9fe::1",
            "2001:0:a9fe:a9fe::1",
            "2001:0:808:808::5601:5601",
            "2a00::5efe:169.254.169.254",
        ] {
            assert!(matches!(class(text), Class::Never(_)), "{text}: {:?}", class(text));
            assert!(AddressPolicy::ADMIN.check(text.parse().unwrap()).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn what_carries_an_address_is_never_judged_more_mildly_than_it(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let inner = classify_v4(v4);
            for carrier in [
                v4.to_ipv6_mapped(),
                v4.to_ipv6_compatible(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, 0, 0, !high, !low),
            ] {
                if carrier.is_unspecified() || carrier.is_loopback() { continue; }
                for policy in [AddressPolicy::ADMIN, AddressPolicy::STRANGER] {
                    if policy.check(v4.into()).is_err() {
                        proptest::prop_assert!(policy.check(carrier.into()).is_err(), "{} in {} ({:?})", v4, carrier, inner);
                    }
                }
            }
        }
    }
}
