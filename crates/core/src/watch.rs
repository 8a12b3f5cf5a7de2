//! What the catalog shows of captured tables, against what is pinned: where no trigger tells the stream of it.
//!
//! Pure: a reading of the catalog and the pinned keys in, what is lost out. The catalog is newer than the stream; what it
//! shows is lost all the same, only later.

use std::collections::BTreeMap;

use penstock_wire::progress::KeyPin;

use crate::relation::Rules;

/// The published tables by schema and name: their OIDs.
pub type Seen = BTreeMap<(String, String), u32>;

/// What became of a captured table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// It bears another name.
    #[error("it is {schema}.{table} now, and the stream does not say so")]
    Renamed {
        /// Its schema now.
        schema: String,
        /// Its name now.
        table: String,
    },
    /// No published table bears its name, nor is it published under another.
    #[error("it was dropped or taken out of the publication, and the stream does not say so")]
    Gone,
    /// Another table does.
    #[error("it is another table than the one that was captured (OID {found}, not {pinned})")]
    Replaced {
        /// The pinned OID.
        pinned: u32,
        /// The OID of the table that bears the name.
        found: u32,
    },
}

/// Captured tables, by schema and name, that are not there as they were pinned. What the configuration does not ask for is not
/// missed.
pub fn losses<'p>(pins: impl IntoIterator<Item = &'p KeyPin>, seen: &Seen, rules: &Rules) -> Vec<(&'p KeyPin, Loss)> {
    let captured = pins.into_iter().filter(|pin| pin.table_oid != 0 && rules.captures(&pin.schema, &pin.table));
    let judge = |pin: &'p KeyPin| match seen.get(&(pin.schema.clone(), pin.table.clone())) {
        Some(found) if *found == pin.table_oid => None,
        found => {
            let renamed = seen.iter().find(|(_, oid)| **oid == pin.table_oid).map(|(name, _)| name.clone());
            let replaced = found.map(|found| Loss::Replaced { pinned: pin.table_oid, found: *found });
            let renamed = renamed.map(|(schema, table)| Loss::Renamed { schema, table });
            Some((pin, renamed.or(replaced).unwrap_or(Loss::Gone)))
        }
    };
    captured.filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relation::Capture;

    #[test]
    fn tables_that_are_not_what_was_pinned_are_missed() {
        let pin =
            |table: &str, table_oid| KeyPin { schema: "s".into(), table: table.into(), table_oid, ..KeyPin::default() };
        let pins = [
            pin("same", 1),
            pin("old", 5),
            pin("gone", 2),
            pin("other", 3),
            pin("dropped_before", 0),
            pin("left_out", 4),
        ];
        let seen =
            Seen::from([("same", 1), ("other", 9), ("new", 5)].map(|(table, oid)| (("s".into(), table.into()), oid)));
        let left_out = [("s".to_owned(), "left_out".to_owned())].into();
        let rules = Rules { capture: Some(Capture { any: true, left_out, ..Capture::default() }), ..Rules::default() };
        let found: Vec<(&str, Loss)> =
            losses(&pins, &seen, &rules).into_iter().map(|(pin, loss)| (pin.table.as_str(), loss)).collect();
        let renamed = Loss::Renamed { schema: "s".into(), table: "new".into() };
        let replaced = Loss::Replaced { pinned: 3, found: 9 };
        assert_eq!(found, [("old", renamed), ("gone", Loss::Gone), ("other", replaced)]);
    }
}
