//! The open channels of an account, and which of them a change is compared in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use penstock_wire::position::Position;
use uuid::Uuid;

use crate::access::View;
use crate::account::touched::{Pair, Scope, Touched};
use crate::channel::client::ClientChannel;
use crate::channel::gateway::GatewayChannel;
use crate::channel::opening::{Opening, Over, Told};
use crate::channel::push::{Message, Push};
use crate::channel::{ChannelId, Event};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    clients: BTreeMap<ChannelId, ClientChannel>,
    gateways: BTreeMap<ChannelId, GatewayChannel>,
    /// Channels by the client or gateway that they are of, and by token.
    of: BTreeSet<(Uuid, ChannelId)>,
    of_token: BTreeSet<(Uuid, ChannelId)>,
    opened: u64,
}

/// Where events go, and what they are marked with.
#[derive(Debug)]
pub(crate) struct Outbox<'a> {
    pub(crate) events: &'a mut VecDeque<(ChannelId, Event)>,
    pub(crate) at: Position,
    pub(crate) deadline: Option<i64>,
}

/// What of a channel is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent<'a> {
    /// All of it.
    Whole,
    /// What was touched.
    Touched(&'a Touched),
}

impl Outbox<'_> {
    pub(crate) fn push(&mut self, channel: ChannelId, push: Push) {
        self.events.push_back((channel, Event::Push(Message { at: self.at, deadline: self.deadline, push })));
    }
}

impl Registry {
    pub(crate) fn open_client(&mut self, channel: ClientChannel) -> ChannelId {
        let id = self.next_id();
        self.of.insert((channel.client, id));
        self.of_token.extend(channel.opening.token().map(|token| (token, id)));
        self.clients.insert(id, channel);
        id
    }

    pub(crate) fn open_gateway(&mut self, channel: GatewayChannel) -> ChannelId {
        let id = self.next_id();
        self.of.insert((channel.gateway, id));
        self.of_token.extend(channel.opening.token().map(|token| (token, id)));
        self.gateways.insert(id, channel);
        id
    }

    fn next_id(&mut self) -> ChannelId {
        self.opened += 1;
        ChannelId(self.opened)
    }

    /// Forgets a channel; nothing if it is over already.
    pub(crate) fn close(&mut self, id: ChannelId, touched: &mut Touched) {
        if let Some(channel) = self.clients.remove(&id) {
            touched.unwatch_client(channel.client);
            self.forget(id, channel.client, channel.opening.token());
        } else if let Some(channel) = self.gateways.remove(&id) {
            touched.unwatch_gateway(channel.gateway);
            self.forget(id, channel.gateway, channel.opening.token());
        }
    }

    fn forget(&mut self, id: ChannelId, of: Uuid, token: Option<Uuid>) {
        self.of.remove(&(of, id));
        if let Some(token) = token {
            self.of_token.remove(&(token, id));
        }
    }

    /// All open channels, in the order in which they were opened.
    pub(crate) fn ids(&self) -> BTreeSet<ChannelId> {
        self.clients.keys().chain(self.gateways.keys()).copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len() + self.gateways.len()
    }

    pub(crate) fn opening(&self, id: ChannelId) -> Option<&Opening> {
        match self.clients.get(&id) {
            Some(channel) => Some(&channel.opening),
            None => self.gateways.get(&id).map(|channel| &channel.opening),
        }
    }

    pub(crate) fn opening_mut(&mut self, id: ChannelId) -> Option<&mut Opening> {
        match self.clients.get_mut(&id) {
            Some(channel) => Some(&mut channel.opening),
            None => self.gateways.get_mut(&id).map(|channel| &mut channel.opening),
        }
    }

    /// Channels that something was kept from, or that wait for `init`.
    pub(crate) fn behind(&self) -> BTreeSet<ChannelId> {
        let clients = self.clients.iter().filter(|(_, channel)| channel.opening.behind || channel.is_waiting());
        let gateways = self.gateways.iter().filter(|(_, channel)| channel.opening.behind || channel.is_waiting());
        clients.map(|(id, _)| *id).chain(gateways.map(|(id, _)| *id)).collect()
    }

    /// Nothing was compared for a while.
    pub(crate) fn all_are_behind(&mut self) {
        self.clients.values_mut().for_each(|channel| channel.opening.behind = true);
        self.gateways.values_mut().for_each(|channel| channel.opening.behind = true);
    }

