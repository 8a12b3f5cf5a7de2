//! Names that Avro takes, made of names that Postgres takes.
//!
//! Avro allows `[A-Za-z_][A-Za-z0-9_]*`. Every other character, and a leading digit, becomes `_xHHHH_`: the code point
//! in uppercase hexadecimal with at least four digits. The escape is not reversible (a column may really be called
//! `_x0031_`), so the true name stands beside it in the schema and two names that meet are refused by the plan.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The Avro name of a Postgres identifier. Borrowed where nothing has to be escaped.
pub fn avro_name(identifier: &str) -> Cow<'_, str> {
    if is_avro_name(identifier) {
        return Cow::Borrowed(identifier);
    }
    let mut name = String::with_capacity(identifier.len() + 8);
    for (index, character) in identifier.chars().enumerate() {
        let letter = character.is_ascii_alphabetic() || character == '_';
        if letter || (index > 0 && character.is_ascii_digit()) {
            name.push(character);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(name, "_x{:04X}_", u32::from(character));
        }
    }
    Cow::Owned(name)
}

/// The Avro name of a table with its schema, `<schema>.<table>`: what the names of its records end with, but for the
/// record's own. Two tables of a source that have the same cannot both be captured.
pub fn avro_table_name(schema: &str, table: &str) -> String {
    // A dot within a name is escaped: the one between them is the only one.
    format!("{}.{}", avro_name(schema), avro_name(table))
}

/// Whether Avro takes the name as it is.
pub fn is_avro_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (identifier, name) in [
            ("id", "id"),
            ("Weird_9", "Weird_9"),
            ("_", "_"),
            ("9lives", "_x0039_lives"),
            ("a-b", "a_x002D_b"),
            ("a b", "a_x0020_b"),
            ("größe", "gr_x00F6__x00DF_e"),
            ("😀", "_x1F600_"),
            ("a.b", "a_x002E_b"),
            ("１", "_xFF11_"),
        ] {
            assert_eq!(avro_name(identifier), name, "{identifier}");
            assert!(is_avro_name(name), "{name}");
        }
    }

    #[test]
    fn tables_whose_names_meet_are_known_by_it() {
        assert_eq!(avro_table_name("s", "t-x"), avro_table_name("s", "t_x002D_x"));
        assert_eq!(avro_table_name("s-x", "t"), avro_table_name("s_x002D_x", "t"));
        assert_ne!(avro_table_name("a.b", "c"), avro_table_name("a", "b.c"));
    }

    #[test]
    fn the_empty_name_is_none() {
        assert!(!is_avro_name(""));
    }
}
