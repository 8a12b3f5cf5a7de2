//! Values that a real Postgres printed and sent: both formats give the same bytes, and the binary format gives back the
//! printed text. `golden/postgres_values.sql` makes them.

use crate::model::{SCALARS, decimal};
use crate::one_column::one_column;
use penstock_wire::column::Column;
use penstock_wire::plan::ValueError;
use penstock_wire::types::{Refusal, ValueKind, put_postgres_text};

struct Sample {
    kind: ValueKind,
    text: String,
    binary: Vec<u8>,
}

fn samples() -> Vec<Sample> {
    let samples: Vec<serde_json::Value> = serde_json::from_str(include_str!("../golden/postgres_values.json")).unwrap();
    let sample = |sample: &serde_json::Value| Sample {
        kind: kind(sample["kind"].as_str().unwrap()),
        text: sample["text"].as_str().unwrap().to_owned(),
        binary: unhex(sample["binary"].as_str().unwrap()),
    };
    samples.iter().map(sample).collect()
}

fn kind(name: &str) -> ValueKind {
    if let Some(element) = name.strip_suffix("[]") {
        return kind(element).array();
    }
    let lower = |kind: &ValueKind| format!("{kind:?}").to_lowercase();
    SCALARS.into_iter().find(|kind| lower(kind) == name).unwrap_or_else(|| panic!("unknown kind {name}"))
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn encoded(kind: ValueKind, column: Column<'_>) -> Result<Vec<u8>, ValueError> {
    one_column(kind, column).1
}

#[test]
fn both_formats_of_a_value_give_the_same_bytes() {
    for Sample { kind, text, binary } in samples() {
        let from_text = encoded(kind, Column::Text(text.as_bytes()));
        let from_binary = encoded(kind, Column::Binary(&binary));
        assert_eq!(from_text, from_binary, "{kind:?} {text}");
        match from_text {
            Ok(_) => {}
            Err(ValueError::Column { reason: Refusal::OutOfRange, .. }) => {
                assert_eq!(text, "294276-12-31 23:59:59.999999")
            }
            Err(error) => panic!("{kind:?} {text}: {error}"),
        }
    }
}

#[test]
fn both_formats_of_a_number_give_the_same_decimal() {
    let mut refused = Vec::new();
    for Sample { text, binary, .. } in samples().into_iter().filter(|sample| sample.kind == ValueKind::Numeric) {
        for kind in [decimal(1000, 300), decimal(20, 5), decimal(3, 0)] {
            let from_text = encoded(kind, Column::Text(text.as_bytes()));
            assert_eq!(from_text, encoded(kind, Column::Binary(&binary)), "{kind:?} {text}");
            refused.extend(from_text.err().filter(|_| kind == decimal(1000, 300)).map(|_| text.clone()));
        }
    }
    // All but what no such column holds, or Avro.
    assert_eq!(refused, ["NaN", "Infinity", "-Infinity"]);
}

#[test]
fn a_binary_value_prints_as_postgres_prints_it() {
    for Sample { kind, text, binary } in samples() {
        let mut printed = Vec::new();
        put_postgres_text(kind, &binary, &mut printed).unwrap();
        assert_eq!(String::from_utf8(printed).unwrap(), text, "{kind:?}");
    }
}

#[test]
fn every_kind_is_among_the_samples() {
    let samples = samples();
    for kind in SCALARS {
        for kind in [kind, kind.array()] {
            assert!(samples.iter().any(|sample| sample.kind == kind), "{kind:?}");
        }
    }
}
