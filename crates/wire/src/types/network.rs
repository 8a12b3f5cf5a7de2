//! inet, cidr and macaddr, from their binary form to the text Postgres prints (`network.c`, `inet_net_ntop.c`, `mac.c`).

use super::Refusal;
use super::render::{put_display, put_hex};
use crate::decimal;

const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 3;

/// Appends an inet or a cidr: family, prefix length, whether it is a cidr, address length, address.
pub(super) fn put_inet(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let (prefix_length, cidr, full) = match *bytes {
        [FAMILY_V4, bits @ 0..=32, cidr @ 0..=1, 4, a, b, c, d] => {
            put_v4([a, b, c, d], out);
            (bits, cidr, 32)
        }
        [FAMILY_V6, bits @ 0..=128, cidr @ 0..=1, 16, ref address @ ..] => {
            put_v6(address.try_into().map_err(|_| Refusal::Malformed)?, out);
            (bits, cidr, 128)
        }
        _ => return Err(Refusal::Malformed),
    };
    // An inet without a prefix means the whole address; a cidr always tells.
    if prefix_length != full || cidr == 1 {
        out.push(b'/');
        decimal::put(out, u64::from(prefix_length));
    }
    Ok(())
}

/// Appends a macaddr.
pub(super) fn put_macaddr(bytes: [u8; 6], out: &mut Vec<u8>) {
    for (index, byte) in bytes.into_iter().enumerate() {
        if index > 0 {
            out.push(b':');
        }
        put_hex(&[byte], out);
    }
}

fn put_v4(address: [u8; 4], out: &mut Vec<u8>) {
    for (index, byte) in address.into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        decimal::put(out, u64::from(byte));
    }
}

fn put_v6(address: [u8; 16], out: &mut Vec<u8>) {
    let mut words = [0_u16; 8];
    let (pairs, _) = address.as_chunks::<2>();
    for (word, pair) in words.iter_mut().zip(pairs) {
        *word = u16::from_be_bytes(*pair);
    }
    let zeros = longest_zeros(&words);
    let mut index = 0;
    while index < words.len() {
        if index == zeros.start && !zeros.is_empty() {
            out.push(b':');
            index = zeros.end;
            continue;
        }
        if index > 0 {
            out.push(b':');
        }
        if index == 6 && embeds_v4(&words, &zeros) {
            let [.., a, b, c, d] = address;
            put_v4([a, b, c, d], out);
            return;
        }
        put_display(out, format_args!("{:x}", words[index]));
        index += 1;
    }
    if zeros.end == words.len() && !zeros.is_empty() {
        out.push(b':');
    }
}

/// The first longest run of at least two zero words.
fn longest_zeros(words: &[u16; 8]) -> std::ops::Range<usize> {
    let mut best = 0..0;
    let mut start = 0;
    for (index, word) in words.iter().enumerate() {
        if *word != 0 {
            start = index + 1;
        } else if index + 1 - start > best.len() {
            best = start..index + 1;
        }
    }
    if best.len() < 2 { 0..0 } else { best }
}

/// Addresses whose end Postgres prints as IPv4: `::1.2.3.4` and `::ffff:1.2.3.4`.
fn embeds_v4(words: &[u16; 8], zeros: &std::ops::Range<usize>) -> bool {
    *zeros == (0..6) || (*zeros == (0..5) && words[5] == 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(bytes: &[u8]) -> Result<String, Refusal> {
        let mut out = Vec::new();
        put_inet(bytes, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    fn v6(words: [u16; 8], bits: u8) -> Result<String, Refusal> {
        let mut bytes = vec![FAMILY_V6, bits, 0, 16];
        bytes.extend(words.into_iter().flat_map(u16::to_be_bytes));
        printed(&bytes)
    }

    #[test]
    fn v4() {
        assert_eq!(printed(&[2, 32, 0, 4, 10, 0, 0, 1]).as_deref(), Ok("10.0.0.1"));
        assert_eq!(printed(&[2, 8, 0, 4, 10, 0, 0, 1]).as_deref(), Ok("10.0.0.1/8"));
        assert_eq!(printed(&[2, 32, 1, 4, 10, 0, 0, 1]).as_deref(), Ok("10.0.0.1/32"));
        assert_eq!(printed(&[2, 0, 1, 4, 0, 0, 0, 0]).as_deref(), Ok("0.0.0.0/0"));
    }

    #[test]
    fn v6_is_shortened() {
        for (words, text) in [
            ([0, 0, 0, 0, 0, 0, 0, 0], "::"),
            ([0, 0, 0, 0, 0, 0, 0, 1], "::1"),
            ([1, 0, 0, 0, 0, 0, 0, 0], "1::"),
            ([0x2001, 0xdb8, 0, 0, 1, 0, 0, 1], "2001:db8::1:0:0:1"),
            ([1, 0, 2, 0, 3, 0, 4, 0], "1:0:2:0:3:0:4:0"),
            ([0, 0, 0, 0, 0, 0xffff, 0x102, 0x304], "::ffff:1.2.3.4"),
            ([0, 0, 0, 0, 0, 0, 0x102, 0x304], "::1.2.3.4"),
            (
                [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff],
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ),
        ] {
            assert_eq!(v6(words, 128).as_deref(), Ok(text));
        }
        assert_eq!(v6([0xfe80, 0, 0, 0, 0, 0, 0, 1], 10).as_deref(), Ok("fe80::1/10"));
    }

    #[test]
    fn what_no_send_function_writes_is_refused() {
        for bytes in [
            [].as_slice(),
            &[2, 32, 0, 4, 10, 0, 0],
            &[2, 33, 0, 4, 10, 0, 0, 1],
            &[2, 32, 2, 4, 10, 0, 0, 1],
            &[4, 32, 0, 4, 10, 0, 0, 1],
            &[3, 128, 0, 16, 0],
            &[3, 129, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(printed(bytes), Err(Refusal::Malformed), "{bytes:?}");
        }
    }
}
