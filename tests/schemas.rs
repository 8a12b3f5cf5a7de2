//! The committed schemas are those of the access schema under the access configuration.

use std::path::Path;
use std::process::{Command, Output};

use penstock_testbed::cluster::{Database, shared};

const ACCESS: &str = include_str!("sql/access.sql");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn access_database() -> Database {
    let database = shared().expect("the shared stack").database("schemas").expect("create a database");
    database.psql(ACCESS).expect("create the access schema");
    database
}

/// `penstock schema` with the access configuration. Neither Kafka nor a registry is there, and none is needed.
fn penstock_schema(database: &Database, arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    command.arg("schema").arg("--config").arg(root().join("tests/access.toml")).args(arguments);
    command.arg("--dir").arg(folder);
    command.env("PENSTOCK_SOURCE__URL", database.url());
    command.env("PENSTOCK_KAFKA__BROKERS", "127.0.0.1:1").env("PENSTOCK_REGISTRY__URL", "http://127.0.0.1:1");
    command.output().expect("run penstock")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_committed_schemas_are_those_of_the_access_schema() {
    let checked = penstock_schema(&access_database(), &["--check"], &root().join("schemas"));
    let (out, err) = (text(&checked.stdout), text(&checked.stderr));
    assert!(checked.status.success(), "run `penstock schema` on the access schema and commit the files:\n{out}{err}");
    assert_eq!(out, format!("32 schemas, as in {}\n", root().join("schemas").display()));
}

#[test]
fn a_changed_table_is_told_line_by_line_until_the_files_are_written_anew() {
    let database = access_database();
    let folder = tempfile::tempdir().expect("a folder");
    let written = penstock_schema(&database, &[], folder.path());
    assert!(written.status.success(), "{}", text(&written.stderr));
    let file = folder.path().join("access.changes.public.policies.Envelope.avsc");
    let before = std::fs::read(&file).expect("the envelope of policies");
    assert_eq!(before, std::fs::read(root().join("schemas").join(file.file_name().unwrap())).unwrap());

    database.psql("ALTER TABLE policies ADD COLUMN \"größe\" jsonb[]").expect("add a column");
    std::fs::write(folder.path().join("old.avsc"), "{}").expect("write a stray file");
    let checked = penstock_schema(&database, &["--check"], folder.path());
    let out = text(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{out}");
    assert!(out.contains("policies.Envelope.avsc: differs"), "{out}");
    let added: Vec<&str> = out.lines().filter(|line| line.starts_with("+ ")).collect();
    assert!(added.iter().any(|line| line.contains(r#""pg.name": "größe""#)), "{out}");
    assert!(out.contains("old.avsc: belongs to no record"), "{out}");
    assert_eq!(std::fs::read(&file).unwrap(), before, "--check writes nothing");

    let written = penstock_schema(&database, &[], folder.path());
    assert!(text(&written.stderr).contains("old.avsc belongs to no record; remove it"), "{}", text(&written.stderr));
    std::fs::remove_file(folder.path().join("old.avsc")).expect("remove the stray file");
    assert!(penstock_schema(&database, &["--check"], folder.path()).status.success());
}

#[test]
fn no_schema_tells_of_a_secret_column() {
    let mut looked = 0;
    for entry in std::fs::read_dir(root().join("schemas")).expect("the committed schemas") {
        let path = entry.expect("an entry").path();
        let schema = std::fs::read_to_string(&path).expect("a schema");
        for secret in ["adapter_config", "adapter_state", "provider_state", "secret_salt", "secret_hash"] {
            assert!(!schema.contains(secret), "{} tells of {secret}", path.display());
        }
        looked += 1;
    }
    assert!(looked >= 32, "{looked} files");
}

#[test]
fn a_table_that_cannot_be_captured_has_no_schema_and_the_remedy_is_told() {
    let database = shared().expect("the shared stack").database("schemas").expect("create a database");
    database.psql("CREATE TABLE a (id int PRIMARY KEY, account_id int, note text)").expect("create a table");
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    let config = folder.path().join("penstock.toml");
    let toml = "[source]\nname = \"s\"\n[tables]\ncapture = [\"public.a\"]\n";
    std::fs::write(&config, toml).expect("write the configuration");
    command.args(["schema", "--config"]).arg(&config).arg("--dir").arg(folder.path().join("schemas"));
    command.env("PENSTOCK_SOURCE__URL", database.url());
    command.env("PENSTOCK_KAFKA__BROKERS", "127.0.0.1:1").env("PENSTOCK_REGISTRY__URL", "http://127.0.0.1:1");
    let refused = command.output().expect("run penstock");
    let err = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{err}");
    assert!(err.contains("public.a cannot be captured"), "{err}");
    assert!(err.contains("ALTER TABLE public.a REPLICA IDENTITY FULL"), "{err}");
    assert!(!folder.path().join("schemas").exists(), "nothing is written");
}
