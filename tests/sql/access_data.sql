-- Realistic rows for the access schema (access.sql), the same ones for the same settings.
--
-- Plain SQL, no DDL: psql reads it, and so does any client that sends a batch. Sizes are session settings, so that
-- every client can set them before this file:
--
--   psql -c "SET access.accounts = '100'" -f access_data.sql
--
--   access.accounts       20   accounts to create
--   access.first_account   1   number of the first one: call again with a higher number to add more
--   access.actors         50   actors of each account
--   access.groups         10   actor groups of each account; the first is Everyone
--   access.sites           4   gateway groups of each account; the last is run by the product for internet resources
--   access.gateways        2   gateways of each site
--   access.resources      20   resources of each account; the last is the internet
--   access.flows          40   flows of each account, at most
--   access.at           now    what the rows take for the time they were written, UTC
--
-- Ids are made from the thing's name, e.g. md5('actor 3 7')::uuid is actor 7 of account 3. Every column that holds a
-- secret holds a text that starts with SECRET-, and nothing else does: whoever finds it in a topic has found a leak.
-- Some conditions and filters are too large and too irregular to stay in the row: Postgres stores them out of line.

SELECT set_config(setting, coalesce(nullif(current_setting(setting, true), ''), otherwise), false)
FROM (VALUES
    ('access.accounts', '20'),
    ('access.first_account', '1'),
    ('access.actors', '50'),
    ('access.groups', '10'),
    ('access.sites', '4'),
    ('access.gateways', '2'),
    ('access.resources', '20'),
    ('access.flows', '40'),
    ('access.at', date_trunc('second', now() AT TIME ZONE 'UTC')::text)
) AS settings (setting, otherwise);

SELECT set_config(
    'access.last_account',
    (current_setting('access.first_account')::int + current_setting('access.accounts')::int - 1)::text,
    false
);

INSERT INTO accounts (
    id, name, legal_name, slug, config, features, limits, metadata, disabled_reason, disabled_at, deleted_at, inserted_at,
    updated_at
)
SELECT
    md5('account ' || a)::uuid,
    'Account ' || a,
    CASE WHEN a % 3 = 0 THEN 'Überfluß & Söhne ' || a || ' GmbH' ELSE 'Account ' || a || ', Inc.' END,
    'Account-' || a,
    jsonb_build_object(
        'search_domain', CASE WHEN a % 4 <> 0 THEN 'corp-' || a || '.example.com' END,
        'clients_upstream_dns', CASE a % 3
            WHEN 0 THEN '[]'::jsonb
            WHEN 1 THEN '[{"protocol": "ip_port", "address": "192.0.2.53"}]'
            ELSE '[{"protocol": "ip_port", "address": "192.0.2.53:5353"}, {"protocol": "ip_port", "address": "2001:db8::53"}]'
        END
    ),
    jsonb_build_object('idp_sync', a % 2 = 0, 'policy_conditions', true, 'internet_resource', true, 'rest_api', a % 5 = 0),
    jsonb_build_object('users_count', current_setting('access.actors')::int * 2, 'sites_count', 100),
    jsonb_build_object('billing', jsonb_build_object('customer', 'customer-' || a, 'plan', 'Team')),
    CASE WHEN a % 19 = 0 THEN 'Subscription ended' END,
    CASE WHEN a % 19 = 0 THEN current_setting('access.at')::timestamp END,
    CASE WHEN a % 23 = 0 THEN current_setting('access.at')::timestamp END,
    current_setting('access.at')::timestamp - interval '400 days',
    current_setting('access.at')::timestamp
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a;

