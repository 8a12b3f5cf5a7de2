-- The demo's story: one account that the workload leaves alone, with a person, her laptop, two sites with a gateway each,
-- and two resources in the first. No policy gives anything yet.

INSERT INTO accounts (id, name, slug, inserted_at, updated_at)
VALUES ('50000000-0000-4000-8000-000000000001', 'Northwind', 'northwind', now(), now());

INSERT INTO actors (id, account_id, type, name, inserted_at, updated_at)
VALUES ('50000000-0000-4000-8000-000000000002', '50000000-0000-4000-8000-000000000001', 'account_user', 'Ada', now(), now());

INSERT INTO actor_groups (id, account_id, name, inserted_at, updated_at)
VALUES ('50000000-0000-4000-8000-000000000003', '50000000-0000-4000-8000-000000000001', 'Engineering', now(), now());

INSERT INTO actor_group_memberships (id, account_id, actor_id, group_id)
VALUES (
    '50000000-0000-4000-8000-000000000004', '50000000-0000-4000-8000-000000000001',
    '50000000-0000-4000-8000-000000000002', '50000000-0000-4000-8000-000000000003'
);

INSERT INTO gateway_groups (id, account_id, name, inserted_at, updated_at)
VALUES
    ('50000000-0000-4000-8000-000000000005', '50000000-0000-4000-8000-000000000001', 'Berlin', now(), now()),
    ('50000000-0000-4000-8000-000000000006', '50000000-0000-4000-8000-000000000001', 'Kyiv', now(), now());

INSERT INTO tokens (id, account_id, type, actor_id, gateway_group_id, secret_salt, secret_hash, inserted_at, updated_at)
VALUES
    ('50000000-0000-4000-8000-000000000007', '50000000-0000-4000-8000-000000000001', 'client',
     '50000000-0000-4000-8000-000000000002', NULL, 'SECRET-salt', 'SECRET-hash', now(), now()),
    ('50000000-0000-4000-8000-000000000008', '50000000-0000-4000-8000-000000000001', 'gateway_group', NULL,
     '50000000-0000-4000-8000-000000000005', 'SECRET-salt', 'SECRET-hash', now(), now());

INSERT INTO clients (
    id, account_id, actor_id, last_used_token_id, external_id, name, public_key, ipv4, ipv6, last_seen_version,
    last_seen_remote_ip, inserted_at, updated_at
)
VALUES (
    '50000000-0000-4000-8000-000000000009', '50000000-0000-4000-8000-000000000001', '50000000-0000-4000-8000-000000000002',
    '50000000-0000-4000-8000-000000000007', 'laptop', 'Ada''s laptop', 'client key', '100.64.0.1', 'fd00:2021:1111::1', '1.4.2',
    '192.0.2.1', now(), now()
);

INSERT INTO gateways (
    id, account_id, group_id, last_used_token_id, external_id, name, public_key, ipv4, ipv6, last_seen_version,
    last_seen_remote_ip, inserted_at, updated_at
)
SELECT
    id::uuid, '50000000-0000-4000-8000-000000000001', site::uuid, '50000000-0000-4000-8000-000000000008', name, name, 'gateway key',
    ipv4::inet, ipv6::inet, '1.4.1', '192.0.2.2', now(), now()
FROM (VALUES
    ('50000000-0000-4000-8000-00000000000a', '50000000-0000-4000-8000-000000000005', 'berlin-1', '100.64.0.2', 'fd00:2021:1111::2'),
    ('50000000-0000-4000-8000-00000000000b', '50000000-0000-4000-8000-000000000006', 'kyiv-1', '100.64.0.3', 'fd00:2021:1111::3')
) AS gateways (id, site, name, ipv4, ipv6);

INSERT INTO resources (id, account_id, type, name, address, inserted_at, updated_at)
VALUES
    ('50000000-0000-4000-8000-00000000000c', '50000000-0000-4000-8000-000000000001', 'dns', 'wiki', 'wiki.example', now(), now()),
    ('50000000-0000-4000-8000-00000000000d', '50000000-0000-4000-8000-000000000001', 'dns', 'builds', 'builds.example', now(), now());

INSERT INTO resource_connections (resource_id, gateway_group_id, account_id)
VALUES
    ('50000000-0000-4000-8000-00000000000c', '50000000-0000-4000-8000-000000000005', '50000000-0000-4000-8000-000000000001'),
    ('50000000-0000-4000-8000-00000000000d', '50000000-0000-4000-8000-000000000005', '50000000-0000-4000-8000-000000000001');
