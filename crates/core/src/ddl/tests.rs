use super::message::Description;
use super::*;
use crate::relation::{Capture, TableRules};

fn name(table: &str) -> (String, String) {
    ("s".to_owned(), table.to_owned())
}

fn rules() -> Rules {
    let left_out = BTreeSet::from([name("left_out")]);
    let capture = Capture { schemas: BTreeSet::from(["s".to_owned()]), left_out, ..Capture::default() };
    let accepting = TableRules { accept_missing: true, ..TableRules::default() };
    Rules {
        publication: "p".into(),
        capture: Some(capture),
        tables: BTreeMap::from([(name("accepting"), accepting)]),
        ..Rules::default()
    }
}

fn pins(tables: &[(&str, u32, &[u32])]) -> Pins {
    let pin = |(table, oid, leaves): &(&str, u32, &[u32])| {
        let (schema, table) = name(table);
        let pin = KeyPin { schema: schema.clone(), table: table.clone(), ..KeyPin::default() };
        ((schema, table), KeyPin { table_oid: *oid, leaves: leaves.to_vec(), ..pin })
    };
    tables.iter().map(pin).collect()
}

/// A published table without columns.
fn told(tag: &str, table: &str, oid: u32, leaves: &[u32]) -> Told {
    let named = Named { schema: "s".into(), name: table.into(), oid };
    let description = Description {
        persistence: "p".into(),
        publications: vec!["other".into(), "p".into()],
        leaves: leaves.to_vec(),
        filled: Vec::new(),
        key: vec!["id".into()],
        columns: Vec::new(),
    };
    Told { tag: tag.into(), named, table: description }
}

fn altered(table: &str, oid: u32, leaves: &[u32]) -> Ddl {
    Ddl::Table(Box::new(told("ALTER TABLE", table, oid, leaves)))
}

fn with_columns(columns: &[(&str, i16)], filled: &[&str]) -> Ddl {
    let columns: Vec<String> = columns
        .iter()
        .map(|(name, number)| {
            format!(
                r#"{{"name":"{name}","number":{number},"type":23,"modifier":-1,"type_name":"integer","base":23,
                "base_name":null,"texts":false,"element_texts":null,"out_of_line":false}}"#
            )
        })
        .collect();
    let columns = serde_json::from_str(&format!("[{}]", columns.join(","))).unwrap();
    let mut told = told("ALTER TABLE", "a", 1, &[]);
    told.table.columns = columns;
    told.table.filled = filled.iter().map(|name| (*name).to_owned()).collect();
    Ddl::Table(Box::new(told))
}

fn drop_table(table: &str, oid: u32) -> Ddl {
    Ddl::Drop(Named { schema: "s".into(), name: table.into(), oid })
}

fn read(json: &str) -> Ddl {
    Ddl::parse(json.as_bytes()).unwrap()
}

/// Effects in a word each: `reload a (why)`, `truncate a`, `forget 1`; a fault as its text.
fn tell(judged: Result<Vec<Effect>, Fault>) -> Vec<String> {
    let one = |effect| match effect {
        Effect::Reload { table, why, .. } => format!("reload {table} ({why})"),
        Effect::Truncate { table, .. } => format!("truncate {table}"),
        Effect::Forget(oid) => format!("forget {oid}"),
        Effect::Rename { oid, table, .. } => format!("rename {oid} {table}"),
    };
    judged.map_or_else(|fault| vec![format!("fault: {fault}")], |effects| effects.into_iter().map(one).collect())
}

fn check(messages: impl IntoIterator<Item = Ddl>, pins: &mut Pins, expected: &[&str]) {
    let mut announced = Announced::default();
    let effects: Vec<String> =
        messages.into_iter().flat_map(|ddl| tell(announced.judge(ddl, &rules(), pins))).collect();
    assert_eq!(effects, expected);
}

#[test]
fn a_column_with_a_default_is_new_once() {
    let mut pins = pins(&[("a", 1, &[])]);
    let added = || with_columns(&[("id", 1), ("d", 3)], &["d"]);
    check([added(), added()], &mut pins, &["reload a (its rows have got a default in d)"]);
    let one_more = with_columns(&[("id", 1), ("d", 3), ("e", 4)], &["d", "e"]);
    check(
        [with_columns(&[("id", 1), ("d", 3)], &[]), one_more],
        &mut pins,
        &["reload a (its rows have got a default in e)"],
    );
}

