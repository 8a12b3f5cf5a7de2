-- Penstock's event triggers: they tell the replication stream what changes of tables and publications it leaves out.
--
-- Each object that a command touches becomes one transactional logical message with the prefix penstock.ddl, version 1.
-- The functions run with the rights of whoever gives the command, look names up in pg_catalog only, write nothing but
-- the message, and never make the command fail: what goes wrong becomes a message of kind "unknown", or a warning. A message
-- is sent as the bytes that it was written with, so it is written as UTF-8, whatever encoding the database has.

CREATE SCHEMA IF NOT EXISTS penstock;

CREATE OR REPLACE FUNCTION penstock.tell_ddl() RETURNS event_trigger LANGUAGE plpgsql
SET search_path = pg_catalog AS $penstock$
DECLARE
    tables oid[];
    publications oid[];
    added oid[];
    message jsonb;
BEGIN
    IF current_setting('wal_level') <> 'logical' THEN
        RETURN;
    END IF;
    BEGIN
        IF tg_event = 'ddl_command_end' THEN
            WITH RECURSIVE command AS (
                SELECT classid, objid FROM pg_event_trigger_ddl_commands() WHERE schema_name IS DISTINCT FROM 'pg_temp'
            ), named (oid) AS (
                SELECT objid FROM command WHERE classid = 'pg_class'::regclass
                UNION
                SELECT c.oid FROM command m JOIN pg_class c ON c.relnamespace = m.objid
                 WHERE m.classid = 'pg_namespace'::regclass AND tg_tag = 'ALTER SCHEMA'
            ), touched (oid) AS (
                -- A partition is told as part of its root; heirs of the old kind are tables of their own.
                SELECT coalesce(pg_partition_root(oid), oid) FROM named
                UNION
                SELECT i.inhrelid FROM touched t JOIN pg_inherits i ON i.inhparent = t.oid
            )
            SELECT ARRAY(SELECT oid FROM touched),
                   ARRAY(SELECT objid FROM command WHERE classid = 'pg_publication'::regclass
                         UNION
                         SELECT r.prpubid FROM command m JOIN pg_publication_rel r ON r.oid = m.objid
                          WHERE m.classid = 'pg_publication_rel'::regclass
                         UNION
                         -- Whole schemas, Postgres 15 and newer: which one's is not looked up.
                         SELECT p.oid FROM command m CROSS JOIN pg_publication p
                          WHERE m.classid = to_regclass('pg_publication_namespace')),
                   ARRAY(SELECT r.oid FROM command m JOIN pg_publication_rel r ON r.oid = m.objid
                          WHERE m.classid = 'pg_publication_rel'::regclass)
              INTO tables, publications, added;
        ELSIF tg_event = 'sql_drop' THEN
            FOR message IN
                SELECT jsonb_build_object('v', 1, 'tag', tg_tag, 'kind', 'drop', 'schema', schema_name, 'name', object_name,
                                          'oid', objid::int8)
                  FROM pg_event_trigger_dropped_objects()
                 WHERE classid = 'pg_class'::regclass AND objsubid = 0 AND object_type = 'table' AND NOT is_temporary
                UNION ALL
                SELECT jsonb_build_object('v', 1, 'tag', tg_tag, 'kind', 'unpublish', 'schema', address_names[1],
                                          'name', address_names[2], 'publication', address_args[1])
                  FROM pg_event_trigger_dropped_objects()
                 WHERE classid = 'pg_publication_rel'::regclass AND original
            LOOP
                PERFORM pg_logical_emit_message(true, 'penstock.ddl', convert_to(message::text, 'UTF8'));
            END LOOP;
        ELSE
            PERFORM pg_logical_emit_message(true, 'penstock.ddl', convert_to(jsonb_build_object(
                'v', 1, 'tag', tg_tag, 'kind', 'rewrite', 'schema', n.nspname, 'name', c.relname, 'oid', c.oid::int8,
                'reason', pg_event_trigger_table_rewrite_reason())::text, 'UTF8'))
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE c.oid = pg_event_trigger_table_rewrite_oid() AND c.relpersistence <> 't';
        END IF;
        FOR message IN
            WITH described_table AS (
                SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident
                  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.oid = ANY (tables) AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND NOT c.relispartition
                   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
            ), published AS (
                SELECT t.oid, jsonb_agg(DISTINCT p.pubname) AS publications
                  FROM described_table t
                  JOIN pg_publication_tables p ON (p.schemaname, p.tablename) = (t.nspname, t.relname)
                 GROUP BY t.oid
            )
            SELECT jsonb_build_object(
                       'v', 1, 'tag', tg_tag, 'kind', 'table',
                       'schema', t.nspname, 'name', t.relname, 'oid', t.oid::int8,
                       'table', jsonb_build_object(
                               'partitioned', t.relkind = 'p', 'persistence', t.relpersistence, 'identity', t.relreplident,
                               'publications', coalesce(p.publications, '[]'),
                               'leaves', (
                                   SELECT coalesce(jsonb_agg(leaf.relid::oid::int8 ORDER BY leaf.relid::oid), '[]')
                                     FROM pg_partition_tree(t.oid) leaf WHERE leaf.isleaf AND leaf.level > 0),
                               -- Columns that older rows have got a value in without being written. A column that is added is written by
                               -- the same (sub)transaction as its table's entry, which counts the columns; this one, which is no older
                               -- than the transaction's own number.
                               'filled', (
                                   SELECT coalesce(jsonb_agg(DISTINCT a.attname), '[]')
                                     FROM (SELECT t.oid UNION SELECT relid FROM pg_partition_tree(t.oid)) AS tree (oid)
                                     JOIN pg_class c ON c.oid = tree.oid
                                     JOIN pg_attribute a ON a.attrelid = c.oid AND a.xmin = c.xmin
                                    WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atthasmissing
                                      AND (c.xmin::text::int8 - own.xid & 4294967295) < 1073741824),
                               'key', (
                                   SELECT coalesce(jsonb_agg(a.attname ORDER BY k.place), '[]')
                                     FROM pg_index i
                                     CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
                                     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                                    WHERE i.indrelid = t.oid AND i.indisprimary AND k.place <= i.indnkeyatts),
                               'columns', (
                                   WITH RECURSIVE attribute AS (
                                       SELECT a.attnum, a.attname, a.atttypid, a.atttypmod
                                         FROM pg_attribute a
                                        WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                                   ), base AS (
                                       SELECT a.attnum, 0 AS depth, y.oid, a.atttypmod AS modifier, y.typtype, y.typbasetype, y.typtypmod
                                         FROM attribute a JOIN pg_type y ON y.oid = a.atttypid
                                       UNION ALL
                                       SELECT b.attnum, b.depth + 1, y.oid, b.typtypmod, y.typtype, y.typbasetype, y.typtypmod
                                         FROM base b JOIN pg_type y ON y.oid = b.typbasetype WHERE b.typtype = 'd'
                                   ), described AS (
                                       SELECT DISTINCT ON (b.attnum) b.attnum, b.depth, b.oid, b.modifier, y.typtype, y.typlen, y.typstorage,
                                              EXISTS (SELECT FROM pg_proc f WHERE f.oid = y.typinput AND f.proname = 'citextin') AS citext,
                                              (SELECT e.typtype = 'e' OR EXISTS (
                                                          SELECT FROM pg_proc f WHERE f.oid = e.typinput AND f.proname = 'citextin')
                                                 FROM pg_type e WHERE e.oid = y.typelem AND e.typarray = y.oid) AS element_texts
                                         FROM base b JOIN pg_type y ON y.oid = b.oid
                                        ORDER BY b.attnum, b.depth DESC
                                   )
                                   SELECT coalesce(jsonb_agg(jsonb_build_object(
                                              'name', a.attname, 'number', a.attnum, 'type', a.atttypid::int8, 'modifier', a.atttypmod,
                                              'type_name', format_type(a.atttypid, a.atttypmod), 'base', d.oid::int8,
                                              'base_name', CASE WHEN d.depth > 0 THEN format_type(d.oid, d.modifier) END,
                                              'texts', d.typtype = 'e' OR d.citext, 'element_texts', d.element_texts,
                                              'out_of_line', d.typlen = -1 AND d.typstorage <> 'p'
                                   ) ORDER BY a.attnum), '[]')
                                     FROM attribute a
                                     JOIN described d ON d.attnum = a.attnum)))
              FROM described_table t
              CROSS JOIN (SELECT pg_current_xact_id()::text::int8 AS xid) AS own
              LEFT JOIN published p ON p.oid = t.oid
            UNION ALL
            SELECT jsonb_build_object(
                       'v', 1, 'tag', tg_tag, 'kind', 'publication', 'name', p.pubname, 'oid', p.oid::int8, 'publication',
                       jsonb_build_object(
                           'insert', p.pubinsert, 'update', p.pubupdate, 'delete', p.pubdelete, 'truncate', p.pubtruncate,
                           'via_root', p.pubviaroot,
                           'generated_columns', coalesce(to_jsonb(p) ->> 'pubgencols', 'n') NOT IN ('n', 'false'),
                           'restricted', (
                               SELECT coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'name', c.relname)
                                                         ORDER BY n.nspname, c.relname), '[]')
                                 FROM pg_publication_rel r
                                 JOIN pg_class c ON c.oid = r.prrelid
                                 JOIN pg_namespace n ON n.oid = c.relnamespace
                                WHERE r.prpubid = p.oid
                                  AND coalesce(to_jsonb(r) ->> 'prattrs', to_jsonb(r) ->> 'prqual') IS NOT NULL),
                           'added', (
                               SELECT coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'name', c.relname, 'oid', c.oid::int8)
                                                         ORDER BY n.nspname, c.relname), '[]')
                                 FROM pg_publication_rel r
                                 JOIN pg_class c ON c.oid = r.prrelid
                                 JOIN pg_namespace n ON n.oid = c.relnamespace
                                WHERE r.prpubid = p.oid AND r.oid = ANY (added))))
              FROM pg_publication p WHERE p.oid = ANY (publications)
        LOOP
            PERFORM pg_logical_emit_message(true, 'penstock.ddl', convert_to(message::text, 'UTF8'));
        END LOOP;
    EXCEPTION WHEN OTHERS THEN
        PERFORM pg_logical_emit_message(true, 'penstock.ddl', convert_to(jsonb_build_object(
            'v', 1, 'tag', tg_tag, 'kind', 'unknown', 'detail', sqlstate || ' ' || sqlerrm)::text, 'UTF8'));
    END;
    -- A message is decoded at the end of its WAL record, which is where the next record begins: the next change, if it
    -- belongs to another subtransaction, could come first. Nobody reads this one; it only stands between them.
    PERFORM pg_logical_emit_message(false, 'penstock.ddl.end', '');
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'penstock: the replication stream was not told of this %: %', tg_tag, sqlerrm;
END
$penstock$;

