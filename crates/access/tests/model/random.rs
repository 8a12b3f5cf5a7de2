//! Random histories through an account and through the model: after each transaction and each deadline both say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_access::account::{Account, ClientOptions, Options};
use penstock_access::authorize::{Answer, Request};
use penstock_access::change::Commit;
use penstock_access::channel::ChannelId;
use penstock_access::knowledge::{Knowledge, Reason};
use penstock_access::rows::*;
use proptest::prelude::*;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::answers::{expected_answer, in_short};
use crate::build::{NOW, id, json_of};
use crate::history::{Choices, first_commit, random_commit};
use crate::oracle::{ClientSide, Expected, GatewaySide};
use crate::reference::Model;

/// An open channel, as far as it was sent anything.
#[derive(Debug)]
enum Side {
    Client(ClientSide),
    Gateway(GatewaySide),
}

/// The account, the model, and who listens.
struct Trial {
    account: Account,
    model: Model,
    sides: BTreeMap<ChannelId, Side>,
    /// Channels whose readers are too slow.
    paused: BTreeSet<ChannelId>,
    now: i64,
    log: Vec<Commit>,
    hold: bool,
    flows_announced: u32,
    /// How often each push was made and each answer given.
    tally: BTreeMap<String, u32>,
}

impl Trial {
    fn new(loaded_flows_live: bool) -> Self {
        let options = Options { loaded_flows_live, ..Options::default() };
        let account = Account::new(&id("x1").to_string(), Arc::new(options));
        let model = Model::new(id("x1"), loaded_flows_live);
        let mut trial = Self {
            account,
            model,
            sides: BTreeMap::new(),
            paused: BTreeSet::new(),
            now: NOW,
            log: Vec::new(),
            hold: false,
            flows_announced: 0,
            tally: BTreeMap::new(),
        };
        trial.know(false, None);
        trial.commit(first_commit());
        trial
    }

    fn micros(&self) -> Micros {
        Micros(self.now * 1_000_000 + 500_000)
    }

    fn run(&mut self, choices: &mut Choices) {
        while !choices.is_over() {
            match choices.below(20) {
                0..=8 => {
                    let number = self.log.len() as u64 + 1;
                    let commit = random_commit(number, &self.model, choices, self.now);
                    self.commit(commit);
                }
                9..=12 => self.pass(choices),
                13..=14 => self.ask(choices),
                15 => self.withdraw(choices),
                16 => self.toggle(choices),
                17 => self.subscribe(choices),
                18 => self.pause_or_resume(choices),
                _ => self.redeliver(choices),
            }
        }
    }

    // What happens.

    fn commit(&mut self, commit: Commit) {
        self.account.apply(&commit, self.micros());
        self.account.settle(self.micros());
        self.model.apply(&commit);
        self.log.push(commit);
        self.model.end_announced(self.now);
        self.check(None, &format!("after {:?}", self.log.last()));
    }

    /// Time goes on, through every second in which the model says that something may change.
    fn pass(&mut self, choices: &mut Choices) {
        let next = self.model.turns(self.now, self.now + 80_000).first().map_or(1, |turn| turn - self.now);
        let to = self.now + choices.of(&[1, 7, 20, 40, 3_000, 40_000, next, next, next, next]);
        for turn in self.model.turns(self.now, to) {
            // Nothing may happen before.
            if turn - 1 > self.now {
                self.at(turn - 1);
                assert!(self.account.poll_push().is_none(), "something was pushed between deadlines");
            }
            self.at(turn);
            self.model.end_announced(turn);
            self.check(Some(turn), &format!("at {turn}"));
        }
        self.at(to);
        self.check(None, "between deadlines");
    }

    fn at(&mut self, now: i64) {
        self.now = now;
        self.account.handle_time(Micros::from_seconds(now));
    }