#[test]
fn rewritten_rows_are_loaded_again_when_the_command_ends() {
    let rewrite = |oid, reason| read(&format!(r#"{{"v":1,"kind":"rewrite","oid":{oid},"reason":{reason}}}"#));
    let mut pins = pins(&[("a", 1, &[]), ("root", 5, &[6, 7])]);
    check([rewrite(1, 4), altered("a", 1, &[])], &mut pins, &["reload a (ALTER TABLE wrote its rows anew)"]);
    check([rewrite(1, 8), altered("a", 1, &[])], &mut pins, &[]);
    check([rewrite(2, 4), altered("a", 1, &[])], &mut pins, &[]);
    let root = [rewrite(6, 4), rewrite(7, 4), altered("root", 5, &[6, 7])];
    check(root, &mut pins, &["reload root (ALTER TABLE wrote its rows anew)"]);
}

#[test]
fn a_dropped_table_is_emptied_and_its_successor_begins_without_it() {
    let mut pins = pins(&[("a", 1, &[])]);
    check([drop_table("a", 9), drop_table("b", 1)], &mut pins, &["forget 9", "forget 1"]);
    let created = Ddl::Table(Box::new(told("CREATE TABLE", "a", 2, &[])));
    check([drop_table("a", 1), created], &mut pins, &["forget 1", "truncate a"]);
    assert_eq!(pins[&name("a")].table_oid, 2);
    check([drop_table("a", 2)], &mut pins, &["forget 2", "truncate a"]);
    assert_eq!(pins[&name("a")].table_oid, 0);
}

#[test]
fn tables_that_swap_their_names_are_both_loaded_again() {
    let mut pins = pins(&[("a", 1, &[]), ("b", 2, &[])]);
    let swap = [altered("old", 1, &[]), altered("a", 2, &[]), altered("b", 1, &[])];
    let expected = [
        "rename 1 old",
        "reload a (it is s.old now)",
        "reload old (it was s.a until now)",
        "rename 2 a",
        "reload b (it is s.a now)",
        "reload a (it was s.b until now)",
        "rename 1 b",
        "reload old (it is s.b now)",
        "reload b (it was s.old until now)",
    ];
    check(swap, &mut pins, &expected);
    assert_eq!((pins[&name("a")].table_oid, pins[&name("b")].table_oid), (2, 1));
}

#[test]
fn a_renamed_table_keeps_its_secrets_or_stops_the_bridge() {
    let excluding = |columns: &[&str]| TableRules {
        exclude: columns.iter().map(|column| (*column).to_owned()).collect(),
        ..TableRules::default()
    };
    let mut rules = rules();
    rules.tables.insert(name("a"), excluding(&["secret"]));
    let rename =
        |rules: &Rules| tell(Announced::default().judge(altered("b", 1, &[]), rules, &mut pins(&[("a", 1, &[])])));
    assert!(rename(&rules)[0].starts_with("fault: table s.b cannot be captured: it was s.a until now"));
    rules.tables.insert(name("b"), excluding(&["other"]));
    assert!(rename(&rules)[0].starts_with("fault"));
    rules.tables.insert(name("b"), excluding(&["other", "secret"]));
    assert_eq!(rename(&rules)[0], "rename 1 b");
}

#[test]
fn a_name_that_passes_to_another_published_table_is_loaded_again() {
    let mut pins = pins(&[("a", 1, &[])]);
    check([altered("a", 2, &[])], &mut pins, &["reload a (another table bears its name now)"]);
    assert_eq!(pins[&name("a")].table_oid, 2);
    let mut unpublished = told("ALTER TABLE", "a", 3, &[]);
    unpublished.table.publications.clear();
    check([Ddl::Table(Box::new(unpublished))], &mut pins, &[]);
    assert_eq!(pins[&name("a")].table_oid, 2);
}

#[test]
fn partitions_that_join_with_rows_or_leave_are_seen() {
    let mut pins = pins(&[("root", 5, &[6])]);
    let created = Ddl::Table(Box::new(told("CREATE TABLE", "root", 5, &[6, 7])));
    check([created, altered("root", 5, &[6, 7])], &mut pins, &[]);
    check([altered("root", 5, &[6, 7, 8])], &mut pins, &["reload root (a partition was attached)"]);
    check([altered("root", 5, &[6, 8])], &mut pins, &["reload root (a partition was detached)"]);
    check([drop_table("leaf", 8)], &mut pins, &["forget 8", "reload root (a partition was dropped)"]);
    check([altered("root", 5, &[6])], &mut pins, &[]);
    // Of a table that was never captured, what is attached is all there is to know.
    check([altered("new", 9, &[10])], &mut pins, &["reload new (a partition was attached)"]);
}

#[test]
fn a_partition_that_is_truncated_loads_its_root_again() {
    let truncate = |table, oid| Ddl::Truncate(Named { schema: "s".into(), name: String::from(table), oid });
    let messages = [truncate("root", 5), truncate("root", 9), truncate("other", 6)];
    check(messages, &mut pins(&[("root", 5, &[6])]), &["reload root (a partition was truncated)"]);
}

#[test]
fn tables_of_others_do_not_matter() {
    let mut pins = pins(&[]);
    let mut other = told("ALTER TABLE", "x", 1, &[2]);
    other.table.publications = vec!["other".into()];
    check([Ddl::Table(Box::new(other)), altered("left_out", 3, &[4])], &mut pins, &[]);
}

fn publication(sent: &str, more: &str) -> Ddl {
    read(&format!(
        r#"{{"v":1,"kind":"publication","name":"p","publication":{{{sent},"generated_columns":false,{more}}}}}"#
    ))
}

const ALL: &str = r#""insert":true,"update":true,"delete":true,"truncate":true"#;

#[test]
fn a_publication_that_sends_less_stops_and_one_that_holds_more_loads() {
    let mut known = pins(&[("a", 1, &[])]);
    assert!(!known.contains_key(&name("b")));
    let added =
        r#""restricted":[],"added":[{"schema":"s","name":"b","oid":2},{"schema":"s","name":"left_out","oid":3}]"#;
    check([publication(ALL, added)], &mut known, &["reload b (it came into the publication)"]);
    assert_eq!((known[&name("b")].table_oid, known.len()), (2, 2));
    let inserts = r#""insert":true,"update":false,"delete":false,"truncate":true"#;
    let nothing = r#""restricted":[],"added":[]"#;
    let stop = "fault: publication p was altered: it does not send update, delete";
    check([publication(inserts, nothing)], &mut known, &[stop]);
    let accepted = "reload accepting (the publication does not send update, delete, and that is accepted)";
    check([publication(inserts, nothing)], &mut pins(&[("accepting", 1, &[])]), &[accepted]);
    let restricted = r#""restricted":[{"schema":"s","name":"b"}],"added":[]"#;
    let judged = Announced::default().judge(publication(ALL, restricted), &rules(), &mut known);
    assert!(matches!(judged, Err(Fault::Table { source, .. }) if matches!(*source, TableFault::Restricted)));
    let accepted = restricted.replace("\"b\"", "\"accepting\"");
    check([publication(ALL, &accepted)], &mut known, &[]);
}

#[test]
fn a_table_that_leaves_the_publication_stops_at_the_commit_unless_it_comes_back() {
    let leave =
        |table| read(&format!(r#"{{"v":1,"kind":"unpublish","publication":"p","schema":"s","name":"{table}"}}"#));
    let back = || publication(ALL, r#""restricted":[],"added":[{"schema":"s","name":"a","oid":1}]"#);
    let commit = |messages: Vec<Ddl>| {
        let mut announced = Announced::default();
        for message in messages {
            announced.judge(message, &rules(), &mut pins(&[])).unwrap();
        }
        tell(announced.commit(&rules()))
    };
    let stop = commit(vec![leave("a")]);
    assert!(stop[0].contains("s.a cannot be captured: it was taken out of the publication"), "{stop:?}");
    assert_eq!(commit(vec![leave("a"), back()]), Vec::<String>::new());
    assert_eq!(commit(vec![leave("left_out")]), Vec::<String>::new());
    let accepted = ["reload accepting (it was taken out of the publication, and that is accepted)"];
    assert_eq!(commit(vec![leave("accepting")]), accepted);
}

#[test]
fn an_unlogged_table_stops_and_what_nobody_can_tell_loads_everything() {
    let mut unlogged = told("ALTER TABLE", "a", 1, &[]);
    unlogged.table.persistence = "u".into();
    unlogged.table.publications.clear();
    let mut pins = pins(&[("a", 1, &[]), ("b", 2, &[])]);
    let judged = Announced::default().judge(Ddl::Table(Box::new(unlogged)), &rules(), &mut pins);
    assert!(matches!(judged, Err(Fault::Table { source, .. }) if matches!(*source, TableFault::Unlogged)));
    let why = "a trigger could not tell what X did";
    let unknown = read(r#"{"v":1,"kind":"unknown","tag":"X","detail":"…"}"#);
    check([unknown], &mut pins, &[&format!("reload a ({why})"), &format!("reload b ({why})")]);
}
