//! Bugs that are planted into a copy of the sources: each has to be found, and by the name of the guarantee that it breaks.
//!
//! The copy stays, below the target folder, so that only what a patch touches is built again. Its crates have a version of
//! their own: cargo tells members of a workspace apart by that and not by where they are, and would take a planted library
//! for the real one in the next build.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use super::{binary, build, target};
use crate::say;

/// What a workspace is built of, besides its manifest.
const COPIED: [&str; 5] = ["Cargo.lock", "rustfmt.toml", "src", "crates", "xtask"];

/// A patch.
#[derive(Debug)]
struct Bug {
    name: String,
    path: PathBuf,
    /// Any of which may be named.
    guarantees: Vec<String>,
    what: String,
}

/// How it was found, if it was.
#[derive(Debug)]
struct Outcome {
    bug: Bug,
    found: Found,
    took: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// The seed, and the words.
    By(u64, String),
    /// Something failed, and names none of its guarantees.
    Otherwise(u64, String),
    No,
    /// It could not be planted, or what it was planted into does not build.
    Unplanted(String),
}

/// Plants one after the other.
pub fn run(only: Option<&str>, from: u64, seeds: u64, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut bugs = bugs(&binary::workspace())?;
    bugs.retain(|bug| only.is_none_or(|only| bug.name.contains(only)));
    ensure!(!bugs.is_empty(), "no planted bug is called so");
    let copy = target().join("planted");
    let count = bugs.len();
    let mut outcomes = Vec::new();
    for (index, bug) in bugs.into_iter().enumerate() {
        let began = Instant::now();
        say::line(format!("[{}/{count}] {}: {}", index + 1, bug.name, bug.what));
        let found = plant(&bug, &copy, from, seeds).unwrap_or_else(|error| Found::Unplanted(format!("{error:#}")));
        say::line(format!("        {} ({})", tell(&found), say::duration(began.elapsed())));
        outcomes.push(Outcome { bug, found, took: began.elapsed() });
    }
    let missed = outcomes.iter().filter(|outcome| !matches!(outcome.found, Found::By(..))).count();
    if as_json {
        println!("{}", to_json(&outcomes, seeds));
    } else {
        for Outcome { bug, found, .. } in &outcomes {
            println!("{:48} {}", bug.name, tell(found));
        }
        println!("{count} planted bugs, {missed} not found");
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn bugs(root: &Path) -> anyhow::Result<Vec<Bug>> {
    let folder = root.join("crates/core/tests/sim/planted");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    paths.into_iter().map(bug).collect()
}

fn bug(path: PathBuf) -> anyhow::Result<Bug> {
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let Some((guarantees, what)) = text.lines().next().and_then(|line| line.split_once(": ")) else {
        bail!("{} does not begin with the guarantees that it breaks", path.display());
    };
    let guarantees = guarantees.split(", ").map(str::to_owned).collect();
    Ok(Bug { name, guarantees, what: what.to_owned(), path })
}

fn plant(bug: &Bug, copy: &Path, from: u64, seeds: u64) -> anyhow::Result<Found> {
    refresh(copy)?;
    let mut patch = Command::new("patch");
    patch.current_dir(copy).args(["-p1", "--fuzz=0", "--no-backup-if-mismatch", "-i"]).arg(&bug.path);
    let patched = patch.output().context("starting patch")?;
    ensure!(
        patched.status.success(),
        "{} no longer applies:\n{}",
        bug.path.display(),
        String::from_utf8_lossy(&patched.stdout)
    );
    let simulation = build(copy, "--offline")?;
    let mut command = Command::new(simulation);
    command.args(["--json", "--until-failure", "--seeds", &seeds.to_string(), "--from", &from.to_string()]);
    let output = command.env_remove(super::SEED).output().context("starting the simulation")?;
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).context("the simulation's result")?;
    Ok(found(&result, &bug.guarantees))
}

/// The copy as the sources are. Files that are as they were keep their time, so that they are not built again.
fn refresh(copy: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(copy).with_context(|| format!("making {}", copy.display()))?;
    for name in COPIED {
        mirror(&binary::workspace().join(name), &copy.join(name))?;
    }
    let manifest = binary::workspace().join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
    let version = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
    ensure!(text.contains(version), "{} has no {version}", manifest.display());
    let text = text.replacen(version, "version = \"0.0.0-planted\"", 1);
    // What is built once for each bug is not worth optimising.
    let text = text.replace("opt-level = 2", "opt-level = 0");
    write(&copy.join("Cargo.toml"), text.as_bytes())
}

fn mirror(from: &Path, to: &Path) -> anyhow::Result<()> {
    if from.is_dir() {
        std::fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
        for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
            let entry = entry?;
            // What fuzzing leaves behind is none of it.
            if entry.file_name() != "target" {
                mirror(&entry.path(), &to.join(entry.file_name()))?;
            }
        }
        return Ok(());
    }
    let bytes = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    write(to, &bytes)
}

