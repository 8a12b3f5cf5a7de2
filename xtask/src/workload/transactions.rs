//! The transactions of the workload: what the product's own services, its administrators and its directory sync do.
//!
//! Invariants: every transaction first locks each account that it writes (the ledger's order rests on that), in the order
//! of their numbers; it never fails, because whatever it needs it selects first; what it takes away something else
//! brings back, so that it can go on for ever.

use super::random::Random;

/// What can happen, and how often of a hundred and some.
const KINDS: [(u64, Kind); 19] = [
    (26, Kind::DevicesSeen),
    (20, Kind::FlowsAuthorised),
    (12, Kind::FlowsExpired),
    (10, Kind::GroupSynced),
    (4, Kind::GatewaysSeen),
    (4, Kind::ResourceAdded),
    (4, Kind::ResourceRemoved),
    (3, Kind::ResourceChanged),
    (4, Kind::PolicySwitched),
    (2, Kind::ConditionsChanged),
    (3, Kind::PolicyRepointed),
    (2, Kind::AccountChanged),
    (4, Kind::DirectorySynced),
    (3, Kind::PersonHired),
    (2, Kind::PersonLeft),
    (1, Kind::PersonMoved),
    (2, Kind::MembershipReplaced),
    (3, Kind::TakenBack),
    (1, Kind::RelaysSeen),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    DevicesSeen,
    FlowsAuthorised,
    FlowsExpired,
    GroupSynced,
    GatewaysSeen,
    ResourceAdded,
    ResourceRemoved,
    ResourceChanged,
    PolicySwitched,
    ConditionsChanged,
    PolicyRepointed,
    AccountChanged,
    DirectorySynced,
    PersonHired,
    PersonLeft,
    PersonMoved,
    MembershipReplaced,
    TakenBack,
    RelaysSeen,
}

/// The next transaction, as SQL, for accounts numbered from 1.
pub fn next(random: &mut Random, accounts: u32) -> String {
    let kind = choose(random);
    let account = 1 + random.below(u64::from(accounts));
    match kind {
        Kind::PersonMoved => moved(random, account, u64::from(accounts)),
        // Relay tokens belong to no account; 0 is nobody's number.
        Kind::RelaysSeen => transaction(&[0], RELAYS_SEEN),
        Kind::TakenBack => taken_back(random, account),
        Kind::DevicesSeen
        | Kind::FlowsAuthorised
        | Kind::FlowsExpired
        | Kind::GroupSynced
        | Kind::GatewaysSeen
        | Kind::ResourceAdded
        | Kind::ResourceRemoved
        | Kind::ResourceChanged
        | Kind::PolicySwitched
        | Kind::ConditionsChanged
        | Kind::PolicyRepointed
        | Kind::AccountChanged
        | Kind::DirectorySynced
        | Kind::PersonHired
        | Kind::PersonLeft
        | Kind::MembershipReplaced => transaction(&[account], &statements(kind, random, account)),
    }
}

fn choose(random: &mut Random) -> Kind {
    let total = KINDS.iter().map(|(weight, _)| weight).sum();
    let mut left = random.below(total);
    for (weight, kind) in KINDS {
        match left.checked_sub(weight) {
            None => return kind,
            Some(rest) => left = rest,
        }
    }
    Kind::DevicesSeen
}

/// Within the locks of these accounts, which are sorted.
fn transaction(accounts: &[u64], statements: &str) -> String {
    let locks: String = accounts.iter().map(|account| format!("SELECT penstock_demo.lock({account});\n")).collect();
    format!("BEGIN;\n{locks}{statements}\nCOMMIT;")
}

