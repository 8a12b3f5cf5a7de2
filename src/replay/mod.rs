//! Reads the change topic, or the dead letters, for people and for tests: every record once, decoded, as a line of JSON.
//!
//! ```text
//! Kafka ─▶ reader ─▶ summary (duplicates, holes) ─▶ selection ─▶ schemas, decode ─▶ line ─▶ output
//! ```
//!
//! Within a partition records come in their order; between partitions there is none. Nothing is committed and no group is
//! joined. It shows records as they are and folds nothing: a transaction whose end has not come is shown as far as it is
//! there. A record that cannot be decoded is shown as such and makes the whole reading fail at its end, never before.

mod line;
mod reader;
mod schemas;
mod selection;
mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use apache_avro::types::Value;
use penstock_wire::control::Control;
use penstock_wire::dead_letter::DeadLetter;
use penstock_wire::decode::{Envelope, account_of_key};
use penstock_wire::event::Op;
use penstock_wire::framing;
use penstock_wire::header::{CONTROL_HEADER_NAME, HEADER_NAME, Header};
use rdkafka::Message;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use tokio::time::timeout;

pub use line::{At, Content, Line};
pub use reader::{Begin, Extent, ReaderError, Stretch};
pub use schemas::{SchemaError, Schemas};
pub use selection::{Selection, Span};
pub use summary::{PartitionSummary, Summary};

use crate::config::TableName;
use crate::kafka::client::Brokers;
use crate::run::{clock_us, describe};

/// How long Kafka may send nothing before an end that was promised counts as unreachable.
const SILENCE: Duration = Duration::from_secs(30);

/// Records after which others get their turn: whoever interrupts is heard although more records are there already.
const TURN: u64 = 1024;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    pub extent: Extent,
    pub selection: Selection,
    /// End after this many records that were asked for.
    pub limit: Option<u64>,
    /// Show nothing, count only.
    pub count: bool,
    /// The topic is that of dead letters.
    pub dead_letters: bool,
}

/// Why the reading ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Kafka.
    #[error(transparent)]
    Reader(#[from] ReaderError),
    /// The registry.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Whoever takes the lines does not take them any more.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
}

/// Reads what is asked for and writes it to `output`; ends early, and well, when `interrupted` does.
pub async fn replay(
    brokers: &Brokers,
    schemas: Schemas,
    request: &Request,
    output: &mut dyn Write,
    interrupted: impl Future<Output = ()>,
) -> Result<Summary, ReplayError> {
    let summary = Summary::new(!request.dead_letters);
    let mut replay = Replay { request, schemas, output, summary, ends: BTreeMap::new() };
    tokio::pin!(interrupted);
    let ended = tokio::select! {
        biased;
        () = &mut interrupted => Ok(()),
        ended = replay.run(brokers) => ended,
    };
    ended?;
    replay.output.flush().map_err(ReplayError::Output)?;
    Ok(replay.summary)
}

struct Replay<'a> {
    request: &'a Request,
    schemas: Schemas,
    output: &'a mut dyn Write,
    summary: Summary,
    /// Partitions that are not through, with their end.
    ends: BTreeMap<i32, Option<i64>>,
}

