//! What `setup` makes on the server, and the same as SQL for somebody with more rights.
//!
//! Each step first looks whether its work is done, and never alters what it finds: whether what is there is right is
//! for the findings to say. The publication comes before the slot: a slot cannot see one that is younger than itself.

use std::time::{Duration, Instant};

use super::error::CatalogError;
use super::session::Catalog;
use crate::config::{TableName, quote_identifier, quote_literal};

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

/// Everything that `setup` would run, for a database administrator to run instead, in this order.
pub fn setup_sql<'a>(publication: &str, tables: impl IntoIterator<Item = &'a TableName>, slot: &str) -> String {
    format!(
        "{};\nSELECT * FROM pg_create_logical_replication_slot({}, 'pgoutput');\n",
        publication_sql(publication, tables),
        quote_literal(slot)
    )
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
            setup_sql("p", &tables, "s"),
            "CREATE PUBLICATION \"p\" FOR TABLE \"public\".\"a\", \"My \"\"s\"\"\".\"b'c\" WITH (publish = 'insert, update, \
             delete, truncate', publish_via_partition_root = true);\n\
             SELECT * FROM pg_create_logical_replication_slot('s', 'pgoutput');\n"
        );
    }
}
