//! Statements and the pushes that they led to, brought together: what a line of the story says.
//!
//! Invariant: a push stands beside the statement that was committed at or behind the LSN that it names, never beside one
//! that just happens to be the newest; and its delay is counted from its own commit.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use crate::consumer::Who;
use crate::record::lsn;

/// A statement without a push by then led to none.
const QUIET: Duration = Duration::from_millis(1_500);
/// Commits whose pushes may still come.
const COMMITS_MAX: usize = 64;
/// Characters of the left side.
pub const LEFT_WIDTH: usize = 50;

/// What a channel was told, and when.
#[derive(Debug)]
struct Push {
    commit: String,
    text: String,
    at: f64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Board {
    /// What was committed last, until a push or the quiet after it was shown.
    told: Option<Told>,
    /// Commit LSNs of the topic's newest records, with their times in seconds of the machine's clock.
    commits: VecDeque<(String, f64)>,
    /// Those whose commit's record was not seen yet.
    waiting: Vec<Push>,
}

#[derive(Debug)]
struct Told {
    shown: &'static str,
    since: Instant,
    /// It was committed behind this LSN.
    behind: u64,
    /// Its first push was shown.
    has_pushed: bool,
}

impl Board {
    /// A statement was committed behind an LSN.
    pub fn committed(&mut self, shown: &'static str, behind: u64) {
        self.told = Some(Told { shown, since: Instant::now(), behind, has_pushed: false });
    }

    /// A push came whose commit was not read yet.
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The line of a statement that led to nothing, once that is clear.
    pub fn quiet(&mut self) -> Vec<String> {
        self.quiet_after(QUIET)
    }

    fn quiet_after(&mut self, quiet: Duration) -> Vec<String> {
        let is_quiet = |told: &mut Told| !told.has_pushed && told.since.elapsed() >= quiet;
        let told = self.told.take_if(is_quiet);
        told.into_iter().map(|told| line(told.shown, "        no push: nothing is different")).collect()
    }

    /// A record of the topic was read.
    pub fn record(&mut self, json: &Value) -> Vec<String> {
        let commit = json.pointer("/position/commit_lsn").and_then(Value::as_str);
        let (Some(commit), Some(ms)) = (commit, json.get("timestamp_ms").and_then(Value::as_f64)) else {
            return Vec::new();
        };
        // Rows tell their commit to the microsecond.
        let time = json.pointer("/source/ts_us").and_then(Value::as_f64).map_or(ms / 1e3, |us| us / 1e6);
        if self.commits.back().is_none_or(|(newest, _)| newest != commit) {
            self.commits.push_back((commit.to_owned(), time));
            if self.commits.len() > COMMITS_MAX {
                self.commits.pop_front();
            }
        }
        self.tell()
    }

    /// A channel was told something.
    pub fn push(&mut self, who: Who, json: &Value, at: f64) -> anyhow::Result<Vec<String>> {
        let name = json.get("push").and_then(Value::as_str).context("a push without a name")?;
        let commit = json.pointer("/at/commit_lsn").and_then(Value::as_str).context("a push without a position")?;
        let text = format!("{:<7} {name} {}", who.as_str(), payload(name, json.get("payload").unwrap_or(&Value::Null)));
        if matches!(name, "init" | "stale" | "fresh") {
            return Ok(vec![line("", &format!("        {}", text.trim_end()))]);
        }
        self.waiting.push(Push { commit: commit.to_owned(), text, at });
        Ok(self.tell())
    }

    /// What can be told by now: of whose commit the record was seen.
    fn tell(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut waiting = Vec::new();
        for push in std::mem::take(&mut self.waiting) {
            match self.commits.iter().find(|(commit, _)| *commit == push.commit) {
                Some((_, committed)) => {
                    let delay_ms = ((push.at - committed) * 1e3).max(0.0);
                    let right = format!("{delay_ms:>4.0} ms {}", push.text.trim_end());
                    lines.push(line(self.left(&push.commit), &right));
                }
                None => waiting.push(push),
            }
        }
        self.waiting = waiting;
        lines
    }

