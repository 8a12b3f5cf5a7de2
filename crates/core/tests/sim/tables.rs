//! The tables that the simulated database has: those of the access domain that decide who may reach what.

use penstock_core::pgoutput::{self, Message, Relation};
use penstock_core::relation::{AccountColumns, CatalogFacts, Rules, TableRules};
use penstock_wire::types::{TypeInfo, ValueKind};

/// A row's values as Postgres prints them, in the order of its table's columns.
pub type Row = Vec<Option<String>>;
/// A row's key, column by column.
pub type Key = Vec<String>;

#[derive(Debug)]
pub struct Definition {
    pub name: &'static str,
    pub oid: u32,
    columns: &'static [(&'static str, Type)],
    key: &'static [usize],
    account: usize,
}

#[derive(Clone, Copy, Debug)]
enum Type {
    Uuid,
    Text,
    Inet,
    Timestamp,
    Jsonb,
    JsonbArray,
}

use Type::{Inet, Jsonb, JsonbArray, Text, Timestamp, Uuid};

pub const ACCOUNTS: usize = 0;
pub const ACTORS: usize = 1;
pub const GROUPS: usize = 2;
pub const MEMBERSHIPS: usize = 3;
pub const TOKENS: usize = 4;
pub const CLIENTS: usize = 5;
pub const SITES: usize = 6;
pub const RESOURCES: usize = 7;
pub const CONNECTIONS: usize = 8;
pub const POLICIES: usize = 9;

/// A client's column that the bridge is told to ignore: an update of it alone is dropped.
pub const IGNORED: &str = "last_seen_at";

pub const TABLES: [Definition; 10] = [
    Definition {
        name: "accounts",
        oid: 16_400,
        columns: &[("id", Uuid), ("slug", Text), ("deleted_at", Timestamp)],
        key: &[0],
        account: 0,
    },
    Definition {
        name: "actors",
        oid: 16_401,
        columns: &[("id", Uuid), ("account_id", Uuid), ("type", Text), ("deleted_at", Timestamp)],
        key: &[0],
        account: 1,
    },
    Definition {
        name: "actor_groups",
        oid: 16_402,
        columns: &[("id", Uuid), ("account_id", Uuid), ("type", Text), ("deleted_at", Timestamp)],
        key: &[0],
        account: 1,
    },
    Definition {
        name: "actor_group_memberships",
        oid: 16_403,
        columns: &[("id", Uuid), ("account_id", Uuid), ("actor_id", Uuid), ("group_id", Uuid)],
        key: &[0],
        account: 1,
    },
    Definition {
        name: "tokens",
        oid: 16_404,
        columns: &[
            ("id", Uuid),
            ("account_id", Uuid),
            ("type", Text),
            ("actor_id", Uuid),
            ("expires_at", Timestamp),
            ("deleted_at", Timestamp),
        ],
        key: &[0],
        account: 1,
    },
    Definition {
        name: "clients",
        oid: 16_405,
        columns: &[
            ("id", Uuid),
            ("account_id", Uuid),
            ("actor_id", Uuid),
            ("identity_id", Uuid),
            ("last_used_token_id", Uuid),
            ("public_key", Text),
            ("ipv4", Inet),
            ("ipv6", Inet),
            ("last_seen_version", Text),
            (IGNORED, Timestamp),
            ("deleted_at", Timestamp),
        ],
        key: &[0],
        account: 1,
    },
    Definition {
        name: "gateway_groups",
        oid: 16_406,
        columns: &[("id", Uuid), ("account_id", Uuid), ("name", Text), ("deleted_at", Timestamp)],
        key: &[0],
        account: 1,
    },
    Definition {
        name: "resources",
        oid: 16_407,
        columns: &[
            ("id", Uuid),
            ("account_id", Uuid),
            ("name", Text),
            ("type", Text),
            ("address", Text),
            ("filters", Jsonb),
            ("deleted_at", Timestamp),
        ],
        key: &[0],
        account: 1,
    },
    Definition {
        name: "resource_connections",
        oid: 16_408,
        columns: &[("resource_id", Uuid), ("gateway_group_id", Uuid), ("account_id", Uuid)],
        key: &[0, 1],
        account: 2,
    },
    Definition {
        name: "policies",
        oid: 16_409,
        columns: &[
            ("id", Uuid),
            ("account_id", Uuid),
            ("actor_group_id", Uuid),
            ("resource_id", Uuid),
            ("conditions", JsonbArray),
            ("deleted_at", Timestamp),
        ],
        key: &[0],
        account: 1,
    },
];

