//! The past: states and pushes of a history whose every step is known, and what compaction takes of it.

use std::path::Path;
use std::time::Duration;

use penstock_access::account::ClientOptions;
use penstock_access::channel::push::{DisconnectReason, Push};
use penstock_access::history::{HistoryError, Point, Told};
use penstock_access::replica::Subscriber;
use penstock_access::rows::Micros;
use penstock_access::service::{self, Config, PastError};
use penstock_wire::partition::Partitioner;
use penstock_wire::position::Position;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use serde_json::Value;
use uuid::Uuid;

use super::{ACCOUNT, CLIENT, GATEWAY, RESOURCES, configuration_file, once, runtime, scene};
use crate::reader::Record;
use crate::scene::{PARTITIONS, PATIENCE, Scene};
use crate::world::wait;

/// What was done after the first rows: each a transaction.
const STEPS: [&str; 4] = [
    "UPDATE policies SET resource_id = '00000000-0000-4000-8000-000000000b02'",
    "BEGIN; UPDATE policies SET resource_id = '00000000-0000-4000-8000-000000000b01';
            UPDATE policies SET resource_id = '00000000-0000-4000-8000-000000000b02'; COMMIT",
    "DELETE FROM policies",
    "INSERT INTO policies (id, account_id, actor_group_id, resource_id, inserted_at, updated_at)
        VALUES ('00000000-0000-4000-8000-0000000000f2', '00000000-0000-4000-8000-0000000000a0',
                '00000000-0000-4000-8000-0000000000a2', '00000000-0000-4000-8000-000000000b01', now(), now())",
];

/// Who is allowed what after each step, the first rows being the first.
const ALLOWED: [&[Uuid]; 5] = [&[RESOURCES[0]], &[RESOURCES[1]], &[RESOURCES[1]], &[], &[RESOURCES[0]]];

/// The end of a step, as the topic has it.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Of its first and last record.
    offsets: (i64, i64),
    position: Position,
    time: Micros,
}

/// Does all steps; where each ended.
fn history(scene: &mut Scene) -> Vec<Step> {
    let mut steps = vec![end(&scene.records(), None)];
    for sql in STEPS {
        scene.sql(sql);
        let after = steps.last().map(|step| step.position);
        steps.push(end(&scene.records(), after));
    }
    steps
}

/// The newest transaction of the account's partition: its records behind `after`.
fn end(records: &[Record], after: Option<Position>) -> Step {
    let account = penstock_wire::account::Account::from_column(Some(ACCOUNT.as_bytes())).expect("an account");
    let partition = Partitioner::new(PARTITIONS).expect("partitions").partition(account).number();
    let is_its = |record: &&Record| u32::try_from(record.partition) == Ok(partition);
    let own: Vec<&Record> = records.iter().filter(is_its).collect();
    let newer = |record: &&&Record| after.is_none_or(|after| record.header.position > after);
    let (first, last) = (own.iter().find(newer).expect("a record"), own.last().expect("a record"));
    let time = Micros(last.timestamp_ms * 1000);
    Step { offsets: (first.offset, last.offset), position: last.header.position, time }
}

fn commit(position: Position) -> Point {
    Point::Commit { epoch: position.epoch, lsn: position.commit_lsn }
}

fn load(file: &Path) -> Config {
    Config::load(file).expect("a configuration")
}

/// What the client may reach at a point, and the position of that.
fn allowed_at(config: &Config, point: Point) -> Result<(Vec<Uuid>, Position), PastError> {
    let past = runtime().block_on(service::state_at(config, ACCOUNT, point))?;
    let show = past.account.show(past.at);
    let client = show.clients.into_iter().find(|client| client.id == CLIENT);
    Ok((client.map_or(Vec::new(), |client| client.allowed), past.ending.position))
}

fn replay(config: &Config, from: Point, to: Point) -> Vec<Told> {
    let subscriber = Subscriber::Client { id: CLIENT, token: None, options: ClientOptions::default() };
    runtime().block_on(service::replay(config, None, subscriber, from, to)).expect("a replay").told
}

