//! Tables: what can be captured, what accounts and keys are made of, what the role may read.

use super::*;

#[test]
fn tables_that_cannot_be_captured() {
    check(|w| w.table().kind = Kind::Foreign, &["stop table public.policies: it lives on another server"]);
    check(|w| w.table().kind = Kind::Other, &["stop table public.policies: it is not a table"]);
    check(
        |w| w.table().persistence = Persistence::Unlogged,
        &["is unlogged: its changes never reach the WAL; ALTER TABLE \"public\".\"policies\" SET LOGGED;"],
    );
    check(|w| w.table().persistence = Persistence::Temporary, &["is temporary"]);
    check(|w| w.table().primary_key.clear(), &["stop table public.policies: it has no primary key"]);
    for name in ["__account", "__source"] {
        check(
            |w| {
                w.table().primary_key = vec![name.into()];
                w.table().columns.push(column(9, name, UUID));
            },
            &["bears a name that record keys have themselves"],
        );
    }
}

#[test]
fn account_and_key_columns() {
    check(
        |w| w.table().columns[1].name = "acount_id".into(),
        &[
            "stop table public.policies: it has no account column account_id (did you mean acount_id?); name the column that tells the account ([tables.\"public.policies\"] account_column",
        ],
    );
    for names in ["tenant_id, account_id", "account_id, tenant_id"] {
        check(|w| w.set("TABLES__ACCOUNT_COLUMN", names), &[]);
    }
    check(
        |w| w.set("TABLES__ACCOUNT_COLUMN", "tenant_id, account"),
        &["stop table public.policies: it has no account column tenant_id or account (did you mean account_id?)"],
    );
    for (oid, fits) in [
        (UUID, true),
        (TEXT, true),
        (1043, true),
        (21, true),
        (23, true),
        (20, true),
        (1700, false),
        (16_400, false),
        (1042, false),
    ] {
        let expected: &[&str] =
            if fits { &[] } else { &["stop table public.policies: its account column account_id is of type"] };
        check(|w| w.table().columns[1].base_oid = oid, expected);
    }
    check(|w| w.set("TABLES__EXCLUDE", "public.policies.account_id"), &["its account column account_id is excluded"]);
    check(|w| w.set("TABLES__EXCLUDE", "public.policies.id"), &["its key column id is excluded"]);
    check(
        |w| w.set("TABLES__IGNORE_UPDATES", "public.policies.account_id"),
        &["updates of its account column account_id are ignored"],
    );
    check(|w| w.table().columns[0].generated = true, &["stop table public.policies: its key column id is generated"]);
    check(
        |w| w.table().columns[2].generated = true,
        &["warn table public.policies: its column description is generated"],
    );
    check(
        |w| {
            w.table().columns[2].generated = true;
            w.set("TABLES__EXCLUDE", "public.policies.description");
        },
        &[],
    );
    check(|w| w.set("TABLES__ACCOUNT_COLUMN", "id"), &[]);
}

#[test]
fn tables_that_the_role_may_not_read() {
    check(
        |w| w.table().columns.iter_mut().for_each(|column| column.readable = false),
        &[
            "warn table public.policies: role bridge may not read it, so nobody can tell whether it held rows before the first start; \
             GRANT SELECT ON \"public\".\"policies\" TO \"bridge\";",
        ],
    );
    check(
        |w| w.table().schema_usable = false,
        &["GRANT USAGE ON SCHEMA \"public\" TO \"bridge\"; GRANT SELECT ON \"public\".\"policies\" TO \"bridge\";"],
    );
    // A secret stays one.
    check(
        |w| {
            w.table().columns[0].readable = false;
            w.table().columns[3].readable = false;
            w.set("TABLES__EXCLUDE", "public.policies.conditions");
        },
        &["GRANT SELECT (\"id\", \"account_id\", \"description\") ON \"public\".\"policies\" TO \"bridge\";"],
    );
    check(
        |w| {
            w.table().columns[3].readable = false;
            w.set("TABLES__EXCLUDE", "public.policies.conditions");
        },
        &[],
    );
}

#[test]
fn columns_that_cannot_travel_as_decimals() {
    let numeric = |w: &mut World, number: usize, base_name: &str| {
        let name = w.table().columns[number].name.clone();
        w.table().columns[number] =
            Column { base_name: base_name.to_owned(), ..column(i16::try_from(number + 1).unwrap(), &name, NUMERIC) };
    };
    check(
        |w| {
            numeric(w, 2, "numeric(12,2)");
            w.set("TABLES__DECIMAL", "public.policies.description");
        },
        &[],
    );
    check(
        |w| {
            numeric(w, 2, "numeric");
            w.set("TABLES__DECIMAL", "public.policies.description");
        },
        &[
            "stop table public.policies: its column description cannot travel as a decimal: its type declares no precision and scale, \
             which every value of an Avro decimal shares; ALTER TABLE \"public\".\"policies\" ALTER COLUMN \"description\" \
             TYPE numeric(…, …); Or remove \"public.policies.description\" from tables.decimal",
        ],
    );
    check(
        |w| {
            numeric(w, 2, "numeric");
            w.table().columns[2].type_oid = 70_000;
            w.set("TABLES__DECIMAL", "public.policies.description");
        },
        // A domain cannot be given another type.
        &["which every value of an Avro decimal shares; remove \"public.policies.description\" from tables.decimal"],
    );
    check(
        |w| w.set("TABLES__DECIMAL", "public.policies.conditions"),
        &["its column conditions cannot travel as a decimal: only numeric, and domains over it"],
    );
    check(
        |w| {
            numeric(w, 0, "numeric(20,0)");
            w.set("TABLES__DECIMAL", "public.policies.id");
        },
        &["its column id cannot travel as a decimal: it is a key column"],
    );
    check(
        |w| {
            w.set("TABLES__DECIMAL", "public.policies.conditions");
            w.set("TABLES__EXCLUDE", "public.policies.conditions");
        },
        &[],
    );
}