    fn ask(&mut self, choices: &mut Choices) {
        let online: Vec<Uuid> = ["w1", "w2"].into_iter().filter(|_| !choices.one_in(4)).map(id).collect();
        self.flows_announced += 1;
        let flow = id(&format!("f{}", 100 + self.flows_announced));
        let (client, resource) = (choices.id("c"), choices.id("r"));
        let usual = self.model.client(client).and_then(|row| row.last_used_token);
        let token = if choices.one_in(3) { choices.id("t") } else { usual.unwrap_or(id("t1")) };
        let request = Request { client, token, resource, online: &online, flow };
        let answer = self.account.authorize(&request, self.micros());
        let expected = expected_answer(&self.model, &request, self.now, self.hold);
        assert_eq!(in_short(&answer), expected, "{request:?}");
        self.count(expected.split(' ').next().unwrap(), None);
        if let Answer::Ok { flow } = answer
            && choices.one_in(2)
        {
            assert!(self.account.announce(&flow, self.micros()));
            let row = FlowRow {
                live: true,
                policy: flow.policy_id,
                client,
                gateway: flow.gateway_id,
                resource,
                token,
                membership: flow.actor_group_membership_id,
                expires_at: flow.expires_at.map(Micros::from_seconds),
            };
            // The first whole second that is at least fifteen seconds from half past now.
            self.model.announced.insert(flow.id, (row.clone(), self.now + 16));
            self.check(None, "after an announcement");
            if choices.one_in(2) {
                let number = self.log.len() as u64 + 1;
                let position = crate::build::position(number, 0);
                let action = penstock_access::change::Action::Insert(RowId::Id(flow.id), Row::Flow(row));
                let changes = vec![penstock_access::change::Change { position, table: Table::Flows, action }];
                self.commit(Commit { position, time_us: 0, changes });
            }
        }
    }

    fn withdraw(&mut self, choices: &mut Choices) {
        let flow = id(&format!("f{}", 100 + choices.below(self.flows_announced + 1)));
        self.account.withdraw(flow, self.micros());
        self.model.withdraw(flow);
        self.check(None, "after a withdrawal");
    }

    fn toggle(&mut self, choices: &mut Choices) {
        match choices.below(8) {
            0 => self.know(true, None),
            1 => self.know(false, Some(Reason::Stale)),
            2 => self.know(false, Some(Reason::Unproven)),
            _ => self.know(false, None),
        }
    }

    fn know(&mut self, quarantined: bool, reason: Option<Reason>) {
        let now = self.micros();
        let knowledge = match reason {
            None => Knowledge::Known { as_of: now },
            Some(reason) => Knowledge::Unknown { reason, as_of: Some(now) },
        };
        let held = std::mem::replace(&mut self.hold, quarantined || reason.is_some());
        self.account.set_knowledge(knowledge, quarantined, now);
        if held == self.hold {
            return self.check(None, "as before");
        }
        // Every channel hears of it once, before anything else.
        let word = if self.hold { "stale" } else { "fresh" };
        let mut pushed = self.pushed(None);
        for id in self.sides.keys() {
            let first = pushed.get_mut(id).expect("every channel is told").remove(0);
            assert_eq!(first["push"], word);
        }
        self.compare(pushed, word);
    }

    fn subscribe(&mut self, choices: &mut Choices) {
        if self.hold {
            return;
        }
        let token = choices.one_in(3).then(|| choices.id("t"));
        let client = choices.one_in(2);
        if client {
            let (of, can_move_sites) = (choices.id("c"), choices.one_in(2));
            let opened = self.account.subscribe_client(of, token, ClientOptions { can_move_sites }, self.micros());
            let row = self.model.client(of).filter(|_| self.model.client_is_live(of));
            let token = row.and_then(|row| token.or(row.last_used_token));
            let valid = token.filter(|token| self.model.token(*token, self.now).is_some());
            assert_eq!(opened.is_ok(), valid.is_some(), "{of} {opened:?}");
            if let (Ok(channel), Some(token)) = (opened, valid) {
                let (side, init) = ClientSide::open(&self.model, of, token, can_move_sites, self.now);
                self.sides.insert(channel, Side::Client(side));
                assert_eq!(self.pushed(None), BTreeMap::from([(channel, vec![init])]));
            }
        } else {
            let of = choices.id("w");
            let opened = self.account.subscribe_gateway(of, token, self.micros());
            let row = self.model.gateway(of).filter(|row| row.live && self.model.account_is_live());
            let token = row.and_then(|row| token.or(row.last_used_token));
            let valid = token.filter(|token| self.model.token(*token, self.now).is_some());
            assert_eq!(opened.is_ok(), valid.is_some(), "{of} {opened:?}");
            if let (Ok(channel), Some(token)) = (opened, valid) {
                let (side, init) = GatewaySide::open(&self.model, of, token, self.now);
                self.sides.insert(channel, Side::Gateway(side));
                assert_eq!(self.pushed(None), BTreeMap::from([(channel, vec![init])]));
            }
        }
        self.check(None, "after a subscription");
    }

    fn pause_or_resume(&mut self, choices: &mut Choices) {
        let channels: Vec<ChannelId> = self.sides.keys().copied().collect();
        if channels.is_empty() {
            return;
        }
        let channel = choices.of(&channels);
        if self.paused.remove(&channel) {
            self.account.resume(channel, self.micros());
        } else {
            self.paused.insert(channel);
            self.account.pause(channel);
        }
        self.check(None, "after a channel was paused or resumed");
    }

