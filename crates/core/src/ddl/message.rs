//! What the event triggers write into the stream about DDL: one logical message for each object that a command touches.
//!
//! Total: any bytes give a message or an error. Fields that this version does not know are ignored, so that a message can
//! grow; one that means something else has a higher version, and is refused. Whoever may run SQL can write such a message:
//! nothing in it is trusted further than to describe a table or to have it loaded again.

use penstock_wire::types::{TypeInfo, ValueKind};
use serde::Deserialize;

use crate::pgoutput::Relation;
use crate::relation::CatalogFacts;

/// Prefix of the logical messages.
pub const PREFIX: &str = "penstock.ddl";

/// The version of the messages that this bridge understands.
const VERSION: u32 = 1;

/// One object that a command touched.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Ddl {
    /// A table, as it is now; its partitions are part of it.
    Table(Box<Told>),
    /// A table is gone.
    Drop(Named),
    /// A partition was emptied; this is its root.
    Truncate(Named),
    /// A table's rows are written anew, which sends none of them.
    Rewrite(Rewritten),
    /// A publication, as it is now.
    Publication(Published),
    /// A table was taken out of a publication.
    Unpublish(Unpublished),
    /// The trigger could not tell.
    Unknown(Untold),
}

/// A table's name and OID.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Named {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) oid: u32,
}

/// What the catalog said of a table at this place of the stream.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Told {
    /// The command.
    pub(crate) tag: String,
    #[serde(flatten)]
    pub(crate) named: Named,
    pub(crate) table: Description,
}

/// The rest of it.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Description {
    /// `pg_class.relpersistence`.
    pub(crate) persistence: String,
    /// Names of the publications that send it.
    pub(crate) publications: Vec<String>,
    /// OIDs of its leaf partitions, rising.
    pub(crate) leaves: Vec<u32>,
    /// Columns in which rows of earlier transactions have got a value without being written.
    pub(crate) filled: Vec<String>,
    /// Primary key columns, in key order.
    pub(crate) key: Vec<String>,
    pub(crate) columns: Vec<ToldColumn>,
}

/// A column, as far as the Relation message does not tell it.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct ToldColumn {
    pub(crate) name: String,
    pub(crate) number: i16,
    #[serde(rename = "type")]
    type_oid: u32,
    modifier: i32,
    type_name: String,
    #[serde(rename = "base")]
    base_oid: u32,
    base_name: Option<String>,
    texts: bool,
    element_texts: Option<bool>,
    out_of_line: bool,
}

/// A rewrite.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Rewritten {
    pub(crate) oid: u32,
    /// Bits of `pg_event_trigger_table_rewrite_reason()`.
    reason: u32,
}

/// A publication.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Published {
    pub(crate) name: String,
    pub(crate) publication: PublicationState,
}

/// What a publication sends.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct PublicationState {
    insert: bool,
    update: bool,
    delete: bool,
    truncate: bool,
    generated_columns: bool,
    /// Tables with a row filter or a column list.
    pub(crate) restricted: Vec<TableRef>,
    /// Tables that this command has added.
    pub(crate) added: Vec<Named>,
}

/// A table by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct TableRef {
    pub(crate) schema: String,
    pub(crate) name: String,
}

/// A table that left a publication.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Unpublished {
    pub(crate) publication: String,
    #[serde(flatten)]
    pub(crate) table: TableRef,
}

/// A command that could not be described.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Untold {
    pub(crate) tag: String,
}

#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

/// Why a message cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DdlError {
    /// Written by the triggers of a newer Penstock.
    #[error("a message about DDL has version {0}, and this bridge understands {VERSION}")]
    Version(u32),
    /// Nothing that the triggers write.
    #[error("a message with prefix {PREFIX} is not what the event triggers write")]
    Malformed,
}

impl Ddl {
    /// Reads a message's content.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, DdlError> {
        let versioned: Versioned = serde_json::from_slice(content).map_err(|_| DdlError::Malformed)?;
        if versioned.v != VERSION {
            return Err(DdlError::Version(versioned.v));
        }
        serde_json::from_slice(content).map_err(|_| DdlError::Malformed)
    }

    /// What stands for a message that cannot be read.
    pub(crate) fn unreadable() -> Self {
        Self::Unknown(Untold { tag: "a command whose message cannot be read".to_owned() })
    }
}

impl Description {
    /// What a Relation message lacks, if this is the same shape.
    pub(crate) fn facts(&self, relation: &Relation) -> Option<CatalogFacts> {
        let same = self.columns.len() == relation.columns.len()
            && self.columns.iter().zip(&relation.columns).all(|(told, sent)| {
                (told.name.as_str(), told.type_oid, told.modifier)
                    == (sent.name.as_str(), sent.type_oid, sent.type_modifier)
            });
        same.then(|| CatalogFacts {
            types: self.columns.iter().map(ToldColumn::type_info).collect(),
            variable_length: self.columns.iter().map(|column| column.out_of_line).collect(),
            primary_key: self.key.clone(),
        })
    }
}

