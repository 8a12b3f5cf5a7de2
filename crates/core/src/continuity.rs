//! Where one epoch cannot be continued: whether the next may begin, and with what progress.
//!
//! Without a word, a new epoch begins in one case only: the server was promoted, its timeline left the old one behind
//! everything that was delivered, and the slot came along. Everything else that could have lost a change is a refusal, and
//! goes on only when an operator says so. What he says names the end LSN that the refusal told him, so that it holds for
//! this gap and never for the next.

use penstock_wire::lsn::{EndLsn, Lsn};
use penstock_wire::progress::{Progress, Through};
use penstock_wire::reload::Reload;

use crate::backfill::reopen;
use crate::resume::{Decision, Others, Pinned, Refusal, Server, Slot, Topic, decide};

/// What an operator has accepted, each by the end LSN of the progress that it is accepted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Changes behind it may be missing.
    pub gap: Option<EndLsn>,
    /// The server is what `pg_upgrade` has made of the old one; changes behind it may be missing.
    pub upgrade: Option<EndLsn>,
}

/// What to begin a new epoch with.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEpoch {
    /// Of the new epoch; behind its end LSN the stream goes on.
    pub progress: Progress,
    /// The epoch record's.
    pub detail: String,
    /// Changes may be missing.
    pub gap: bool,
}

/// How to go on.
#[derive(Clone, Debug, PartialEq)]
pub enum Continuation {
    /// As [`decide`] says.
    Decided(Decision),
    /// In a new epoch. Where there is no slot, or a lost one, one has to be made first.
    NewEpoch(Box<NewEpoch>),
}

/// Everything that is known when a bridge starts.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub pinned: &'a Pinned,
    pub server: &'a Server,
    pub slot: Option<&'a Slot>,
    pub progress: Option<&'a Progress>,
    pub others: &'a Others,
    pub topic: Option<&'a Topic>,
    /// Where progress' timeline ended, if it is an ancestor of the server's.
    pub switch_point: Option<Lsn>,
}

/// [`decide`], and whether a new epoch may begin where that refuses.
pub fn go_on(known: Known<'_>, accepted: Accepted) -> Result<Continuation, Refusal> {
    let decide = |slot: Option<&Slot>, progress: Option<Progress>| {
        decide(known.pinned, known.server, slot, progress, known.others, known.topic)
    };
    let Some(progress) = known.progress else { return decide(known.slot, None).map(Continuation::Decided) };
    let refusal = match decide(known.slot, Some(progress.clone())) {
        // What a bridge finds only when it streams, a restored server above all, is accepted at the next start.
        Ok(_) if accepted.gap == Some(progress.end_lsn) => None,
        Ok(decision) => return Ok(Continuation::Decided(decision)),
        Err(refusal) => Some(refusal),
    };
    let slot = known.slot.filter(|slot| !slot.lost);
    if let (Some(Refusal::OtherTimeline { .. }), Some(slot)) = (&refusal, slot)
        && was_promoted(progress, slot, known.switch_point)
    {
        let detail = format!("complete: the server was promoted to timeline {}", known.server.timeline);
        let next = Progress { timeline: known.server.timeline, epoch: progress.epoch + 1, ..progress.clone() };
        return match decide(Some(slot), Some(next))? {
            Decision::Resume(progress) => {
                Ok(Continuation::NewEpoch(Box::new(NewEpoch { progress: *progress, detail, gap: false })))
            }
            Decision::FirstStart => Ok(Continuation::Decided(Decision::FirstStart)),
        };
    }
    let what = match &refusal {
        None => "the stream did not hold what was delivered".to_owned(),
        Some(refusal) if is_accepted(refusal, accepted) => refusal.to_string(),
        Some(refusal) => return Err(refusal.clone()),
    };
    // A slot that is made now begins where the server stands; nothing before it comes from anywhere but the reload.
    let made = Slot { name: known.pinned.slot.clone(), confirmed: EndLsn(known.server.flushed), lost: false };
    let slot = slot.unwrap_or(&made);
    let next = behind_gap(progress, known.server, slot.confirmed);
    match decide(Some(slot), Some(next))? {
        Decision::Resume(progress) => {
            let detail = format!("incomplete: {what}; all rows follow by a reload");
            Ok(Continuation::NewEpoch(Box::new(NewEpoch { progress: *progress, detail, gap: true })))
        }
        Decision::FirstStart => Ok(Continuation::Decided(Decision::FirstStart)),
    }
}

/// The command that goes on, and what it does.
pub(crate) fn accepting(what: &str, end: EndLsn) -> String {
    format!(
        "`penstock run --accept-{what} {end}` goes on in a new epoch, tells readers that they know nothing until every row was read again, and does that."
    )
}

