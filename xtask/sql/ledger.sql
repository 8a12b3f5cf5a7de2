-- The demo's own account of what was committed: for every row event one row, written by a trigger in the same
-- transaction. What rolls back takes its ledger rows with it. The schema is not captured.
--
-- `number` says in which order events happened. Whoever writes rows of an account takes that account's lock first
-- (penstock_demo.lock) and holds it to the end of the transaction: numbers of an account therefore rise from one
-- transaction to the next in the order of their commits, and within one in the order of execution. TRUNCATE locks the
-- table: its number separates the table's earlier rows from its later ones.
--
-- The triggers fire BEFORE each row, because those after it fire at the end of the statement: a cascade would stand
-- before rows that were deleted earlier.

CREATE SCHEMA penstock_demo;

CREATE TABLE penstock_demo.ledger (
    number bigint GENERATED ALWAYS AS IDENTITY,
    xid xid NOT NULL DEFAULT pg_current_xact_id()::xid,
    table_name text NOT NULL,
    op "char" NOT NULL, -- c, u, d; t for TRUNCATE
    account text, -- of the row before the event; of a new row, its own
    key text, -- values of the primary key in the alphabetical order of its columns, separated by commas
    account_after text, -- of an update
    key_after text
);

-- Addresses that no row has yet: for devices that come to an account.
CREATE SEQUENCE penstock_demo.address START 100000;

CREATE FUNCTION penstock_demo.lock(account int) RETURNS void LANGUAGE sql AS
$$ SELECT pg_advisory_xact_lock(hashtext('penstock_demo'), account) $$;

CREATE FUNCTION penstock_demo.note_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO penstock_demo.ledger (table_name, op) VALUES (TG_TABLE_NAME, 't');
    RETURN NULL;
END
$$;

DO $$
DECLARE
    captured record;
BEGIN
    FOR captured IN
        SELECT
            tables.relname AS name,
            CASE tables.relname WHEN 'accounts' THEN 'id' ELSE 'account_id' END AS account,
            string_agg(format('%%1$s.%I', columns.attname), ', ' ORDER BY columns.attname) AS key
        FROM pg_class AS tables
        JOIN pg_index AS indexes ON indexes.indrelid = tables.oid AND indexes.indisprimary
        JOIN pg_attribute AS columns ON columns.attrelid = tables.oid AND columns.attnum = ANY (indexes.indkey)
        WHERE tables.relnamespace = 'public'::regnamespace AND tables.relkind = 'r'
        GROUP BY tables.relname
    LOOP
        EXECUTE format(
            $function$
            CREATE FUNCTION penstock_demo.note_%1$s() RETURNS trigger LANGUAGE plpgsql AS $body$
            BEGIN
                IF TG_OP = 'INSERT' THEN
                    INSERT INTO penstock_demo.ledger (table_name, op, account, key)
                    VALUES (%1$L, 'c', coalesce(NEW.%2$I::text, 'global'), concat_ws(',', %4$s));
                    RETURN NEW;
                ELSIF TG_OP = 'DELETE' THEN
                    INSERT INTO penstock_demo.ledger (table_name, op, account, key)
                    VALUES (%1$L, 'd', coalesce(OLD.%2$I::text, 'global'), concat_ws(',', %3$s));
                    RETURN OLD;
                END IF;
                INSERT INTO penstock_demo.ledger (table_name, op, account, key, account_after, key_after)
                VALUES (
                    %1$L, 'u', coalesce(OLD.%2$I::text, 'global'), concat_ws(',', %3$s),
                    coalesce(NEW.%2$I::text, 'global'), concat_ws(',', %4$s)
                );
                RETURN NEW;
            END
            $body$
            $function$,
            captured.name, captured.account, format(captured.key, 'OLD'), format(captured.key, 'NEW')
        );
        EXECUTE format(
            'CREATE TRIGGER penstock_demo_note BEFORE INSERT OR UPDATE OR DELETE ON public.%1$I
             FOR EACH ROW EXECUTE FUNCTION penstock_demo.note_%1$s()',
            captured.name
        );
        EXECUTE format(
            'CREATE TRIGGER penstock_demo_truncate BEFORE TRUNCATE ON public.%I
             FOR EACH STATEMENT EXECUTE FUNCTION penstock_demo.note_truncate()',
            captured.name
        );
    END LOOP;
END
$$;