    /// The last transactions come again.
    fn redeliver(&mut self, choices: &mut Choices) {
        let before = self.account.snapshot();
        let from = self.log.len().saturating_sub(1 + choices.below(5) as usize);
        for commit in &self.log[from..] {
            self.account.apply(commit, self.micros());
            self.account.settle(self.micros());
        }
        assert_eq!(self.account.snapshot(), before);
        self.check(None, "after a redelivery");
    }

    fn count(&mut self, what: &str, deadline: Option<i64>) {
        let held = if self.hold { " while held" } else { "" };
        let clock = if deadline.is_some() { " by the clock" } else { "" };
        *self.tally.entry(format!("{what}{clock}{held}")).or_default() += 1;
    }

    // What is checked.

    fn pushed(&mut self, deadline: Option<i64>) -> BTreeMap<ChannelId, Vec<Json>> {
        let mut pushed: BTreeMap<ChannelId, Vec<Json>> = BTreeMap::new();
        let at = serde_json::to_value(self.account.show(self.micros()).position).unwrap();
        while let Some((channel, event)) = self.account.poll_push() {
            let mut json = json_of(&event);
            let made = json.as_object_mut().unwrap().remove("at");
            assert_eq!(made, Some(at.clone()), "{json}");
            assert_eq!(json.as_object_mut().unwrap().remove("deadline").and_then(|at| at.as_i64()), deadline);
            self.count(json["push"].as_str().unwrap(), deadline);
            pushed.entry(channel).or_default().push(json);
        }
        pushed
    }

    fn check(&mut self, deadline: Option<i64>, when: &str) {
        let pushed = self.pushed(deadline);
        self.compare(pushed, when);
    }

    fn compare(&mut self, mut pushed: BTreeMap<ChannelId, Vec<Json>>, when: &str) {
        let mut over = BTreeSet::new();
        for (id, side) in &mut self.sides {
            let got = pushed.remove(id).unwrap_or_default();
            let paused = self.paused.contains(id);
            let (expected, is_over) = expected(side, &self.model, &got, self.now, self.hold, paused);
            assert_eq!(got, expected, "{id:?} {when}");
            over.extend(is_over.then_some(*id));
        }
        assert!(pushed.is_empty(), "channels that are over were pushed {pushed:?} {when}");
        self.sides.retain(|id, _| !over.contains(id));
        self.paused.retain(|id| !over.contains(id));
        assert_eq!(self.account.channels(), self.sides.len(), "{when}");
        let ended: BTreeSet<Uuid> = std::iter::from_fn(|| self.account.poll_ended_flow()).map(|flow| flow.id).collect();
        assert_eq!(ended, std::mem::take(&mut self.model.handed_out), "{when}");
        let show = serde_json::to_value(self.account.show(Micros::from_seconds(self.now))).unwrap();
        let mut model = self.model.show(self.now);
        for field in ["clients", "gateways"] {
            assert_eq!(show[field], model[field].take(), "{when}");
        }
        for (table, name) in [(Table::Flows, "flows"), (Table::ResourceConnections, "resource_connections")] {
            assert_eq!(show["tables"][name], self.model.count(table), "{when}");
        }
    }

    /// At the end: what was folded in one go, what was restored, and what went on are the same.
    fn finish(&mut self) {
        let snapshot = self.account.snapshot();
        let options = Options { loaded_flows_live: self.model.loaded_flows_live, ..Options::default() };
        let (own, options) = (id("x1").to_string(), Arc::new(options));
        let restored = Account::restore(&own, options.clone(), &snapshot, self.micros());
        assert_eq!(restored.snapshot(), snapshot);
        let middle = self.log.len() / 2;
        let mut folded = Account::new(&own, options.clone());
        self.log[..middle].iter().for_each(|commit| folded.apply(commit, Micros(0)));
        let mut resumed = Account::restore(&own, options, &folded.snapshot(), Micros(0));
        for commit in &self.log[middle..] {
            folded.apply(commit, Micros(0));
            resumed.apply(commit, Micros(0));
        }
        assert_eq!(resumed.snapshot(), folded.snapshot());
        if snapshot.ended_before_their_row.is_empty() && self.flows_announced == 0 {
            assert_eq!(folded.snapshot(), snapshot);
        }
        self.rebuild();
    }

