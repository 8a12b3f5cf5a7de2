//! The partition vectors that `crates/wire` is held to are what Kafka's own Java client says today.

use std::process::Command;

use crate::{cache, folder, python};

#[test]
fn the_java_client_says_what_the_partition_vectors_say() {
    for (program, package) in [("mvn", "maven"), ("javac", "default-jdk-headless")] {
        let found = Command::new(program).arg("-version").output();
        assert!(found.is_ok(), "{program} cannot be run; on Debian: apt-get install {package}");
    }
    let target = cache();
    let mut check = Command::new(folder().join("java/vectors.sh"));
    check.arg("--check").env("CARGO_TARGET_DIR", target.parent().expect("the target folder"));
    let output = python::run(&mut check);
    let said = String::from_utf8_lossy(&output.stdout);
    // Maven, which fetches the client at first, resets the colours of the terminal.
    assert!(said.trim().ends_with("partition vectors are the Java client's"), "{said}");
}
