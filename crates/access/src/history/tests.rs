//! Random histories, compacted at random: what is told of a point is what the whole history tells, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use penstock_wire::control::Control;
use penstock_wire::header::Header;
use penstock_wire::lsn::{CommitLsn, EndLsn};
use penstock_wire::position::{Position, Seq};
use penstock_wire::progress::PartitionProgress;
use uuid::Uuid;

use super::*;
use crate::account::snapshot::{FlowHistory, History as OfRow, RowState};
use crate::decode::Event as RowEvent;
use crate::partition::Isolation;
use crate::rows::{FlowRow, GatewayGroupRow, ResourceKind, ResourceRow, Row, RowId, Table};

const ACCOUNT: &str = "00000000-0000-4000-8000-0000000000a0";
const TABLES: [Table; 3] = [Table::GatewayGroups, Table::Resources, Table::Flows];

/// A small generator: a seed tells all of a history.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// What compaction goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Row(Table, RowId),
    Truncate(Table),
}

#[derive(Clone, Debug)]
struct Written {
    key: Key,
    record: Record<RowEvent>,
}

impl Written {
    fn is_tombstone(&self) -> bool {
        matches!(self.record.kind, Kind::Tombstone(_))
    }
}

fn a_row(table: Table, id: u64, dice: &mut Dice) -> Row {
    let text: Arc<str> = format!("{}", dice.roll(3)).into();
    let nobody = Uuid::nil();
    match table {
        Table::GatewayGroups => Row::GatewayGroup(GatewayGroupRow { live: dice.roll(4) > 0, name: text }),
        Table::Resources => Row::Resource(ResourceRow {
            live: true,
            name: format!("{}", dice.roll(9)).into(),
            kind: ResourceKind::Dns,
            address: Some(text),
            address_description: None,
            ip_stack: None,
            filters: Arc::default(),
        }),
        _ => Row::Flow(FlowRow {
            live: true,
            policy: nobody,
            client: nobody,
            gateway: nobody,
            resource: Uuid::from_u128(u128::from(id % 2)),
            token: nobody,
            membership: nobody,
            expires_at: Some(Micros(i64::try_from(dice.roll(1000)).unwrap_or(0))),
        }),
    }
}

fn row_of(table: Table, action: Action) -> Kind<RowEvent> {
    Kind::Row(RowEvent { table, action, written: None, problems: Vec::new() })
}

fn truncate(table: Table) -> Kind<RowEvent> {
    let (schema, table) = ("public".to_owned(), table.name().to_owned());
    Kind::Control(Control { kind: ControlKind::Truncate, schema, table, account: None, begin: None, detail: None })
}

/// Parents first, and then what cascades.
fn delete(table: Table, number: u64, rows: &mut BTreeSet<(Table, u64)>, kinds: &mut Vec<(Key, Kind<RowEvent>)>) {
    if !rows.remove(&(table, number)) {
        return;
    }
    let id = RowId::Id(Uuid::from_u128(u128::from(number)));
    let tombstone = RowEvent { table, action: Action::Delete(id), written: None, problems: Vec::new() };
    kinds.push((Key::Row(table, id), row_of(table, Action::Delete(id))));
    kinds.push((Key::Row(table, id), Kind::Tombstone(tombstone)));
    if table == Table::Resources {
        for flow in (0..3).filter(|flow| flow % 2 == number) {
            delete(Table::Flows, flow, rows, kinds);
        }
    }
}

/// Transactions of one source, and nothing else in the partition.
fn history(dice: &mut Dice) -> Vec<Written> {
    let mut log: Vec<Written> = Vec::new();
    let mut rows: BTreeSet<(Table, u64)> = BTreeSet::new();
    let mut previous = Position::ZERO;
    for commit in 1..=4 + dice.roll(14) {
        let mut kinds: Vec<(Key, Kind<RowEvent>)> = Vec::new();
        for _ in 0..=dice.roll(3) {
            let table = TABLES[usize::try_from(dice.roll(3)).unwrap_or(0)];
            if dice.roll(12) == 0 {
                // Flows go with their resources, by TRUNCATE … CASCADE as by foreign key.
                let with = (table == Table::Resources).then_some(Table::Flows);
                for table in [Some(table), with].into_iter().flatten() {
                    rows.retain(|(of, _)| *of != table);
                    kinds.push((Key::Truncate(table), truncate(table)));
                }
                continue;
            }
            let number = dice.roll(3);
            let is_orphan = table == Table::Flows && !rows.contains(&(Table::Resources, number % 2));
            let id = RowId::Id(Uuid::from_u128(u128::from(number)));
            let key = Key::Row(table, id);
            if !rows.contains(&(table, number)) {
                if !is_orphan {
                    rows.insert((table, number));
                    kinds.push((key, row_of(table, Action::Insert(id, a_row(table, number, dice)))));
                }
            } else if dice.roll(3) > 0 {
                kinds.push((key, row_of(table, Action::Update(id, a_row(table, number, dice)))));
            } else {
                delete(table, number, &mut rows, &mut kinds);
            }
        }
        if kinds.is_empty() {
            continue;
        }
        let last = kinds.len() - 1;
        for (index, (key, kind)) in kinds.into_iter().enumerate() {
            let seq = Seq(8 * (1 + u64::try_from(index).unwrap_or(0)));
            let position = Position { epoch: 1, commit_lsn: CommitLsn::new(commit * 100), seq };
            let header =
                Header { end_of_transaction: index == last, identity_only: false, source: 0, position, previous };
            previous = position;
            let record = Record {
                offset: i64::try_from(log.len()).unwrap_or(0),
                timestamp_ms: i64::try_from(commit).unwrap_or(0) * 1000,
                bytes: 1,
                header,
                account: matches!(key, Key::Row(..)).then(|| ACCOUNT.into()),
                kind,
            };
            log.push(Written { key, record });
        }
    }
    log
}

