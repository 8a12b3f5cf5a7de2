//! Bugs that the simulation has to find: patches to the real sources, in `planted/`.
//!
//! Above the diff stands one line: which guarantees may be named when it is found, and what the bug is. `cargo xtask sim
//! --planted` applies each to a copy, builds it, and runs seeds until one fails.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Fewer would prove little.
const PLANTED_MIN: usize = 20;

/// Each patch names what it breaks, and applies to the sources as they are.
pub fn check() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = root.parent().and_then(Path::parent).expect("the workspace's folder");
    let folder = root.join("crates/core/tests/sim/planted");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut patches: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    patches.sort();
    assert!(patches.len() >= PLANTED_MIN, "{} planted bugs, of at least {PLANTED_MIN}", patches.len());
    for patch in patches {
        let name = patch.display();
        let text = std::fs::read_to_string(&patch).unwrap_or_else(|error| panic!("{name}: {error}"));
        let guarantees = text.split_once(": ").map_or("", |(guarantees, _)| guarantees);
        let known = ["G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9"];
        assert!(guarantees.split(", ").all(|one| known.contains(&one)), "{name} names no guarantee: {guarantees:?}");
        let mut command = Command::new("patch");
        command.current_dir(root).args(["-p1", "--dry-run", "--fuzz=0", "--force", "-i"]).arg(&patch);
        let output = command.output().unwrap_or_else(|error| panic!("patch: {error}"));
        assert!(output.status.success(), "{name} does not apply:\n{}", String::from_utf8_lossy(&output.stdout));
    }
}