    /// All is read again: clients get what differs, which is nothing; gateways begin anew.
    fn rebuild(&mut self) {
        if self.hold {
            self.know(false, None);
        }
        for channel in std::mem::take(&mut self.paused) {
            self.account.resume(channel, self.micros());
        }
        self.check(None, "after all were resumed");
        self.account.start_over(self.micros());
        let told = self.pushed_anywhere();
        assert!(told.iter().all(|push| push["push"] == "stale") && told.len() == self.sides.len());
        let announced = std::mem::take(&mut self.model.announced);
        for commit in &self.log {
            self.account.apply(commit, self.micros());
            self.account.settle(self.micros());
        }
        assert!(self.account.poll_push().is_none());
        while self.account.poll_ended_flow().is_some() {}
        self.account.set_knowledge(Knowledge::Known { as_of: self.micros() }, false, self.micros());
        let show = serde_json::to_value(self.account.show(self.micros())).unwrap();
        if self.flows_announced == 0 {
            assert!(announced.is_empty());
            assert_eq!(show["gateways"], self.model.show(self.now)["gateways"]);
        }
        for push in self.pushed_anywhere() {
            assert!(["fresh", "init"].contains(&push["push"].as_str().unwrap()), "{push}");
        }
    }

    fn pushed_anywhere(&mut self) -> Vec<Json> {
        std::iter::from_fn(|| self.account.poll_push()).map(|(_, event)| json_of(&event)).collect()
    }
}

/// What a channel should have been pushed. While nothing new is granted a gateway's pushes are followed, and judged.
fn expected(side: &mut Side, model: &Model, got: &[Json], now: i64, hold: bool, paused: bool) -> Expected {
    let nothing = (Vec::new(), false);
    match side {
        Side::Client(side) if paused => side.is_over(model, now).unwrap_or(nothing),
        Side::Gateway(side) if paused => {
            side.behind = true;
            side.is_over(model, now).unwrap_or(nothing)
        }
        Side::Client(side) if hold => side.withdrawn(model, now),
        Side::Client(side) => side.difference(model, now),
        Side::Gateway(side) if !hold => side.difference(model, now),
        Side::Gateway(side) => side.is_over(model, now).unwrap_or_else(|| {
            side.follow_withdrawn(model, got, now);
            (got.to_vec(), false)
        }),
    }
}

/// A history from its choices, with a client and a gateway that listen from the beginning.
fn run(numbers: Vec<u32>, loaded_flows_live: bool) -> BTreeMap<String, u32> {
    let mut trial = Trial::new(loaded_flows_live);
    let now = trial.micros();
    let client = trial.account.subscribe_client(id("c1"), None, ClientOptions::default(), now).unwrap();
    let gateway = trial.account.subscribe_gateway(id("w1"), None, now).unwrap();
    trial.pushed_anywhere();
    let client_side = ClientSide::open(&trial.model, id("c1"), id("t1"), false, NOW).0;
    trial.sides.insert(client, Side::Client(client_side));
    trial.sides.insert(gateway, Side::Gateway(GatewaySide::open(&trial.model, id("w1"), id("t2"), NOW).0));
    trial.run(&mut Choices::new(numbers));
    trial.finish();
    trial.tally
}

/// What histories lead to, so that nothing below is proven of what never happens.
#[test]
fn histories_lead_everywhere() {
    let mut tally: BTreeMap<String, u32> = BTreeMap::new();
    let mut seed = 1_u64;
    let mut number = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u32
    };
    for _ in 0..250 {
        let numbers = (0..1_000).map(|_| number()).collect();
        run(numbers, number() % 2 == 0).into_iter().for_each(|(what, count)| *tally.entry(what).or_default() += count);
    }
    let often = [
        "access_authorization_expiry_updated",
        "access_authorization_expiry_updated by the clock",
        "access_authorization_expiry_updated while held",
        "authorize_flow",
        "authorize_flow by the clock",
        "config_changed",
        "disconnect",
        "disconnect by the clock",
        "disconnect while held",
        "forbidden",
        "init",
        "not",
        "offline",
        "ok",
        "reject_access",
        "reject_access by the clock",
        "reject_access while held",
        "resource_created_or_updated",
        "resource_created_or_updated by the clock",
        "resource_deleted",
        "resource_deleted by the clock",
        "resource_deleted while held",
        "resource_updated",
        "version",
    ];
    let rare: Vec<&str> = often.into_iter().filter(|what| tally.get(*what).copied().unwrap_or_default() < 3).collect();
    assert!(rare.is_empty(), "{rare:?} of {tally:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * ProptestConfig::default().cases, failure_persistence: None, max_shrink_iters: 6_000, ..ProptestConfig::default() })]

    #[test]
    fn an_account_says_what_the_rules_say(
        numbers in prop::collection::vec(any::<u32>(), 100..1_500),
        loaded_flows_live in any::<bool>(),
    ) {
        run(numbers, loaded_flows_live);
    }
}
