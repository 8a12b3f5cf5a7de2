//! `backfill`: asked for, followed, paused, refused.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::site::{PATIENCE, SCHEMA, Site, penstock, text};
use crate::world::wait;

const ROWS: &str = "
INSERT INTO items SELECT n, 'a' || n % 5, 'row ' || n FROM generate_series(1, 2000) n;
INSERT INTO notes SELECT n, 'a' || n % 5, '{}' FROM generate_series(1, 100) n; ANALYZE;
";

/// `backfill` with its configuration in the right place: behind a subcommand's name.
fn backfill(site: &Site, words: &[&str]) -> Command {
    let mut command = penstock("backfill");
    let is_flag = words.first().is_some_and(|word| word.starts_with("--"));
    let (name, rest) = words.split_at(usize::from(!is_flag));
    command.args(name).arg("--config").arg(site.configuration(1)).args(rest);
    command
}

fn run(site: &Site, words: &[&str]) -> (Option<i32>, String, String) {
    let output = backfill(site, words).output().expect("run penstock");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn start(site: &Site, words: &[&str]) -> Child {
    backfill(site, words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start penstock")
}

fn reloads(site: &Site) -> Vec<Value> {
    let (exit, out, err) = run(site, &["status", "--json"]);
    assert_eq!(exit, Some(0), "{err}");
    serde_json::from_str::<Value>(&out).expect("JSON").as_array().expect("an array").clone()
}

fn reload(site: &Site, id: &str) -> Option<Value> {
    reloads(site).into_iter().find(|reload| reload["id"] == id)
}

/// Rows that were read by a reload, by what `replay` prints of them.
fn read_rows(site: &Site) -> usize {
    site.replay(&["--op", "r"]).lines.len()
}

#[test]
fn what_is_asked_for_is_delivered_again_and_followed_to_its_end() {
    let site = Site::new(SCHEMA);
    let mut bridge = site.run();
    site.world.database.psql(ROWS).expect("rows");
    site.world.wait_confirmed(&mut bridge, PATIENCE);
    assert_eq!((reloads(&site).len(), read_rows(&site)), (0, 0), "the tables were empty at the first start");
    let (_, words, _) = run(&site, &["status"]);
    assert_eq!(words, "There is no reload under way, and none is remembered.\n");

    let mut rows = 0;
    for (words, told, scope, more) in [
        (&["--table", "public.notes"][..], "public.notes, done, 100 rows", "public.notes", 100),
        (&["--account", "a3"], "account \"a3\", done, 420 rows", "account \"a3\"", 420),
        (&["--account", "a3", "--table", "public.notes"], "account \"a3\" in public.notes, done, 20 rows", "", 20),
        (&["--account", "nobody"], "account \"nobody\", done, 0 rows", "account \"nobody\"", 0),
        (&["--all"], "everything, done, 2,100 rows", "everything", 2100),
    ] {
        let (exit, out, err) = run(&site, words);
        assert_eq!(exit, Some(0), "{words:?}: {out}{err}");
        assert!(out.contains(told), "{words:?}: {out}");
        assert!(err.starts_with("penstock: reload ") && !err.contains('\r'), "plain lines: {err}");
        rows += more;
        assert_eq!(read_rows(&site), rows, "{words:?}");
        let (_, listed, _) = run(&site, &["status"]);
        assert!(listed.contains(scope), "{listed}");
    }
    let last = reloads(&site).pop().expect("the last of them");
    assert_eq!((&last["state"], &last["percent"], &last["detail"]), (&"done".into(), &100.into(), &"".into()));
    assert!(last["begin"]["commit_lsn"].is_string() && last["end"]["commit_lsn"].is_string(), "{last}");
    assert!(bridge.stop().success());
}

#[test]
fn what_cannot_be_done_is_told_and_exits_with_1() {
    let site = Site::new(SCHEMA);
    let bridge = site.run();
    for (words, told) in [
        (&["--table", "public.never"][..], "public.never is not a captured table"),
        (&["--account", "x", "--table", "public.never"], "public.never is not a captured table"),
        (&["pause", "never"], "there is no reload never; none is under way"),
    ] {
        let (exit, out, err) = run(&site, words);
        assert_eq!((exit, out.as_str()), (Some(1), ""), "{words:?}: {err}");
        assert!(err.contains(told), "{words:?}: {err}");
    }
    for words in [&["--table", "never"][..], &["--all", "--account", "x"], &["--no-wait"]] {
        assert_eq!(run(&site, words).0, Some(2), "{words:?}");
    }
    assert!(bridge.stop().success());
}

/// At ten rows a second it would take minutes.
#[test]
fn a_reload_can_be_paused_resumed_and_cancelled() {
    let site = Site::new(SCHEMA);
    let mut bridge = site.run();
    site.world.database.psql(ROWS).expect("rows");
    site.world.wait_confirmed(&mut bridge, PATIENCE);
    let (exit, id, err) = run(&site, &["--table", "public.items", "--rows-per-second", "10", "--no-wait"]);
    let id = id.trim();
    assert_eq!(exit, Some(0), "{err}");
    let state = |state: &str| reload(&site, id).is_some_and(|reload| reload["state"] == state && reload["rows"] != 0);
    wait("some rows to be read", PATIENCE, || state("running")).expect("they are");
    let status = site.command("status", &[], bridge.http_port);
    assert!(
        text(&status.stdout).contains(&format!("reload {id}: public.items, running, ")),
        "{}",
        text(&status.stdout)
    );
    let metrics = bridge.get("/metrics").expect("metrics");
    assert!(metrics.contains("\npenstock_backfill_rows_total 2000\n"), "{metrics}");
    assert!(metrics.contains("\npenstock_backfill_rows_done 1"), "{metrics}");

    for (words, expected) in [("pause", "paused"), ("resume", "running"), ("pause", "paused"), ("cancel", "cancelled")]
    {
        let (exit, out, err) = run(&site, &[words, id]);
        assert_eq!(exit, Some(0), "{words}: {err}");
        assert!(out.starts_with(&format!("{id}: public.items, {expected}, ")), "{words}: {out}");
    }
    let (exit, _, err) = run(&site, &["resume", id]);
    assert_eq!(exit, Some(1));
    assert!(err.contains("has ended"), "{err}");
    assert!(bridge.stop().success());
}

#[test]
fn a_request_without_a_bridge_waits_for_one_and_goes_on_unwatched() {
    let site = Site::new(SCHEMA);
    site.deliver(|world| drop(world.database.psql(ROWS).expect("rows")));
    let waiting = start(&site, &["--all"]);
    let mut unwatched = start(&site, &["--table", "public.notes"]);
    let mut said = BufReader::new(unwatched.stderr.take().expect("a pipe")).lines().map(|line| line.expect("a line"));
    assert!(said.by_ref().any(|line| line.contains("no bridge seems to run")), "it says that nothing moves");
    let interrupted = Command::new("kill").args(["-INT", &unwatched.id().to_string()]).status().expect("run kill");
    assert!(interrupted.success());
    assert!(said.any(|line| line.contains("goes on without being watched")), "it says that the reload goes on");
    assert_eq!(unwatched.wait().expect("it ends").code(), Some(1));

    let bridge = site.run();
    let waited = waiting.wait_with_output().expect("it ends");
    assert_eq!(waited.status.code(), Some(0), "{}", text(&waited.stderr));
    let states = || reloads(&site).iter().map(|reload| reload["state"].clone()).collect::<Vec<_>>();
    wait("both to be done", PATIENCE, || states() == ["done", "done"])
        .unwrap_or_else(|late| panic!("{late} {:?}", states()));
    assert!(bridge.stop().success());
}