/// Whether the new timeline holds everything that was delivered, and its slot everything that was not.
fn was_promoted(progress: &Progress, slot: &Slot, switch_point: Option<Lsn>) -> bool {
    // Of a transaction that is delivered in part, the new server may not have the rest.
    let is_whole = progress.end_lsn.covers(progress.through.commit_lsn) || progress.through == Through::default();
    is_whole
        && slot.confirmed <= progress.end_lsn
        && switch_point.is_some_and(|switch_point| progress.end_lsn.0 <= switch_point)
}

fn is_accepted(refusal: &Refusal, accepted: Accepted) -> bool {
    match refusal {
        Refusal::ProgressWithoutSlot { end, .. }
        | Refusal::SlotLost { end, .. }
        | Refusal::SlotAhead { end, .. }
        | Refusal::OtherTimeline { end, .. }
        | Refusal::ServerBehind { end, .. } => accepted.gap == Some(*end),
        Refusal::OtherSystem { end, .. } => accepted.upgrade == Some(*end),
        Refusal::SlotWithoutProgress { .. }
        | Refusal::TopicWithoutProgress
        | Refusal::NumberTaken { .. }
        | Refusal::UnlikeOthers { .. }
        | Refusal::TopicMissing { .. }
        | Refusal::TopicRecreated { .. }
        | Refusal::Repartitioned { .. }
        | Refusal::TopicShorter { .. }
        | Refusal::OtherDatabase { .. }
        | Refusal::Configuration { .. } => false,
    }
}

/// Progress of an epoch that begins at `from`, after which everything is read again. Nothing of how fresh or complete the old
/// one was holds any more.
fn behind_gap(progress: &Progress, server: &Server, from: EndLsn) -> Progress {
    let epoch = progress.epoch + 1;
    let (_, mut reloads) = reopen(false, progress.reloads.clone(), from);
    let why = format!("epoch {epoch} began behind a gap");
    reloads.push(Reload { id: format!("epoch-{epoch}"), why, ..Reload::default() });
    Progress {
        system_identifier: server.system_identifier,
        // `pg_upgrade` may give the database another one.
        database_oid: server.database_oid,
        timeline: server.timeline,
        epoch,
        end_lsn: from,
        through: Through::default(),
        postgres_clock_us: 0,
        load_complete: false,
        reloads,
        ..progress.clone()
    }
}

#[cfg(test)]
mod tests {
    use penstock_wire::lsn::CommitLsn;
    use penstock_wire::position::{Position, Seq};
    use penstock_wire::progress::PartitionProgress;
    use penstock_wire::reload::{ReloadState, Scope};

    use super::*;

    const END: u64 = 100;

    struct Case {
        server: Server,
        slot: Option<Slot>,
        progress: Progress,
        switch_point: Option<Lsn>,
        accepted: Accepted,
    }

    fn last() -> Position {
        Position { epoch: 3, commit_lsn: CommitLsn::new(90), seq: Seq(8) }
    }

    fn resumable() -> Case {
        let through = Through { commit_lsn: CommitLsn::new(90), seq: Seq(8), ..Through::default() };
        Case {
            server: Server { system_identifier: 7, database_oid: 5, timeline: 1, flushed: Lsn(200) },
            slot: Some(Slot { name: "s".into(), confirmed: EndLsn::new(END), lost: false }),
            progress: Progress {
                system_identifier: 7,
                database_oid: 5,
                slot: "s".into(),
                source_number: 1,
                timeline: 1,
                epoch: 3,
                partition_count: 1,
                topic_id: "t".into(),
                namespace: "n".into(),
                end_lsn: EndLsn::new(END),
                through,
                load_complete: true,
                postgres_clock_us: 9,
                partitions: vec![PartitionProgress { partition: 0, last: last(), next_offset: 9 }],
                ..Progress::default()
            },
            switch_point: None,
            accepted: Accepted::default(),
        }
    }

    fn go(change: impl FnOnce(&mut Case)) -> Result<Continuation, Refusal> {
        let mut case = resumable();
        change(&mut case);
        let Case { server, slot, progress, switch_point, accepted } = case;
        let known = Known {
            pinned: &Pinned {
                source_number: 1,
                slot: "s".into(),
                partitions: 1,
                namespace: "n".into(),
                source_in_key: false,
            },
            server: &server,
            slot: slot.as_ref(),
            progress: Some(&progress),
            others: &Others::new(),
            topic: Some(&Topic { id: "t".into(), ends: vec![9] }),
            switch_point,
        };
        go_on(known, accepted)
    }