/// Each push in a few words, with its position and time.
fn tell(told: &[Told]) -> Vec<(String, Position, Micros)> {
    let name =
        |id: Uuid| RESOURCES.iter().position(|known| *known == id).map_or("?", |index| ["first", "second"][index]);
    let words = |push: &Push| match push {
        Push::ClientInit { resources, .. } => {
            let names: Vec<&str> = resources.iter().map(|resource| name(resource.id())).collect();
            format!("init {}", names.join(" "))
        }
        Push::ResourceDeleted(id) => format!("less {}", name(*id)),
        Push::ResourceCreatedOrUpdated(resource) => format!("more {}", name(resource.id())),
        Push::Disconnect { reason: DisconnectReason::TokenExpired } => "token expired".to_owned(),
        other => format!("{other:?}"),
    };
    told.iter().map(|told| (words(&told.message.push), told.message.at, told.time)).collect()
}

#[test]
fn a_state_and_its_pushes_are_told_as_they_were_by_offset_time_and_lsn() {
    let mut scene = scene();
    let steps = history(&mut scene);
    let (_folder, file) = configuration_file(&scene);
    let config = load(&file);
    for (step, allowed) in steps.iter().zip(ALLOWED) {
        for point in [Point::Offset(step.offsets.1), Point::Time(step.time), commit(step.position)] {
            let told = allowed_at(&config, point).unwrap_or_else(|error| panic!("{point}: {error}"));
            assert_eq!(told, (allowed.to_vec(), step.position), "{point}");
        }
    }
    // A point inside a transaction, or just before its commit, is the end of the one before.
    let (before, inside) = (steps[1], steps[2]);
    assert!(inside.offsets.0 < inside.offsets.1, "{inside:?}");
    for point in [Point::Offset(inside.offsets.0), Point::Time(Micros(inside.time.0 - 1000))] {
        let told = allowed_at(&config, point).unwrap_or_else(|error| panic!("{point}: {error}"));
        assert_eq!(told.1, before.position, "{point}");
    }
    let future = Point::Offset(steps[4].offsets.1 + 1_000);
    let error = allowed_at(&config, future).expect_err("the topic does not reach it");
    assert!(matches!(error, PastError::History(HistoryError::NotYet(point)) if point == future), "{error}");

    // Each push at the commit that caused it; what comes to nothing is not told; bounds are what they say.
    let at = |step: usize, words: &str| (words.to_owned(), steps[step].position, steps[step].time);
    let all =
        [at(0, "init first"), at(1, "less first"), at(1, "more second"), at(3, "less second"), at(4, "more first")];
    let points = |step: usize| {
        let step: Step = steps[step];
        [Point::Offset(step.offsets.1), Point::Time(step.time), commit(step.position)]
    };
    for (from, to) in points(0).into_iter().zip(points(4)) {
        assert_eq!(tell(&replay(&config, from, to)), all, "{from} {to}");
    }
    for (from, to) in points(1).into_iter().zip(points(3)) {
        assert_eq!(tell(&replay(&config, from, to)), [at(1, "init second"), at(3, "less second")], "{from} {to}");
    }
    let [from, ..] = points(3);
    let [to, ..] = points(1);
    let subscriber = Subscriber::Gateway { id: GATEWAY, token: None };
    let reversed = runtime().block_on(service::replay(&config, None, subscriber, from, to)).expect_err("reversed");
    assert!(matches!(reversed, PastError::History(HistoryError::Reversed { .. })), "{reversed}");

    // The program prints the same.
    let (from, to) = (commit(steps[0].position).to_string(), commit(steps[3].position).to_string());
    let client = CLIENT.to_string();
    let ran = once::run(&file, &["replay", "--json", "--client", &client, "--from", &from, "--to", &to]);
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    let lines: Vec<Value> = ran.lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let pushes: Vec<&str> = lines.iter().map(|line| line["push"].as_str().expect("a push")).collect();
    assert_eq!(pushes, ["init", "resource_deleted", "resource_created_or_updated", "resource_deleted"]);
    assert_eq!(lines[1]["time"], Point::Time(steps[1].time).to_string());
    assert_eq!(lines[1]["at"]["commit_lsn"], steps[1].position.commit_lsn.to_string());
    assert_eq!(lines[1]["payload"], RESOURCES[0].to_string());
    let refused = once::run(&file, &["replay", "--client", &client, "--from", "yesterday"]);
    assert_eq!(refused.code, Some(2), "{}", refused.said);
    assert!(refused.said.contains("offset:123") && refused.said.contains("1/0/16B3748"), "{}", refused.said);
    scene.stop();
}

