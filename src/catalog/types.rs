//! What a column's type is: how its values travel, and what it is called.
//!
//! The answer depends only on what is immutable for a type's OID, and on names, which the caller pins with the OID as
//! first seen. Names of types outside `pg_catalog` come with their schema, whatever the role's search path is.

use penstock_wire::types::{TypeInfo, ValueKind};
use tokio_postgres::Row;

use super::error::CatalogError;
use super::session::{Catalog, column};

const TYPES: &str = "what the types of the columns are";

/// `chain` walks from a domain to what it is made of. A true array is one that its element calls its array.
/// citext is recognised by its input function: that stays when a type is renamed.
const TYPES_SQL: &str = "
WITH RECURSIVE wanted AS (
    SELECT place, oid, modifier FROM unnest($1::oid[], $2::int4[]) WITH ORDINALITY AS w (oid, modifier, place)
), chain AS (
    SELECT w.place, 0 AS depth, t.oid, w.modifier, t.typtype, t.typbasetype, t.typtypmod
      FROM wanted w JOIN pg_type t ON t.oid = w.oid
    UNION ALL
    SELECT c.place, c.depth + 1, t.oid, c.typtypmod, t.typtype, t.typbasetype, t.typtypmod
      FROM chain c JOIN pg_type t ON t.oid = c.typbasetype WHERE c.typtype = 'd'
), base AS (
    SELECT DISTINCT ON (place) place, depth, oid, modifier FROM chain ORDER BY place, depth DESC
), described AS (
    SELECT t.oid, t.typtype, EXISTS (SELECT FROM pg_proc p WHERE p.oid = t.typinput AND p.proname = 'citextin') AS citext
      FROM pg_type t
)
SELECT w.place, format_type(w.oid, w.modifier) AS name, b.oid AS base_oid, d.typtype = 'e' OR d.citext AS texts,
       CASE WHEN b.depth > 0 THEN format_type(b.oid, b.modifier) END AS base_name,
       e.typtype = 'e' OR ed.citext AS element_texts,
       t.typlen = -1 AND t.typstorage <> 'p' AS out_of_line
  FROM wanted w
  JOIN base b USING (place)
  JOIN described d ON d.oid = b.oid
  JOIN pg_type t ON t.oid = b.oid
  LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
  LEFT JOIN described ed ON ed.oid = e.oid
 ORDER BY w.place";

/// A type as the encoder needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedType {
    pub info: TypeInfo,
    /// Large values are stored outside the row.
    pub out_of_line: bool,
}

impl Catalog {
    /// The types by OID and modifier, in the order asked; `None` for one that does not exist (any more).
    pub async fn types(&mut self, wanted: &[(u32, i32)]) -> Result<Vec<Option<ResolvedType>>, CatalogError> {
        let (oids, modifiers): (Vec<u32>, Vec<i32>) = wanted.iter().copied().unzip();
        let mut resolved = vec![None; wanted.len()];
        for row in self.ask(TYPES, TYPES_SQL, &[&oids, &modifiers]).await? {
            let place: i64 = column(&row, TYPES, "place")?;
            let index = usize::try_from(place).ok().and_then(|place| place.checked_sub(1));
            let Some(entry) = index.and_then(|index| resolved.get_mut(index)) else {
                return Err(CatalogError::Answer { question: TYPES, what: format!("type {place} was not asked for") });
            };
            *entry = Some(read(&row)?);
        }
        Ok(resolved)
    }
}

fn read(row: &Row) -> Result<ResolvedType, CatalogError> {
    let base_oid: u32 = column(row, TYPES, "base_oid")?;
    let texts: bool = column(row, TYPES, "texts")?;
    let element_texts: Option<bool> = column(row, TYPES, "element_texts")?;
    Ok(ResolvedType {
        info: TypeInfo {
            kind: ValueKind::of_type(base_oid, texts, element_texts),
            pg_type: column(row, TYPES, "name")?,
            pg_base: column(row, TYPES, "base_name")?,
        },
        out_of_line: column(row, TYPES, "out_of_line")?,
    })
}
