//! What a change may have changed: the clients and gateways whose channels are compared with what they were sent.
//!
//! A change is followed along the indexes as they stand right before it and right after it. A verdict that differs
//! between the ends of a commit differs across one of its changes, so what is collected over all of them misses nothing.
//! Only ids that somebody watches are kept; announced flows are always looked at, because losing a grant ends them.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::limits::TOUCHED_KEYS_MAX;

/// How much of a channel to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope<K> {
    /// Everything, and the channel's own row and token.
    All,
    Some(BTreeSet<K>),
}

/// A client and a resource.
pub(crate) type Pair = (Uuid, Uuid);

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// The account became live, or ceased to be, or the whole state was replaced.
    pub(crate) everything: bool,
    /// The account's own row changed: what channels are told of it may differ, and nothing else.
    pub(crate) account: bool,
    pub(crate) clients: BTreeMap<Uuid, Scope<Uuid>>,
    pub(crate) gateways: BTreeMap<Uuid, Scope<Pair>>,
    /// Tokens that channels may have been opened with.
    pub(crate) tokens: BTreeSet<Uuid>,
    /// Announced flows that may have lost their grant.
    pub(crate) announced: BTreeSet<Uuid>,
    /// Policies whose conditions are new.
    pub(crate) policies: BTreeSet<Uuid>,
    /// How many index entries were read or written.
    pub(crate) entries: u64,
    watched_clients: BTreeMap<Uuid, u32>,
    watched_gateways: BTreeMap<Uuid, u32>,
}

impl Touched {
    /// A channel of the client was opened.
    pub(crate) fn watch_client(&mut self, client: Uuid) {
        *self.watched_clients.entry(client).or_default() += 1;
    }

    /// A channel of the gateway was opened.
    pub(crate) fn watch_gateway(&mut self, gateway: Uuid) {
        *self.watched_gateways.entry(gateway).or_default() += 1;
    }

    /// A channel of the client was closed.
    pub(crate) fn unwatch_client(&mut self, client: Uuid) {
        forget_one(&mut self.watched_clients, client);
    }

    /// A channel of the gateway was closed.
    pub(crate) fn unwatch_gateway(&mut self, gateway: Uuid) {
        forget_one(&mut self.watched_gateways, gateway);
    }

    /// Whether it is worth looking for clients.
    pub(crate) fn wants_clients(&self) -> bool {
        !self.watched_clients.is_empty() && !self.everything
    }

    /// Whether it is worth looking for pairs.
    pub(crate) fn wants_pairs(&self) -> bool {
        !self.watched_gateways.is_empty() && !self.everything
    }

    /// All of a client's channels.
    pub(crate) fn client(&mut self, client: Uuid) {
        if self.wants_clients() && self.watched_clients.contains_key(&client) {
            self.clients.insert(client, Scope::All);
        }
    }

    /// One resource in a client's channels.
    pub(crate) fn client_resource(&mut self, client: Uuid, resource: Uuid) {
        if self.wants_clients() && self.watched_clients.contains_key(&client) {
            add(self.clients.entry(client).or_insert_with(nothing), resource);
        }
    }

    /// All of a gateway's channels.
    pub(crate) fn gateway(&mut self, gateway: Uuid) {
        if self.wants_pairs() && self.watched_gateways.contains_key(&gateway) {
            self.gateways.insert(gateway, Scope::All);
        }
    }

    /// One pair in a gateway's channels.
    pub(crate) fn pair(&mut self, gateway: Uuid, client: Uuid, resource: Uuid) {
        if self.wants_pairs() && self.watched_gateways.contains_key(&gateway) {
            add(self.gateways.entry(gateway).or_insert_with(nothing), (client, resource));
        }
    }

    /// Takes what was touched, not who watches.
    pub(crate) fn take(&mut self) -> Self {
        let watched_clients = std::mem::take(&mut self.watched_clients);
        let watched_gateways = std::mem::take(&mut self.watched_gateways);
        let empty = Self { entries: self.entries, watched_clients, watched_gateways, ..Self::default() };
        std::mem::replace(self, empty)
    }

    /// Forgets what was touched, not who watches.
    pub(crate) fn clear(&mut self) {
        self.take();
    }
}

fn nothing<K>() -> Scope<K> {
    Scope::Some(BTreeSet::new())
}

fn add<K: Ord>(scope: &mut Scope<K>, key: K) {
    if let Scope::Some(keys) = scope {
        keys.insert(key);
        if keys.len() > TOUCHED_KEYS_MAX {
            *scope = Scope::All;
        }
    }
}

fn forget_one(watched: &mut BTreeMap<Uuid, u32>, id: Uuid) {
    if let Some(count) = watched.get_mut(&id) {
        *count -= 1;
        if *count == 0 {
            watched.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCHED: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    #[test]
    fn only_what_is_watched_is_kept() {
        let mut touched = Touched::default();
        touched.watch_client(WATCHED);
        touched.client_resource(WATCHED, OTHER);
        touched.client_resource(OTHER, OTHER);
        touched.pair(OTHER, OTHER, OTHER);
        assert_eq!(touched.clients, BTreeMap::from([(WATCHED, Scope::Some(BTreeSet::from([OTHER])))]));
        assert!(touched.gateways.is_empty());
    }

    #[test]
    fn the_last_channel_that_closes_ends_the_watch() {
        let mut touched = Touched::default();
        touched.watch_gateway(WATCHED);
        touched.watch_gateway(WATCHED);
        touched.unwatch_gateway(WATCHED);
        assert!(touched.wants_pairs());
        touched.unwatch_gateway(WATCHED);
        assert!(!touched.wants_pairs());
    }

    #[test]
    fn many_keys_become_everything_and_stay_so() {
        let mut touched = Touched::default();
        touched.watch_client(WATCHED);
        for n in 0..=TOUCHED_KEYS_MAX {
            touched.client_resource(WATCHED, Uuid::from_u128(n as u128));
        }
        assert_eq!(touched.clients[&WATCHED], Scope::All);
        touched.client_resource(WATCHED, OTHER);
        assert_eq!(touched.clients[&WATCHED], Scope::All);
    }
}
