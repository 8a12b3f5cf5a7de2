//! Lists of addresses and networks, and whether they contain an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks of both families, as ranges of addresses that neither overlap nor touch, in order.
///
/// An IPv4 address that is written as an IPv6 one (`::ffff:192.0.2.1`) is an IPv4 address, in the list and asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Networks {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

/// First and last address of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    V4(u32, u32),
    V6(u128, u128),
}

impl Network {
    /// Reads an address, or an address and a prefix length behind a slash; the bits behind the prefix don't matter.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            None => (text, None),
            Some((address, length)) => (address, Some(prefix_length(length)?)),
        };
        match address.parse().ok()? {
            IpAddr::V4(address) => v4(address, length.unwrap_or(32)),
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                None => v6(address, length.unwrap_or(128)),
                // A prefix that is shorter than what marks an IPv4 address takes in more than such addresses.
                Some(mapped) => v4(mapped, length.unwrap_or(128).checked_sub(96)?),
            },
        }
    }
}

impl Networks {
    pub(super) fn of(networks: &[Network]) -> Self {
        let v4 = networks.iter().filter_map(|network| match network {
            Network::V4(first, last) => Some((*first, *last)),
            Network::V6(..) => None,
        });
        let v6 = networks.iter().filter_map(|network| match network {
            Network::V4(..) => None,
            Network::V6(first, last) => Some((*first, *last)),
        });
        Self {
            v4: merged(v4.collect(), |last| last.checked_add(1)),
            v6: merged(v6.collect(), |last| last.checked_add(1)),
        }
    }

    /// Whether the address is in one of the networks; None: there are some, but none of its family.
    #[inline]
    pub(super) fn contain(&self, address: IpAddr) -> Option<bool> {
        if self.v4.is_empty() && self.v6.is_empty() {
            return Some(false);
        }
        match address.to_canonical() {
            IpAddr::V4(address) => contained(&self.v4, address.to_bits()),
            IpAddr::V6(address) => contained(&self.v6, address.to_bits()),
        }
    }
}

#[inline]
fn contained<T: Ord>(ranges: &[(T, T)], address: T) -> Option<bool> {
    let next = ranges.partition_point(|(first, _)| *first <= address);
    let found = next.checked_sub(1).and_then(|index| ranges.get(index)).is_some_and(|(_, last)| address <= *last);
    (!ranges.is_empty()).then_some(found)
}

fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(previous) if next(previous.1).is_none_or(|next| first <= next) => previous.1 = previous.1.max(last),
            Some(_) | None => merged.push((first, last)),
        }
    }
    merged.into_boxed_slice()
}

fn prefix_length(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn v4(address: Ipv4Addr, length: u32) -> Option<Network> {
    let host = u32::MAX.checked_shr(length).unwrap_or(0);
    let first = address.to_bits() & !host;
    (length <= 32).then_some(Network::V4(first, first | host))
}

fn v6(address: Ipv6Addr, length: u32) -> Option<Network> {
    let host = u128::MAX.checked_shr(length).unwrap_or(0);
    let first = address.to_bits() & !host;
    (length <= 128).then_some(Network::V6(first, first | host))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contain(list: &[&str], address: &str) -> Option<bool> {
        let networks: Vec<Network> = list.iter().map(|text| Network::parse(text).unwrap()).collect();
        Networks::of(&networks).contain(address.parse().unwrap())
    }

    #[test]
    fn what_is_in_which_list() {
        let cases: [(&[&str], &str, Option<bool>); 25] = [
            (&["10.0.0.0/8"], "10.255.255.255", Some(true)),
            (&["10.0.0.0/8"], "11.0.0.0", Some(false)),
            (&["10.0.0.0/8"], "9.255.255.255", Some(false)),
            (&["10.1.2.3/8"], "10.200.0.1", Some(true)),
            (&["10.1.2.3"], "10.1.2.3", Some(true)),
            (&["10.1.2.3"], "10.1.2.4", Some(false)),
            (&["10.1.2.3/32"], "10.1.2.3", Some(true)),
            (&["0.0.0.0/0"], "255.255.255.255", Some(true)),
            (&["0.0.0.0/0"], "::1", None),
            (&["::/0"], "10.0.0.1", None),
            (&["::/0"], "ffff::", Some(true)),
            (&["2001:db8::/32"], "2001:db8:ffff::1", Some(true)),
            (&["2001:db8::/32"], "2001:db9::", Some(false)),
            (&["2001:db8::1"], "2001:db8::1", Some(true)),
            (&["::ffff:10.0.0.0/104"], "10.9.9.9", Some(true)),
            (&["::ffff:10.0.0.0/104"], "::ffff:10.9.9.9", Some(true)),
            (&["::ffff:10.0.0.0/104"], "11.0.0.0", Some(false)),
            (&["::ffff:10.0.0.1"], "10.0.0.1", Some(true)),
            (&["10.0.0.1"], "::ffff:10.0.0.1", Some(true)),
            (&["10.0.0.1"], "::10.0.0.1", None),
            (&["10.0.0.0/25", "10.0.0.128/25", "10.0.0.0/24"], "10.0.0.200", Some(true)),
            (&["10.0.0.0/24", "10.0.2.0/24"], "10.0.1.1", Some(false)),
            (&["10.0.0.0/24", "::/0"], "10.0.1.1", Some(false)),
            (&[], "10.0.0.1", Some(false)),
            (&[], "::1", Some(false)),
        ];
        for (list, address, expected) in cases {
            assert_eq!(contain(list, address), expected, "{address} in {list:?}");
        }
    }

    #[test]
    fn what_is_no_network() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/8/8",
            "10.0.0.0/8 ",
            " 10.0.0.1",
            "10.0.0",
            "010.0.0.1",
            "10.0.0.256",
            "10.0.0.0/255.0.0.0",
            "::/129",
            "fe80::1%eth0",
            "[::1]",
            "::1/",
            "::ffff:10.0.0.0/95",
            "::ffff:10.0.0.0/8",
            "10.0.0.1:80",
            "１0.0.0.1",
            "10.0.0.0/٨",
            "localhost",
            "10.0.0.0/99999999999999999999",
        ] {
            assert_eq!(Network::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        /// Many overlapping networks of a small space, against one look at each.
        #[test]
        fn a_list_contains_what_one_of_its_networks_does(
            list in prop::collection::vec((0..64_u32, 26..=32_u32), 1..12),
            asked in 0..70_u32,
        ) {
            let base = u32::MAX - 63;
            let asked = base.checked_add(asked).unwrap_or(asked);
            let networks: Vec<Network> =
                list.iter().map(|(host, length)| v4(Ipv4Addr::from_bits(base + host), *length).unwrap()).collect();
            let expected = list.iter().any(|(host, length)| {
                (0..32).take(usize::try_from(*length).unwrap()).all(|bit| ((base + host) ^ asked) >> (31 - bit) & 1 == 0)
            });
            prop_assert_eq!(Networks::of(&networks).contain(Ipv4Addr::from_bits(asked).into()), Some(expected));
        }
    }
}
