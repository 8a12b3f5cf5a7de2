//! Writes a logical message: how a command speaks to the bridge, through the stream that the bridge reads.

use super::error::CatalogError;
use super::session::{ANSWER_TIMEOUT, Catalog};
use crate::config::quote_literal;

const MESSAGE: &str = "whether a message was written";

impl Catalog {
    /// Writes a transactional message, in a transaction of its own. The stream sends its bytes as they were written: as UTF-8,
    /// whatever encoding the database has.
    pub async fn emit_message(&mut self, prefix: &str, content: &str) -> Result<(), CatalogError> {
        let (prefix, content) = (quote_literal(prefix), quote_literal(content));
        let sql = format!("SELECT pg_logical_emit_message(true, {prefix}, convert_to({content}, 'UTF8'))");
        self.run(MESSAGE, &sql, ANSWER_TIMEOUT).await
    }
}
