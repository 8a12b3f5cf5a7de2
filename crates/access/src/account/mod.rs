//! One account: its rows, what they mean, and the channels that are told of it.
//!
//! ```text
//! commit ─▶ state ─▶ touched ─▶ compare with what was sent ─▶ pushes
//! clock  ─▶ deadlines ─┘               ▲
//! knowledge ───────────────────────────┘ may be nothing new, or nothing at all
//! ```
//!
//! Call `apply` and then `settle` for each transaction, with the clock's `now`; `handle_time` when `next_deadline` has
//! come; `set_knowledge` whenever it was read how fresh the account is; then take what `poll_*` gives until there is
//! nothing more. Nothing here reads a clock; a `now` before one that was given already counts as that one.
//!
//! Invariants: a push is a difference to what its channel was sent, never to what changed. Nothing is pushed or answered
//! from the middle of a transaction. While rows may be missing nothing new is granted; while rows are read from the
//! beginning nothing is compared at all.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use penstock_wire::position::Position;
use uuid::Uuid;

use crate::access::View;
use crate::authorize::{self, Answer, NewFlow, Request};
use crate::change::Commit;
use crate::channel::client::ClientChannel;
use crate::channel::gateway::GatewayChannel;
use crate::channel::opening::Told;
use crate::channel::push::Push;
use crate::channel::registry::{Extent, Outbox, Registry};
use crate::channel::{ChannelId, Event, Refusal};
use crate::rows::Micros;

pub mod flows;
pub mod knowledge;
pub mod options;
pub mod parents;
pub mod show;
pub mod snapshot;
pub mod state;

pub(crate) mod connections;
pub(crate) mod deadlines;
pub(crate) mod due;
pub(crate) mod entries;
pub(crate) mod indexes;
pub(crate) mod links;
pub(crate) mod nodes;
pub(crate) mod reach;
pub(crate) mod rendered;
pub(crate) mod touched;

use crate::knowledge::{Knowledge, Reason};
use deadlines::Due;
use flows::EndedFlow;
use knowledge::{Mode, Standing};
pub use options::{ClientOptions, Options};
use parents::Orphan;
use state::{AccountState, PolicyProblem};
use touched::Touched;

/// See the module's documentation.
#[derive(Debug)]
pub struct Account {
    id: Arc<str>,
    /// The account's own row.
    own: Option<Uuid>,
    options: Arc<Options>,
    state: AccountState,
    touched: Touched,
    standing: Standing,
    channels: Registry,
    /// The latest `now` that was given.
    clock: Micros,
    /// The account's own row was live when channels were last compared.
    was_live: bool,
    events: VecDeque<(ChannelId, Event)>,
    orphans: VecDeque<Orphan>,
}

