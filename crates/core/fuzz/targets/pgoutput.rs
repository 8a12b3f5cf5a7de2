//! Any bytes in the place of a message of pgoutput give a message or an error. A message is whole: with a byte less or
//! more it is none; and what it borrows is not more than was there.

#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_core::pgoutput::{DecodeError, Message, OldTuple, Tuple, decode};

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = decode(bytes) else { return };
    assert!(borrowed(&message) < bytes.len(), "{message:?} of {} bytes", bytes.len());
    let shorter = bytes.split_last().map(|(_, rest)| decode(rest));
    assert!(matches!(shorter, Some(Err(_))), "without its last byte it is {shorter:?}");
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert_eq!(decode(&longer), Err(DecodeError::Trailing(1)));
});

/// How many bytes of the frame the message's values are.
fn borrowed(message: &Message<'_>) -> usize {
    match message {
        Message::Insert { new, .. } => values(new),
        Message::Update { old, new, .. } => old.as_ref().map_or(0, old_values) + values(new),
        Message::Delete { old, .. } => old_values(old),
        Message::Truncate { relations } => relations.len() * 4,
        Message::Logical(logical) => logical.prefix.len() + logical.content.len(),
        Message::Relation(relation) => relation.schema.len().min(1) + relation.table.len() + relation.columns.len(),
        Message::Begin(_) | Message::Commit(_) | Message::Origin | Message::Type => 0,
    }
}

fn old_values(old: &OldTuple<'_>) -> usize {
    match old {
        OldTuple::Identity(tuple) | OldTuple::Full(tuple) => values(tuple),
    }
}

fn values(tuple: &Tuple<'_>) -> usize {
    tuple.0.iter().map(|column| column.len()).sum()
}