impl Type {
    const fn oid(self) -> u32 {
        match self {
            Uuid => 2950,
            Text => 25,
            Inet => 869,
            Timestamp => 1114,
            Jsonb => 3802,
            JsonbArray => 3807,
        }
    }

    fn info(self) -> TypeInfo {
        let (kind, name) = match self {
            Uuid => (ValueKind::Uuid, "uuid"),
            Text => (ValueKind::Text, "text"),
            Inet => (ValueKind::Inet, "inet"),
            Timestamp => (ValueKind::Timestamp, "timestamp without time zone"),
            Jsonb => (ValueKind::Jsonb, "jsonb"),
            JsonbArray => (ValueKind::Jsonb.array(), "jsonb[]"),
        };
        TypeInfo { kind, pg_type: name.to_owned(), pg_base: None }
    }
}

impl Definition {
    pub fn column(&self, name: &str) -> usize {
        let found = self.columns.iter().position(|(column, _)| *column == name);
        found.unwrap_or_else(|| panic!("{} has no column {name}", self.name))
    }

    pub fn width(&self) -> usize {
        self.columns.len()
    }

    pub fn key_of(&self, row: &Row) -> Key {
        self.key.iter().map(|column| row[*column].clone().expect("a key is not null")).collect()
    }

    pub fn account_of<'a>(&self, row: &'a Row) -> &'a str {
        row[self.account].as_deref().expect("an account is not null")
    }

    pub fn key_width(&self) -> usize {
        self.key.len()
    }

    pub fn account_column(&self) -> usize {
        self.account
    }

    /// Whether two versions of a row differ in more than what is ignored.
    pub fn differs(&self, old: &Row, new: &Row) -> bool {
        let named = self.columns.iter().map(|(name, _)| *name);
        named.zip(old.iter().zip(new)).any(|(name, (old, new))| name != IGNORED && old != new)
    }

    /// The Relation message, under REPLICA IDENTITY FULL.
    pub fn relation_message(&self) -> Vec<u8> {
        let mut bytes = b"R".to_vec();
        bytes.extend(self.oid.to_be_bytes());
        bytes.extend_from_slice(b"public\0");
        bytes.extend_from_slice(self.name.as_bytes());
        bytes.extend_from_slice(b"\0f");
        bytes.extend(u16::try_from(self.columns.len()).expect("few columns").to_be_bytes());
        for (name, of) in self.columns {
            bytes.push(1);
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
            bytes.extend(of.oid().to_be_bytes());
            bytes.extend((-1_i32).to_be_bytes());
        }
        bytes
    }

    /// The same, as a catalog would describe the table.
    pub fn relation(&self) -> Relation {
        match pgoutput::decode(&self.relation_message()) {
            Ok(Message::Relation(relation)) => relation,
            other => panic!("{other:?} is no relation"),
        }
    }

    pub fn facts(&self) -> CatalogFacts {
        CatalogFacts {
            types: self.columns.iter().map(|(_, of)| of.info()).collect(),
            variable_length: self.columns.iter().map(|(_, of)| !matches!(of, Uuid | Timestamp)).collect(),
            primary_key: self.key.iter().map(|column| self.columns[*column].0.to_owned()).collect(),
        }
    }
}

pub fn by_name(name: &str) -> Option<usize> {
    TABLES.iter().position(|table| table.name == name)
}

/// What the bridge is configured with.
pub fn rules() -> Rules {
    let name = |table: usize| ("public".to_owned(), TABLES[table].name.to_owned());
    let accounts = TableRules { account_column: Some(AccountColumns::from("id")), ..TableRules::default() };
    let clients = TableRules { ignore: [IGNORED.to_owned()].into(), ..TableRules::default() };
    Rules {
        account_column: AccountColumns::from("account_id"),
        tables: [(name(ACCOUNTS), accounts), (name(CLIENTS), clients)].into(),
        ..Rules::default()
    }
}

pub fn uuid(kind: usize, number: usize) -> String {
    format!("{kind:08x}-0000-4000-8000-{number:012x}")
}