-- TRUNCATE fires no event trigger, and of a partition the stream does not tell it: a trigger on each partition does.
CREATE OR REPLACE FUNCTION penstock.tell_truncate() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog AS $penstock_truncate$
BEGIN
    PERFORM pg_logical_emit_message(true, 'penstock.ddl', convert_to(jsonb_build_object(
        'v', 1, 'tag', 'TRUNCATE', 'kind', 'truncate', 'schema', n.nspname, 'name', c.relname, 'oid', c.oid::int8)::text, 'UTF8'))
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.oid = pg_partition_root(tg_relid) AND c.oid <> tg_relid;
    PERFORM pg_logical_emit_message(false, 'penstock.ddl.end', '');
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'penstock: the replication stream was not told of this TRUNCATE: %', sqlerrm;
    RETURN NULL;
END
$penstock_truncate$;

DROP EVENT TRIGGER IF EXISTS penstock_ddl_command_end;
DROP EVENT TRIGGER IF EXISTS penstock_sql_drop;
DROP EVENT TRIGGER IF EXISTS penstock_table_rewrite;
CREATE EVENT TRIGGER penstock_ddl_command_end ON ddl_command_end EXECUTE FUNCTION penstock.tell_ddl();
CREATE EVENT TRIGGER penstock_sql_drop ON sql_drop EXECUTE FUNCTION penstock.tell_ddl();
CREATE EVENT TRIGGER penstock_table_rewrite ON table_rewrite EXECUTE FUNCTION penstock.tell_ddl();
ALTER EVENT TRIGGER penstock_ddl_command_end ENABLE ALWAYS;
ALTER EVENT TRIGGER penstock_sql_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER penstock_table_rewrite ENABLE ALWAYS;