INSERT INTO auth_providers (
    id, account_id, name, adapter, provisioner, adapter_config, adapter_state, last_synced_at, disabled_at, inserted_at,
    updated_at
)
SELECT
    md5(format('auth_provider %s %s', a, p))::uuid,
    md5('account ' || a)::uuid,
    (ARRAY ['Email', 'Password', 'OpenID Connect'])[p],
    (ARRAY ['email', 'userpass', 'openid_connect'])[p],
    CASE WHEN p = 3 THEN 'custom' ELSE 'manual' END,
    jsonb_build_object(
        'client_id', 'client-' || a,
        'client_secret', 'SECRET-' || md5(format('client_secret %s %s', a, p)),
        'discovery_document_uri', 'https://id.example.com/.well-known/openid-configuration'
    ),
    jsonb_build_object(
        'access_token', 'SECRET-' || md5(format('access_token %s %s', a, p)),
        'refresh_token', 'SECRET-' || md5(format('refresh_token %s %s', a, p))
    ),
    CASE WHEN p = 3 THEN current_setting('access.at')::timestamp END,
    CASE WHEN p = 2 AND a % 4 = 0 THEN current_setting('access.at')::timestamp END,
    current_setting('access.at')::timestamp - interval '399 days',
    current_setting('access.at')::timestamp
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
CROSS JOIN generate_series(1, 3) AS p;

INSERT INTO actors (id, account_id, type, name, last_synced_at, disabled_at, deleted_at, inserted_at, updated_at)
SELECT
    md5(format('actor %s %s', a, i))::uuid,
    md5('account ' || a)::uuid,
    CASE
        WHEN i = 1 THEN 'account_admin_user'
        WHEN i % 10 = 0 THEN 'service_account'
        WHEN i % 25 = 7 THEN 'api_client'
        ELSE 'account_user'
    END,
    (ARRAY ['Ada', 'Grace', 'Björn', 'Zoë', '明', 'Łukasz', 'O''Brien', 'Renée 🌊'])[1 + i % 8] || ' ' || i,
    CASE WHEN i % 3 = 0 THEN current_setting('access.at')::timestamp - interval '1 hour' END,
    CASE WHEN i % 33 = 0 THEN current_setting('access.at')::timestamp END,
    CASE WHEN i % 41 = 0 THEN current_setting('access.at')::timestamp END,
    current_setting('access.at')::timestamp - interval '300 days' + i * interval '1 minute',
    current_setting('access.at')::timestamp
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
CROSS JOIN generate_series(1, current_setting('access.actors')::int) AS i;

-- Service accounts and API clients have no identity.
INSERT INTO auth_identities (
    id, account_id, actor_id, provider_id, provider_identifier, provider_state, email, last_seen_user_agent,
    last_seen_remote_ip, last_seen_at, deleted_at, inserted_at
)
SELECT
    md5(format('auth_identity %s %s', a, i))::uuid,
    md5('account ' || a)::uuid,
    md5(format('actor %s %s', a, i))::uuid,
    md5(format('auth_provider %s %s', a, 1 + i % 3))::uuid,
    format('User%s@Account-%s.example.com', i, a),
    jsonb_build_object(
        'password_hash', 'SECRET-' || md5(format('password %s %s', a, i)),
        'userinfo', jsonb_build_object('sub', 'SECRET-' || md5(format('sub %s %s', a, i)))
    ),
    format('User%s@Account-%s.example.com', i, a),
    'Mozilla/5.0',
    '198.51.100.0'::inet + (i % 250),
    current_setting('access.at')::timestamp - i * interval '1 minute',
    CASE WHEN i % 29 = 0 THEN current_setting('access.at')::timestamp END,
    current_setting('access.at')::timestamp - interval '300 days'
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
CROSS JOIN generate_series(1, current_setting('access.actors')::int) AS i
WHERE i % 10 <> 0 AND i % 25 <> 7;