fn statements(kind: Kind, random: &mut Random, account: u64) -> String {
    let template = match kind {
        Kind::DevicesSeen => DEVICES_SEEN,
        Kind::FlowsAuthorised => FLOWS_AUTHORISED,
        Kind::FlowsExpired => FLOWS_EXPIRED,
        Kind::GroupSynced => GROUP_SYNCED,
        Kind::GatewaysSeen => GATEWAYS_SEEN,
        Kind::ResourceAdded => RESOURCE_ADDED,
        Kind::ResourceRemoved => RESOURCE_REMOVED,
        Kind::ResourceChanged => RESOURCE_CHANGED,
        Kind::PolicySwitched => POLICY_SWITCHED,
        Kind::ConditionsChanged => CONDITIONS_CHANGED,
        Kind::PolicyRepointed => POLICY_REPOINTED,
        Kind::AccountChanged => ACCOUNT_CHANGED,
        Kind::DirectorySynced => DIRECTORY_SYNCED,
        Kind::PersonHired => PERSON_HIRED,
        Kind::PersonLeft => PERSON_LEFT,
        Kind::PersonMoved => PERSON_MOVED,
        Kind::MembershipReplaced => MEMBERSHIP_REPLACED,
        Kind::TakenBack => "",
        Kind::RelaysSeen => RELAYS_SEEN,
    };
    filled(template, random, account)
}

fn filled(template: &str, random: &mut Random, account: u64) -> String {
    template
        .replace("{account}", &account_id(account))
        .replace("{id}", &format!("'{}'::uuid", random.uuid()))
        .replace("{second_id}", &format!("'{}'::uuid", random.uuid()))
        .replace("{byte}", &random.below(250).to_string())
        .replace("{few}", &(1 + random.below(8)).to_string())
}

fn account_id(account: u64) -> String {
    format!("md5('account {account}')::uuid")
}

/// A person and all devices go to another account.
fn moved(random: &mut Random, account: u64, accounts: u64) -> String {
    let other = 1 + (account + random.below(accounts.max(2) - 1)) % accounts;
    let mut both = [account, other];
    both.sort_unstable();
    let statements = statements(Kind::PersonMoved, random, account)
        .replace("{other}", &account_id(other))
        // Empty if there is nobody to move: then nothing happens.
        .replace("{person}", "nullif(current_setting('penstock_demo.person'), '')::uuid");
    transaction(&both, &statements)
}

/// Done and rolled back: wholly, or to a savepoint. Nothing of it may ever be seen.
fn taken_back(random: &mut Random, account: u64) -> String {
    let seen = statements(Kind::DevicesSeen, random, account);
    let authorised = statements(Kind::FlowsAuthorised, random, account);
    match random.below(2) {
        0 => format!("BEGIN;\nSELECT penstock_demo.lock({account});\n{seen}{authorised}\nROLLBACK;"),
        _ => transaction(&[account], &format!("SAVEPOINT here;\n{authorised}\nROLLBACK TO here;\n{seen}")),
    }
}

const DEVICES_SEEN: &str = "
UPDATE clients SET last_seen_at = now() AT TIME ZONE 'UTC', last_seen_version = '1.4.{byte}',
    last_seen_remote_ip = '198.51.100.{byte}', updated_at = now() AT TIME ZONE 'UTC'
WHERE id IN (SELECT id FROM clients WHERE account_id = {account} ORDER BY random() LIMIT {few});
UPDATE tokens SET last_seen_at = now() AT TIME ZONE 'UTC', last_seen_remote_ip = '198.51.100.{byte}', updated_at = now()
WHERE id IN (
    SELECT last_used_token_id FROM clients
    WHERE account_id = {account} AND last_used_token_id IS NOT NULL ORDER BY random() LIMIT {few}
) AND account_id = {account};
";

const FLOWS_AUTHORISED: &str = "
INSERT INTO flows (id, account_id, policy_id, client_id, gateway_id, resource_id, token_id, actor_group_membership_id,
    client_remote_ip, client_user_agent, gateway_remote_ip, expires_at, inserted_at)
