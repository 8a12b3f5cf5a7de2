//! Dead letters as the reader in Python tells them: from the topic and the registry alone.

use serde_json::{Value, json};

use crate::scene::{A, PATIENCE, Scene, world};
use crate::{folder, python};

const SCHEMA: &str = "
CREATE TABLE notes (id bigint PRIMARY KEY, account_id text, at timestamp, v text, secret text);
ALTER TABLE notes REPLICA IDENTITY FULL;
";
const CONFIGURATION: &str = "
[tables]
capture = [\"public.*\"]
exclude = [\"public.notes.secret\"]
[faults]
poison = \"dead_letter\"
";
const LATE: &str = "294276-12-31 23:59:59";

#[test]
fn dead_letters_and_their_control_records_are_told_in_python() {
    let Scene { mut bridge, world } = Scene::of(world(SCHEMA, CONFIGURATION));
    let sql = format!(
        "INSERT INTO notes VALUES (1, '{A}', '{LATE}', 'ünïcode 🌊', 'SECRET');
         BEGIN; INSERT INTO notes VALUES (2, '{A}', NULL, 'good', NULL); INSERT INTO notes VALUES (3, 'global', NULL, NULL, NULL); COMMIT;
         DELETE FROM notes WHERE id = 1"
    );
    world.database.psql(&sql).expect("rows");
    world.wait_confirmed(&mut bridge, PATIENCE);
    assert!(bridge.stop().success(), "a bridge that is told to stop exits 0");

    let topics = [world.topic.clone(), format!("{}.dead_letter", world.topic)];
    let mut command = python::command();
    command.arg(folder().join("reader.py")).args(["--bootstrap", &world.bootstrap, "--registry", &world.registry_url]);
    command.args(["--topic", &topics[0], "--topic", &topics[1], "--until-end"]);
    let output = python::run(&mut command);
    let lines = String::from_utf8(output.stdout).expect("the reader prints UTF-8");
    let lines = lines.lines().map(|line| serde_json::from_str(line).expect("a line is a JSON object"));
    let (changes, letters): (Vec<Value>, Vec<Value>) = lines.partition(|line: &Value| line["topic"] == topics[0]);

    let late = format!(
        "column \"at\" of type timestamp without time zone: {}",
        "the value lies outside the range of the Avro type"
    );
    let reserved = "the account column holds the text \"global\", which is reserved for rows without an account";
    let note = json!({ "id": "1", "account_id": A, "at": LATE, "v": "ünïcode 🌊" });
    let key = json!({ "__account": A, "id": 1 });
    let of_nobody = json!({ "id": "3", "account_id": "global", "at": null, "v": null });
    let told: Vec<Value> = letters
        .iter()
        .map(|line| {
            assert_eq!((&line["kind"], &line["repeated"]), (&json!("dead_letter"), &json!(false)), "{line}");
            assert_eq!(line["header"]["previous"]["seq"], 0, "it is in no chain: {line}");
            let value = &line["value"];
            json!([line["key"], value["table"], value["op"], value["reason"], value["columns"]])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!([key, "notes", "c", late, note]),
            json!([null, "notes", "c", reserved, of_nobody]),
            json!([key, "notes", "d", late, note]),
        ]
    );
    // Each stands where its control records stand.
    for (letter, account, copies) in
        [(&letters[0], json!(A), 1), (&letters[1], json!(null), 3), (&letters[2], json!(A), 1)]
    {
        let controls = changes.iter().filter(|line| line["control"] == "dead_letter");
        let here: Vec<&Value> =
            controls.filter(|line| line["header"]["position"] == letter["header"]["position"]).collect();
        assert_eq!(here.len(), copies, "{here:#?}");
        for control in here {
            assert_eq!((&control["value"]["account"], &control["value"]["table"]), (&account, &json!("notes")));
            assert_eq!(control["value"]["detail"], letter["value"]["reason"]);
            assert_eq!(control["timestamp_ms"], letter["timestamp_ms"]);
        }
    }
}
