//! Rows together with what decisions need that is made from them alone, once, when they come.

use std::sync::Arc;

use penstock_wire::position::Position;
use uuid::Uuid;

use crate::channel::push::Peer;
use crate::conditions::{Conditions, Facts, Options, Problem, Window};
use crate::coordinates::Place;
use crate::rows::{ClientRow, GatewayRow, IpStack, Micros, PolicyRow, ResourceKind, ResourceRow};
use crate::version::Version;

#[derive(Clone, Debug)]
pub(crate) struct ClientEntry {
    pub(crate) row: ClientRow,
    pub(crate) version: Version,
    pub(crate) place: Place,
    /// As gateways are told of it.
    pub(crate) peer: Arc<Peer>,
}

#[derive(Clone, Debug)]
pub(crate) struct GatewayEntry {
    pub(crate) row: GatewayRow,
    pub(crate) version: Version,
    pub(crate) place: Place,
}

#[derive(Clone, Debug)]
pub(crate) struct ResourceEntry {
    pub(crate) row: ResourceRow,
    pub(crate) address_since: AddressSince,
}

/// Where a resource's address, type or IP stack last changed, or was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressSince {
    pub(crate) position: Position,
    /// First seen, and by a load: what was loaded shows no change.
    pub(crate) loaded: bool,
}

#[derive(Debug)]
pub(crate) struct PolicyEntry {
    pub(crate) row: PolicyRow,
    conditions: Conditions,
    /// What the conditions say by time alone, for a while; nothing before it is first asked for.
    window: Option<Window>,
}

/// What flows were authorised for.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    address: Option<Arc<str>>,
    kind: ResourceKind,
    ip_stack: Option<IpStack>,
    pub(crate) since: AddressSince,
}

impl ClientEntry {
    pub(crate) fn new(id: Uuid, row: &ClientRow) -> Self {
        let peer = Arc::new(Peer { id, public_key: row.public_key.clone(), ipv4: row.ipv4, ipv6: row.ipv6 });
        let version = Version::parse(row.last_seen_version.as_deref());
        Self { row: row.clone(), version, place: Place::of(row.coordinates), peer }
    }
}

impl GatewayEntry {
    pub(crate) fn new(row: &GatewayRow) -> Self {
        let version = Version::parse(row.last_seen_version.as_deref());
        Self { row: row.clone(), version, place: Place::of(row.coordinates) }
    }
}

impl ResourceEntry {
    pub(crate) fn address(&self) -> Address {
        Address::of(&self.row, self.address_since)
    }
}

impl Address {
    pub(crate) fn of(row: &ResourceRow, since: AddressSince) -> Self {
        Self { address: row.address.clone(), kind: row.kind, ip_stack: row.ip_stack, since }
    }

    /// Whether a flow authorised for one is good for the other.
    pub(crate) fn same_place(&self, other: &Self) -> bool {
        (&self.address, self.kind, self.ip_stack) == (&other.address, other.kind, other.ip_stack)
    }
}

impl PolicyEntry {
    pub(crate) fn compile(row: &PolicyRow) -> (Self, Vec<Problem>) {
        let (conditions, problems) = Conditions::compile(&row.conditions);
        (Self { row: row.clone(), conditions, window: None }, problems)
    }

    /// The last second in which the conditions that ask for the time hold (None: for ever), or None: they don't.
    ///
    /// That does not depend on the client, and is kept from one question to the next.
    #[inline]
    pub(crate) fn open_until(&self, now: Micros) -> Option<Option<i64>> {
        self.window_at(now).open
    }

    /// Whether the conditions hold that don't ask for the time.
    #[inline]
    pub(crate) fn holds(&self, facts: &Facts<'_>, options: &Options) -> bool {
        self.conditions.client_holds(facts, options)
    }

    /// Properties of failing conditions, in order, each once.
    pub(crate) fn violated(&self, facts: &Facts<'_>, now: Micros, options: &Options, out: &mut Vec<Arc<str>>) {
        match self.window_at(now).open {
            Some(_) => self.conditions.violated_in_window(facts, options, out),
            None => self.conditions.violated(facts, now, options, out),
        }
    }

    /// The first second in which the time part must be looked at again.
    pub(crate) fn deadline(&self) -> Option<i64> {
        self.window?.until
    }

    /// Looks at the time part; true if it says something else than before, or was not looked at before.
    pub(crate) fn look_at_time(&mut self, now: Micros) -> bool {
        let before = self.window.map(|window| window.open);
        let window = self.window_at(now);
        let second = now.seconds();
        assert!(window.until.is_none_or(|until| second < until), "a window at {second} that is over: {window:?}");
        self.window = Some(window);
        before != Some(window.open)
    }

    #[inline]
    fn window_at(&self, now: Micros) -> Window {
        let second = now.seconds();
        match self.window {
            Some(window) if window.from <= second && window.until.is_none_or(|until| second < until) => window,
            Some(_) | None => self.conditions.window_at(now),
        }
    }
}