SELECT gen_random_uuid(), policies.account_id, policies.id, clients.id, gateways.id, policies.resource_id,
    clients.last_used_token_id, memberships.id, '198.51.100.{byte}', 'Linux/6.1 connlib/1.4.0', '203.0.113.{byte}',
    now() AT TIME ZONE 'UTC' + interval '1 hour', now() AT TIME ZONE 'UTC'
FROM (
    SELECT * FROM policies WHERE account_id = {account} AND disabled_at IS NULL AND deleted_at IS NULL
    ORDER BY random() LIMIT 2
) AS policies
JOIN actor_group_memberships AS memberships ON memberships.group_id = policies.actor_group_id
JOIN clients ON clients.actor_id = memberships.actor_id AND clients.account_id = policies.account_id
JOIN resource_connections AS connections ON connections.resource_id = policies.resource_id
JOIN gateways ON gateways.group_id = connections.gateway_group_id
WHERE clients.last_used_token_id IS NOT NULL
ORDER BY random() LIMIT {few} + 4;
";

const FLOWS_EXPIRED: &str = "
DELETE FROM flows WHERE id IN (
    SELECT id FROM flows WHERE account_id = {account} ORDER BY inserted_at LIMIT {few} + 4
);
";

const GROUP_SYNCED: &str = "
DELETE FROM actor_group_memberships WHERE id IN (
    SELECT id FROM actor_group_memberships WHERE account_id = {account} ORDER BY random() LIMIT {few}
);
INSERT INTO actor_group_memberships (id, account_id, actor_id, group_id)
SELECT gen_random_uuid(), {account}, actors.id, groups.id
FROM (SELECT id FROM actors WHERE account_id = {account} ORDER BY random() LIMIT {few}) AS actors
CROSS JOIN (SELECT id FROM actor_groups WHERE account_id = {account} ORDER BY random() LIMIT 1) AS groups
WHERE NOT EXISTS (
    SELECT FROM actor_group_memberships AS present
    WHERE present.actor_id = actors.id AND present.group_id = groups.id
);
UPDATE actor_groups SET last_synced_at = now() AT TIME ZONE 'UTC', updated_at = now() AT TIME ZONE 'UTC'
WHERE id = (SELECT id FROM actor_groups WHERE account_id = {account} ORDER BY random() LIMIT 1);
";

const GATEWAYS_SEEN: &str = "
UPDATE gateways SET last_seen_at = now() AT TIME ZONE 'UTC', last_seen_remote_ip = '203.0.113.{byte}',
    updated_at = now() AT TIME ZONE 'UTC'
WHERE account_id = {account};
";