fn write(to: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if std::fs::read(to).ok().as_deref() != Some(bytes) {
        std::fs::write(to, bytes).with_context(|| format!("writing {}", to.display()))?;
    }
    Ok(())
}

fn found(result: &serde_json::Value, guarantees: &[String]) -> Found {
    let failed = result["failed"].as_array().map_or(&[][..], Vec::as_slice);
    let of = |failure: &serde_json::Value| {
        (failure["seed"].as_u64().unwrap_or_default(), failure["what"].as_str().unwrap_or_default().to_owned())
    };
    let names = |what: &str| what.split_once(": ").is_some_and(|(name, _)| guarantees.iter().any(|one| one == name));
    let named = failed.iter().map(of).find(|(_, what)| names(what));
    match (named, failed.first().map(of)) {
        (Some((seed, what)), _) => Found::By(seed, what),
        (None, Some((seed, what))) => Found::Otherwise(seed, what),
        (None, None) => Found::No,
    }
}

fn tell(found: &Found) -> String {
    let short = |what: &str| what.chars().take(140).collect::<String>();
    match found {
        Found::By(seed, what) => format!("found by seed {seed}: {}", short(what)),
        Found::Otherwise(seed, what) => format!("NOT NAMED, seed {seed}: {}", short(what)),
        Found::No => "NOT FOUND".to_owned(),
        Found::Unplanted(why) => format!("NOT PLANTED: {why}"),
    }
}

fn to_json(outcomes: &[Outcome], seeds: u64) -> serde_json::Value {
    let bugs: Vec<_> = outcomes
        .iter()
        .map(|Outcome { bug, found, took }| {
            let (seed, what) = match found {
                Found::By(seed, what) | Found::Otherwise(seed, what) => (Some(seed), Some(what)),
                Found::No => (None, None),
                Found::Unplanted(why) => (None, Some(why)),
            };
            let is_found = matches!(found, Found::By(..));
            json!({ "name": bug.name, "found": is_found, "seed": seed, "what": what, "seconds": took.as_secs() })
        })
        .collect();
    json!({ "seeds": seeds, "planted": bugs })
}

#[cfg(test)]
mod tests {
    use super::{Found, bugs, found};
    use crate::binary;

    #[test]
    fn a_bug_is_found_by_the_name_of_its_guarantee() {
        let guarantees = ["G1".to_owned(), "G2".to_owned()];
        let result = |what: &str| serde_json::json!({ "failed": [{ "seed": 7, "what": what }] });
        assert_eq!(found(&result("G2: a hole"), &guarantees), Found::By(7, "G2: a hole".to_owned()));
        assert_eq!(found(&result("G9: old"), &guarantees), Found::Otherwise(7, "G9: old".to_owned()));
        assert_eq!(found(&result("G1 is near"), &guarantees), Found::Otherwise(7, "G1 is near".to_owned()));
        assert_eq!(found(&serde_json::json!({ "failed": [] }), &guarantees), Found::No);
    }

    #[test]
    fn every_planted_bug_says_what_it_is() {
        let bugs = bugs(&binary::workspace()).unwrap();
        assert!(bugs.len() >= 20, "{}", bugs.len());
        assert!(bugs.iter().all(|bug| !bug.what.is_empty() && !bug.guarantees.is_empty()));
    }
}
