//! Types, resolved to how their values travel.

use penstock::catalog::ResolvedType;
use penstock_wire::types::ValueKind;

use crate::server::database;
use crate::tables::{all_tables, public};

#[tokio::test]
async fn types_are_resolved_to_how_their_values_travel() {
    let database = database();
    database.sql(
        "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('fine'); CREATE TYPE pair AS (a int, b int);
         CREATE DOMAIN short AS varchar(10); CREATE DOMAIN shorter AS short; CREATE DOMAIN moods AS mood[];
         ALTER ROLE CURRENT_USER IN DATABASE CURRENT_CATALOG_NAME SET search_path = public"
            .replace("CURRENT_CATALOG_NAME", &database.address.database)
            .as_str(),
    );
    let expected = [
        ("uuid", ValueKind::Uuid, "uuid", None),
        ("varchar(255)", ValueKind::Text, "character varying(255)", None),
        ("numeric(8,2)", ValueKind::Numeric, "numeric(8,2)", None),
        ("timestamp(3)", ValueKind::Timestamp, "timestamp(3) without time zone", None),
        ("jsonb[]", ValueKind::Jsonb.array(), "jsonb[]", None),
        ("public.citext", ValueKind::Text, "public.citext", None),
        ("public.citext[]", ValueKind::Text.array(), "public.citext[]", None),
        ("public.mood", ValueKind::Text, "public.mood", None),
        ("public.mood[]", ValueKind::Text.array(), "public.mood[]", None),
        ("public.short", ValueKind::Text, "public.short", Some("character varying(10)")),
        ("public.shorter", ValueKind::Text, "public.shorter", Some("character varying(10)")),
        ("public.short[]", ValueKind::String, "public.short[]", None),
        ("public.moods", ValueKind::Text.array(), "public.moods", Some("public.mood[]")),
        ("public.pair", ValueKind::String, "public.pair", None),
        ("interval", ValueKind::String, "interval", None),
        ("interval[]", ValueKind::String, "interval[]", None),
        ("int2vector", ValueKind::String, "int2vector", None),
    ];
    let columns: Vec<String> =
        expected.iter().enumerate().map(|(number, (name, ..))| format!("c{number} {name}")).collect();
    database.sql(&format!("CREATE TABLE typed ({})", columns.join(", ")));
    let tables = all_tables(&database, &["public.typed"]).await;
    let wanted: Vec<(u32, i32)> =
        tables[&public("typed")].columns.iter().map(|column| (column.type_oid, column.modifier)).collect();
    let resolved = database.catalog().types(&wanted).await.unwrap();
    assert_eq!(resolved.len(), expected.len());
    for (found, (name, kind, pg_type, pg_base)) in resolved.into_iter().zip(expected) {
        let ResolvedType { info, .. } = found.unwrap_or_else(|| panic!("{name} is not found"));
        assert_eq!((info.kind, info.pg_type.as_str(), info.pg_base.as_deref()), (kind, pg_type, pg_base), "{name}");
    }
}

#[tokio::test]
async fn types_keep_their_place_and_unknown_ones_are_none() {
    let database = database();
    let resolved = database.catalog().types(&[(4_000_000, -1), (2950, -1), (25, -1), (2950, -1)]).await.unwrap();
    let found: Vec<Option<(&str, bool)>> = resolved
        .iter()
        .map(|found| found.as_ref().map(|found| (found.info.pg_type.as_str(), found.out_of_line)))
        .collect();
    assert_eq!(found, [None, Some(("uuid", false)), Some(("text", true)), Some(("uuid", false))]);
    assert!(database.catalog().types(&[]).await.unwrap().is_empty());
}
