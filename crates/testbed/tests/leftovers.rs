//! Nothing is left: neither after a SIGKILL of the process that started servers, nor after a panic, nor after its exit.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use penstock_testbed::artifacts::Cache;
use penstock_testbed::postgres::Postgres;
use penstock_testbed::registry::Registry;
use penstock_testbed::server::process;

/// Set in the process that starts the servers: how it is to end.
const END: &str = "PENSTOCK_LEFTOVERS_END";

/// What the other process started.
#[derive(Debug, Default)]
struct Started {
    pids: Vec<u32>,
    ports: Vec<u16>,
    directories: Vec<PathBuf>,
}

/// Not a test by itself: the other process, which starts a Postgres that runs, one that is paused in the middle of a
/// query, and a registry.
#[test]
fn other_process() {
    let Ok(end) = std::env::var(END) else { return };
    let running = Postgres::builder().start().expect("postgres");
    let paused = Postgres::builder().start().expect("postgres");
    let registry = Registry::start_new(&Cache::from_environment()).expect("registry");
    let address = paused.address().clone();
    std::thread::spawn(move || address.psql("SELECT pg_sleep(3600)"));
    let sleeping = "SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3600)'";
    paused.address().wait_for(sleeping).expect("the query runs");
    let mut lines = String::new();
    for postgres in [&running, &paused] {
        let pids = postgres.psql("SELECT pid FROM pg_stat_activity").expect("pids");
        let pids = pids.lines().map(str::to_owned);
        // The backend that was asked is gone by now; one that is not there is not left over either.
        for pid in pids.chain([postgres.pid().expect("runs").to_string()]) {
            lines += &format!("pid {pid}\n");
        }
        lines += &format!("port {}\n", postgres.address().port);
        let directory = postgres.data_directory();
        lines += &format!("directory {}\n", directory.parent().expect("sandbox").display());
    }
    paused.pause().expect("pause");
    lines += &format!("pid {}\nport {}\n", registry.pid().expect("runs"), registry.port());
    let directory = registry.log();
    lines += &format!("directory {}\nready\n", directory.parent().expect("sandbox").display());
    // Past the test harness, which would keep what is printed until the test has ended.
    std::io::stderr().write_all(lines.as_bytes()).expect("the parent listens");
    match end.as_str() {
        "exit" => {
            // Like a static: never dropped.
            Box::leak(Box::new((running, paused, registry)));
        }
        "panic" => panic!("on purpose"),
        _ => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).expect("waits to be killed");
        }
    }
}

fn start(end: &str) -> (Child, Started) {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "other_process", "--nocapture"])
        .env(END, end)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start");
    let mut started = Started::default();
    let mut seen = String::new();
    for line in BufReader::new(child.stderr.take().expect("piped")).lines() {
        let line = line.expect("text");
        match line.split_once(' ') {
            Some(("pid", pid)) => started.pids.push(pid.parse().expect("a pid")),
            Some(("port", port)) => started.ports.push(port.parse().expect("a port")),
            Some(("directory", path)) => started.directories.push(path.into()),
            _ if line == "ready" => return (child, started),
            _ => {
                seen += &line;
                seen.push('\n');
            }
        }
    }
    panic!("the other process did not get ready: {seen}");
}

/// What of the other process' servers there still is.
fn left(started: &Started) -> Vec<String> {
    let pids = started.pids.iter().filter(|&&pid| process::runs(pid));
    let ports = started.ports.iter().filter(|&&port| TcpListener::bind(("127.0.0.1", port)).is_err());
    let directories = started.directories.iter().filter(|path| path.exists());
    pids.map(|pid| format!("process {pid}"))
        .chain(ports.map(|port| format!("port {port}")))
        .chain(directories.map(|path| format!("directory {}", path.display())))
        .collect()
}

fn assert_nothing_is_left(started: &Started) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = left(started);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left over: {left:?}");
        // The watchdog tells nobody that it is through.
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_is_left_after_a_sigkill() {
    let (mut child, started) = start("wait");
    // All of it is there, or the test would see nothing go.
    assert!(left(&started).len() >= 2 * 5 + 3 + 3 + 3, "{started:?}");
    child.kill().expect("kill");
    child.wait().expect("end");
    assert_nothing_is_left(&started);
}

#[test]
fn nothing_is_left_after_a_panic() {
    let (mut child, started) = start("panic");
    assert!(!child.wait().expect("end").success());
    assert_nothing_is_left(&started);
}

#[test]
fn nothing_is_left_after_an_exit_that_drops_nothing() {
    let (mut child, started) = start("exit");
    assert!(child.wait().expect("end").success());
    assert_nothing_is_left(&started);
}
