//! A table as it is described from the catalog is the one the stream describes.

use penstock_core::backfill::interface::Undescribed;

use crate::work::work;

#[tokio::test]
async fn a_description_is_what_the_stream_says() {
    let mut work = work(
        "CREATE EXTENSION citext; CREATE DOMAIN short AS varchar(10);
         CREATE TABLE whole (id uuid PRIMARY KEY, name citext NOT NULL, note short, code char(2), n numeric(8,2),
                             doubled numeric GENERATED ALWAYS AS (n * 2) STORED, tags text[]);
         ALTER TABLE whole REPLICA IDENTITY FULL;
         CREATE TABLE pairs (b int, a uuid, gone int, PRIMARY KEY (a, b)); ALTER TABLE pairs DROP COLUMN gone;
         CREATE TABLE chosen (id int PRIMARY KEY, y int NOT NULL, x int NOT NULL, rest text);
         CREATE UNIQUE INDEX chosen_index ON chosen (x, y) INCLUDE (id);
         ALTER TABLE chosen REPLICA IDENTITY USING INDEX chosen_index;
         CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
         CREATE TABLE parts (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
         CREATE TABLE \"O d\"\"d\" (\"a b\" int PRIMARY KEY)",
    );
    work.make_slot();
    work.sql(
        "INSERT INTO whole (id, name) VALUES (gen_random_uuid(), 'x'); INSERT INTO pairs VALUES (1, gen_random_uuid());
         INSERT INTO chosen VALUES (1, 2, 3); INSERT INTO nothing VALUES (1); INSERT INTO parts VALUES (1, '2020-02-02');
         INSERT INTO \"O d\"\"d\" VALUES (1)",
    );
    let relations = work.relations();
    // The partition is described beside its table.
    assert_eq!(relations.len(), 7);
    for relation in relations {
        let described = work.describe(&relation.table).await.unwrap();
        assert_eq!(described.relation, relation);
        assert_eq!(described.facts.types.len(), relation.columns.len());
        let chunk = {
            let request = work.request(&relation.table).await;
            work.read(request).await
        };
        assert_eq!((chunk.relation, chunk.rows.len()), (relation, 1), "and so it is under the lock");
    }
    assert_eq!(work.describe("pairs").await.unwrap().facts.primary_key, ["a", "b"]);
    assert_eq!(work.describe("never").await.unwrap_err(), Undescribed::Gone);
    // A key that can be deferred identifies nothing, and no delete or update of the table is allowed.
    work.sql("CREATE TABLE late (id int PRIMARY KEY DEFERRABLE); INSERT INTO late VALUES (1)");
    let late = work.relations().pop().unwrap();
    assert_eq!(work.describe("late").await.unwrap().relation, late);
}
