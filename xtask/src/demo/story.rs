//! What somebody does to an account's access, over and over, and what a client's and a gateway's channel are told of it:
//! SQL on the left, pushes on the right, with the time from the commit to the push.
//!
//! Invariant: a push stands beside the statement whose commit it names, never beside the one that happens to be the newest.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use crate::consumer::Who;
use crate::database::Session;
use crate::record::lsn;

/// The rows that the story begins with.
pub const SQL: &str = include_str!("../../sql/story.sql");
/// Whose channels are watched.
pub const CLIENT: &str = "50000000-0000-4000-8000-000000000009";
pub const GATEWAY: &str = "50000000-0000-4000-8000-00000000000a";

/// Between two statements: time to read.
const PAUSE: Duration = Duration::from_secs(3);
/// A statement without a push by then led to none.
const QUIET: Duration = Duration::from_millis(1_500);
/// Commits whose pushes may still come.
const COMMITS_MAX: usize = 64;
const LEFT_WIDTH: usize = 50;

/// One transaction of the story.
#[derive(Debug)]
struct Step {
    /// What is shown of it.
    shown: &'static str,
    sql: &'static str,
}

const STEPS: [Step; 10] = [
    Step {
        shown: "INSERT INTO policies: Engineering, wiki",
        sql: "INSERT INTO policies (id, account_id, actor_group_id, resource_id, inserted_at, updated_at)
              VALUES ('50000000-0000-4000-8000-00000000000e', '50000000-0000-4000-8000-000000000001',
                      '50000000-0000-4000-8000-000000000003', '50000000-0000-4000-8000-00000000000c', now(), now());",
    },
    Step { shown: "INSERT INTO flows: Ada opens the wiki", sql: FLOW },
    Step {
        shown: "UPDATE resources SET name = 'handbook'",
        sql: "UPDATE resources SET name = 'handbook' WHERE id = '50000000-0000-4000-8000-00000000000c';",
    },
    Step {
        shown: "UPDATE resources SET filters = tcp 443",
        sql: "UPDATE resources SET filters = '[{\"protocol\": \"tcp\", \"ports\": [\"443\"]}]'
              WHERE id = '50000000-0000-4000-8000-00000000000c';",
    },
    Step {
        shown: "INSERT INTO resource_connections: site Kyiv",
        sql: "INSERT INTO resource_connections (resource_id, gateway_group_id, account_id)
              VALUES ('50000000-0000-4000-8000-00000000000c', '50000000-0000-4000-8000-000000000006',
                      '50000000-0000-4000-8000-000000000001');",
    },
    Step {
        shown: "UPDATE policies: to builds and back, one commit",
        sql: "BEGIN;
              UPDATE policies SET resource_id = '50000000-0000-4000-8000-00000000000d'
              WHERE id = '50000000-0000-4000-8000-00000000000e';
              UPDATE policies SET resource_id = '50000000-0000-4000-8000-00000000000c'
              WHERE id = '50000000-0000-4000-8000-00000000000e';
              COMMIT;",
    },
    Step { shown: "TRUNCATE flows", sql: "TRUNCATE flows;" },
    Step { shown: "INSERT INTO flows: Ada opens it again", sql: FLOW },
    Step {
        shown: "DELETE FROM actor_groups: Engineering (cascades)",
        sql: "DELETE FROM actor_groups WHERE id = '50000000-0000-4000-8000-000000000003';",
    },
    Step {
        shown: "and all as it was, without the policy",
        sql: "BEGIN;
              INSERT INTO actor_groups (id, account_id, name, inserted_at, updated_at)
              VALUES ('50000000-0000-4000-8000-000000000003', '50000000-0000-4000-8000-000000000001', 'Engineering', now(), now());
              INSERT INTO actor_group_memberships (id, account_id, actor_id, group_id)
              VALUES ('50000000-0000-4000-8000-000000000004', '50000000-0000-4000-8000-000000000001',
                      '50000000-0000-4000-8000-000000000002', '50000000-0000-4000-8000-000000000003');
              UPDATE resources SET name = 'wiki', filters = '[]' WHERE id = '50000000-0000-4000-8000-00000000000c';
              DELETE FROM resource_connections WHERE gateway_group_id = '50000000-0000-4000-8000-000000000006';
              COMMIT;",
    },
];

const FLOW: &str = "
    INSERT INTO flows (id, account_id, policy_id, client_id, gateway_id, resource_id, token_id, actor_group_membership_id,
                       client_remote_ip, client_user_agent, gateway_remote_ip, expires_at, inserted_at)
    VALUES (gen_random_uuid(), '50000000-0000-4000-8000-000000000001', '50000000-0000-4000-8000-00000000000e',
            '50000000-0000-4000-8000-000000000009', '50000000-0000-4000-8000-00000000000a', '50000000-0000-4000-8000-00000000000c',
            '50000000-0000-4000-8000-000000000007', '50000000-0000-4000-8000-000000000004', '192.0.2.1', 'demo', '192.0.2.2',
            now() AT TIME ZONE 'UTC' + interval '1 hour', now() AT TIME ZONE 'UTC');";

/// What a channel was told, and when.
#[derive(Debug)]
struct Push {
    commit: String,
    text: String,
    at: f64,
}

/// The story as it goes on.
#[derive(Debug)]
pub struct Story {
    session: Session,
    next: usize,
    due: Instant,
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

impl Story {
    /// Begins once the channels are open.
    pub fn new(session: Session) -> Self {
        Self {
            session,
            next: 0,
            due: Instant::now() + PAUSE,
            told: None,
            commits: VecDeque::new(),
            waiting: Vec::new(),
        }
    }

    /// Goes on if it is time to; the lines that are to be shown.
    pub fn go_on(&mut self) -> anyhow::Result<Vec<String>> {
        let mut lines = Vec::new();
        let is_quiet = |told: &mut Told| !told.has_pushed && told.since.elapsed() > QUIET;
        if let Some(told) = self.told.take_if(is_quiet) {
            lines.push(line(told.shown, "       no push: nothing is different"));
        }
        if self.due <= Instant::now() && self.waiting.is_empty() {
            let step = &STEPS[self.next % STEPS.len()];
            self.next += 1;
            let behind = self.session.run("SELECT pg_current_wal_insert_lsn();")?;
            let behind = lsn(behind.trim()).with_context(|| format!("Postgres says it is at {behind:?}"))?;
            self.session.run(step.sql).with_context(|| format!("the story's transaction {}", step.sql))?;
            let now = Instant::now();
            (self.due, self.told) =
                (now + PAUSE, Some(Told { shown: step.shown, since: now, behind, has_pushed: false }));
        }
        Ok(lines)
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

    use super::{LEFT_WIDTH, STEPS, payload};

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

    #[test]
    fn statements_fit_on_the_left() {
        for step in STEPS {
            assert!(step.shown.chars().count() <= LEFT_WIDTH, "{}", step.shown);
        }
    }
}
