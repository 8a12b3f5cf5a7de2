-- One client that may reach many resources through one gateway, each by a policy and a flow of its own; and another account
-- in which only names change. Nothing of this schema is captured.

CREATE SCHEMA bench;

CREATE SEQUENCE bench.revocation;

CREATE FUNCTION bench.id(kind text, number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT md5(kind || ' ' || number)::uuid $$;

CREATE PROCEDURE bench.fill(policies int) LANGUAGE plpgsql AS $$
DECLARE
    account uuid := bench.id('account', 0);
BEGIN
    INSERT INTO accounts (id, name, slug, inserted_at, updated_at)
    SELECT bench.id('account', n), 'n', 'account-' || n, now(), now() FROM generate_series(0, 1) n;
    INSERT INTO actors (id, account_id, type, name, inserted_at, updated_at)
    SELECT bench.id('other', n), bench.id('account', 1), 'account_user', 'n', now(), now() FROM generate_series(1, 1000) n;

    INSERT INTO actors (id, account_id, type, name, inserted_at, updated_at)
    VALUES (bench.id('actor', 0), account, 'account_user', 'n', now(), now());
    INSERT INTO actor_groups (id, account_id, name, inserted_at, updated_at)
    VALUES (bench.id('group', 0), account, 'n', now(), now());
    INSERT INTO actor_group_memberships (id, account_id, actor_id, group_id)
    VALUES (bench.id('membership', 0), account, bench.id('actor', 0), bench.id('group', 0));
    INSERT INTO gateway_groups (id, account_id, name, inserted_at, updated_at)
    VALUES (bench.id('site', 0), account, 'n', now(), now());
    INSERT INTO tokens (id, account_id, type, actor_id, gateway_group_id, secret_salt, secret_hash, inserted_at, updated_at)
    VALUES
        (bench.id('token', 0), account, 'client', bench.id('actor', 0), NULL, 's', 'h', now(), now()),
        (bench.id('token', 1), account, 'gateway_group', NULL, bench.id('site', 0), 's', 'h', now(), now());
    INSERT INTO clients (
        id, account_id, actor_id, last_used_token_id, external_id, name, public_key, ipv4, ipv6, last_seen_version,
        last_seen_remote_ip, inserted_at, updated_at
    )
    VALUES (
        bench.id('client', 0), account, bench.id('actor', 0), bench.id('token', 0), 'x', 'n', 'k', '100.64.0.1', 'fd00::1',
        '1.4.0', '192.0.2.1', now(), now()
    );
    INSERT INTO gateways (
        id, account_id, group_id, last_used_token_id, external_id, name, public_key, ipv4, ipv6, last_seen_version,
        last_seen_remote_ip, inserted_at, updated_at
    )
    VALUES (
        bench.id('gateway', 0), account, bench.id('site', 0), bench.id('token', 1), 'x', 'n', 'k', '100.64.0.2', 'fd00::2',
        '1.4.0', '192.0.2.2', now(), now()
    );
    INSERT INTO resources (id, account_id, type, name, address, inserted_at, updated_at)
    SELECT bench.id('resource', n), account, 'dns', 'resource ' || n, 'host' || n || '.example', now(), now()
    FROM generate_series(1, policies) n;
    INSERT INTO resource_connections (resource_id, gateway_group_id, account_id)
    SELECT bench.id('resource', n), bench.id('site', 0), account FROM generate_series(1, policies) n;
    INSERT INTO policies (id, account_id, actor_group_id, resource_id, inserted_at, updated_at)
    SELECT bench.id('policy', n), account, bench.id('group', 0), bench.id('resource', n), now(), now()
    FROM generate_series(1, policies) n;
    INSERT INTO flows (
        id, account_id, policy_id, client_id, gateway_id, resource_id, token_id, actor_group_membership_id, client_remote_ip,
        client_user_agent, gateway_remote_ip, inserted_at
    )
    SELECT
        bench.id('flow', n), account, bench.id('policy', n), bench.id('client', 0), bench.id('gateway', 0),
        bench.id('resource', n), bench.id('token', 0), bench.id('membership', 0), '192.0.2.1', 'bench', '192.0.2.2', now()
    FROM generate_series(1, policies) n;
END
$$;