const RESOURCE_ADDED: &str = "
INSERT INTO resources (id, account_id, type, name, address, ip_stack, filters, inserted_at, updated_at)
VALUES ({id}, {account}, 'dns', 'Temporary {byte}', 'temporary-{byte}.example.com', 'dual',
    '[{\"protocol\": \"tcp\", \"ports\": [\"443\", \"8{byte}\"]}]', now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC');
INSERT INTO resource_connections (resource_id, gateway_group_id, account_id)
SELECT {id}, id, account_id FROM gateway_groups WHERE account_id = {account} ORDER BY random() LIMIT 2;
INSERT INTO policies (id, account_id, actor_group_id, resource_id, conditions, description, inserted_at, updated_at)
SELECT gen_random_uuid(), account_id, id, {id}, '{}', 'Temporary {byte}',
    now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
FROM actor_groups WHERE account_id = {account} ORDER BY random() LIMIT 3;
";

const RESOURCE_REMOVED: &str = "
DELETE FROM resources WHERE id = (
    SELECT id FROM resources WHERE account_id = {account} AND name LIKE 'Temporary %' ORDER BY random() LIMIT 1
);
";

const RESOURCE_CHANGED: &str = "
UPDATE resources SET name = 'Renamed {byte}', updated_at = now() AT TIME ZONE 'UTC'
WHERE id = (SELECT id FROM resources WHERE account_id = {account} AND type <> 'internet'
    AND name NOT LIKE 'Temporary %' ORDER BY random() LIMIT 1);
";

const POLICY_SWITCHED: &str = "
UPDATE policies SET updated_at = now() AT TIME ZONE 'UTC',
    disabled_at = CASE WHEN disabled_at IS NULL THEN now() AT TIME ZONE 'UTC' END
WHERE id IN (SELECT id FROM policies WHERE account_id = {account} ORDER BY random() LIMIT 2);
";

const CONDITIONS_CHANGED: &str = "
UPDATE policies SET updated_at = now() AT TIME ZONE 'UTC', conditions = ARRAY[
    '{\"property\": \"remote_ip\", \"operator\": \"is_in_cidr\", \"values\": [\"198.51.100.{byte}/32\"]}'::jsonb,
    '{\"property\": \"client_verified\", \"operator\": \"is\", \"values\": [\"true\"]}'::jsonb
]
WHERE id = (SELECT id FROM policies WHERE account_id = {account} AND pg_column_size(conditions) < 1000
    ORDER BY random() LIMIT 1);
";

const POLICY_REPOINTED: &str = "
UPDATE policies SET resource_id = other.id, updated_at = now() AT TIME ZONE 'UTC'
FROM (SELECT id FROM resources WHERE account_id = {account} ORDER BY random() LIMIT 1) AS other
WHERE policies.id = (
    SELECT id FROM policies WHERE account_id = {account} AND description LIKE 'Temporary %' ORDER BY random() LIMIT 1
) AND NOT EXISTS (
    SELECT FROM policies AS present
    WHERE present.actor_group_id = policies.actor_group_id AND present.resource_id = other.id
);
";

const ACCOUNT_CHANGED: &str = "
UPDATE accounts SET updated_at = now() AT TIME ZONE 'UTC',
    config = config || jsonb_build_object('search_domain', 'corp-{byte}.example.com')
WHERE id = {account};
";

const DIRECTORY_SYNCED: &str = "
UPDATE actors SET last_synced_at = now() AT TIME ZONE 'UTC', updated_at = now() AT TIME ZONE 'UTC'
WHERE account_id = {account} AND type = 'account_user';
UPDATE auth_providers SET last_synced_at = now() AT TIME ZONE 'UTC' WHERE account_id = {account} AND adapter = 'openid_connect';
";

const PERSON_HIRED: &str = "
INSERT INTO actors (id, account_id, type, name, inserted_at, updated_at)
VALUES ({id}, {account}, 'account_user', 'New {byte}', now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC');
INSERT INTO tokens (id, account_id, type, actor_id, secret_salt, secret_hash, expires_at, inserted_at, updated_at)
VALUES ({second_id}, {account}, 'client', {id}, 'SECRET-salt', 'SECRET-hash',
    now() AT TIME ZONE 'UTC' + interval '30 days', now(), now());
INSERT INTO clients (id, account_id, actor_id, last_used_token_id, external_id, name, public_key, ipv4, ipv6,
    last_seen_version, last_seen_remote_ip, inserted_at, updated_at)
SELECT gen_random_uuid(), {account}, {id}, {second_id}, md5(address::text), 'new laptop', md5(address::text),
    '100.64.0.0'::inet + address, 'fd00:2021:1111::'::inet + address, '1.4.2', '198.51.100.{byte}',
    now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
FROM nextval('penstock_demo.address') AS address;
INSERT INTO actor_group_memberships (id, account_id, actor_id, group_id)
SELECT gen_random_uuid(), account_id, {id}, id FROM actor_groups WHERE account_id = {account} ORDER BY random() LIMIT 3;
";

const PERSON_LEFT: &str = "
DELETE FROM actors WHERE id = (
    SELECT id FROM actors WHERE account_id = {account} AND name LIKE 'New %' ORDER BY inserted_at LIMIT 1
);
";

const PERSON_MOVED: &str = "
SELECT set_config('penstock_demo.person', (
    SELECT id::text FROM actors WHERE account_id = {account} AND type = 'account_user' ORDER BY random() LIMIT 1
), true);
DELETE FROM actor_group_memberships WHERE actor_id = {person};
DELETE FROM flows WHERE client_id IN (SELECT id FROM clients WHERE actor_id = {person});
UPDATE auth_identities SET account_id = {other} WHERE actor_id = {person};
UPDATE tokens SET account_id = {other} WHERE actor_id = {person};
UPDATE clients SET account_id = {other},
    ipv4 = '100.64.0.0'::inet + nextval('penstock_demo.address'),
    ipv6 = 'fd00:2021:1111::'::inet + currval('penstock_demo.address')
WHERE actor_id = {person};
UPDATE actors SET account_id = {other}, updated_at = now() AT TIME ZONE 'UTC' WHERE id = {person};
INSERT INTO actor_group_memberships (id, account_id, actor_id, group_id)
SELECT gen_random_uuid(), account_id, {person}, id FROM actor_groups
WHERE account_id = {other} AND {person} IS NOT NULL ORDER BY random() LIMIT 2;
";

const MEMBERSHIP_REPLACED: &str = "
WITH gone AS (
    SELECT id FROM actor_group_memberships WHERE account_id = {account} ORDER BY random() LIMIT 1
), removed AS (
    DELETE FROM actor_group_memberships WHERE id IN (SELECT id FROM gone) RETURNING account_id, actor_id, group_id
)
SELECT set_config('penstock_demo.pair', concat_ws(',', actor_id, group_id), true) FROM removed;
INSERT INTO actor_group_memberships (id, account_id, actor_id, group_id)
SELECT {id}, {account}, pair[1]::uuid, pair[2]::uuid
FROM string_to_array(nullif(current_setting('penstock_demo.pair', true), ''), ',') AS pair
WHERE pair IS NOT NULL;
";

const RELAYS_SEEN: &str = "
UPDATE tokens SET last_seen_at = now() AT TIME ZONE 'UTC', updated_at = now()
WHERE account_id IS NULL AND type = 'relay_group';
";

#[cfg(test)]
mod tests {
    use super::{KINDS, Random, next};

    #[test]
    fn every_transaction_locks_first_and_has_no_blanks_left() {
        let mut random = Random::new(1);
        for _ in 0..5_000 {
            let sql = next(&mut random, 20);
            assert!(sql.starts_with("BEGIN;\nSELECT penstock_demo.lock("), "{sql}");
            assert!(sql.ends_with("COMMIT;") || sql.ends_with("ROLLBACK;"), "{sql}");
            for blank in ["{account}", "{other}", "{person}", "{id}", "{second_id}", "{byte}", "{few}"] {
                assert!(!sql.contains(blank), "{blank} in {sql}");
            }
        }
    }

    #[test]
    fn a_move_locks_two_different_accounts_in_order() {
        let mut random = Random::new(2);
        let mut moves = 0;
        for _ in 0..5_000 {
            let sql = next(&mut random, 3);
            if !sql.contains("penstock_demo.person") {
                continue;
            }
            moves += 1;
            let locks: Vec<u64> = sql
                .lines()
                .filter_map(|line| line.strip_prefix("SELECT penstock_demo.lock(")?.strip_suffix(");")?.parse().ok())
                .collect();
            assert!(locks.len() == 2 && locks[0] < locks[1] && locks[0] > 0 && locks[1] <= 3, "{locks:?}");
            let other = sql.matches("SET account_id = md5('account ").count();
            assert_eq!(other, 4, "{sql}");
        }
        assert!(moves > 0);
    }

    #[test]
    fn every_kind_happens() {
        let mut random = Random::new(3);
        let kinds: Vec<_> = (0..5_000).map(|_| super::choose(&mut random)).collect();
        for (_, kind) in KINDS {
            assert!(kinds.contains(&kind), "{kind:?}");
        }
    }
}
