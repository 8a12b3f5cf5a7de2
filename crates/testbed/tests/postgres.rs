//! A Postgres of one's own: killed, paused, restarted, restored; its versions, its access rules, its certificates.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use penstock_testbed::cluster::unique_name;
use penstock_testbed::postgres::{Address, Authentication, Postgres, Stop};
use penstock_testbed::server::{Error, process};

/// Runs SQL over TCP as a client would, with these additional settings.
fn over_tcp(address: &Address, settings: &str) -> Result<String, String> {
    let Address { host, port, .. } = address;
    let output = Command::new("psql")
        .args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", "SELECT 1", "--dbname"])
        .arg(format!("host={host} port={port} connect_timeout=5 {settings}"))
        .env_remove("PGPASSWORD")
        .output()
        .expect("psql");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Long enough that a busy machine does not reach it by accident.
const LONG: Duration = Duration::from_secs(20);

/// A psql that stays connected.
struct Session {
    child: Child,
    stdin: ChildStdin,
    lines: Arc<Mutex<BufReader<ChildStdout>>>,
}

impl Session {
    fn open(address: &Address) -> Self {
        let mut command = address.psql_command().expect("psql");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("psql");
        let stdin = child.stdin.take().expect("piped");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdin, lines: Arc::new(Mutex::new(lines)) }
    }

    /// Sends a query; its first row comes through the channel.
    fn ask(&mut self, query: &str) -> Receiver<String> {
        writeln!(self.stdin, "{query};").expect("psql reads");
        let (sender, row) = mpsc::channel();
        let lines = Arc::clone(&self.lines);
        std::thread::spawn(move || {
            let mut line = String::new();
            lines.lock().expect("no panic").read_line(&mut line).expect("text");
            sender.send(line.trim_end().to_owned())
        });
        row
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("end");
    }
}

#[test]
fn killed_server_comes_back_with_its_data_on_its_port() {
    let postgres = Postgres::builder().start().expect("start");
    let (url, pid) = (postgres.url(), postgres.pid().expect("runs"));
    postgres.psql("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)").expect("table");
    let backends: Vec<u32> = postgres
        .psql("SELECT pid FROM pg_stat_activity WHERE backend_type <> 'client backend'")
        .expect("pids")
        .lines()
        .map(|line| line.parse().expect("a pid"))
        .collect();
    assert!(backends.len() > 2, "{backends:?}");

    postgres.kill().expect("kill");
    assert_eq!(postgres.pid(), None);
    for pid in backends.into_iter().chain([pid]) {
        assert!(!process::runs(pid), "{pid} of the killed server runs");
    }
    assert!(postgres.psql("SELECT 1").is_err());
    assert!(matches!(postgres.kill(), Err(Error::State { .. })));

    postgres.start().expect("start again");
    assert_eq!(postgres.url(), url);
    assert_eq!(postgres.psql("SELECT sum(a) FROM t").expect("data"), "3");
    assert!(matches!(postgres.start(), Err(Error::State { .. })));

    for how in [Stop::Fast, Stop::Immediate] {
        postgres.restart(how).expect("restart");
        assert_eq!(postgres.psql("SELECT sum(a) FROM t").expect("data"), "3");
    }
}

#[test]
fn paused_server_keeps_connections_and_answers_nothing() {
    let postgres = Postgres::builder().start().expect("start");
    let address = postgres.address().clone();
    // One client is connected already and so talks to a backend; another one needs the postmaster first.
    let mut connected = Session::open(&address);
    assert_eq!(connected.ask("SELECT 'before'").recv(), Ok("before".to_owned()));
    postgres.pause().expect("pause");
    let on_connection = connected.ask("SELECT 'late'");
    let (sender, on_new_connection) = mpsc::channel();
    let asking = std::thread::spawn(move || sender.send(address.psql("SELECT 'late'")));
    let early = on_connection.recv_timeout(Duration::from_millis(500));
    assert!(early.is_err(), "a paused backend answered {early:?}");
    let early = on_new_connection.try_recv();
    assert!(early.is_err(), "a paused server answered {early:?}");
    postgres.resume().expect("resume");
    assert_eq!(on_connection.recv_timeout(LONG), Ok("late".to_owned()));
    let late = on_new_connection.recv_timeout(LONG).expect("an answer");
    assert_eq!(late.expect("a row"), "late");
    asking.join().expect("no panic").expect("the test listens");

    // Killed while paused it dies all the same.
    let pid = postgres.pid().expect("runs");
    postgres.pause().expect("pause");
    postgres.kill().expect("kill");
    assert!(!process::runs(pid));
}

