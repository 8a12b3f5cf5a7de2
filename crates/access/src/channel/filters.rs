//! Whether one set of filters lets through no more than another.
//!
//! Asked only while nothing new may be granted: a change that takes ports away goes out at once, one that adds some does not.

use crate::rows::Filter;

/// Whether everything that `narrow` lets through is let through by `wide` too. No filters let everything through.
pub(crate) fn within(narrow: &[Filter], wide: &[Filter]) -> bool {
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|filter| covered(filter, wide)))
}

fn covered(filter: &Filter, wide: &[Filter]) -> bool {
    let of_protocol = || wide.iter().filter(|other| other.protocol == filter.protocol);
    if of_protocol().any(|other| other.ports.is_none()) {
        return true;
    }
    // Only a filter without ports is sure to cover one without.
    let Some((first, last)) = filter.ports else { return false };
    let mut ranges: Vec<(u16, u16)> = of_protocol().filter_map(|other| other.ports).collect();
    ranges.sort_unstable();
    let mut next = u32::from(first);
    for (start, end) in ranges {
        if u32::from(start) > next {
            break;
        }
        next = next.max(u32::from(end) + 1);
    }
    next > u32::from(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Protocol;

    fn tcp(first: u16, last: u16) -> Filter {
        Filter { protocol: Protocol::Tcp, ports: Some((first, last)) }
    }

    const ALL_TCP: Filter = Filter { protocol: Protocol::Tcp, ports: None };
    const ICMP: Filter = Filter { protocol: Protocol::Icmp, ports: None };

    #[test]
    fn what_lies_within_what() {
        let cases: [(&[Filter], &[Filter], bool); 14] = [
            (&[], &[], true),
            (&[tcp(1, 2)], &[], true),
            (&[], &[tcp(1, 2)], false),
            (&[], &[ALL_TCP, ICMP], false),
            (&[tcp(80, 80)], &[tcp(80, 80)], true),
            (&[tcp(80, 81)], &[tcp(80, 80)], false),
            (&[tcp(80, 90)], &[tcp(86, 90), tcp(80, 85)], true),
            (&[tcp(80, 90)], &[tcp(87, 90), tcp(80, 85)], false),
            (&[tcp(80, 90)], &[tcp(1, 100), tcp(80, 80)], true),
            (&[tcp(80, 90), ICMP], &[tcp(1, 100)], false),
            (&[tcp(80, 90), ICMP], &[ALL_TCP, ICMP], true),
            (&[ALL_TCP], &[tcp(1, u16::MAX)], false),
            (&[tcp(0, u16::MAX)], &[tcp(0, u16::MAX)], true),
            (&[ICMP], &[ALL_TCP], false),
        ];
        for (narrow, wide, expected) in cases {
            assert_eq!(within(narrow, wide), expected, "{narrow:?} in {wide:?}");
        }
    }
}
