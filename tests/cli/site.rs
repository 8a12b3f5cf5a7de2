//! A bridge's world, and the other commands run against it.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use penstock_testbed::cluster::shared;
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{Bridge, World};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// Two tables of accounts that are texts.
pub const SCHEMA: &str = "
CREATE TABLE items (id int PRIMARY KEY, account_id text, note text);
CREATE TABLE notes (id int PRIMARY KEY, account_id text, body jsonb);
ALTER TABLE items REPLICA IDENTITY FULL;
ALTER TABLE notes REPLICA IDENTITY FULL;
";

/// A database, a topic and a configuration.
pub struct Site {
    pub world: World,
    folder: TempDir,
}

impl Site {
    pub fn new(schema: &str) -> Self {
        let world = World::new(shared().expect("the shared stack"), schema);
        Self { world, folder: TempDir::new().expect("a folder") }
    }

    /// Runs the bridge until all of `work` is delivered, then stops it.
    pub fn deliver(&self, work: impl FnOnce(&World)) {
        let mut bridge = self.run();
        work(&self.world);
        self.world.wait_confirmed(&mut bridge, PATIENCE);
        assert!(bridge.stop().success(), "the bridge stops in order");
    }

    /// A bridge that delivers.
    pub fn run(&self) -> Bridge {
        let mut bridge = self.world.run();
        self.world.wait_ready(&mut bridge, PATIENCE);
        bridge
    }

    /// The configuration file of the commands; they take `http.listen` to be at `http_port`.
    pub fn configuration(&self, http_port: u16) -> PathBuf {
        let World { database, bootstrap, registry_url, topic, source, .. } = &self.world;
        let text = format!(
            "[source]\nname = {source:?}\nurl = {:?}\n[kafka]\nbrokers = [{bootstrap:?}]\ntopic = {topic:?}\nreplication = 1\n\
             [registry]\nurl = {registry_url:?}\n[http]\nlisten = \"127.0.0.1:{http_port}\"\n[tables]\ncapture = [\"public.*\"]\n",
            database.url(),
        );
        let path = self.folder.path().join("penstock.toml");
        std::fs::write(&path, text).expect("write the configuration");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set the mode");
        path
    }

    /// A command that takes a configuration.
    pub fn command(&self, command: &str, arguments: &[&str], http_port: u16) -> Output {
        let mut penstock = penstock(command);
        penstock.arg("--config").arg(self.configuration(http_port)).args(arguments);
        penstock.output().expect("run penstock")
    }

    /// `replay` or `tail`, told by options alone where the servers are.
    pub fn reader(&self, command: &str, topic: &str, arguments: &[&str]) -> Command {
        let mut penstock = penstock(command);
        penstock.args(["--brokers", &self.world.bootstrap, "--registry", &self.world.registry_url, "--topic", topic]);
        penstock.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        // No configuration file lies there by chance.
        penstock.current_dir(self.folder.path());
        penstock
    }

    /// What `replay` of the site's topic prints.
    pub fn replay(&self, arguments: &[&str]) -> Lines {
        self.replay_of(&self.world.topic, arguments)
    }

    /// What `replay` of another topic prints.
    pub fn replay_of(&self, topic: &str, arguments: &[&str]) -> Lines {
        Lines::of(&self.reader("replay", topic, arguments).output().expect("run penstock"))
    }

    /// A `tail` that runs.
    pub fn tail(&self, arguments: &[&str]) -> Child {
        self.reader("tail", &self.world.topic, arguments).spawn().expect("start penstock")
    }
}

/// What a reader printed.
#[derive(Debug)]
pub struct Lines {
    pub exit: Option<i32>,
    pub text: String,
    pub lines: Vec<Value>,
    pub err: String,
}

impl Lines {
    fn of(output: &Output) -> Self {
        let text = text(&output.stdout);
        let lines = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        Self { exit: output.status.code(), text, lines, err: self::text(&output.stderr) }
    }

    /// `table op id`, or the kind of what is no change of a row, in the order of printing.
    pub fn brief(&self) -> Vec<String> {
        let row = |line: &Value| match line["kind"].as_str() {
            Some("row") => {
                let side = if line["after"].is_null() { "before" } else { "after" };
                let table = line["table"].as_str().expect("a table").trim_start_matches("public.");
                format!("{table} {} {}", line["op"].as_str().expect("an op"), line[side]["id"])
            }
            Some(kind) => kind.to_owned(),
            None => panic!("a line without a kind: {line}"),
        };
        self.lines.iter().map(row).collect()
    }

    /// The same, sorted: partitions come in no order.
    pub fn sorted(&self) -> Vec<String> {
        let mut brief = self.brief();
        brief.sort();
        brief
    }
}

pub fn penstock(command: &str) -> Command {
    let mut penstock = Command::new(env!("CARGO_BIN_EXE_penstock"));
    penstock.arg(command);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PENSTOCK_")) {
        penstock.env_remove(name);
    }
    penstock
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
