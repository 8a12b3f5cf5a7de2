//! Bytes that the bridge did not write: an error or a row, never a panic, and never more access than before.

use penstock_access::rows::Table;
use penstock_wire::event::Op;
use proptest::prelude::*;

use crate::fixture::{Cell, encode, sample, schemas, shape, text};

#[test]
fn a_record_that_is_cut_off_is_refused_wherever_it_is_cut() {
    for table in Table::ALL {
        let shape = shape(table);
        let mut cells = sample(table);
        // A column that nobody reads, listed at the very end.
        cells.push(("updated_at".to_owned(), Cell::Unchanged));
        cells.push(("name".to_owned(), text("n")));
        let record = encode(&shape, Op::Update, &cells);
        let schemas = schemas(&shape);
        let key = schemas.decode_key(&record.key).unwrap();
        assert!(schemas.decode_value(&key, Some(&record.value)).is_ok());
        for length in 0..record.value.len() {
            let cut = schemas.decode_value(&key, Some(&record.value[..length]));
            assert!(cut.is_err(), "{table:?} cut at {length}: {cut:?}");
        }
        for length in 0..record.key.len() {
            assert!(schemas.decode_key(&record.key[..length]).is_err(), "{table:?}'s key cut at {length}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        table in prop::sample::select(Table::ALL.to_vec()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let shape = shape(table);
        let record = encode(&shape, Op::Update, &sample(table));
        let schemas = schemas(&shape);
        let key = schemas.decode_key(&record.key).unwrap();
        let mut value = record.value.clone();
        for (place, byte) in &damage {
            let place = place.index(value.len());
            value[place] = *byte;
        }
        let _ = schemas.decode_value(&key, Some(&value));
        let noise = [&[0, 0, 0, 0, 2][..], &noise].concat();
        let _ = schemas.decode_value(&key, Some(&noise));
        let _ = schemas.decode_key(&[&[0, 0, 0, 0, 1][..], &noise].concat());
    }
}