impl Replay<'_> {
    async fn run(&mut self, brokers: &Brokers) -> Result<(), ReplayError> {
        let Request { extent, selection, limit, .. } = self.request;
        // Accounts have partitions of their own in the change topic only.
        let (none, all) = (BTreeSet::new(), &selection.accounts);
        let accounts = if self.request.dead_letters { &none } else { all };
        let (consumer, stretches) = reader::open(brokers, extent, accounts, selection.time_ms).await?;
        self.ends = stretches.iter().map(|stretch| (stretch.partition, stretch.end)).collect();
        reader::assign(&consumer, &extent.topic, &stretches)?;
        let mut turn = 0;
        while !self.ends.is_empty() && limit.is_none_or(|limit| self.summary.records < limit) {
            turn += 1;
            if turn % TURN == 0 {
                tokio::task::yield_now().await;
            }
            let received = match extent.follow {
                true => consumer.recv().await,
                false => match timeout(SILENCE, consumer.recv()).await {
                    Ok(received) => received,
                    Err(_) => return Err(ReaderError::Silent(SILENCE.as_secs()).into()),
                },
            };
            match received {
                Ok(message) => self.take(&message).await?,
                Err(KafkaError::PartitionEOF(partition)) if !extent.follow => {
                    self.ends.remove(&partition);
                }
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) if reader::is_passing(&error) => tracing::warn!(%error, "waiting for Kafka"),
                Err(error) => return Err(reader::kafka("read")(error).into()),
            }
        }
        Ok(())
    }

    async fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<(), ReplayError> {
        let (partition, offset) = (message.partition(), message.offset());
        match self.ends.get(&partition) {
            Some(Some(end)) if offset >= *end => {
                self.ends.remove(&partition);
                return Ok(());
            }
            Some(Some(end)) if offset + 1 >= *end => {
                self.ends.remove(&partition);
            }
            Some(_) => {}
            None => return Ok(()),
        }
        let header = header(message);
        if !self.summary.read(partition, offset, header.as_ref().ok()) {
            return Ok(());
        }
        let timestamp_ms = message.timestamp().to_millis().unwrap_or_default();
        let line = |account: Option<&str>, content| Line {
            partition,
            offset,
            timestamp_ms,
            header: header.as_ref().ok().copied(),
            account: account.map(str::to_owned),
            content,
            delay_ms: None,
        };
        let wanted = match &header {
            Err(reason) => Some(line(None, Content::Undecodable(reason.clone()))),
            Ok(header) if self.is_outside(header, timestamp_ms) => None,
            Ok(_) => self.content(message).await?.map(|(account, content)| line(account, content)),
        };
        match wanted {
            Some(line) => self.show(line),
            None => {
                self.summary.left_out += 1;
                Ok(())
            }
        }
    }

    fn is_outside(&self, header: &Header, timestamp_ms: i64) -> bool {
        let selection = &self.request.selection;
        !selection.time_ms.holds(&timestamp_ms) || !selection.commit_lsn.holds(&header.position.commit_lsn.0)
    }

    /// Account and content of a record, if it is asked for.
    async fn content<'m>(
        &mut self,
        message: &'m BorrowedMessage<'_>,
    ) -> Result<Option<(Option<&'m str>, Content)>, ReplayError> {
        let control = message.headers().is_some_and(|all| all.iter().any(|one| one.key == CONTROL_HEADER_NAME));
        if control && !self.request.selection.wants_tombstones() {
            return Ok(None);
        }
        // What is asked for costs one look at the key; fetching and decoding come after it.
        let key = message.key().unwrap_or_default();
        let account = framing::split(key).ok().and_then(|(_, body)| account_of_key(body).ok());
        if !control && account.is_some_and(|account| !self.request.selection.wants_account(account)) {
            return Ok(None);
        }
        for framed in [Some(key), message.payload()].into_iter().flatten() {
            if let Ok((id, _)) = framing::split(framed) {
                self.schemas.fetch(id).await?;
            }
        }
        let decoded = match (control, self.request.dead_letters) {
            (true, _) => self.control(message.payload()),
            (false, true) => self.dead_letter(key, message.payload()),
            (false, false) => self.row(key, message.payload()),
        };
        let content = decoded.unwrap_or_else(|reason| Some(Content::Undecodable(reason)));
        let account = account.filter(|account| !control || !account.is_empty());
        Ok(content.map(|content| (account, content)))
    }

    fn control(&self, payload: Option<&[u8]>) -> Result<Option<Content>, String> {
        let (id, body) = framing::split(payload.unwrap_or_default()).map_err(|error| error.to_string())?;
        let control = Control::decode_with(&self.schemas.get(id)?.writer, body).map_err(|error| describe(&error))?;
        Ok(self.request.selection.wants_control(&control).then_some(Content::Control(control)))
    }

    /// Its key is the row's, where that could be made.
    fn dead_letter(&self, key: &[u8], payload: Option<&[u8]>) -> Result<Option<Content>, String> {
        let selection = &self.request.selection;
        let (id, body) = framing::split(payload.unwrap_or_default()).map_err(|error| error.to_string())?;
        let letter = DeadLetter::decode_with(&self.schemas.get(id)?.writer, body).map_err(|error| describe(&error))?;
        let key = match key {
            [] => None,
            key => Some(self.key(key)?),
        };
        let table = TableName::new(letter.schema.as_str(), letter.table.as_str());
        let op = Op::from_letter(&letter.op).ok_or_else(|| format!("op {:?}", letter.op))?;
        let wanted = selection.wants_table(&table) && selection.wants_op(op);
        Ok(wanted.then(|| Content::DeadLetter { letter: Box::new(letter), key }))
    }

    /// A key's fields.
    fn key(&self, key: &[u8]) -> Result<Vec<(String, Value)>, String> {
        let (id, body) = framing::split(key).map_err(|error| format!("key: {error}"))?;
        let writer = &self.schemas.get(id)?.writer;
        match writer.read(body).map_err(|error| format!("key: {}", describe(&error)))? {
            Value::Record(fields) => Ok(fields),
            _ => Err("key: not a record".to_owned()),
        }
    }

    fn row(&self, key: &[u8], payload: Option<&[u8]>) -> Result<Option<Content>, String> {
        let selection = &self.request.selection;
        let (id, _) = framing::split(key).map_err(|error| format!("key: {error}"))?;
        let key_schema = self.schemas.get(id)?;
        if !selection.wants_namespace(&key_schema.namespace) || (payload.is_none() && !selection.wants_tombstones()) {
            return Ok(None);
        }
        let key = self.key(key)?;
        let Some(payload) = payload else {
            return Ok(Some(Content::Tombstone { key, table: table_of(&key_schema.namespace) }));
        };
        let (id, body) = framing::split(payload).map_err(|error| error.to_string())?;
        let envelope = Envelope::decode(&self.schemas.get(id)?.writer, body).map_err(|error| describe(&error))?;
        Ok(selection.wants_op(envelope.op).then(|| Content::Row { envelope: Box::new(envelope), key }))
    }

    fn show(&mut self, mut line: Line) -> Result<(), ReplayError> {
        self.summary.took(&line, self.request.count);
        if self.request.count {
            return Ok(());
        }
        let follow = self.request.extent.follow;
        if let (true, Content::Row { envelope, .. }) = (follow, &line.content) {
            line.delay_ms = Some((clock_us() - envelope.source.ts_us) as f64 / 1000.0);
        }
        let written = serde_json::to_writer(&mut *self.output, &line).map_err(std::io::Error::from);
        let written = written.and_then(|()| self.output.write_all(b"\n"));
        let flushed = written.and_then(|()| if follow { self.output.flush() } else { Ok(()) });
        flushed.map_err(ReplayError::Output)
    }
}

fn header(message: &BorrowedMessage<'_>) -> Result<Header, String> {
    let found = message.headers().and_then(|all| all.iter().find(|one| one.key == HEADER_NAME));
    let bytes = found.and_then(|header| header.value).ok_or_else(|| format!("it has no header {HEADER_NAME:?}"))?;
    Header::decode(bytes).map_err(|error| error.to_string())
}

/// A tombstone tells its table only by the Avro names in its key's schema.
fn table_of(record_namespace: &str) -> String {
    let mut parts = record_namespace.rsplit('.');
    let table = parts.next().unwrap_or_default();
    TableName::new(parts.next().unwrap_or_default(), table).to_string()
}