    /// `resume`, the first words of a refusal, or of a new epoch whether it has a gap, and where it begins.
    fn check(expected: &str, change: impl FnOnce(&mut Case)) {
        let gone = match go(change) {
            Ok(Continuation::Decided(Decision::Resume(_))) => "resume".to_owned(),
            Ok(Continuation::Decided(Decision::FirstStart)) => "first start".to_owned(),
            Ok(Continuation::NewEpoch(next)) => {
                let NewEpoch { progress, gap, detail } = *next;
                assert_eq!((progress.epoch, progress.partitions[0].last), (4, last()));
                assert_eq!(detail.starts_with("incomplete: "), gap, "{detail}");
                assert_eq!(progress.load_complete, !gap);
                assert_eq!(progress.reloads.iter().any(|reload| reload.scope == Scope::default()), gap);
                format!("{} from {}", if gap { "gap" } else { "promoted" }, progress.end_lsn.0.0)
            }
            Err(refusal) => refusal.to_string().split(':').next().unwrap_or_default().to_owned(),
        };
        assert_eq!(gone, expected);
    }

    fn accept_gap(case: &mut Case) {
        case.accepted.gap = Some(EndLsn::new(END));
    }

    #[test]
    fn nothing_is_accepted_that_was_not_named() {
        check("resume", |_| {});
        check("resume", |case| case.accepted.gap = Some(EndLsn::new(END - 1)));
        check("progress without slot", |case| case.slot = None);
        check("progress without slot", |case| {
            (case.slot, case.accepted.gap) = (None, Some(EndLsn::new(END - 1)));
        });
        check("progress without slot", |case| {
            (case.slot, case.accepted.upgrade) = (None, Some(EndLsn::new(END)));
        });
        check("another system", |case| {
            case.server.system_identifier = 8;
            accept_gap(case);
        });
        // Whatever else is wrong still is.
        check("configuration changed", |case| {
            (case.slot, case.progress.source_number) = (None, 2);
            accept_gap(case);
        });
        check("topic shorter than progress", |case| {
            (case.slot, case.progress.partitions[0].next_offset) = (None, 10);
            accept_gap(case);
        });
    }

    #[test]
    fn an_accepted_gap_begins_an_epoch_where_the_slot_stands() {
        // One that is made now begins where the server is.
        check("gap from 200", |case| {
            case.slot = None;
            accept_gap(case);
        });
        check("gap from 200", |case| {
            case.slot = Some(Slot { name: "s".into(), confirmed: EndLsn::new(END), lost: true });
            accept_gap(case);
        });
        check("gap from 150", |case| {
            case.slot = Some(Slot { name: "s".into(), confirmed: EndLsn::new(150), lost: false });
            accept_gap(case);
        });
        check("gap from 60", |case| {
            case.slot = Some(Slot { name: "s".into(), confirmed: EndLsn::new(60), lost: false });
            case.server.flushed = Lsn(80);
            accept_gap(case);
        });
        // What only the stream shows.
        check("gap from 100", accept_gap);
        check("gap from 120", |case| {
            case.server = Server { system_identifier: 8, database_oid: 6, timeline: 1, flushed: Lsn(120) };
            (case.slot, case.accepted.upgrade) = (None, Some(EndLsn::new(END)));
        });
    }

    #[test]
    fn a_promoted_server_goes_on_where_it_holds_all_that_was_delivered() {
        let promoted = |case: &mut Case| {
            case.server.timeline = 2;
            case.switch_point = Some(Lsn(END));
        };
        check("promoted from 100", promoted);
        check("another timeline", |case| case.server.timeline = 2);
        check("another timeline", |case| {
            promoted(case);
            case.switch_point = Some(Lsn(END - 1));
        });
        check("another timeline", |case| {
            promoted(case);
            case.slot = None;
        });
        check("another timeline", |case| {
            promoted(case);
            case.slot = Some(Slot { name: "s".into(), confirmed: EndLsn::new(END + 1), lost: false });
        });
        check("another timeline", |case| {
            promoted(case);
            case.progress.through.commit_lsn = CommitLsn::new(END + 1);
        });
        check("gap from 101", |case| {
            promoted(case);
            case.slot = Some(Slot { name: "s".into(), confirmed: EndLsn::new(END + 1), lost: false });
            accept_gap(case);
        });
    }

    #[test]
    fn reloads_of_the_old_epoch_that_were_live_begin_anew() {
        let running = Reload { id: "r".into(), state: ReloadState::Running, begin: last(), ..Reload::default() };
        let gone = go(|case| {
            case.progress.reloads = vec![running];
            accept_gap(case);
        });
        let Ok(Continuation::NewEpoch(next)) = gone else { panic!("{gone:?}") };
        let told: Vec<_> = next.progress.reloads.iter().map(|reload| (reload.id.as_str(), reload.state)).collect();
        assert_eq!(told, [("r", ReloadState::Requested), ("epoch-4", ReloadState::Requested)]);
    }
}
