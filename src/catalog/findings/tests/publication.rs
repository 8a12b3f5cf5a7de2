//! The publication, and what the configuration asks of it.

use super::*;

#[test]
fn publication() {
    check(
        |w| {
            w.publication = None;
            w.slot = None;
            w.set("TABLES__CAPTURE", "public.*");
        },
        &[
            "stop publication penstock: there is no such publication; run: penstock setup",
            "there is no such slot; run: penstock setup",
        ],
    );
    check(
        |w| {
            w.publication = None;
            w.slot = None;
        },
        &["nothing tells what to publish; set tables.capture", "there is no such slot"],
    );
    check(|w| w.publication = None, &["stop publication penstock: it is gone, but slot penstock_portal is there"]);
    check(
        |w| {
            w.publication().delete = false;
            w.publication().truncate = false;
        },
        &[
            "stop publication penstock: it does not send delete, truncate; ALTER PUBLICATION \"penstock\" SET (publish =",
        ],
    );
    check(|w| w.publication().insert = false, &["it does not send insert;"]);
    check(|w| w.publication().update = false, &["it does not send update;"]);
    check(|w| w.publication().generated_columns = true, &["it sends generated columns"]);
    check(
        |w| w.publication().tables.clear(),
        &["stop publication penstock: it holds no table", "warn table public.policies: it is not in the publication"],
    );
    check(
        |w| w.publication().tables.get_mut(&policies()).unwrap().columns = Some(vec!["id".into()]),
        &["stop table public.policies: it is published with a column list"],
    );
    check(
        |w| w.publication().tables.get_mut(&policies()).unwrap().row_filter = Some("(a > 1)".into()),
        &[
            "stop table public.policies: it is published with a row filter: (a > 1); BEGIN; ALTER PUBLICATION \"penstock\" DROP TABLE \"public\".\"policies\"",
        ],
    );
}

#[test]
fn capture_and_publication_must_agree() {
    check(|w| w.set("TABLES__CAPTURE", "public.policies"), &[]);
    check(
        |w| w.set("TABLES__CAPTURE", "public.policies,public.polices"),
        &["stop table public.polices: there is no such table (did you mean policies?)"],
    );
    check(
        |w| {
            w.set("TABLES__CAPTURE", "public.policies,public.flows");
            w.add(table("flows"));
        },
        &[
            "stop table public.flows: it is not in the publication: its changes are not captured; ALTER PUBLICATION \"penstock\" ADD TABLE \"public\".\"flows\";",
        ],
    );
    check(
        |w| {
            w.set("TABLES__CAPTURE", "public.*");
            w.add(table("flows"));
        },
        &["warn table public.flows: it is not in the publication"],
    );
    check(
        |w| {
            w.set("TABLES__CAPTURE", "public.*");
            w.set("TABLES__LEAVE_OUT", "public.flows");
            w.add(table("flows"));
        },
        &[],
    );
    check(
        |w| w.set("TABLES__LEAVE_OUT", "public.policies"),
        &["stop table public.policies: it is published, but the configuration does not ask for it"],
    );
    check(
        |w| {
            w.set("TABLES__CAPTURE", "public.policies,public.flows");
            w.add(Table { kind: Kind::Other, ..table("flows") });
        },
        &["stop table public.flows: it is not a table"],
    );
    check(
        |w| {
            w.set("TABLES__CAPTURE", "public.flows");
            w.add(table("flows"));
            w.publication().tables.insert(TableName::new("public", "flows"), Published::default());
        },
        &["stop table public.policies: it is published, but the configuration does not ask for it"],
    );
}