    /// Whatever gateways were sent is void: `init` comes again.
    pub(crate) fn start_over(&mut self) {
        self.gateways.values_mut().for_each(GatewayChannel::start_over);
        self.all_are_behind();
    }

    /// Rejects all that gateways were ever authorised for.
    pub(crate) fn reject_all(&mut self, now_seconds: i64, out: &mut Outbox<'_>) {
        let mut pushes = Vec::new();
        for (id, channel) in &mut self.gateways {
            channel.reject_all(now_seconds, &mut pushes);
            pushes.drain(..).for_each(|push| out.push(*id, push));
        }
    }

    /// Tells every channel that was not told so yet what it is now told about knowledge.
    pub(crate) fn tell(&mut self, told: Told, push: &Push, out: &mut Outbox<'_>) {
        for id in self.ids() {
            self.tell_one(id, told, push, out);
        }
    }

    pub(crate) fn tell_one(&mut self, id: ChannelId, told: Told, push: &Push, out: &mut Outbox<'_>) {
        let Some(opening) = self.opening_mut(id).filter(|opening| opening.told != told) else { return };
        opening.told = told;
        out.push(id, push.clone());
    }

    /// The channels that what was touched may concern.
    pub(crate) fn concerned(&self, touched: &Touched) -> BTreeSet<ChannelId> {
        if touched.everything || touched.account {
            return self.ids();
        }
        let rows = touched.clients.keys().chain(touched.gateways.keys());
        let by_row = rows.flat_map(|of| channels(&self.of, *of));
        by_row.chain(touched.tokens.iter().flat_map(|token| channels(&self.of_token, *token))).collect()
    }

    /// Compares some channels with what they were sent; those that are over are closed.
    pub(crate) fn compare(
        &mut self,
        view: &View<'_>,
        ids: BTreeSet<ChannelId>,
        extent: Extent<'_>,
        hold: bool,
        out: &mut Outbox<'_>,
        watched: &mut Touched,
    ) {
        for id in ids {
            let token = self.opening_mut(id).and_then(|opening| opening.token());
            let mut pushes = Vec::new();
            let compared = self.compare_one(view, id, extent, hold, &mut pushes);
            if let Some(now) = self.opening_mut(id).and_then(|opening| opening.token()).filter(|_| token.is_none()) {
                self.of_token.insert((now, id));
            }
            pushes.into_iter().for_each(|push| out.push(id, push));
            match compared {
                Ok(()) => continue,
                Err(Over::Disconnected(reason)) => out.push(id, Push::Disconnect { reason }),
                Err(Over::Refused(refusal)) => out.events.push_back((id, Event::Refused(refusal))),
            }
            self.close(id, watched);
        }
    }

    fn compare_one(
        &mut self,
        view: &View<'_>,
        id: ChannelId,
        extent: Extent<'_>,
        hold: bool,
        pushes: &mut Vec<Push>,
    ) -> Result<(), Over> {
        if let Some(channel) = self.clients.get_mut(&id) {
            let nothing = Scope::Some(BTreeSet::new());
            let (scope, account) = match extent {
                Extent::Whole => (&Scope::All, true),
                Extent::Touched(touched) if touched.everything => (&Scope::All, true),
                Extent::Touched(touched) => (touched.clients.get(&channel.client).unwrap_or(&nothing), touched.account),
            };
            channel.compare(view, scope, account || *scope == Scope::All, hold, pushes)
        } else if let Some(channel) = self.gateways.get_mut(&id) {
            let nothing: Scope<Pair> = Scope::Some(BTreeSet::new());
            let scope = match extent {
                Extent::Whole => &Scope::All,
                Extent::Touched(touched) if touched.everything => &Scope::All,
                Extent::Touched(touched) => touched.gateways.get(&channel.gateway).unwrap_or(&nothing),
            };
            channel.compare(view, scope, hold, pushes)
        } else {
            Ok(())
        }
    }
}

fn channels(of: &BTreeSet<(Uuid, ChannelId)>, key: Uuid) -> impl Iterator<Item = ChannelId> {
    of.range((key, ChannelId(0))..=(key, ChannelId(u64::MAX))).map(|(_, id)| *id)
}