/// As Kafka compacts: below an offset only a key's newest record stays; below another no tombstone does.
fn compact(log: &[Written], dice: &mut Dice) -> Vec<Written> {
    let cleaned = i64::try_from(dice.roll(1 + u64::try_from(log.len()).unwrap_or(0))).unwrap_or(0);
    let aged = i64::try_from(dice.roll(1 + u64::try_from(cleaned).unwrap_or(0))).unwrap_or(0);
    let mut newest: BTreeMap<Key, i64> = BTreeMap::new();
    for written in log.iter().filter(|written| written.record.offset < cleaned) {
        newest.insert(written.key, written.record.offset);
    }
    let stays = |written: &&Written| {
        let offset = written.record.offset;
        offset >= cleaned || (newest.get(&written.key) == Some(&offset) && (offset >= aged || !written.is_tombstone()))
    };
    log.iter().filter(stays).cloned().collect()
}

fn tell(log: &[Written], whole: &[Written], point: Point) -> Result<Past, HistoryError> {
    let last = whole.last().expect("a record");
    let progress = Progress {
        epoch: 1,
        end_lsn: EndLsn::new(u64::MAX),
        postgres_clock_us: i64::MAX / 2,
        load_complete: true,
        partitions: vec![PartitionProgress {
            partition: 0,
            last: last.record.header.position,
            next_offset: last.record.offset + 1,
        }],
        ..Progress::default()
    };
    let options = Options {
        account: Arc::new(account::Options::default()),
        partition: partition::Options {
            isolation: Isolation::ReadCommitted,
            stale_after: Duration::from_secs(10),
            compaction_lag: Duration::ZERO,
            tombstone_retention: Duration::from_secs(60),
        },
        names: Names::default(),
    };
    let wanted = Wanted { account: ACCOUNT.into(), partition: 0, from: point, replay: None };
    let mut history = History::new(wanted, options, vec![progress], Micros(1_000_000_000));
    for written in log {
        if history.is_decided() {
            break;
        }
        history.take(written.record.clone());
    }
    history.finish(last.record.offset + 1).map(|outcome| outcome.past)
}

/// Rows, and which flows have ended; the positions of versions aside.
fn rows(past: &Past) -> Vec<(Table, RowId, Row, bool)> {
    let has_ended = |row: &RowState| row.history == OfRow::Flow(FlowHistory::Ended);
    let snapshot = past.account.snapshot();
    snapshot.rows.into_iter().map(|row| (row.table, row.id, row.row.clone(), has_ended(&row))).collect()
}

#[test]
fn a_compacted_history_tells_what_the_whole_one_does_or_nothing() {
    let (mut told_compacted, mut refused, mut from_until) = (0, 0, 0);
    for seed in 1..=300 {
        let mut dice = Dice(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let log = history(&mut dice);
        let compacted = compact(&log, &mut dice);
        let commits: BTreeSet<u64> =
            log.iter().map(|written| written.record.header.position.commit_lsn.raw()).collect();
        for commit in commits {
            let point = Point::Commit { epoch: 1, lsn: CommitLsn::new(commit) };
            let truth = tell(&log, &log, point).map(|past| rows(&past));
            let told = tell(&compacted, &log, point);
            match (&told, truth) {
                (Ok(past), Ok(truth)) => {
                    assert_eq!(rows(past), truth, "seed {seed}, {point}");
                    told_compacted += usize::from(compacted.len() < log.len());
                }
                // What was there is gone, and rightly not held: there was nothing then either.
                (Err(HistoryError::NoAccount(_)), Ok(truth)) => assert_eq!(truth, [], "seed {seed}, {point}"),
                (Err(HistoryError::NoAccount(_)), Err(HistoryError::NoAccount(_))) => {}
                (Err(HistoryError::Compacted { until, .. }), _) => {
                    refused += 1;
                    let later = Point::Commit { epoch: until.epoch, lsn: until.commit_lsn };
                    match tell(&compacted, &log, later) {
                        Err(HistoryError::Compacted { .. }) => panic!("seed {seed}: {until} was promised for {point}"),
                        Ok(_) => from_until += 1,
                        Err(_) => {}
                    }
                }
                (Err(HistoryError::FlowsCompacted { .. }), _) => refused += 1,
                (told, truth) => panic!("seed {seed}, {point}: {told:?} {truth:?}"),
            }
        }
    }
    assert!(told_compacted > 100 && refused > 100 && from_until > 10, "{told_compacted} {refused} {from_until}");
}
