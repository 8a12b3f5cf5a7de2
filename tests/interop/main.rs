//! The wire contract as other languages read it: the reader in Python decodes everything that a real bridge wrote, and
//! the Java client chooses the partitions that Penstock chooses.

mod dead_letters;
mod java;
mod kinds;
mod lines;
mod python;
mod types;

#[allow(dead_code, reason = "shared with the tests of the bridge, which use all of it")]
#[path = "../bridge/reader.rs"]
mod reader;
#[allow(dead_code, reason = "shared with the tests of the bridge, which use all of it")]
#[path = "../bridge/scene.rs"]
mod scene;
#[allow(dead_code, reason = "shared with the tests of the bridge, which use all of it")]
#[path = "../bridge/world.rs"]
mod world;

use std::path::{Path, PathBuf};

/// This folder.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}

/// Where what is made for these tests is kept between runs.
fn cache() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().expect("it is within the target folder").join("interop")
}