impl Account {
    /// An account of which nothing is known yet. `id`: as it stands in keys.
    pub fn new(id: &str, options: Arc<Options>) -> Self {
        Self {
            id: id.into(),
            own: Uuid::try_parse(id).ok(),
            state: AccountState::new(options.loaded_flows_live),
            options,
            touched: Touched::default(),
            standing: Standing::new(),
            channels: Registry::default(),
            clock: Micros(i64::MIN),
            was_live: false,
            events: VecDeque::new(),
            orphans: VecDeque::new(),
        }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it has this client's row, live or not.
    pub fn has_client(&self, id: Uuid) -> bool {
        self.state.clients.row(id).is_some()
    }

    /// The token that a client's row was last used with.
    pub fn last_used_token(&self, client: Uuid) -> Option<Uuid> {
        self.state.clients.row(client)?.row.last_used_token
    }

    /// Whether it has this gateway's row, live or not.
    pub fn has_gateway(&self, id: Uuid) -> bool {
        self.state.gateways.row(id).is_some()
    }

    /// The last transaction that was applied.
    pub fn position(&self) -> Position {
        self.state.position
    }

    /// How many index entries were walked so far.
    pub fn entries_touched(&self) -> u64 {
        self.touched.entries
    }

    /// Applies a transaction; one at or below the account's position changes nothing. What the clock changed before is
    /// pushed before it. `settle` makes the pushes: after each transaction, or in a rebuild after many.
    pub fn apply(&mut self, commit: &Commit, now: Micros) {
        self.handle_time(now);
        let is_new = commit.position > self.state.position;
        self.state.apply(commit, &mut self.touched);
        // While rows may be missing it says nothing that one is.
        if is_new && self.standing.reason().is_none() {
            self.orphans.extend(self.state.orphans(self.own, commit));
        }
    }

    /// Changes up to `to` may not have been seen, or not in full: compaction took them, or they could not be read. Told
    /// before each transaction, and counts until it is told otherwise. What rows are then is what they are, but a resource may have been elsewhere meanwhile.
    pub fn note_unseen(&mut self, to: Position) {
        self.state.unseen_to = to;
    }

    /// Compares what the transactions since the last call touched with what was sent.
    pub fn settle(&mut self, now: Micros) {
        let now = self.advance(now);
        self.compare_touched(now, None);
    }

    /// Compares what time alone has changed until now, deadline by deadline.
    ///
    /// A row may bring a deadline that has passed long ago: nothing is judged by an earlier instant than it was before.
    pub fn handle_time(&mut self, now: Micros) {
        let judged = self.clock;
        let now = self.advance(now).seconds();
        while let Some(second) = self.state.deadlines.next().filter(|second| *second <= now) {
            let at = Micros::from_seconds(second).max(judged);
            let mut grace_is_over = false;
            while let Some(due) = self.state.deadlines.pop(second) {
                grace_is_over |= due == Due::Grace;
                self.state.reach_due(due, at, &mut self.touched);
            }
            self.compare_touched(at, Some(second));
            if grace_is_over {
                self.end_grace(second);
            }
        }
    }

    /// The first instant at which `handle_time` may have something to do.
    pub fn next_deadline(&self) -> Option<Micros> {
        self.state.deadlines.next().map(Micros::from_seconds)
    }

    /// Takes how far the rows can be trusted; cheap where that is as before.
    pub fn set_knowledge(&mut self, knowledge: Knowledge, quarantined: bool, now: Micros) {
        self.handle_time(now);
        self.compare_touched(self.clock, None);
        let (reason, mode) = (self.standing.reason(), self.mode());
        self.state.deadlines.remove(self.standing.grace_ends, Due::Grace);
        self.standing.learn(knowledge, quarantined, self.options.stale_grace_us, self.clock);
        if !self.standing.grace_is_over {
            self.state.deadlines.add(self.standing.grace_ends, Due::Grace);
        }
        if self.standing.reason() != reason {
            self.tell_all();
        }
        self.follow_mode(mode);
    }

    /// The rows must be read again from the beginning.
    pub fn start_over(&mut self, now: Micros) {
        self.drop_rows(Reason::Rebuilding, now);
    }

    /// Drops all rows: they are to be read from the beginning, or are another instance's. Channels stay, and are blind
    /// meanwhile. Announced flows are over. `reason`: one of those two.
    pub fn drop_rows(&mut self, reason: Reason, now: Micros) {
        let as_of = self.standing.as_of_instant();
        let quarantined = self.standing.quarantined;
        self.set_knowledge(Knowledge::Unknown { reason, as_of }, quarantined, now);
        self.state.start_over();
        self.state.deadlines.add(self.standing.grace_ends.filter(|_| !self.standing.grace_is_over), Due::Grace);
        self.touched.clear();
        self.channels.start_over();
    }

    /// Changes may be missing before here: whatever flows are known may have ended meanwhile, and so they have.
    pub fn end_all_flows(&mut self, now: Micros) {
        self.handle_time(now);
        self.state.end_all_flows(&mut self.touched);
    }

    /// Opens a client's channel. `token`: None for the one that its row was last used with. Where it can be known that it
    /// may not be opened, an error; where that is known later, an event.
    pub fn subscribe_client(
        &mut self,
        client: Uuid,
        token: Option<Uuid>,
        options: ClientOptions,
        now: Micros,
    ) -> Result<ChannelId, Refusal> {
        self.handle_time(now);
        self.touched.watch_client(client);
        let id = self.channels.open_client(ClientChannel::new(client, token, options.can_move_sites));
        self.welcome(id)
    }

    /// Opens a gateway's channel, as `subscribe_client`.
    pub fn subscribe_gateway(&mut self, gateway: Uuid, token: Option<Uuid>, now: Micros) -> Result<ChannelId, Refusal> {
        self.handle_time(now);
        self.touched.watch_gateway(gateway);
        let id = self.channels.open_gateway(GatewayChannel::new(gateway, token));
        self.welcome(id)
    }

    /// Closes a channel; events that were not taken yet are dropped.
    pub fn unsubscribe(&mut self, channel: ChannelId) {
        self.channels.close(channel, &mut self.touched);
        self.events.retain(|(id, _)| *id != channel);
    }

    /// The token that a channel rests on: the one it was opened with, or that its row named then.
    pub fn channel_token(&self, channel: ChannelId) -> Option<Uuid> {
        self.channels.opening(channel)?.token()
    }

    /// How many channels are open.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// The reader of a channel is too slow: until `resume` only a `disconnect` and word of knowledge come; what differs
    /// by then comes as one difference.
    pub fn pause(&mut self, channel: ChannelId) {
        if let Some(opening) = self.channels.opening_mut(channel) {
            opening.paused = true;
        }
    }

    pub fn resume(&mut self, channel: ChannelId, now: Micros) {
        self.handle_time(now);
        if let Some(opening) = self.channels.opening_mut(channel) {
            opening.paused = false;
            self.compare_whole(BTreeSet::from([channel]));
        }
    }

    /// The next event, in order.
    pub fn poll_push(&mut self) -> Option<(ChannelId, Event)> {
        self.events.pop_front()
    }

    /// The next flow that has ended for good: its row should be deleted.
    pub fn poll_ended_flow(&mut self) -> Option<EndedFlow> {
        self.state.endings.queue.pop_front()
    }

    /// The next thing in the rows that could not be read, and denies for it.
    pub fn poll_problem(&mut self) -> Option<PolicyProblem> {
        self.state.problems.pop_front()
    }

    /// The next row that names one which the account does not have.
    pub fn poll_orphan(&mut self) -> Option<Orphan> {
        self.orphans.pop_front()
    }

    /// Whether a client may reach a resource now, and if so by which flow. Changes nothing: see `announce`.
    pub fn authorize(&self, request: &Request<'_>, now: Micros) -> Answer {
        match self.standing.reason() {
            Some(reason) if self.mode() != Mode::Granting => Answer::Unavailable { reason },
            Some(_) | None => authorize::authorize(&self.view(self.clock.max(now)), &self.id, request),
        }
    }

    /// Authorises a flow on its gateway before its row comes. False, and nothing happens: the id is known already, or
    /// nothing new may be granted now.
    pub fn announce(&mut self, flow: &NewFlow, now: Micros) -> bool {
        self.handle_time(now);
        if self.mode() != Mode::Granting || flow.account_id != self.id {
            return false;
        }
        let until = knowledge::second_at_or_after(Micros(self.clock.0.saturating_add(self.options.confirm_within_us)));
        let announced = self.state.announce(flow, until, &mut self.touched);
        self.compare_touched(self.clock, None);
        announced
    }

    /// Ends an announced flow whose row will not come. One whose row has come goes with that.
    pub fn withdraw(&mut self, flow: Uuid, now: Micros) {
        self.handle_time(now);
        self.state.forget_announced(flow);
        self.state.remove_announced(flow, &mut self.touched);
        self.compare_touched(self.clock, None);
    }

    fn advance(&mut self, now: Micros) -> Micros {
        self.clock = self.clock.max(now);
        self.clock
    }

    fn mode(&self) -> Mode {
        self.standing.mode(self.options.serve_stale)
    }

    fn view(&self, now: Micros) -> View<'_> {
        View { state: &self.state, rules: &self.options.conditions, own: self.own, now }
    }