INSERT INTO actor_groups (
    id, account_id, provider_id, provider_identifier, type, name, created_by, last_synced_at, deleted_at, inserted_at,
    updated_at
)
SELECT
    md5(format('actor_group %s %s', a, g))::uuid,
    md5('account ' || a)::uuid,
    CASE WHEN g % 4 = 3 THEN md5(format('auth_provider %s 3', a))::uuid END,
    CASE WHEN g % 4 = 3 THEN 'G:' || g END,
    CASE WHEN g = 1 THEN 'managed' ELSE 'static' END,
    CASE WHEN g = 1 THEN 'Everyone' ELSE (ARRAY ['Engineering', 'Finance', 'Поддержка', 'On call'])[1 + g % 4] || ' ' || g END,
    CASE WHEN g % 4 = 3 THEN 'provider' ELSE 'system' END,
    CASE WHEN g % 4 = 3 THEN current_setting('access.at')::timestamp END,
    CASE WHEN g % 11 = 0 THEN current_setting('access.at')::timestamp END,
    current_setting('access.at')::timestamp - interval '290 days',
    current_setting('access.at')::timestamp
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
CROSS JOIN generate_series(1, current_setting('access.groups')::int) AS g;

INSERT INTO actor_group_memberships (id, account_id, actor_id, group_id)
SELECT
    md5(format('actor_group_membership %s %s %s', a, i, g))::uuid,
    md5('account ' || a)::uuid,
    md5(format('actor %s %s', a, i))::uuid,
    md5(format('actor_group %s %s', a, g))::uuid
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
CROSS JOIN generate_series(1, current_setting('access.actors')::int) AS i
CROSS JOIN generate_series(1, current_setting('access.groups')::int) AS g
WHERE g = 1 OR (i + g) % 3 = 0;

INSERT INTO gateway_groups (id, account_id, name, managed_by, deleted_at, inserted_at, updated_at)
SELECT
    md5(format('gateway_group %s %s', a, s))::uuid,
    md5('account ' || a)::uuid,
    CASE WHEN s = current_setting('access.sites')::int THEN 'Internet' ELSE 'Site ' || s END,
    CASE WHEN s = current_setting('access.sites')::int THEN 'system' ELSE 'account' END,
    CASE WHEN s % 13 = 0 THEN current_setting('access.at')::timestamp END,
    current_setting('access.at')::timestamp - interval '280 days',
    current_setting('access.at')::timestamp
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
CROSS JOIN generate_series(1, current_setting('access.sites')::int) AS s;

-- Tokens of actors: one for the device, and a browser's or an API client's.
INSERT INTO tokens (
    id, account_id, type, name, actor_id, identity_id, secret_salt, secret_hash, created_by, created_by_user_agent,
    created_by_remote_ip, last_seen_user_agent, last_seen_remote_ip, last_seen_remote_ip_location_region,
    last_seen_remote_ip_location_city, last_seen_remote_ip_location_lat, last_seen_remote_ip_location_lon, last_seen_version,
    last_seen_at, remaining_attempts, expires_at, deleted_at, inserted_at, updated_at
)
SELECT
    md5(format('token %s %s %s', kind, a, i))::uuid,
    md5('account ' || a)::uuid,
    kind,
    CASE WHEN kind = 'api_client' THEN 'API token ' || i END,
    md5(format('actor %s %s', a, i))::uuid,
    CASE WHEN i % 10 <> 0 AND i % 25 <> 7 THEN md5(format('auth_identity %s %s', a, i))::uuid END,
    'SECRET-' || md5(format('salt %s %s %s', kind, a, i)),
    'SECRET-' || md5(format('hash %s %s %s', kind, a, i)),
    'identity',
    'Mozilla/5.0',
    '198.51.100.0'::inet + (i % 250),
    'Mozilla/5.0',
    '198.51.100.0'::inet + (i % 250),
    (ARRAY ['DE', 'US', 'UA', NULL])[1 + i % 4],
    (ARRAY ['Köln', 'Denver', 'Київ', NULL])[1 + i % 4],
    (ARRAY [50.9375, 39.7392, 50.4501, NULL])[1 + i % 4],
    (ARRAY [6.9603, -104.9903, 30.5234, NULL])[1 + i % 4],
    (ARRAY ['1.3.9', '1.4.0', '1.4.2'])[1 + i % 3],
    current_setting('access.at')::timestamp - i * interval '1 minute',
    CASE WHEN kind = 'email' THEN 5 END,
    CASE
        WHEN kind = 'email' THEN current_setting('access.at')::timestamp + interval '15 minutes'
        WHEN i % 17 = 0 THEN current_setting('access.at')::timestamp - interval '1 day'
        WHEN kind = 'api_client' THEN NULL
        ELSE current_setting('access.at')::timestamp + interval '30 days' + i * interval '1 second'
    END,
    CASE WHEN i % 37 = 0 THEN current_setting('access.at')::timestamp END,
    current_setting('access.at')::timestamp AT TIME ZONE 'UTC' - interval '10 days',
    current_setting('access.at')::timestamp AT TIME ZONE 'UTC'
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
CROSS JOIN generate_series(1, current_setting('access.actors')::int) AS i
CROSS JOIN unnest(ARRAY ['client', 'browser', 'api_client', 'email']) AS kind
WHERE CASE kind
    WHEN 'client' THEN i % 25 <> 7
    WHEN 'browser' THEN i % 10 <> 0 AND i % 25 <> 7
    WHEN 'api_client' THEN i % 25 = 7
    ELSE i % 10 = 1
