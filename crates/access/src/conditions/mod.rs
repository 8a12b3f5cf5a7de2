//! A policy's conditions: whether they hold for a client now, and for how long.
//!
//! ```text
//! the row's array ─ compile ─▶ Conditions ─┬─ window_at(now)       by time alone: the same for every client, good for a while
//!                                          └─ client_holds(facts)  by the client alone: whatever the time
//! ```
//!
//! All conditions of a policy must hold. The two questions are asked apart so that the first can be kept until the window
//! it answers with is over; the second allocates nothing. Invariants: what is unknown, unreadable or unheard of denies, and
//! denies whatever else matches; nothing that stands in a row makes this panic.

mod compile;
mod networks;
mod ranges;
mod schedule;

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value as Json;
use uuid::Uuid;

pub use compile::{Problem, Reason};
use networks::Networks;
use schedule::Schedule;

use crate::rows::Micros;

/// A policy's conditions, compiled once when its row is applied.
#[derive(Debug)]
pub struct Conditions {
    conditions: Box<[Condition]>,
    /// One of them never holds, or the array itself denies.
    hopeless: bool,
}

/// What conditions ask of a client.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Where the client was last seen; None: unknown.
    pub region: Option<&'a str>,
    /// None: unknown.
    pub remote_ip: Option<IpAddr>,
    /// The provider of the client's identity, where both are live; None: unknown.
    pub provider: Option<Uuid>,
    /// Whether the client was verified.
    pub verified: bool,
}

/// Where the system that this one replaces was more generous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// An address of a family that the list has no entry of is outside of the list, instead of denied.
    pub other_family_allows: bool,
    /// A client without a known provider is outside of every list of providers, instead of denied.
    pub unknown_provider_allows_not_in: bool,
}

/// Whether conditions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds {
        /// The last unix second in which they do, if nothing but time changes; None: for ever.
        expires_at: Option<i64>,
    },
    Fails,
}

/// What conditions say by time alone, and for which unix seconds they say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first second.
    pub from: i64,
    /// The first second in which it may be otherwise; None: never.
    pub until: Option<i64>,
    /// The last second in which the time conditions hold (None: for ever), or None: they don't.
    pub open: Option<Option<i64>>,
}

/// One element of the array.
#[derive(Debug)]
struct Condition {
    /// As the row names it; None: it doesn't, or is NULL.
    property: Option<Arc<str>>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    /// Nothing passes.
    Never,
    Region {
        within: bool,
        /// Sorted.
        values: Box<[Box<str>]>,
    },
    Address {
        within: bool,
        networks: Networks,
    },
    Provider {
        within: bool,
        /// Sorted.
        values: Box<[Uuid]>,
    },
    Verified {
        needed: bool,
    },
    Time(Schedule),
}

impl Window {
    /// The same at all times.
    const fn always(open: bool) -> Self {
        Self { from: i64::MIN, until: None, open: if open { Some(None) } else { None } }
    }
}

impl Conditions {
    /// Compiles a policy's `conditions`. None, and an element of None, are NULL: they deny without being a problem.
    ///
    /// The problems are those of conditions that can never hold because they are not understood: the first of each kind.
    pub fn compile(conditions: &Option<Arc<[Option<Json>]>>) -> (Self, Vec<Problem>) {
        let Some(elements) = conditions else {
            return (Self { conditions: Box::default(), hopeless: true }, Vec::new());
        };
        let mut problems = Vec::new();
        let compiled = |(index, element): (usize, &Option<Json>)| match element {
            None => Condition { property: None, test: Test::Never },
            Some(element) => compile::condition(index, element, &mut problems),
        };
        let conditions: Box<[Condition]> = elements.iter().enumerate().map(compiled).collect();
        let hopeless = conditions.iter().any(|condition| matches!(condition.test, Test::Never));
        (Self { conditions, hopeless }, problems)
    }

    /// Whether all conditions hold.
    pub fn evaluate(&self, facts: &Facts<'_>, now: Micros, options: &Options) -> Verdict {
        match self.window_at(now).open {
            Some(expires_at) if self.client_holds(facts, options) => Verdict::Holds { expires_at },
            Some(_) | None => Verdict::Fails,
        }
    }

    /// Whether the conditions that don't ask for the time hold.
    #[inline]
    pub fn client_holds(&self, facts: &Facts<'_>, options: &Options) -> bool {
        !self.hopeless && self.conditions.iter().all(|condition| condition.test.passes(facts, options))
    }

    /// What the conditions that ask for the time say. The expiry is the earliest of theirs.
    pub fn window_at(&self, now: Micros) -> Window {
        if self.hopeless {
            return Window::always(false);
        }
        let schedules = self.conditions.iter().filter_map(|condition| condition.test.schedule());
        let mut all = Window::always(true);
        for window in schedules.map(|schedule| schedule.window_at(now.seconds())) {
            all.from = all.from.max(window.from);
            all.until = all.until.into_iter().chain(window.until).min();
            all.open = all.open.zip(window.open).map(|(one, other)| one.into_iter().chain(other).min());
        }
        all
    }

    /// Adds the properties of conditions that fail, in order, each once. NULL, and what names no property, adds none.
    pub fn violated(&self, facts: &Facts<'_>, now: Micros, options: &Options, out: &mut Vec<Arc<str>>) {
        let is_open = |schedule: &Schedule| schedule.window_at(now.seconds()).open.is_some();
        self.add_failing(facts, options, is_open, out);
    }

    /// The same while the window is open, so that the time needn't be asked for again.
    pub fn violated_in_window(&self, facts: &Facts<'_>, options: &Options, out: &mut Vec<Arc<str>>) {
        self.add_failing(facts, options, |_| true, out);
    }

    fn add_failing(
        &self,
        facts: &Facts<'_>,
        options: &Options,
        is_open: impl Fn(&Schedule) -> bool,
        out: &mut Vec<Arc<str>>,
    ) {
        for condition in &self.conditions {
            let Some(property) = &condition.property else { continue };
            let holds = match &condition.test {
                Test::Time(schedule) => is_open(schedule),
                client => client.passes(facts, options),
            };
            if !holds && !out.contains(property) {
                out.push(property.clone());
            }
        }
    }
}

impl Test {
    fn schedule(&self) -> Option<&Schedule> {
        match self {
            Self::Time(schedule) => Some(schedule),
            Self::Never
            | Self::Region { .. }
            | Self::Address { .. }
            | Self::Provider { .. }
            | Self::Verified { .. } => None,
        }
    }

    /// Whether the client passes. Time is asked elsewhere, and passes.
    #[inline]
    fn passes(&self, facts: &Facts<'_>, options: &Options) -> bool {
        match self {
            Self::Never => false,
            Self::Time(_) => true,
            Self::Verified { needed } => facts.verified || !needed,
            Self::Region { within, values } => facts.region.is_some_and(|region| {
                let found = values.binary_search_by(|value| (**value).cmp(region));
                found.is_ok() == *within
            }),
            Self::Address { within, networks } => {
                facts.remote_ip.is_some_and(|address| match networks.contain(address) {
                    Some(found) => found == *within,
                    None => !within && options.other_family_allows,
                })
            }
            Self::Provider { within, values } => match &facts.provider {
                Some(provider) => values.binary_search(provider).is_ok() == *within,
                None => !within && options.unknown_provider_allows_not_in,
            },
        }
    }
}

#[cfg(test)]
mod tests;