    fn compare_touched(&mut self, now: Micros, deadline: Option<i64>) {
        self.state.look_at_policies(&self.touched.policies, now);
        if self.mode() == Mode::Blind {
            return self.touched.clear();
        }
        let is_live = self.view(now).account_is_live();
        self.touched.everything |= std::mem::replace(&mut self.was_live, is_live) != is_live;
        self.end_announced(now);
        let touched = self.touched.take();
        let ids = self.channels.concerned(&touched);
        self.compare(ids, Extent::Touched(&touched), now, deadline);
    }

    /// Compares channels with all that they should have.
    fn compare_whole(&mut self, ids: BTreeSet<ChannelId>) {
        if self.mode() != Mode::Blind {
            self.compare(ids, Extent::Whole, self.clock, None);
        }
    }

    fn compare(&mut self, ids: BTreeSet<ChannelId>, extent: Extent<'_>, now: Micros, deadline: Option<i64>) {
        let hold = self.mode() != Mode::Granting;
        let view = View { state: &self.state, rules: &self.options.conditions, own: self.own, now };
        let mut out = Outbox { events: &mut self.events, at: self.state.position, deadline };
        self.channels.compare(&view, ids, extent, hold, &mut out, &mut self.touched);
    }

    /// Announced flows that have lost what gave them are over.
    fn end_announced(&mut self, now: Micros) {
        let ids = if self.touched.everything { &self.state.announced } else { &self.touched.announced };
        let view = self.view(now);
        let is_live = |id: &&Uuid| self.state.flows.row(**id).is_some_and(|flow| view.live_until(flow).is_some());
        let over: Vec<Uuid> = ids.iter().filter(|id| !is_live(id)).copied().collect();
        for id in over {
            self.state.remove_announced(id, &mut self.touched);
        }
    }

