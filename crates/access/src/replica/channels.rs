//! Channels of all accounts, by numbers of their own, and those whose account is not known yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use penstock_wire::position::Position;
use uuid::Uuid;

use super::{Common, Output};
use crate::account::{Account, ClientOptions};
use crate::channel::push::{Message, Push};
use crate::channel::{ChannelId, Event, Refusal};
use crate::knowledge::Reason;

/// An open channel; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(u64);

/// Whose channel it is. `token`: None for the one that the row was last used with.
#[derive(Clone, Copy, Debug)]
pub enum Subscriber {
    Client { id: Uuid, token: Option<Uuid>, options: ClientOptions },
    Gateway { id: Uuid, token: Option<Uuid> },
}

impl Subscriber {
    /// The same channel again, resting on a token that it was let in with; None: on the one that was named before.
    pub fn again_with(self, found: Option<Uuid>) -> Self {
        match self {
            Self::Client { id, token, options } => Self::Client { id, token: token.or(found), options },
            Self::Gateway { id, token } => Self::Gateway { id, token: token.or(found) },
        }
    }

    /// Asks for who has its row.
    pub(super) fn find<T>(&self, ask: impl FnOnce(Uuid, fn(&Account, Uuid) -> bool) -> T) -> T {
        match self {
            Self::Client { id, .. } => ask(*id, Account::has_client),
            Self::Gateway { id, .. } => ask(*id, Account::has_gateway),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Channels {
    last: u64,
    /// With the account, if it was named.
    waiting: BTreeMap<Channel, (Option<Arc<str>>, Subscriber)>,
    open: BTreeMap<Channel, (Arc<str>, ChannelId)>,
    by_account: BTreeMap<(Arc<str>, ChannelId), Channel>,
}

impl Channels {
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.open.len()
    }

    pub(super) fn wait(&mut self, account: Option<Arc<str>>, subscriber: Subscriber) -> Channel {
        self.last += 1;
        let channel = Channel(self.last);
        self.waiting.insert(channel, (account, subscriber));
        channel
    }

    pub(super) fn any_waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn waiting(&self) -> Vec<(Channel, Option<Arc<str>>, Subscriber)> {
        let all = self.waiting.iter();
        all.map(|(channel, (account, subscriber))| (*channel, account.clone(), *subscriber)).collect()
    }

    /// It waits no longer: it is this one of its account.
    pub(super) fn bind(&mut self, channel: Channel, account: &Arc<str>, id: ChannelId) {
        self.waiting.remove(&channel);
        self.open.insert(channel, (Arc::clone(account), id));
        self.by_account.insert((Arc::clone(account), id), channel);
    }

    pub(super) fn place(&self, channel: Channel) -> Option<(Arc<str>, ChannelId)> {
        self.open.get(&channel).cloned()
    }

    pub(super) fn of(&self, account: &Arc<str>, id: ChannelId) -> Option<Channel> {
        self.by_account.get(&(Arc::clone(account), id)).copied()
    }

    /// Where it was, if it was anywhere.
    pub(super) fn close(&mut self, channel: Channel) -> Option<(Arc<str>, ChannelId)> {
        self.waiting.remove(&channel);
        let place = self.open.remove(&channel)?;
        self.by_account.remove(&place);
        Some(place)
    }
}

impl Common {
    /// Nobody has the row.
    pub(super) fn refuse(&mut self, channel: Channel, refusal: Refusal) {
        self.channels.close(channel);
        self.outputs.push_back(Output::Channel { channel, event: Event::Refused(refusal) });
    }

    /// The first thing that a channel hears whose account cannot be looked for yet.
    pub(super) fn tell_waiting(&mut self, channel: Channel, reason: Reason) {
        let push = match reason {
            Reason::NotAssigned => Push::NotAssigned {},
            Reason::Rebuilding | Reason::Unproven | Reason::Quarantined | Reason::Stale => {
                Push::Stale { as_of: None, reason }
            }
        };
        let event = Event::Push(Message { at: Position::ZERO, deadline: None, push });
        self.outputs.push_back(Output::Channel { channel, event });
    }

    /// Hands out what an account's channel has to be told.
    pub(super) fn tell(&mut self, account: &Arc<str>, id: ChannelId, event: Event) {
        let Some(channel) = self.channels.of(account, id) else { return };
        let is_over = match &event {
            Event::Refused(_) => true,
            Event::Push(message) => matches!(message.push, Push::Disconnect { .. }),
        };
        if is_over {
            self.channels.close(channel);
        }
        self.outputs.push_back(Output::Channel { channel, event });
    }
}
