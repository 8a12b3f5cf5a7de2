-- The access schema: the tables of a zero-trust network product, as tests, demo and benchmarks capture them.
--
-- Plain SQL: psql reads it, and so does any client that sends a batch. Creates tables and nothing else: no rows, no
-- publication, no slot, because a publication must exist before the slot, and the slot before the first row.
--
-- What matters for capture:
--   every table has REPLICA IDENTITY FULL, so that a delete, a move to another account and an unchanged value that is
--   stored out of line can all be told from the old row;
--   the account column is account_id, except in accounts (its own id); in tokens it is NULL for relay tokens;
--   enumerations are varchar without CHECK, as the product keeps them: readers must survive a value they don't know;
--   columns that hold secrets say so in a comment beside them, and no capture configuration may let them through.

CREATE EXTENSION IF NOT EXISTS citext;

CREATE TABLE accounts (
    id uuid PRIMARY KEY,
    name varchar(255) NOT NULL,
    legal_name varchar(255),
    slug citext NOT NULL,
    config jsonb NOT NULL DEFAULT '{}',
    features jsonb NOT NULL DEFAULT '{}',
    limits jsonb NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    warning text,
    warning_delivery_attempts integer NOT NULL DEFAULT 0,
    warning_last_sent_at timestamp,
    disabled_reason varchar(255),
    disabled_at timestamp,
    deleted_at timestamp,
    inserted_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE UNIQUE INDEX accounts_slug_index ON accounts (slug) WHERE deleted_at IS NULL;

CREATE TABLE auth_providers (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name varchar(255) NOT NULL,
    adapter varchar(255) NOT NULL,
    provisioner varchar(255) NOT NULL DEFAULT 'manual',
    adapter_config jsonb NOT NULL DEFAULT '{}', -- secret
    adapter_state jsonb NOT NULL DEFAULT '{}', -- secret
    last_sync_error text,
    last_syncs_failed integer NOT NULL DEFAULT 0,
    last_synced_at timestamp,
    created_by varchar(255) NOT NULL DEFAULT 'system',
    disabled_at timestamp,
    deleted_at timestamp,
    inserted_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE INDEX auth_providers_account_id_index ON auth_providers (account_id);

-- type: account_user, account_admin_user, service_account, api_client
CREATE TABLE actors (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    type varchar(255) NOT NULL,
    name varchar(255) NOT NULL,
    last_synced_at timestamp,
    disabled_at timestamp,
    deleted_at timestamp,
    inserted_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE INDEX actors_account_id_index ON actors (account_id);

CREATE TABLE auth_identities (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    actor_id uuid NOT NULL REFERENCES actors (id) ON DELETE CASCADE,
    provider_id uuid NOT NULL REFERENCES auth_providers (id) ON DELETE CASCADE,
    provider_identifier citext NOT NULL,
    provider_state jsonb NOT NULL DEFAULT '{}', -- secret
    email citext,
    last_seen_user_agent varchar(255),
    last_seen_remote_ip inet,
    last_seen_at timestamp,
    created_by varchar(255) NOT NULL DEFAULT 'provider',
    deleted_at timestamp,
    inserted_at timestamp NOT NULL
);
CREATE UNIQUE INDEX auth_identities_identifier_index
    ON auth_identities (account_id, provider_id, provider_identifier) WHERE deleted_at IS NULL;
CREATE INDEX auth_identities_actor_id_index ON auth_identities (actor_id);
CREATE INDEX auth_identities_provider_id_index ON auth_identities (provider_id);

-- type: managed, static
CREATE TABLE actor_groups (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    provider_id uuid REFERENCES auth_providers (id) ON DELETE CASCADE,
    provider_identifier varchar(255),
    type varchar(255) NOT NULL DEFAULT 'static',
    name varchar(255) NOT NULL,
    created_by varchar(255) NOT NULL DEFAULT 'system',
    created_by_subject jsonb,
    last_synced_at timestamp,
    deleted_at timestamp,
    inserted_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE INDEX actor_groups_account_id_index ON actor_groups (account_id);
CREATE INDEX actor_groups_provider_id_index ON actor_groups (provider_id);

-- Hard deletes only, and no timestamps: nothing in the row tells when it came.
CREATE TABLE actor_group_memberships (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    actor_id uuid NOT NULL REFERENCES actors (id) ON DELETE CASCADE,
    group_id uuid NOT NULL REFERENCES actor_groups (id) ON DELETE CASCADE,
    UNIQUE (actor_id, group_id)
);
CREATE INDEX actor_group_memberships_account_id_index ON actor_group_memberships (account_id);
CREATE INDEX actor_group_memberships_group_id_index ON actor_group_memberships (group_id);

-- What the product's portal calls sites. managed_by: account, system
CREATE TABLE gateway_groups (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name varchar(255) NOT NULL,
    managed_by varchar(255) NOT NULL DEFAULT 'account',
    created_by varchar(255) NOT NULL DEFAULT 'system',
    created_by_subject jsonb,
    deleted_at timestamp,
    inserted_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE INDEX gateway_groups_account_id_index ON gateway_groups (account_id);

-- type: browser, client, api_client, relay_group, gateway_group, email. Relay tokens belong to no account.
CREATE TABLE tokens (
    id uuid PRIMARY KEY,
    account_id uuid REFERENCES accounts (id) ON DELETE CASCADE,
    type varchar(255) NOT NULL,
    name varchar(255),
    actor_id uuid REFERENCES actors (id) ON DELETE CASCADE,
    identity_id uuid REFERENCES auth_identities (id) ON DELETE CASCADE,
    gateway_group_id uuid REFERENCES gateway_groups (id) ON DELETE CASCADE,
    relay_group_id uuid,
    secret_salt varchar(255) NOT NULL, -- secret
    secret_hash varchar(255) NOT NULL, -- secret
    remaining_attempts integer,
    created_by varchar(255) NOT NULL DEFAULT 'system',
    created_by_user_agent varchar(255),
    created_by_remote_ip inet,
    last_seen_user_agent varchar(255),
    last_seen_remote_ip inet,
    last_seen_remote_ip_location_region text,
    last_seen_remote_ip_location_city text,
    last_seen_remote_ip_location_lat double precision,
    last_seen_remote_ip_location_lon double precision,
    last_seen_version varchar(255),
    last_seen_at timestamp,
    expires_at timestamp,
    deleted_at timestamp,
    inserted_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX tokens_account_id_index ON tokens (account_id);
CREATE INDEX tokens_actor_id_index ON tokens (actor_id);
CREATE INDEX tokens_identity_id_index ON tokens (identity_id);
CREATE INDEX tokens_gateway_group_id_index ON tokens (gateway_group_id);

-- A user's devices. A device outlives the token and the identity it was last used with.
CREATE TABLE clients (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    actor_id uuid NOT NULL REFERENCES actors (id) ON DELETE CASCADE,
    identity_id uuid REFERENCES auth_identities (id) ON DELETE SET NULL,
    last_used_token_id uuid REFERENCES tokens (id) ON DELETE SET NULL,
    external_id varchar(255) NOT NULL,
    name varchar(255) NOT NULL,
    public_key varchar(255) NOT NULL,
    psk_base varchar(255),
    ipv4 inet NOT NULL,
    ipv6 inet NOT NULL,
    device_serial varchar(255),
    device_uuid varchar(255),
    last_seen_user_agent varchar(255),
    last_seen_version varchar(255),
    last_seen_remote_ip inet,
    last_seen_remote_ip_location_region text,
    last_seen_remote_ip_location_city text,
    last_seen_remote_ip_location_lat double precision,
    last_seen_remote_ip_location_lon double precision,
    last_seen_at timestamp,
    verified_at timestamp,
    verified_by varchar(255),
    verified_by_subject jsonb,
    deleted_at timestamp,
    inserted_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE UNIQUE INDEX clients_ipv4_index ON clients (account_id, ipv4) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX clients_ipv6_index ON clients (account_id, ipv6) WHERE deleted_at IS NULL;
CREATE INDEX clients_actor_id_index ON clients (actor_id);
CREATE INDEX clients_identity_id_index ON clients (identity_id);
CREATE INDEX clients_last_used_token_id_index ON clients (last_used_token_id);

-- The machines of a site.
CREATE TABLE gateways (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    group_id uuid NOT NULL REFERENCES gateway_groups (id) ON DELETE CASCADE,
    last_used_token_id uuid REFERENCES tokens (id) ON DELETE SET NULL,
    external_id varchar(255) NOT NULL,
    name varchar(255) NOT NULL,
    public_key varchar(255) NOT NULL,
    ipv4 inet NOT NULL,
    ipv6 inet NOT NULL,
    last_seen_user_agent varchar(255),
    last_seen_version varchar(255),
    last_seen_remote_ip inet,
    last_seen_remote_ip_location_region text,
    last_seen_remote_ip_location_city text,
    last_seen_remote_ip_location_lat double precision,
    last_seen_remote_ip_location_lon double precision,
    last_seen_at timestamp,
    deleted_at timestamp,
    inserted_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE UNIQUE INDEX gateways_ipv4_index ON gateways (account_id, ipv4) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX gateways_ipv6_index ON gateways (account_id, ipv6) WHERE deleted_at IS NULL;
CREATE INDEX gateways_group_id_index ON gateways (group_id);
CREATE INDEX gateways_last_used_token_id_index ON gateways (last_used_token_id);

-- type: cidr, ip, dns, internet. ip_stack, for dns only: ipv4_only, ipv6_only, dual
CREATE TABLE resources (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    type varchar(255) NOT NULL,
    name varchar(255) NOT NULL,
    address varchar(255),
    address_description varchar(512),
    ip_stack varchar(255),
    filters jsonb NOT NULL DEFAULT '[]',
    persistent_id uuid,
    created_by varchar(255) NOT NULL DEFAULT 'actor',
    created_by_subject jsonb,
    deleted_at timestamp,
    inserted_at timestamp NOT NULL,
    updated_at timestamp NOT NULL,
    CONSTRAINT resources_address_required CHECK (type = 'internet' OR address IS NOT NULL)
);
CREATE INDEX resources_account_id_index ON resources (account_id);

-- Hard deletes only; its key is the pair.
CREATE TABLE resource_connections (
    resource_id uuid NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
    gateway_group_id uuid NOT NULL REFERENCES gateway_groups (id) ON DELETE CASCADE,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    created_by varchar(255) NOT NULL DEFAULT 'actor',
    PRIMARY KEY (resource_id, gateway_group_id)
);
CREATE INDEX resource_connections_account_id_index ON resource_connections (account_id);
CREATE INDEX resource_connections_gateway_group_id_index ON resource_connections (gateway_group_id);

-- conditions: elements {property, operator, values[]}. NULL, and a NULL element, are possible and mean "deny".
CREATE TABLE policies (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    actor_group_id uuid NOT NULL REFERENCES actor_groups (id) ON DELETE CASCADE,
    resource_id uuid NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
    conditions jsonb[] DEFAULT '{}',
    description text,
    persistent_id uuid,
    created_by varchar(255) NOT NULL DEFAULT 'actor',
    created_by_subject jsonb,
    disabled_at timestamp,
    deleted_at timestamp,
    inserted_at timestamp NOT NULL,
    updated_at timestamp NOT NULL
);
CREATE UNIQUE INDEX policies_pair_index
    ON policies (account_id, actor_group_id, resource_id) WHERE deleted_at IS NULL;
CREATE INDEX policies_actor_group_id_index ON policies (actor_group_id);
CREATE INDEX policies_resource_id_index ON policies (resource_id);

-- Which client was let through to which resource, over which gateway, and why. Hard deletes only.
CREATE TABLE flows (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    policy_id uuid NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
    client_id uuid NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    gateway_id uuid NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    resource_id uuid NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
    token_id uuid NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    actor_group_membership_id uuid NOT NULL REFERENCES actor_group_memberships (id) ON DELETE CASCADE,
    client_remote_ip inet NOT NULL,
    client_user_agent varchar(255) NOT NULL,
    gateway_remote_ip inet NOT NULL,
    expires_at timestamp,
    inserted_at timestamp NOT NULL
);
CREATE INDEX flows_account_id_index ON flows (account_id);
CREATE INDEX flows_policy_id_index ON flows (policy_id);
CREATE INDEX flows_client_id_index ON flows (client_id);
CREATE INDEX flows_gateway_id_index ON flows (gateway_id);
CREATE INDEX flows_resource_id_index ON flows (resource_id);
CREATE INDEX flows_token_id_index ON flows (token_id);
CREATE INDEX flows_membership_id_index ON flows (actor_group_membership_id);

ALTER TABLE accounts REPLICA IDENTITY FULL;
ALTER TABLE auth_providers REPLICA IDENTITY FULL;
ALTER TABLE actors REPLICA IDENTITY FULL;
ALTER TABLE auth_identities REPLICA IDENTITY FULL;
ALTER TABLE actor_groups REPLICA IDENTITY FULL;
ALTER TABLE actor_group_memberships REPLICA IDENTITY FULL;
ALTER TABLE gateway_groups REPLICA IDENTITY FULL;
ALTER TABLE tokens REPLICA IDENTITY FULL;
ALTER TABLE clients REPLICA IDENTITY FULL;
ALTER TABLE gateways REPLICA IDENTITY FULL;
ALTER TABLE resources REPLICA IDENTITY FULL;
ALTER TABLE resource_connections REPLICA IDENTITY FULL;
ALTER TABLE policies REPLICA IDENTITY FULL;
ALTER TABLE flows REPLICA IDENTITY FULL;