#[test]
fn passwords_and_access_rules_are_enforced_over_tcp() {
    for authentication in [Authentication::Scram, Authentication::Md5] {
        let postgres = Postgres::builder()
            .authentication(authentication)
            .hba("host all banned 127.0.0.1/32 reject")
            .start()
            .expect("start");
        postgres
            .psql("CREATE ROLE alice LOGIN PASSWORD 'secret'; CREATE ROLE banned LOGIN PASSWORD 'secret'")
            .expect("roles");
        let stored = postgres
            .psql("SELECT left(rolpassword, 3) FROM pg_authid WHERE rolname = 'alice'")
            .expect("stored password");
        let address = postgres.address();
        let expected = match authentication {
            Authentication::Md5 => "md5",
            Authentication::Scram | Authentication::Trust => "SCR",
        };
        assert_eq!(stored, expected);
        let ask =
            |user: &str, password: &str| over_tcp(address, &format!("dbname=postgres user={user} password={password}"));
        assert_eq!(ask("alice", "secret").as_deref(), Ok("1"));
        assert_eq!(ask(&address.user, &address.password).as_deref(), Ok("1"));
        let wrong = ask("alice", "wrong").expect_err("wrong password");
        assert!(wrong.contains("password authentication failed"), "{wrong}");
        let banned = ask("banned", "secret").expect_err("rejected");
        assert!(banned.contains("rejects connection"), "{banned}");
    }
}

#[test]
fn certificate_is_good_for_its_names_and_its_authority_only() {
    let postgres = Postgres::builder().tls_for(&["localhost"]).start().expect("start");
    let address = postgres.address();
    let files = postgres.certificates().expect("certificates");
    let ask = |host: &str, authority: &std::path::Path| {
        let settings = format!(
            "host={host} hostaddr=127.0.0.1 dbname=postgres user={} password={} sslmode=verify-full sslrootcert={}",
            address.user,
            address.password,
            authority.display()
        );
        over_tcp(address, &settings)
    };
    assert_eq!(ask("localhost", &files.authority).as_deref(), Ok("1"));
    let foreign = ask("localhost", &files.foreign_authority).expect_err("not trusted");
    assert!(foreign.contains("certificate verify failed"), "{foreign}");
    let name = ask("127.0.0.1", &files.authority).expect_err("not its name");
    assert!(name.contains("does not match host name"), "{name}");
}

#[test]
fn majors_14_to_18_decode_with_pgoutput() {
    std::thread::scope(|scope| {
        for major in [14, 16, 17, 18] {
            scope.spawn(move || {
                let postgres = Postgres::builder().major(major).start().expect("start");
                let version = postgres.psql("SHOW server_version_num").expect("version");
                assert_eq!(version[..2].parse(), Ok(major), "{version}");
                postgres
                    .psql(
                        "CREATE TABLE t (a int primary key); CREATE PUBLICATION p FOR TABLE t;
                         SELECT pg_create_logical_replication_slot('s', 'pgoutput');
                         INSERT INTO t VALUES (1)",
                    )
                    .expect("slot");
                let messages = postgres
                    .psql(
                        "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL, \
                         'proto_version', '1', 'publication_names', 'p')",
                    )
                    .expect("decode");
                assert_eq!(messages, "4", "Begin, Relation, Insert, Commit");
            });
        }
    });
}

