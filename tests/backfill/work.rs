//! A backfiller on a database of its own, asked as a bridge asks, and the stream that shows what it wrote.

use std::time::Duration;

use penstock::backfill::{Answer, Backfiller};
use penstock::config::{Config, TableName};
use penstock::health::Health;
use penstock_core::backfill::interface::{
    Ask, Chunk, ChunkColumn, ChunkRequest, Description, Mark, Surveyed, Undescribed,
};
use penstock_core::pgoutput::{Message, Relation, decode};
use penstock_wire::column::Column;
use penstock_wire::reload::{ReloadRange, Scope};

use crate::server::{Database, database};

pub const PATIENCE: Duration = Duration::from_secs(60);
/// More than any chunk of the tests has.
pub const ALL: usize = 1 << 30;

pub struct Work {
    pub backfiller: Backfiller,
    pub config: Config,
    pub health: Health,
    pub database: Database,
}

/// All tables of `public` are captured by a publication, and a slot is there from the beginning.
pub fn work(schema: &str) -> Work {
    work_with(schema, &[])
}

pub fn work_with(schema: &str, settings: &[(&str, &str)]) -> Work {
    work_in(database(), schema, settings)
}

pub fn work_in(database: Database, schema: &str, settings: &[(&str, &str)]) -> Work {
    database.sql(schema);
    database.sql("CREATE PUBLICATION penstock FOR ALL TABLES WITH (publish_via_partition_root = true)");
    let mut all = vec![("TABLES__CAPTURE", "public.*")];
    all.extend(settings);
    let config = database.config(&all);
    on(database, config)
}

pub fn on(database: Database, config: Config) -> Work {
    let health = Health::default();
    Work { backfiller: Backfiller::new(&config, &health), config, health, database }
}

impl Work {
    pub fn sql(&self, sql: &str) -> String {
        self.database.sql(sql)
    }

    /// Asks for a thing, and takes the next answer for its.
    pub async fn answer(&mut self, ask: Ask) -> Answer {
        self.backfiller.ask(ask);
        self.next().await
    }

    pub async fn next(&mut self) -> Answer {
        tokio::time::timeout(PATIENCE, self.backfiller.next()).await.expect("an answer")
    }

    pub async fn survey(&mut self, scope: Scope) -> Surveyed {
        match self.answer(Ask::Survey { reload: "r".into(), scope }).await {
            Answer::Surveyed { reload, surveyed } if reload == "r" => surveyed,
            other => panic!("{}", kind(&other)),
        }
    }