END;

INSERT INTO tokens (id, account_id, type, gateway_group_id, secret_salt, secret_hash, inserted_at, updated_at)
SELECT
    md5(format('token gateway_group %s %s', a, s))::uuid,
    md5('account ' || a)::uuid,
    'gateway_group',
    md5(format('gateway_group %s %s', a, s))::uuid,
    'SECRET-' || md5(format('salt gateway_group %s %s', a, s)),
    'SECRET-' || md5(format('hash gateway_group %s %s', a, s)),
    current_setting('access.at')::timestamp AT TIME ZONE 'UTC' - interval '280 days',
    current_setting('access.at')::timestamp AT TIME ZONE 'UTC'
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
CROSS JOIN generate_series(1, current_setting('access.sites')::int) AS s;

-- The relays belong to no account: one token for every ten accounts, numbered by the account that comes first.
INSERT INTO tokens (id, account_id, type, relay_group_id, secret_salt, secret_hash, inserted_at, updated_at)
SELECT
    md5('token relay_group ' || a)::uuid,
    NULL,
    'relay_group',
    md5('relay_group ' || a)::uuid,
    'SECRET-' || md5('salt relay_group ' || a),
    'SECRET-' || md5('hash relay_group ' || a),
    current_setting('access.at')::timestamp AT TIME ZONE 'UTC' - interval '400 days',
    current_setting('access.at')::timestamp AT TIME ZONE 'UTC'
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
WHERE a % 10 = 1;