    fn end_grace(&mut self, second: i64) {
        self.standing.grace_is_over = true;
        let mut out = Outbox { events: &mut self.events, at: self.state.position, deadline: Some(second) };
        self.channels.reject_all(second, &mut out);
    }

    /// Pushes follow what may be said now.
    fn follow_mode(&mut self, before: Mode) {
        let now = self.mode();
        if now == before || now == Mode::Blind {
            return;
        }
        if before == Mode::Blind {
            self.channels.all_are_behind();
            self.was_live = self.view(self.clock).account_is_live();
            self.touched.everything = true;
            self.end_announced(self.clock);
            self.touched.clear();
            self.compare_whole(self.channels.ids());
        } else if now == Mode::Granting {
            self.compare_whole(self.channels.behind());
        }
    }

    fn tell_all(&mut self) {
        let (told, push) = self.word();
        let mut out = Outbox { events: &mut self.events, at: self.state.position, deadline: None };
        self.channels.tell(told, &push, &mut out);
    }

    /// What channels are told of what is known.
    fn word(&self) -> (Told, Push) {
        let as_of = self.standing.as_of();
        match self.standing.reason() {
            None => (Told::Fresh, Push::Fresh { as_of }),
            Some(Reason::NotAssigned) => (Told::NotAssigned, Push::NotAssigned {}),
            Some(reason) => (Told::Stale, Push::Stale { as_of, reason }),
        }
    }

    /// The first thing that a channel hears.
    fn welcome(&mut self, id: ChannelId) -> Result<ChannelId, Refusal> {
        let before = self.events.len();
        self.compare_whole(BTreeSet::from([id]));
        let refused = self.events.get(before).and_then(|(_, event)| match event {
            Event::Refused(refusal) => Some(*refusal),
            Event::Push(_) => None,
        });
        if let Some(refusal) = refused {
            self.events.truncate(before);
            return Err(refusal);
        }
        let (told, push) = self.word();
        let mut out = Outbox { events: &mut self.events, at: self.state.position, deadline: None };
        self.channels.tell_one(id, told, &push, &mut out);
        Ok(id)
    }
}
