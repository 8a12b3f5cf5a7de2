//! Every version: what is asked of the catalog, and a message written by a read-only transaction.

use penstock::backfill::Answer;
use penstock_core::backfill::interface::{Ask, ChunkRequest};
use penstock_testbed::postgres::Postgres;
use penstock_wire::reload::Scope;

use crate::server::Database;
use crate::work::{column, texts, work_in};

#[tokio::test]
async fn every_supported_version_is_read() {
    for major in [14, 16, 17, 18] {
        let postgres = Postgres::builder().major(major).start().unwrap();
        let database = Database { address: postgres.create_database("versions").unwrap(), server: postgres.into() };
        let schema = "CREATE TABLE a (account_id uuid NOT NULL, id int PRIMARY KEY, c text[]); ALTER TABLE a REPLICA IDENTITY FULL;
             CREATE TABLE parts (id int PRIMARY KEY, account_id int) PARTITION BY HASH (id);
             CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
             INSERT INTO parts SELECT n, n FROM generate_series(1, 120000) n; ANALYZE";
        let mut work = work_in(database, schema, &[]);
        work.make_slot();
        work.sql("INSERT INTO a VALUES (gen_random_uuid(), 1, '{x,NULL}')");
        let ranges = work.survey(Scope::default()).await.unwrap();
        let tables: Vec<&str> = ranges.iter().map(|range| range.table.as_str()).collect();
        assert_eq!(tables, ["a", "parts", "parts"], "{major}");
        assert_eq!(work.describe("a").await.unwrap().relation, work.relations()[0], "{major}");
        let request = work.request("a").await;
        assert_eq!(column(&texts(&work.read(request).await), 2), ["{x,NULL}"], "{major}");
        let request = ChunkRequest { bytes_max: 1000, ..work.request("parts").await };
        let chunk = work.read(request).await;
        assert!((50..1000).contains(&chunk.rows.len()) && !chunk.exhausted, "{major}");
        assert_eq!(work.marks().len(), 4, "{major}");
        let Answer::Barrier(barrier) = work.answer(Ask::Barrier).await else { panic!("{major}: another answer") };
        let Answer::Idle(idle) = work.answer(Ask::Idle(vec![barrier])).await else { panic!("{major}: another answer") };
        assert!(idle.is_empty(), "{major}: {idle:?}");
    }
}