-- One device for every actor that connects, two for every third.
INSERT INTO clients (
    id, account_id, actor_id, identity_id, last_used_token_id, external_id, name, public_key, psk_base, ipv4, ipv6,
    device_serial, last_seen_user_agent, last_seen_version, last_seen_remote_ip, last_seen_remote_ip_location_region,
    last_seen_remote_ip_location_city, last_seen_remote_ip_location_lat, last_seen_remote_ip_location_lon, last_seen_at,
    verified_at, verified_by, verified_by_subject, deleted_at, inserted_at, updated_at
)
SELECT
    md5(format('client %s %s %s', a, i, d))::uuid,
    md5('account ' || a)::uuid,
    md5(format('actor %s %s', a, i))::uuid,
    CASE WHEN i % 10 <> 0 THEN md5(format('auth_identity %s %s', a, i))::uuid END,
    md5(format('token client %s %s', a, i))::uuid,
    md5(format('device %s %s %s', a, i, d)),
    (ARRAY ['laptop', 'téléphone'])[d] || ' ' || i,
    encode(sha256(convert_to(format('client key %s %s %s', a, i, d), 'UTF8')), 'base64'),
    encode(sha256(convert_to(format('client base %s %s %s', a, i, d), 'UTF8')), 'hex'),
    '100.64.0.0'::inet + (i * 2 + d),
    'fd00:2021:1111::'::inet + (i * 2 + d),
    CASE WHEN d = 1 THEN 'SN' || i END,
    'Linux/6.1 connlib/1.4.0',
    (ARRAY ['1.3.9', '1.4.0', '1.4.2'])[1 + i % 3],
    CASE WHEN i % 9 = 8 THEN '2001:db8::'::inet + i ELSE '198.51.100.0'::inet + (i % 250) END,
    (ARRAY ['DE', 'US', 'UA', NULL])[1 + i % 4],
    (ARRAY ['Köln', 'Denver', 'Київ', NULL])[1 + i % 4],
    (ARRAY [50.9375, 39.7392, 50.4501, NULL])[1 + i % 4],
    (ARRAY [6.9603, -104.9903, 30.5234, NULL])[1 + i % 4],
    current_setting('access.at')::timestamp - i * interval '1 minute',
    CASE WHEN i % 2 = 0 THEN current_setting('access.at')::timestamp - interval '20 days' END,
    CASE WHEN i % 2 = 0 THEN 'identity' END,
    CASE WHEN i % 2 = 0 THEN jsonb_build_object('name', 'Ada 1', 'email', format('user1@account-%s.example.com', a)) END,
    CASE WHEN i % 31 = 0 THEN current_setting('access.at')::timestamp END,
    current_setting('access.at')::timestamp - interval '60 days',
    current_setting('access.at')::timestamp
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
CROSS JOIN generate_series(1, current_setting('access.actors')::int) AS i
CROSS JOIN generate_series(1, 2) AS d
WHERE i % 25 <> 7 AND (d = 1 OR i % 3 = 0);

INSERT INTO gateways (
    id, account_id, group_id, last_used_token_id, external_id, name, public_key, ipv4, ipv6, last_seen_user_agent,
    last_seen_version, last_seen_remote_ip, last_seen_remote_ip_location_region, last_seen_remote_ip_location_city,
    last_seen_remote_ip_location_lat, last_seen_remote_ip_location_lon, last_seen_at, inserted_at, updated_at
)
SELECT
    md5(format('gateway %s %s %s', a, s, k))::uuid,
    md5('account ' || a)::uuid,
    md5(format('gateway_group %s %s', a, s))::uuid,
    md5(format('token gateway_group %s %s', a, s))::uuid,
    md5(format('machine %s %s %s', a, s, k)),
    format('gw-%s-%s', s, k),
    encode(sha256(convert_to(format('gateway key %s %s %s', a, s, k), 'UTF8')), 'base64'),
    '100.96.0.0'::inet + (s * 1000 + k),
    'fd00:2021:1111:8000::'::inet + (s * 1000 + k),
    'Linux/6.1 connlib/1.4.0',
    (ARRAY ['1.3.9', '1.4.0'])[1 + k % 2],
    '203.0.113.0'::inet + (s % 250),
    'US', 'Denver', 39.7392, -104.9903,
    current_setting('access.at')::timestamp - k * interval '10 seconds',
    current_setting('access.at')::timestamp - interval '280 days',
    current_setting('access.at')::timestamp
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
CROSS JOIN generate_series(1, current_setting('access.sites')::int) AS s
CROSS JOIN generate_series(1, current_setting('access.gateways')::int) AS k;