#[test]
fn what_the_clock_pushed_is_told_at_its_deadline() {
    let mut scene = scene();
    let first = history(&mut scene)[4];
    scene.sql("UPDATE tokens SET expires_at = now() + interval '1 second'");
    let shortened = end(&scene.records(), Some(first.position));
    // The deadline passes, and then something else is committed.
    let passed = shortened.time.0 + 3_000_000;
    wait("the token to expire", PATIENCE, || {
        let now = scene.sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
        now.trim().parse::<i64>().expect("a number") > passed
    })
    .expect("time passes");
    scene.sql("DELETE FROM policies");
    let deleted = end(&scene.records(), Some(shortened.position));
    let (_folder, file) = configuration_file(&scene);
    let told = replay(&load(&file), commit(first.position), commit(deleted.position));
    let deadline = told.last().and_then(|told| told.message.deadline).expect("a push by the clock");
    let expired = ("token expired".to_owned(), shortened.position, Micros(deadline * 1_000_000));
    assert_eq!(tell(&told), [("init first".to_owned(), first.position, first.time), expired]);
    // The first second in which the token is not there any more: it has a fraction.
    assert!((0..=3_000_000).contains(&(deadline * 1_000_000 - shortened.time.0)), "{deadline} {shortened:?}");
    assert!(deadline * 1_000_000 < deleted.time.0, "the commit came later");
    scene.stop();
}

#[test]
fn what_compaction_has_taken_is_not_told() {
    let mut scene = scene();
    let steps = history(&mut scene);
    let (_folder, file) = configuration_file(&scene);
    let config = load(&file);
    assert_eq!(allowed_at(&config, commit(steps[1].position)).expect("full history").0, ALLOWED[1]);
    compact_at_once(&scene);
    // The policy's versions go with its delete, and so nothing is left of step 1 that shows what was allowed.
    let mut refused = None;
    wait("compaction", PATIENCE * 2, || {
        // The segment that is written to is never compacted: this rolls it.
        scene.sql("UPDATE accounts SET name = name || 'x'");
        std::thread::sleep(Duration::from_millis(500));
        match allowed_at(&config, commit(steps[1].position)) {
            Ok((allowed, _)) => assert_eq!(allowed, ALLOWED[1], "as long as it is told it is right"),
            Err(PastError::History(error)) => refused = Some(error),
            Err(other) => panic!("{other}"),
        }
        refused.is_some()
    })
    .unwrap_or_else(|late| panic!("{late}\n{}", scene.bridge.log()));
    let Some(HistoryError::Compacted { until, .. }) = refused else { panic!("{refused:?}") };
    assert!(until > steps[1].position, "{until} {steps:?}");
    let (allowed, position) = allowed_at(&config, Point::End).expect("the newest state is whole");
    assert_eq!(allowed, ALLOWED[4]);
    assert!(position >= until, "{position} {until}");
    let client = CLIENT.to_string();
    let ran = once::run(&file, &["replay", "--client", &client, "--from", &commit(steps[1].position).to_string()]);
    assert_eq!((ran.code, ran.lines.len()), (Some(1), 0), "{}", ran.said);
    assert!(ran.said.contains("compaction has removed"), "{}", ran.said);
    scene.stop();
}

/// Lets the broker compact the topic as soon as it can.
fn compact_at_once(scene: &Scene) {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", &scene.world.bootstrap);
    let client: AdminClient<DefaultClientContext> = settings.create().expect("a client");
    let altered = AlterConfig::new(ResourceSpecifier::Topic(&scene.world.topic))
        .set("cleanup.policy", "compact")
        .set("max.message.bytes", "16777216")
        .set("segment.ms", "100")
        .set("min.cleanable.dirty.ratio", "0")
        .set("min.compaction.lag.ms", "0");
    let done = runtime().block_on(client.alter_configs([&altered], &AdminOptions::new())).expect("alter the topic");
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}
