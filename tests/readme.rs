//! The README's configuration is one that the bridge takes, its commands exist, and continuous integration runs the test
//! command that it names.

use std::path::Path;
use std::process::Command;

use penstock::config::Config;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The contents of the README's fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let readme = read("README.md");
    let fence = format!("```{language}\n");
    readme.split(&fence).skip(1).filter_map(|rest| Some(rest.split_once("```")?.0.to_owned())).collect()
}

#[test]
fn configuration_of_the_readme_is_taken() {
    let blocks = blocks("toml");
    let [block] = blocks.as_slice() else { panic!("{blocks:?}") };
    assert_eq!(block.lines().count(), 12, "{block}");
    let folder = tempfile::tempdir().expect("directory");
    let secret = folder.path().join("password");
    std::fs::write(&secret, "a password\n").expect("write");
    let file = folder.path().join("penstock.toml");
    let text = block.replace("/run/secrets/penstock-postgres", &secret.display().to_string());
    std::fs::write(&file, text).expect("write");
    let config = Config::load(Some(&file), Vec::new()).expect("the README's configuration");
    assert_eq!(config.source.name, "portal");
    assert_eq!(config.kafka.topic, "portal.changes");
}

#[test]
fn commands_of_the_readme_exist() {
    let commands: Vec<String> = blocks("sh")
        .iter()
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| Some(line.strip_prefix("target/release/penstock ")?.split(' ').next()?.to_owned()))
        .collect();
    assert!(commands.len() >= 3, "{commands:?}");
    for command in commands {
        let output = Command::new(env!("CARGO_BIN_EXE_penstock"))
            .args([command.as_str(), "--help"])
            .output()
            .expect("penstock starts");
        assert!(output.status.success(), "penstock {command}: {output:?}");
    }
}

#[test]
fn continuous_integration_runs_the_test_command() {
    let named: Vec<String> = blocks("sh").into_iter().filter(|block| block.starts_with("cargo xtask test")).collect();
    assert_eq!(named, ["cargo xtask test\n"]);
    let script = read(".ci/run");
    assert!(script.lines().any(|line| line == "cargo xtask test"), "{script}");
}
