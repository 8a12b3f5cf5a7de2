//! What `setup` makes on the server, and the same as SQL for somebody with more rights.
//!
//! Each step first looks whether its work is done, and never alters what it finds: whether what is there is right is
//! for the findings to say. The publication comes before the slot: a slot cannot see one that is younger than itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::error::CatalogError;
use super::session::Catalog;
use super::table::Table;
use super::triggers::{TRIGGERS_SQL, partition_sql};
use crate::config::{TableName, quote_identifier};

/// What a step found or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// It was there before.
    Found,
    /// It is new.
    Made(T),
}

const CREATE_PUBLICATION: &str = "whether the publication could be created";
const WRITERS: &str = "which transactions are running";
const WRITERS_PAUSE: Duration = Duration::from_millis(50);

impl Catalog {
    /// Creates the publication for these tables unless one of the name exists.
    pub async fn create_publication<'a>(
        &mut self,
        name: &str,
        tables: impl IntoIterator<Item = &'a TableName>,
    ) -> Result<Step<()>, CatalogError> {
        if self.publication(name).await?.is_some() {
            return Ok(Step::Found);
        }
        self.run(CREATE_PUBLICATION, &publication_sql(name, tables), super::session::ANSWER_TIMEOUT).await?;
        Ok(Step::Made(()))
    }

    /// Waits until every transaction that has written something by now has ended for everybody's eyes; whether that came
    /// about in time.
    ///
    /// A commit is in the WAL, before a new slot even, for some time before its rows can be seen, and with synchronous
    /// replication for long: until then a count of rows misses them.
    pub async fn await_writers(&mut self, limit: Duration) -> Result<bool, CatalogError> {
        let xid = |rows: &[tokio_postgres::Row]| {
            let text = rows.first().and_then(|row| row.try_get::<_, String>(0).ok());
            text.and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(|| CatalogError::Answer { question: WRITERS, what: "no transaction id came".to_owned() })
        };
        // An id of our own: a snapshot does not list a running transaction whose id is above all that have ended.
        let own = xid(&self.ask(WRITERS, "SELECT pg_current_xact_id()::text", &[]).await?)?;
        let began = Instant::now();
        loop {
            let oldest = self.ask(WRITERS, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text", &[]).await?;
            if xid(&oldest)? > own {
                return Ok(true);
            }
            if began.elapsed() > limit {
                return Ok(false);
            }
            tokio::time::sleep(WRITERS_PAUSE).await;
        }
    }
}

/// What `setup` would run with more rights than it may have, for a database administrator to run instead, before `setup`. The
/// slot is not among it: whoever makes it writes the first progress record, too.
pub fn setup_sql(publication: &str, tables: &BTreeMap<TableName, Table>) -> String {
    let mut sql = format!("{};\n{TRIGGERS_SQL}", publication_sql(publication, tables.keys()));
    for partition in mute_partitions(tables) {
        sql.push_str(&format!("{};\n", partition_sql(partition)));
    }
    sql
}

/// Partitions whose TRUNCATE nothing tells of.
pub fn mute_partitions(tables: &BTreeMap<TableName, Table>) -> impl Iterator<Item = &TableName> {
    let partitions = tables.values().flat_map(|table| &table.partitions);
    partitions.filter(|partition| !partition.tells_truncate).map(|partition| &partition.name)
}

/// The statement that creates the publication. A partition's rows are sent as its table's.
pub fn publication_sql<'a>(name: &str, tables: impl IntoIterator<Item = &'a TableName>) -> String {
    let tables: Vec<String> = tables.into_iter().map(TableName::to_sql).collect();
    format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)",
        quote_identifier(name),
        tables.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_in_what_an_administrator_is_given() {
        let tables = [TableName::new("public", "a"), TableName::new("My \"s\"", "b'c")];
        assert_eq!(
            publication_sql("p", &tables),
            "CREATE PUBLICATION \"p\" FOR TABLE \"public\".\"a\", \"My \"\"s\"\"\".\"b'c\" WITH (publish = 'insert, update, \
             delete, truncate', publish_via_partition_root = true)"
        );
        assert!(partition_sql(&tables[1]).contains("ON \"My \"\"s\"\"\".\"b'c\" FOR EACH STATEMENT"));
        assert!(setup_sql("p", &BTreeMap::new()).ends_with(TRIGGERS_SQL));
    }
}
