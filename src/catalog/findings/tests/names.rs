//! Names that mean nothing, and names that mean two things.

use super::*;

#[test]
fn names_that_are_the_same_in_avro() {
    let published = |w: &mut World, name: &str| {
        w.publication().tables.insert(TableName::new("public", name), Published::default());
        w.add(table(name));
    };
    check(
        |w| {
            published(w, "t-x");
            published(w, "t_x002D_x");
        },
        &[
            "stop table public.t_x002D_x: its records would have the names of public.t-x's: both become public.t_x002D_x in Avro; \
             ALTER TABLE \"public\".\"t_x002D_x\" RENAME TO",
        ],
    );
    let columns = |w: &mut World| {
        w.table().columns.push(column(5, "a-b", TEXT));
        w.table().columns.push(column(6, "a_x002D_b", TEXT));
    };
    check(columns, &["stop table public.policies: its columns a-b and a_x002D_b both become a_x002D_b in Avro;"]);
    check(
        |w| {
            columns(w);
            w.set("TABLES__EXCLUDE", "public.policies.a-b");
        },
        &[],
    );
}

#[test]
fn names_that_mean_nothing() {
    check(
        |w| w.set("TABLES__EXCLUDE", "public.policies.condition"),
        &["stop tables.exclude: table public.policies has no column condition (did you mean conditions?)"],
    );
    check(
        |w| w.set("TABLES__EXCLUDE", "public.polices.conditions"),
        &[
            "stop tables.exclude: public.polices.conditions is not a column of a captured table (did you mean public.policies?)",
        ],
    );
    check(
        |w| w.set("TABLES__IGNORE_UPDATES", "public.policies.seen"),
        &["warn tables.ignore_updates: table public.policies has no column seen;"],
    );
    check(|w| w.set("TABLES__ACCEPT_UNCHANGED", "public.x.y"), &["warn tables.accept_unchanged: public.x.y is not"]);
    check(
        |w| w.set("TABLES__DECIMAL", "public.policies.amount"),
        &["stop tables.decimal: table public.policies has no column amount; correct the name"],
    );
    check(
        |w| {
            w.set("TABLES__DECIMAL", "public.policies.amount");
            w.set("TABLES__ACCEPT_ABSENT", "public.policies.amount");
        },
        &[],
    );
}