#[test]
fn server_that_does_not_come_up_tells_why() {
    let error = Postgres::builder().set("shared_buffers", "nonsense").start().expect_err("no such size");
    assert!(matches!(error, Error::Exited { .. }), "{error:?}");
    assert!(error.to_string().contains("nonsense"), "{error}");
}

#[test]
fn settings_change_by_reload_or_at_the_next_start() {
    let postgres = Postgres::builder().start().expect("start");
    postgres.configure(&[("wal_level", "replica"), ("work_mem", "7MB")]).expect("configure");
    postgres.address().wait_for("SELECT current_setting('work_mem') = '7MB'").expect("reloaded");
    assert_eq!(postgres.psql("SHOW wal_level").expect("level"), "logical");
    postgres.restart(Stop::Fast).expect("restart");
    assert_eq!(postgres.psql("SHOW wal_level").expect("level"), "replica");
}

#[test]
fn standby_follows_and_becomes_a_primary_on_a_new_timeline() {
    let primary = Postgres::builder().start().expect("start");
    primary.psql("CREATE TABLE t (a int)").expect("table");
    let standby = primary.standby().expect("standby");
    assert_eq!(standby.psql("SELECT pg_is_in_recovery()").expect("state"), "t");
    primary.psql("INSERT INTO t VALUES (7)").expect("row");
    standby.address().wait_for("SELECT count(*) = 1 FROM t").expect("followed");
    assert_eq!(primary.walsender_pids(None).expect("walsenders").len(), 1);

    primary.kill().expect("kill");
    standby.promote().expect("promote");
    standby.psql("INSERT INTO t VALUES (8)").expect("writes");
    let timeline = "SELECT timeline_id FROM pg_control_checkpoint()";
    standby.psql("CHECKPOINT").expect("checkpoint");
    assert_eq!(standby.psql(timeline).expect("timeline"), "2");
}

#[test]
fn restored_server_is_in_its_older_state() {
    let postgres = Postgres::builder().start().expect("start");
    postgres.psql("CREATE TABLE t (a int)").expect("table");
    assert!(postgres.save().is_err(), "a running server can't be copied");
    postgres.stop(Stop::Fast).expect("stop");
    let saved = postgres.save().expect("save");
    postgres.start().expect("start");
    postgres.psql("INSERT INTO t VALUES (1)").expect("row");
    postgres.kill().expect("kill");
    postgres.restore(&saved).expect("restore");
    postgres.start().expect("start");
    assert_eq!(postgres.psql("SELECT count(*) FROM t").expect("count"), "0");
}

#[test]
fn database_goes_with_its_slots_and_clients() {
    let postgres = Postgres::builder().start().expect("start");
    let name = unique_name("d");
    let database = postgres.create_database(&name).expect("create");
    database
        .psql("SELECT pg_create_logical_replication_slot(slot, 'test_decoding') FROM (VALUES ('idle'), ('used')) slots (slot)")
        .expect("slots");
    let mut client = Session::open(&database);
    assert_eq!(client.ask("SELECT 1").recv(), Ok("1".to_owned()));
    let mut reader = Command::new("pg_recvlogical")
        .args(["--start", "--slot=used", "--file=/dev/null", "--no-loop", "--dbname", &name])
        .arg("--host")
        .arg(&database.socket_directory)
        .args(["--port", &database.port.to_string(), "--username", &database.user])
        .stderr(Stdio::null())
        .spawn()
        .expect("pg_recvlogical");
    postgres.address().wait_for("SELECT active FROM pg_replication_slots WHERE slot_name = 'used'").expect("in use");
    assert_eq!(postgres.walsender_pids(Some("used")).expect("walsenders").len(), 1);

    postgres.address().drop_database(&name).expect("drop");
    assert_eq!(postgres.psql("SELECT count(*) FROM pg_replication_slots").expect("count"), "0");
    assert!(database.psql("SELECT 1").is_err());
    reader.wait().expect("the reader ends with its walsender");
}
