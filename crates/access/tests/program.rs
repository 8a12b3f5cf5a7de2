//! The program as a script sees it, as far as no server is needed: exit codes, and what helps.
#![cfg(feature = "kafka")]
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a test of a process")]

use std::path::PathBuf;
use std::process::{Command, Output};

const ID: &str = "00000000-0000-4000-8000-000000000001";

fn penstock_access(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock-access"));
    command.env_remove("PENSTOCK_ACCESS_CONFIG").env_remove("RUST_LOG").args(arguments);
    command.output().expect("penstock-access starts")
}

/// A configuration file that is gone when the value is.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("penstock-access-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).expect("write the configuration");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[track_caller]
fn check(output: &Output, code: i32, words: &[&str]) {
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

#[test]
fn a_wrong_call_is_2() {
    for arguments in [
        &["show"][..],
        &["show", "--account"],
        &["watch"],
        &["watch", "--client", "no-id"],
        &["watch", "--client", ID, "--gateway", ID],
        &["watch", "--gateway", ID, "--can-move-sites"],
        &["authorize", "--client", ID],
        &["other"],
    ] {
        check(&penstock_access(arguments), 2, &["--help"]);
    }
}

#[test]
fn a_wrong_configuration_is_2_and_named() {
    let absent = ["--config", "/nowhere/penstock-access.toml", "show", "--account", ID];
    check(&penstock_access(&absent), 2, &["error: reading /nowhere/penstock-access.toml: No such file"]);
    let head = "[kafka]\nbrokers = [\"127.0.0.1:1\"]\ntopic = \"t\"\n[registry]\nurl = \"http://127.0.0.1:1\"\n";
    for (name, text, words) in [
        ("nothing", String::new(), "missing field `kafka`"),
        ("no-toml", "[kafka".to_owned(), "TOML"),
        ("misspelt", format!("{head}[access]\nstale_aftr = 3\n"), "stale_aftr"),
        ("listen", format!("{head}[http]\nlisten = \"9465\"\n"), "listen"),
    ] {
        let file = File::new(name, &text);
        check(&penstock_access(&["--config", file.path(), "show", "--account", ID]), 2, &[file.path(), words]);
    }
}

#[test]
fn what_fails_is_1_and_says_what_to_look_at() {
    // A port that is ours, and at which nobody answers.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("its address");
    let head = format!("[kafka]\nbrokers = [\"{address}\"]\ntopic = \"t\"\n[registry]\nurl = \"http://127.0.0.1:1\"\n");
    // Its port is not even tried: a look from outside stands beside a service that has it.
    let file = File::new("away", &format!("{head}[http]\nlisten = \"{address}\"\n"));
    let asked = penstock_access(&["--config", file.path(), "watch", "--client", ID]);
    check(&asked, 1, &[&format!("error: http.listen = {address}: ")]);
    drop(nobody);
    let file = File::new("gone", &head);
    let asked = penstock_access(&["--config", file.path(), "show", "--account", ID]);
    check(&asked, 1, &["error: asking for the topic: ", "Check kafka.brokers"]);
}

#[test]
fn help_teaches() {
    check(&penstock_access(&["--help"]), 0, &["watch", "authorize", "show", "Exit codes", "penstock-access.toml"]);
    check(&penstock_access(&["show", "--help"]), 0, &["--account", "--json", "--rebuild", "--wait"]);
    check(&penstock_access(&["watch", "--help"]), 0, &["--client", "--gateway", "--token", "--can-move-sites"]);
}