impl ToldColumn {
    fn type_info(&self) -> TypeInfo {
        TypeInfo {
            kind: ValueKind::of_type(self.base_oid, self.texts, self.element_texts),
            pg_type: self.type_name.clone(),
            pg_base: self.base_name.clone(),
        }
    }
}

impl Rewritten {
    /// Whether rows can have other values than they were delivered with: not if only their storage is another one.
    pub(crate) fn changes_rows(&self) -> bool {
        /// `AT_REWRITE_ACCESS_METHOD`, since Postgres 15.
        const ACCESS_METHOD: u32 = 8;
        self.reason != ACCESS_METHOD
    }
}

impl PublicationState {
    /// What it does not send, or sends beyond what it should.
    pub(crate) fn lacks(&self) -> Option<String> {
        let operations =
            [("insert", self.insert), ("update", self.update), ("delete", self.delete), ("truncate", self.truncate)];
        let missing: Vec<&str> = operations.iter().filter(|(_, sent)| !sent).map(|(name, _)| *name).collect();
        match (missing.is_empty(), self.generated_columns) {
            (false, _) => Some(format!("does not send {}", missing.join(", "))),
            (true, true) => Some("sends generated columns".to_owned()),
            (true, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As a trigger wrote it, without most of the columns.
    const TABLE: &str = r#"{"v": 1, "oid": 16393, "tag": "ALTER TABLE", "kind": "table", "name": "t", "table": {"key": ["id"],
        "filled": ["d"], "leaves": [], "columns": [{"base": 23, "name": "id", "type": 16400, "texts": false, "number": 1,
        "modifier": -1, "base_name": "integer", "type_name": "public.id", "out_of_line": false, "element_texts": null}],
        "identity": "d", "partitioned": false, "persistence": "p", "publications": ["p"]}, "schema": "public"}"#;

    fn table() -> Told {
        match Ddl::parse(TABLE.as_bytes()) {
            Ok(Ddl::Table(told)) => *told,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_table_is_read_as_the_trigger_wrote_it() {
        let told = table();
        assert_eq!((told.tag.as_str(), told.named.oid, told.named.schema.as_str()), ("ALTER TABLE", 16_393, "public"));
        assert_eq!(told.table.filled, ["d"]);
        let column = crate::pgoutput::RelationColumn {
            in_identity: true,
            name: "id".into(),
            type_oid: 16_400,
            type_modifier: -1,
        };
        let mut relation = Relation {
            id: 16_393,
            schema: "public".into(),
            table: "t".into(),
            identity: crate::pgoutput::ReplicaIdentity::Full,
            columns: vec![column],
        };
        let facts = told.table.facts(&relation).expect("the same shape");
        let domain = TypeInfo { kind: ValueKind::Int4, pg_type: "public.id".into(), pg_base: Some("integer".into()) };
        assert_eq!((facts.types, facts.primary_key), (vec![domain], vec!["id".to_owned()]));
        relation.columns[0].type_modifier = 5;
        assert!(told.table.facts(&relation).is_none(), "another shape");
    }

    #[test]
    fn other_kinds_are_read() {
        let drop = r#"{"v":1,"tag":"DROP TABLE","kind":"drop","schema":"s","name":"t","oid":7}"#;
        let named = Named { schema: "s".into(), name: "t".into(), oid: 7 };
        assert_eq!(Ddl::parse(drop.as_bytes()), Ok(Ddl::Drop(named)));
        for (reason, changes) in [(1, true), (4, true), (8, false), (12, true)] {
            let text = format!(r#"{{"v":1,"kind":"rewrite","oid":7,"reason":{reason},"more":[]}}"#);
            let Ok(Ddl::Rewrite(rewritten)) = Ddl::parse(text.as_bytes()) else { panic!("{text}") };
            assert_eq!(rewritten.changes_rows(), changes, "{reason}");
        }
        let narrowed = r#"{"v":1,"kind":"publication","name":"p","publication":{"insert":true,"update":false,"delete":true,
            "truncate":false,"generated_columns":false,"restricted":[],"added":[{"schema":"s","name":"t","oid":7}]}}"#;
        let Ok(Ddl::Publication(published)) = Ddl::parse(narrowed.as_bytes()) else { panic!("{narrowed}") };
        assert_eq!(published.publication.lacks().as_deref(), Some("does not send update, truncate"));
    }

    #[test]
    fn what_the_triggers_do_not_write_is_refused() {
        for text in ["", "x", "{}", "[]", r#"{"v":1}"#, r#"{"v":1,"kind":"other"}"#, r#"{"v":1,"kind":"drop"}"#] {
            assert_eq!(Ddl::parse(text.as_bytes()), Err(DdlError::Malformed), "{text}");
        }
        assert_eq!(Ddl::parse(br#"{"v":2,"kind":"other"}"#), Err(DdlError::Version(2)));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_message_or_an_error(at in 0_usize..700, byte: u8, bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Ddl::parse(&bytes);
            let mut damaged = TABLE.as_bytes().to_vec();
            if let Some(slot) = damaged.get_mut(at) {
                *slot = byte;
            }
            let _ = Ddl::parse(&damaged);
        }
    }
}