    /// The statement of this commit, for its first push.
    fn left(&mut self, commit: &str) -> &'static str {
        match &mut self.told {
            Some(told) if !told.has_pushed && lsn(commit) >= Some(told.behind) => {
                told.has_pushed = true;
                told.shown
            }
            Some(_) | None => "",
        }
    }
}

fn line(left: &str, right: &str) -> String {
    format!("{left:<LEFT_WIDTH$} │ {right}")
}

/// What is worth telling of a payload.
fn payload(push: &str, payload: &Value) -> String {
    let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let count = |name: &str| payload.get(name).and_then(Value::as_array).map_or(0, Vec::len);
    match push {
        "resource_created_or_updated" | "resource_updated" => text("/name").to_owned(),
        "authorize_flow" => format!("to {}", text("/resource/name")),
        "resource_deleted" => short(payload.as_str().unwrap_or_default()),
        "reject_access" => format!("to {}", short(text("/resource_id"))),
        "disconnect" | "stale" => text("/reason").to_owned(),
        "init" if payload.get("resources").is_some() => format!("{} resources", count("resources")),
        "init" => format!("{} authorizations", count("authorizations")),
        _ => String::new(),
    }
}

/// The story's ids differ in their ends.
fn short(id: &str) -> String {
    match id.len().checked_sub(4).and_then(|at| id.get(at..)) {
        Some(end) => format!("…{end}"),
        None => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn push(commit: &str, name: &str) -> Value {
        json!({"at": {"epoch": 1, "commit_lsn": commit, "seq": 8}, "push": name, "payload": "xx000c"})
    }

    fn record(commit: &str, second: f64) -> Value {
        json!({"position": {"commit_lsn": commit}, "timestamp_ms": 0, "source": {"ts_us": second * 1e6}})
    }

    #[track_caller]
    fn check(lines: &[String], expected: &[&str]) {
        let plain: Vec<String> =
            lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(plain, expected);
    }

    #[test]
    fn a_push_waits_for_its_commit_and_stands_beside_its_statement() {
        let mut board = Board::default();
        board.committed("DELETE", 0x100);
        check(&board.push(Who::Client, &push("0/200", "resource_deleted"), 9.025).expect("a push"), &[]);
        assert!(board.waits());
        check(&board.record(&record("0/180", 5.0)), &[]);
        check(&board.record(&record("0/200", 9.0)), &["DELETE │ 25 ms client resource_deleted …000c"]);
        assert!(!board.waits());
        let second = board.push(Who::Gateway, &push("0/200", "reject_access"), 9.5).expect("a push");
        check(&second, &["│ 500 ms gateway reject_access to"]);
        check(&board.quiet_after(Duration::ZERO), &[]);
    }

    #[test]
    fn a_push_of_an_older_commit_is_not_the_newest_statements() {
        let mut board = Board::default();
        board.record(&record("0/80", 1.0));
        board.committed("UPDATE", 0x100);
        let older = board.push(Who::Client, &push("0/80", "resource_deleted"), 1.5).expect("a push");
        check(&older, &["│ 500 ms client resource_deleted …000c"]);
        check(&board.quiet_after(Duration::from_secs(60)), &[]);
        check(&board.quiet_after(Duration::ZERO), &["UPDATE │ no push: nothing is different"]);
        check(&board.quiet_after(Duration::ZERO), &[]);
    }

    #[test]
    fn payloads_are_told_by_what_people_know() {
        let id = "50000000-0000-4000-8000-00000000000c";
        let cases = [
            ("resource_created_or_updated", json!({"id": id, "name": "wiki"}), "wiki"),
            ("resource_deleted", json!(id), "…000c"),
            ("reject_access", json!({"client_id": "x", "resource_id": id}), "to …000c"),
            ("authorize_flow", json!({"resource": {"name": "wiki"}}), "to wiki"),
            ("init", json!({"resources": [1, 2]}), "2 resources"),
            ("init", json!({"authorizations": []}), "0 authorizations"),
            ("disconnect", json!({"reason": "revoked"}), "revoked"),
            ("config_changed", json!({}), ""),
        ];
        for (push, json, expected) in cases {
            assert_eq!(payload(push, &json), expected, "{push}");
        }
    }
}
