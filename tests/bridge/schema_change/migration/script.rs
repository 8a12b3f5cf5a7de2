//! The tables, and the migration step by step.

/// Before the migration. `load` calls `work`, and each of its calls is a transaction with a row in `ledger`.
pub(super) const SCHEMA: &str = "
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''UTC''', current_database()); END $$;
CREATE TYPE mood AS ENUM ('calm', 'wild');
CREATE TABLE items (
    id int PRIMARY KEY, gone text, account_id uuid NOT NULL, txn bigint NOT NULL, n int NOT NULL, note text,
    code varchar(20), mood mood, at timestamp, amount numeric(12,2)
);
CREATE TABLE notes (
    id int, account_id uuid NOT NULL, txn bigint NOT NULL, n int NOT NULL, note text, at timestamp, PRIMARY KEY (id)
) PARTITION BY HASH (id);
CREATE TABLE notes_0 PARTITION OF notes FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE notes_1 PARTITION OF notes FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE ledger (account_id uuid NOT NULL, txn bigint NOT NULL, events int NOT NULL, PRIMARY KEY (account_id, txn));
CREATE SEQUENCE ids;
ALTER TABLE items REPLICA IDENTITY FULL;
ALTER TABLE notes REPLICA IDENTITY FULL;
ALTER TABLE notes_0 REPLICA IDENTITY FULL;
ALTER TABLE notes_1 REPLICA IDENTITY FULL;
-- What each step of the migration replaces with what uses the new shape.
CREATE FUNCTION write_items(account uuid, t bigint) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO items (id, gone, account_id, txn, n, note, code, mood, at, amount)
    VALUES (nextval('ids'), 'gone', account, t, 0, 'first', 'c' || t, 'calm', '2025-01-01', t * 1.01);
    RETURN 1;
END $$;
CREATE FUNCTION write_notes(account uuid, t bigint) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO notes (id, account_id, txn, n, note, at)
    SELECT nextval('ids'), account, t, n, repeat('x', n), '2025-01-01' FROM generate_series(1, 3) n;
    RETURN 3;
END $$;
CREATE FUNCTION write_more(account uuid, t bigint) RETURNS int LANGUAGE sql AS 'SELECT 0';
CREATE PROCEDURE work(account uuid, t bigint) LANGUAGE plpgsql AS $$
DECLARE made int; touched int;
BEGIN
    made := write_items(account, t);
    UPDATE items SET txn = t, n = n + 1, code = code
     WHERE id IN (SELECT id FROM items WHERE account_id = account AND txn < t ORDER BY id DESC LIMIT 2);
    GET DIAGNOSTICS touched = ROW_COUNT;
    made := made + touched;
    DELETE FROM items WHERE id = (SELECT min(id) FROM items WHERE account_id = account AND txn < t - 12);
    GET DIAGNOSTICS touched = ROW_COUNT;
    made := made + touched + write_notes(account, t);
    DELETE FROM notes WHERE id IN (SELECT id FROM notes WHERE account_id = account AND txn < t - 8 ORDER BY id LIMIT 2);
    GET DIAGNOSTICS touched = ROW_COUNT;
    made := made + touched + write_more(account, t);
    INSERT INTO ledger VALUES (account, t, made);
END $$;
";

/// Each a transaction, or statements of their own where Postgres demands it. One line adds a step.
pub(super) const STEPS: &[&str] = &[
    // A new column, written from the same transaction on.
    "BEGIN; ALTER TABLE items ADD COLUMN label text;
     CREATE OR REPLACE FUNCTION write_items(account uuid, t bigint) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
     INSERT INTO items (id, gone, account_id, txn, n, note, code, mood, at, amount, label)
     VALUES (nextval('ids'), NULL, account, t, 0, 'first', 'c' || t, 'wild', '2025-01-02', t * 1.02, 'label' || t); RETURN 1; END $$;
     COMMIT;",
    "ALTER TABLE items ALTER COLUMN n TYPE bigint",
    // Of a partitioned table, too.
    "ALTER TABLE notes ALTER COLUMN n TYPE bigint, ADD COLUMN seen boolean",
    // A key column.
    "ALTER TABLE items ALTER COLUMN id TYPE bigint",
    "ALTER TABLE items ALTER COLUMN code TYPE varchar(40)",
    "ALTER TABLE items ALTER COLUMN code TYPE text",
    // A value of an enum, used right after.
    "ALTER TYPE mood ADD VALUE 'merry';
     CREATE OR REPLACE FUNCTION write_items(account uuid, t bigint) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
     INSERT INTO items (id, account_id, txn, n, note, code, mood, at, amount, label)
     VALUES (nextval('ids'), account, t, 0, 'merry', 'c' || t, 'merry', '2025-01-03', t * 1.03, 'label' || t); RETURN 1; END $$;",
    // Times get their zone in all tables at once; the database's zone is UTC, so no value changes.
    "BEGIN; ALTER TABLE items ALTER COLUMN at TYPE timestamptz; ALTER TABLE notes ALTER COLUMN at TYPE timestamptz; COMMIT;",
    // A rename, with rows from both sides in one transaction.
    "BEGIN;
     INSERT INTO notes (id, account_id, txn, n, note) VALUES (nextval('ids'), '00000000-0000-4000-8000-0000000000ff', 1, 1, 'before');
     ALTER TABLE notes RENAME COLUMN note TO remark;
     INSERT INTO notes (id, account_id, txn, n, remark) VALUES (nextval('ids'), '00000000-0000-4000-8000-0000000000ff', 1, 2, 'after');
     CREATE OR REPLACE FUNCTION write_notes(account uuid, t bigint) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
     INSERT INTO notes (id, account_id, txn, n, remark, at, seen)
     SELECT nextval('ids'), account, t, n, 'remark' || n, '2025-01-04', n = 1 FROM generate_series(1, 3) n; RETURN 3; END $$;
     INSERT INTO ledger VALUES ('00000000-0000-4000-8000-0000000000ff', 1, 2);
     COMMIT;",
    "ALTER TABLE items DROP COLUMN gone",
    // What the stream does not tell of rows that are there: a default, and values that a rewrite changes. They are loaded again.
    "ALTER TABLE items ADD COLUMN tier int DEFAULT 7",
    "ALTER TABLE notes ALTER COLUMN n TYPE bigint USING n + 1000",
    // A chosen decimal gets more digits under the same scale.
    "ALTER TABLE items ALTER COLUMN amount TYPE numeric(16,2)",
    // A new table joins the publication.
    "BEGIN;
     CREATE TABLE extras (id bigint PRIMARY KEY, account_id uuid NOT NULL, txn bigint NOT NULL, n int NOT NULL, words text[]);
     ALTER TABLE extras REPLICA IDENTITY FULL;
     ALTER PUBLICATION penstock ADD TABLE extras;
     CREATE OR REPLACE FUNCTION write_more(account uuid, t bigint) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
     INSERT INTO extras VALUES (nextval('ids'), account, t, 0, '{a,b}'); RETURN 1; END $$;
     COMMIT;",
    // Several changes of two tables in one transaction, with rows between them.
    "BEGIN;
     INSERT INTO items (id, account_id, txn, n) VALUES (nextval('ids'), '00000000-0000-4000-8000-0000000000ff', 2, 1);
     ALTER TABLE items ADD COLUMN more int;
     INSERT INTO items (id, account_id, txn, n, more) VALUES (nextval('ids'), '00000000-0000-4000-8000-0000000000ff', 2, 2, 2);
     ALTER TABLE items DROP COLUMN more, ALTER COLUMN label TYPE varchar(100);
     ALTER TABLE extras ADD COLUMN more int, ALTER COLUMN n TYPE bigint;
     INSERT INTO extras VALUES (nextval('ids'), '00000000-0000-4000-8000-0000000000ff', 2, 3, NULL, 3);
     UPDATE items SET n = 5000 WHERE account_id = '00000000-0000-4000-8000-0000000000ff' AND n = 1;
     INSERT INTO ledger VALUES ('00000000-0000-4000-8000-0000000000ff', 2, 4);
     COMMIT;",
];

/// Old and new names: table, from, to.
pub(super) const RENAMED: &[(&str, &str, &str)] = &[("notes", "note", "remark")];

/// Tables with their columns at the end, each with the SQL that prints it as the readers do.
pub(super) const COMPARED: &[(&str, &[(&str, &str)])] = &[
    (
        "items",
        &[
            ("account_id", "account_id"),
            ("txn", "txn"),
            ("n", "n"),
            ("note", "note"),
            ("code", "code"),
            ("mood", "mood"),
            ("at", "(extract(epoch FROM at) * 1000000)::bigint"),
            ("amount", "amount"),
            ("label", "label"),
            ("tier", "tier"),
        ],
    ),
    (
        "notes",
        &[
            ("account_id", "account_id"),
            ("txn", "txn"),
            ("n", "n"),
            ("remark", "remark"),
            ("at", "(extract(epoch FROM at) * 1000000)::bigint"),
            ("seen", "seen"),
        ],
    ),
    ("extras", &[("account_id", "account_id"), ("txn", "txn"), ("n", "n"), ("more", "more")]),
];