INSERT INTO resources (
    id, account_id, type, name, address, address_description, ip_stack, filters, persistent_id, deleted_at, inserted_at,
    updated_at
)
SELECT
    md5(format('resource %s %s', a, r))::uuid,
    md5('account ' || a)::uuid,
    kind,
    CASE kind WHEN 'internet' THEN 'Internet' ELSE 'Resource ' || r END,
    CASE kind
        WHEN 'dns' THEN CASE WHEN r % 4 = 1 THEN '*.' ELSE '' END || format('app-%s.corp-%s.example.com', r, a)
        WHEN 'cidr' THEN format('10.%s.%s.0/24', a % 256, r % 256)
        WHEN 'ip' THEN CASE WHEN r % 8 = 3 THEN '2001:db8::' || to_hex(r) ELSE format('10.%s.%s.7', a % 256, r % 256) END
    END,
    CASE WHEN r % 3 = 0 THEN format('https://app-%s.corp-%s.example.com/', r, a) END,
    CASE WHEN kind = 'dns' THEN (ARRAY ['dual', 'ipv4_only', 'ipv6_only'])[1 + r % 3] END,
    CASE
        -- Too irregular to be compressed below what fits into the row.
        WHEN r % 20 = 5 THEN jsonb_build_array(jsonb_build_object('protocol', 'tcp', 'ports', (
            SELECT jsonb_agg((1 + ('x' || substr(md5(format('%s %s %s', a, r, n)), 1, 7))::bit(28)::int % 65535)::text ORDER BY n)
            FROM generate_series(1, 2000) AS n
        )))
        WHEN r % 4 = 0 THEN '[]'::jsonb
        WHEN r % 4 = 1 THEN '[{"protocol": "tcp", "ports": ["443"]}]'
        WHEN r % 4 = 2 THEN '[{"protocol": "tcp", "ports": ["80", "8000 - 9000"]}, {"protocol": "icmp", "ports": []}]'
        ELSE '[{"protocol": "udp", "ports": ["53"]}]'
    END,
    md5(format('resource %s %s', a, r))::uuid,
    CASE WHEN r % 27 = 0 THEN current_setting('access.at')::timestamp END,
    current_setting('access.at')::timestamp - interval '200 days',
    current_setting('access.at')::timestamp
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
CROSS JOIN generate_series(1, current_setting('access.resources')::int) AS r
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN r = current_setting('access.resources')::int THEN 'internet'
        ELSE (ARRAY ['dns', 'dns', 'cidr', 'ip'])[1 + r % 4]
    END AS kind
) AS kinds;

-- Every resource is reached through one site, every fifth through two; the internet through the product's own.
INSERT INTO resource_connections (resource_id, gateway_group_id, account_id)
SELECT DISTINCT
    md5(format('resource %s %s', a, r))::uuid,
    md5(format('gateway_group %s %s', a, site))::uuid,
    md5('account ' || a)::uuid
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
CROSS JOIN generate_series(1, current_setting('access.resources')::int) AS r
CROSS JOIN generate_series(1, 2) AS c
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN r = current_setting('access.resources')::int THEN current_setting('access.sites')::int
        ELSE 1 + (r + c) % greatest(current_setting('access.sites')::int - 1, 1)
    END AS site
) AS sites
WHERE c = 1 OR r % 5 = 0;

INSERT INTO policies (
    id, account_id, actor_group_id, resource_id, conditions, description, persistent_id, disabled_at, deleted_at,
    inserted_at, updated_at
)
SELECT
    md5(format('policy %s %s %s', a, r, c))::uuid,
    md5('account ' || a)::uuid,
    md5(format('actor_group %s %s', a, grp))::uuid,
    md5(format('resource %s %s', a, r))::uuid,
    CASE
        -- Too large and too irregular to be kept in the row.
        WHEN r % 20 = 3 THEN ARRAY [jsonb_build_object('property', 'remote_ip', 'operator', 'is_in_cidr', 'values', (
            SELECT jsonb_agg(('198.51.0.0'::inet + ('x' || substr(md5(format('%s %s %s', a, r, n)), 1, 7))::bit(28)::int % 65536)::text ORDER BY n)
            FROM generate_series(1, 1500) AS n
        ))]
        WHEN r % 7 = 1 THEN ARRAY ['{"property": "remote_ip_location_region", "operator": "is_in", "values": ["DE", "US"]}'::jsonb]
        WHEN r % 7 = 2 THEN ARRAY ['{"property": "client_verified", "operator": "is", "values": ["true"]}'::jsonb]
        WHEN r % 7 = 4 THEN ARRAY [jsonb_build_object('property', 'provider_id', 'operator', 'is_not_in', 'values',
            jsonb_build_array(md5(format('auth_provider %s 2', a))::uuid))]
        WHEN r % 7 = 5 THEN ARRAY [
            '{"property": "current_utc_datetime", "operator": "is_in_day_of_week_time_ranges", "values": ["M/08:00:00-18:00:00/UTC", "T/08:00:00-18:00:00/UTC", "W/true/Europe/Berlin", "R/8-12,13-18/US/Pacific", "F/08:00:00-18:00:00/UTC"]}'::jsonb,
            '{"property": "remote_ip", "operator": "is_not_in_cidr", "values": ["192.0.2.0/24", "2001:db8:ffff::/48"]}'
        ]
        ELSE '{}'::jsonb[]
    END,
    CASE WHEN r % 3 = 0 THEN format('Group %s may reach resource %s', grp, r) END,
    md5(format('policy %s %s %s', a, r, c))::uuid,
    CASE WHEN (r + c) % 13 = 0 THEN current_setting('access.at')::timestamp END,
    CASE WHEN (r + c) % 17 = 0 THEN current_setting('access.at')::timestamp END,
    current_setting('access.at')::timestamp - interval '150 days',
    current_setting('access.at')::timestamp
FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
CROSS JOIN generate_series(1, current_setting('access.resources')::int) AS r
CROSS JOIN generate_series(1, 2) AS c
CROSS JOIN LATERAL (SELECT 1 + (r + c) % current_setting('access.groups')::int AS grp) AS groups
WHERE c = 1 OR (r % 3 = 0 AND current_setting('access.groups')::int > 1);

-- Flows are what the rows above allow: a device, a membership, a policy of that group, a gateway of the resource's site.
INSERT INTO flows (
    id, account_id, policy_id, client_id, gateway_id, resource_id, token_id, actor_group_membership_id, client_remote_ip,
    client_user_agent, gateway_remote_ip, expires_at, inserted_at
)
SELECT
    md5(format('flow %s %s', account_id, place))::uuid,
    account_id, policy_id, client_id, gateway_id, resource_id, token_id, membership_id, client_ip,
    client_agent, gateway_ip,
    CASE WHEN bounded THEN current_setting('access.at')::timestamp + interval '1 hour' END,
    current_setting('access.at')::timestamp
FROM (
    SELECT
        policies.account_id,
        policies.id AS policy_id,
        clients.id AS client_id,
        gateways.id AS gateway_id,
        policies.resource_id,
        clients.last_used_token_id AS token_id,
        memberships.id AS membership_id,
        clients.last_seen_remote_ip AS client_ip,
        clients.last_seen_user_agent AS client_agent,
        gateways.last_seen_remote_ip AS gateway_ip,
        policies.conditions <> '{}' AS bounded,
        row_number() OVER (
            PARTITION BY policies.account_id ORDER BY md5(concat(policies.id, clients.id, gateways.id))
        ) AS place
    FROM generate_series(current_setting('access.first_account')::int, current_setting('access.last_account')::int) AS a
    JOIN policies ON policies.account_id = md5('account ' || a)::uuid
    JOIN resources ON resources.id = policies.resource_id
    JOIN actor_groups ON actor_groups.id = policies.actor_group_id
    JOIN actor_group_memberships AS memberships ON memberships.group_id = policies.actor_group_id
    JOIN actors ON actors.id = memberships.actor_id
    JOIN clients ON clients.actor_id = memberships.actor_id
    JOIN resource_connections AS connections ON connections.resource_id = policies.resource_id
    JOIN gateways ON gateways.group_id = connections.gateway_group_id
    WHERE
        coalesce(
            policies.deleted_at, policies.disabled_at, resources.deleted_at, actor_groups.deleted_at, actors.deleted_at,
            actors.disabled_at, clients.deleted_at, gateways.deleted_at
        ) IS NULL
) AS possible
WHERE place <= current_setting('access.flows')::int;
