-- Makes pgoutput.hex: what a real Postgres sends for every message of protocol version 1, in hexadecimal.
--   createdb seeds && psql -d seeds -XAtq -v ON_ERROR_STOP=1 -f pgoutput.sql > pgoutput.hex
-- Needs wal_level = logical and a superuser; leaves nothing but the database and its tables.
CREATE TYPE mood AS ENUM ('fine', 'bad');
CREATE TABLE plain (id int PRIMARY KEY, account_id uuid NOT NULL, v text);
CREATE TABLE wide (
    id bigint NOT NULL, account_id uuid, b bool, s int2, r real, d float8, n numeric(12, 2), z timestamptz, t timestamp,
    day date, o time, y bytea, c char(4), j jsonb, i inet, m macaddr, e mood, p point, a int[], q jsonb[], large text,
    PRIMARY KEY (account_id, id)
);
ALTER TABLE wide REPLICA IDENTITY FULL, ALTER large SET STORAGE EXTERNAL;
CREATE TABLE "Odd ""name"", ünïcode" (id int PRIMARY KEY, account_id int);
CREATE TABLE chosen (id int NOT NULL, account_id int, v text);
CREATE UNIQUE INDEX chosen_id ON chosen (id);
ALTER TABLE chosen REPLICA IDENTITY USING INDEX chosen_id;
CREATE TABLE keyless (v text);
ALTER TABLE keyless REPLICA IDENTITY NOTHING;
CREATE PUBLICATION seeds FOR ALL TABLES WITH (publish_via_partition_root = true);
SELECT FROM pg_create_logical_replication_slot('seeds', 'pgoutput') \g /dev/null
SELECT FROM pg_replication_origin_create('elsewhere') \g /dev/null

INSERT INTO plain VALUES (1, '00000000-0000-4000-8000-00000000000a', 'a'), (2, '00000000-0000-4000-8000-00000000000b', NULL);
UPDATE plain SET v = 'b' WHERE id = 1;
UPDATE plain SET id = 3 WHERE id = 1;
DELETE FROM plain WHERE id = 2;
INSERT INTO wide SELECT 1, '00000000-0000-4000-8000-00000000000a', true, -1, 0.1, 'NaN', 1234.50, '2024-05-17 09:31:44.123456+00',
    'infinity', '0044-03-15 BC', '24:00', '\x00ff', 'ab', '{"a": [1, null]}', '10.0.0.1/8', '08:00:2b:01:02:ff', 'fine', '(1,2)',
    '{{1,2},{3,NULL}}', ARRAY['{"b": "\\"}', NULL]::jsonb[], string_agg(md5(g::text), '') FROM generate_series(1, 64) g;
UPDATE wide SET s = 2, e = 'bad';
DELETE FROM wide;
INSERT INTO wide (id, account_id) VALUES (2, '00000000-0000-4000-8000-00000000000b');
INSERT INTO "Odd ""name"", ünïcode" VALUES (1, 1);
INSERT INTO chosen VALUES (1, 1, 'a');
UPDATE chosen SET id = 2;
DELETE FROM chosen;
INSERT INTO keyless VALUES (NULL), ('');
ALTER TABLE plain ADD COLUMN more int[] DEFAULT '{7}';
INSERT INTO plain VALUES (4, '00000000-0000-4000-8000-00000000000a', 'a');
TRUNCATE plain, chosen RESTART IDENTITY CASCADE;
TRUNCATE wide;
SELECT FROM pg_logical_emit_message(true, 'penstock.ddl', 'public.plain') \g /dev/null
SELECT FROM pg_logical_emit_message(false, '', E'\\x00ff'::bytea) \g /dev/null
SELECT FROM pg_replication_origin_session_setup('elsewhere') \g /dev/null
INSERT INTO keyless VALUES ('from elsewhere');
SELECT FROM pg_replication_origin_session_reset() \g /dev/null

-- Each message once, in both formats; the same message twice but for LSN, time and transaction id says nothing new.
SELECT DISTINCT ON (1, shape) 'text', encode(data, 'hex')
FROM pg_logical_slot_peek_binary_changes('seeds', NULL, NULL, 'proto_version', '1', 'publication_names', 'seeds', 'messages', 'true') WITH ORDINALITY m (lsn, xid, data, n),
LATERAL (SELECT CASE WHEN get_byte(data, 0) IN (66, 67) THEN substr(data, 1, 1) ELSE data END) s (shape)
ORDER BY 1, shape, n;
SELECT DISTINCT ON (1, shape) 'binary', encode(data, 'hex')
FROM pg_logical_slot_peek_binary_changes('seeds', NULL, NULL, 'proto_version', '1', 'publication_names', 'seeds', 'messages', 'true', 'binary', 'true') WITH ORDINALITY m (lsn, xid, data, n),
LATERAL (SELECT CASE WHEN get_byte(data, 0) IN (66, 67) THEN substr(data, 1, 1) ELSE data END) s (shape)
WHERE get_byte(data, 0) IN (68, 73, 85)
ORDER BY 1, shape, n;
SELECT FROM pg_drop_replication_slot('seeds') \g /dev/null
SELECT FROM pg_replication_origin_drop('elsewhere') \g /dev/null
