//! The README's configuration is one that the bridge takes, its commands exist, and continuous integration runs the test
//! command that it names.

use std::path::Path;
use std::process::Command;

use penstock::config::Config;
use penstock_access::service as access;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The contents of a page's fenced blocks of one language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let page = read(page);
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).filter_map(|rest| Some(rest.split_once("```")?.0.to_owned())).collect()
}

#[test]
fn configuration_of_the_readme_is_taken() {
    let blocks = blocks("README.md", "toml");
    let [block, _] = blocks.as_slice() else { panic!("{blocks:?}") };
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

fn access_config(text: &str) -> access::Config {
    let folder = tempfile::tempdir().expect("directory");
    let file = folder.path().join("penstock-access.toml");
    std::fs::write(&file, text).expect("write");
    access::Config::load(&file).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn configuration_of_the_consumer_is_taken_and_comments_show_its_defaults() {
    let of_readme = blocks("README.md", "toml");
    let [_, short] = of_readme.as_slice() else { panic!("{of_readme:?}") };
    assert_eq!(access_config(short).kafka.topic, "portal.changes");
    let of_page = blocks("docs/access.md", "toml");
    let [full] = of_page.as_slice() else { panic!("{of_page:?}") };
    let plain = access_config(full);
    // Examples, where there is no default.
    let examples = ["#progress_topic", "#properties", "#user", "#password", "#[http]", "#listen"];
    let is_default = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
    let is_example = |line: &str| examples.iter().any(|example| line.starts_with(example));
    let uncommented = |keep: &dyn Fn(&str) -> bool| -> String {
        let lines = full.lines().map(|line| match is_default(&line) && keep(line) {
            true => line.trim_start_matches('#'),
            false => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let defaults = access_config(&uncommented(&|line| !is_example(line)));
    assert_eq!(format!("{defaults:?}"), format!("{plain:?}"), "what a comment shows is the default");
    assert!(full.lines().filter(is_default).count() > 15, "{full}");
    let everything = access_config(&uncommented(&|_| true));
    assert_eq!(everything.http.map(|http| http.listen.port()), Some(9465));
}

/// The README's code is compiled as a documentation test of the consumer's crate; here only its length is looked at.
#[test]
fn use_of_the_consumer_takes_thirty_lines() {
    let blocks = blocks("README.md", "rust");
    let [block] = blocks.as_slice() else { panic!("{blocks:?}") };
    assert!(block.lines().count() <= 30, "{}", block.lines().count());
}

#[test]
fn commands_of_the_readme_exist() {
    let commands: Vec<String> = blocks("README.md", "sh")
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
    let named: Vec<String> =
        blocks("README.md", "sh").into_iter().filter(|block| block.starts_with("cargo xtask test")).collect();
    assert_eq!(named, ["cargo xtask test\n"]);
    let script = read(".ci/run");
    assert!(script.lines().any(|line| line == "cargo xtask test"), "{script}");
}
