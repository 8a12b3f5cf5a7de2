//! What somebody does to an account's access, over and over, and what a client's and a gateway's channel are told of it:
//! SQL on the left, pushes on the right, with the time from the commit to the push.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::board::Board;
use crate::database::Session;
use crate::record::lsn;

/// The rows that the story begins with.
pub const SQL: &str = include_str!("../../sql/story.sql");
/// Whose channels are watched.
pub const CLIENT: &str = "50000000-0000-4000-8000-000000000009";
pub const GATEWAY: &str = "50000000-0000-4000-8000-00000000000a";

/// Between two statements: time to read.
const PAUSE: Duration = Duration::from_secs(3);

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

/// The story as it goes on.
#[derive(Debug)]
pub struct Story {
    session: Session,
    next: usize,
    due: Instant,
    /// Where statements and pushes are brought together.
    pub board: Board,
}

impl Story {
    /// Begins once the channels are open.
    pub fn new(session: Session) -> Self {
        Self { session, next: 0, due: Instant::now() + PAUSE, board: Board::default() }
    }

    /// Goes on if it is time to; the lines that are to be shown.
    pub fn go_on(&mut self) -> anyhow::Result<Vec<String>> {
        let lines = self.board.quiet();
        if self.due <= Instant::now() && !self.board.waits() {
            let step = &STEPS[self.next % STEPS.len()];
            self.next += 1;
            let behind = self.session.run("SELECT pg_current_wal_insert_lsn();")?;
            let behind = lsn(behind.trim()).with_context(|| format!("Postgres says it is at {behind:?}"))?;
            self.session.run(step.sql).with_context(|| format!("the story's transaction {}", step.sql))?;
            self.due = Instant::now() + PAUSE;
            self.board.committed(step.shown, behind);
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn statements_fit_on_the_left() {
        for step in super::STEPS {
            assert!(step.shown.chars().count() <= super::super::board::LEFT_WIDTH, "{}", step.shown);
        }
    }
}
