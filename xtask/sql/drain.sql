-- The backlog of `cargo xtask bench drain`: four tables of 20 columns, many small transactions.
CREATE TABLE drain_sum (inserts bigint NOT NULL, updates bigint NOT NULL, deletes bigint NOT NULL);
DO $$
BEGIN
    FOR t IN 0..3 LOOP
        EXECUTE format('CREATE TABLE drain_%s (
            id uuid PRIMARY KEY, account_id uuid NOT NULL, name text NOT NULL, slug varchar(80), kind varchar(20) NOT NULL,
            small smallint NOT NULL, number integer NOT NULL, big bigint NOT NULL, ratio double precision, price numeric(12, 2),
            flag boolean NOT NULL, other boolean, address inet, document jsonb NOT NULL, description text, parent_id uuid,
            day date, expires_at timestamptz, inserted_at timestamp NOT NULL, updated_at timestamp NOT NULL)', t);
        EXECUTE format('ALTER TABLE drain_%s REPLICA IDENTITY FULL', t);
    END LOOP;
END $$;
-- Row n of table t: the same for every run.
CREATE FUNCTION drain_id(t int, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT md5(t || ':' || n)::uuid $$;
-- Rows `first` to `last` into table t.
CREATE FUNCTION drain_rows(t int, first bigint, last bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    made bigint;
BEGIN
    EXECUTE format('INSERT INTO drain_%s
            SELECT drain_id(%s, k), md5((k %% 500)::text)::uuid, ''resource number '' || k, ''slug-'' || k, ''dns'',
                   k %% 30000, k, k * 1000003, k / 7.0, (k %% 100000) / 100.0, k %% 2 = 0, NULL,
                   (''10.'' || k %% 200 || ''.'' || k / 200 %% 200 || ''.7'')::inet,
                   jsonb_build_object(''search_domain'', ''example.com'', ''n'', k, ''tags'', jsonb_build_array(''a'', ''b'')),
                   repeat(''lorem ipsum '', 4), drain_id(%s, k - 1), date ''2026-01-01'' + (k %% 300)::int,
                   timestamptz ''2026-01-01 00:00:00+00'' + k * interval ''1 second'',
                   timestamp ''2026-01-01 00:00:00'' + k * interval ''1 millisecond'', timestamp ''2026-01-01 00:00:00''
              FROM generate_series(%s::bigint, %s::bigint) k', t, t, t, first, last);
    GET DIAGNOSTICS made = ROW_COUNT;
    RETURN made;
END $$;
-- So many rows in each table, at once.
CREATE PROCEDURE drain_bulk(each bigint) LANGUAGE sql AS $$
    SELECT drain_rows(t, each * t + 1, each * t + each) FROM generate_series(0, 3) t
$$;
-- Every transaction: five rows into one table; of all row events a tenth are updates and a twentieth deletes of older rows.
CREATE PROCEDURE drain_fill(transactions int) LANGUAGE plpgsql AS $$
DECLARE
    n bigint := 0; t int; made bigint := 0; changed bigint := 0; gone bigint := 0; done bigint;
BEGIN
    FOR i IN 1..transactions LOOP
        t := i % 4;
        -- 17 inserts, 2 updates and 1 delete in every four transactions.
        done := drain_rows(t, n + 1, n + CASE WHEN i % 4 = 0 THEN 5 ELSE 4 END);
        n := n + done; made := made + done;
        IF i % 4 IN (1, 2) AND i > 8 THEN
            EXECUTE format('UPDATE drain_%s SET name = name || ''!'', updated_at = updated_at + interval ''1 hour''
                             WHERE id = (SELECT id FROM drain_%s WHERE id = ANY (ARRAY(SELECT drain_id(%s, g) FROM generate_series(%s - 20, %s - 10) g)) LIMIT 1)',
                           t, t, t, n, n);
            GET DIAGNOSTICS done = ROW_COUNT;
            changed := changed + done;
        ELSIF i % 4 = 3 AND i > 8 THEN
            EXECUTE format('DELETE FROM drain_%s
                             WHERE id = (SELECT id FROM drain_%s WHERE id = ANY (ARRAY(SELECT drain_id(%s, g) FROM generate_series(%s - 40, %s - 22) g)) LIMIT 1)',
                           t, t, t, n, n);
            GET DIAGNOSTICS done = ROW_COUNT;
            gone := gone + done;
        END IF;
        COMMIT;
    END LOOP;
    INSERT INTO drain_sum VALUES (made, changed, gone);
END $$;