    /// The ranges of a table of `public`.
    pub async fn ranges(&mut self, table: &str) -> Vec<ReloadRange> {
        self.survey(of_table(table)).await.unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    pub async fn describe(&mut self, table: &str) -> Result<Description, Undescribed> {
        let name = ("public".to_owned(), table.to_owned());
        match self.answer(Ask::Describe { table: name.clone() }).await {
            Answer::Described { table, described } if table == name => described,
            other => panic!("{}", kind(&other)),
        }
    }

    /// A request for a whole table of `public`, as a bridge makes it of its description.
    pub async fn request(&mut self, table: &str) -> ChunkRequest {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let Description { relation, facts } = self.describe(table).await.expect("a table");
        let name = TableName::new(&relation.schema, &relation.table);
        let column = |name_of_column: &String| ChunkColumn {
            name: name_of_column.clone(),
            captured: !self.config.tables.exclude.contains(&name.column(name_of_column)),
        };
        ChunkRequest {
            number,
            account: None,
            account_column: self.config.tables.account_columns(&name)[0].clone(),
            key: facts.primary_key,
            columns: relation.columns.iter().map(|found| column(&found.name)).collect(),
            table: (relation.schema, relation.table),
            after: Vec::new(),
            until: Vec::new(),
            rows_max: ALL,
            bytes_max: ALL,
            low: Mark::new(format!("test {number} low")),
            high: Mark::new(format!("test {number} high")),
        }
    }

    /// The chunk, once its high mark is written.
    pub async fn read(&mut self, request: ChunkRequest) -> Chunk {
        let (number, high) = (request.number, request.high.as_str().to_owned());
        let chunk = match self.answer(Ask::Read(request)).await {
            Answer::Chunk(chunk) if chunk.number == number => chunk,
            other => panic!("{}", kind(&other)),
        };
        self.marked(&high).await;
        chunk
    }

    /// Waits until a mark is in the WAL. The tests' slot need not exist: where it does not, nobody looks.
    pub async fn marked(&mut self, content: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.has_slot() && !self.marks().iter().any(|mark| mark == content) {
            assert!(std::time::Instant::now() < deadline, "{content} was not written");
            self.turn().await;
        }
    }

    /// Why the chunk was not read.
    pub async fn fail(&mut self, request: ChunkRequest) -> String {
        let number = request.number;
        match self.answer(Ask::Read(request)).await {
            Answer::ChunkFailed { number: failed, why } if failed == number => why,
            other => panic!("{}", kind(&other)),
        }
    }

    /// Reads a range to its end in chunks, as a bridge does: every row, as texts.
    pub async fn read_range(&mut self, range: &ReloadRange, rows_max: usize) -> Vec<Vec<Option<String>>> {
        let mut rows = Vec::new();
        let mut after = range.after.clone();
        loop {
            let request = self.request(&range.table).await;
            let key: Vec<usize> = request
                .key
                .iter()
                .map(|name| request.columns.iter().position(|column| column.name == *name).expect("a key column"))
                .collect();
            let chunk = self.read(ChunkRequest { rows_max, after, until: range.until.clone(), ..request }).await;
            assert!(chunk.rows.len() <= rows_max);
            assert_eq!(chunk.exhausted, chunk.rows.len() < rows_max);
            rows.extend(texts(&chunk));
            if chunk.exhausted {
                return rows;
            }
            let last = rows.last().expect("a row");
            after = key.iter().map(|index| last[*index].clone().expect("no key is NULL")).collect();
        }
    }

    /// Lets the backfiller's tasks go on for a moment, without taking an answer.
    pub async fn turn(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// Waits for what SQL says to become true, while the tasks go on.
    pub async fn until(&self, query: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.sql(query) != "t" {
            assert!(std::time::Instant::now() < deadline, "{query} stays false");
            self.turn().await;
        }
    }

    pub fn make_slot(&self) {
        self.sql("SELECT pg_create_logical_replication_slot(current_database(), 'pgoutput')");
    }

    fn has_slot(&self) -> bool {
        self.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = current_database()") == "1"
    }

    /// What the slot would stream, message by message.
    pub fn stream(&self) -> Vec<Vec<u8>> {
        let text = self.sql(
            "SELECT encode(data, 'hex') FROM pg_logical_slot_peek_binary_changes(current_database(), NULL, NULL, \
             'proto_version', '1', 'publication_names', 'penstock', 'messages', 'true')",
        );
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        text.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
    }

    /// The contents of all logical messages in the stream.
    pub fn marks(&self) -> Vec<String> {
        let content = |bytes: &Vec<u8>| match decode(bytes).unwrap() {
            Message::Logical(message) => Some(String::from_utf8(message.content.to_vec()).unwrap()),
            _ => None,
        };
        self.stream().iter().filter_map(content).collect()
    }

    /// The relations that the stream describes, in its order.
    pub fn relations(&self) -> Vec<Relation> {
        let relation = |bytes: &Vec<u8>| match decode(bytes).unwrap() {
            Message::Relation(relation) => Some(relation),
            _ => None,
        };
        self.stream().iter().filter_map(relation).collect()
    }

    /// Connections of the backfiller, each with its state.
    pub fn sessions(&self) -> Vec<String> {
        let text = self.sql(
            "SELECT state FROM pg_stat_activity \
             WHERE application_name = 'penstock backfill' AND datname = current_database() ORDER BY 1",
        );
        text.lines().map(str::to_owned).collect()
    }
}

/// What an answer is, in few words: a chunk is large.
pub fn kind(answer: &Answer) -> String {
    match answer {
        Answer::Barrier(_) => "a barrier".to_owned(),
        Answer::Idle(ids) => format!("idle {ids:?}"),
        Answer::Surveyed { reload, surveyed } => format!("surveyed {reload}: {surveyed:?}"),
        Answer::Described { table, described } => {
            format!("described {table:?}: {:?}", described.as_ref().map(|found| &found.relation))
        }
        Answer::Chunk(_) => "a chunk".to_owned(),
        Answer::ChunkFailed { number, why } => format!("failed {number}: {why}"),
    }
}

pub fn of_table(table: &str) -> Scope {
    Scope { table: Some(("public".to_owned(), table.to_owned())), account: None }
}

/// The rows of a chunk.
pub fn texts(chunk: &Chunk) -> Vec<Vec<Option<String>>> {
    let mut columns = Vec::new();
    let text = |column: &Column<'_>| match column {
        Column::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        Column::Null => None,
        Column::Unchanged | Column::Binary(_) => unreachable!("a copy holds texts"),
    };
    let mut row = |index| {
        chunk.rows.read(index, &mut columns);
        columns.iter().map(text).collect()
    };
    (0..chunk.rows.len()).map(&mut row).collect()
}

/// The values of one column.
pub fn column(rows: &[Vec<Option<String>>], index: usize) -> Vec<String> {
    rows.iter().map(|row| row[index].clone().unwrap_or_else(|| "NULL".to_owned())).collect()
}
