//! The reloads there are, as they will stand in progress: asked for, begun, advanced, ended.
//!
//! It knows no marks and no chunks; those are the backfill's. What a transaction's end makes durable is shared with the
//! ledger, so that it is copied only after a change.

use std::collections::BTreeMap;
use std::sync::Arc;

use penstock_wire::lsn::EndLsn;
use penstock_wire::position::Position;
use penstock_wire::progress::Progress;
use penstock_wire::reload::{Reload, ReloadRange, ReloadState, Scope};

use super::request::{Request, RequestError};

/// Id of the load that a bridge does by itself.
pub const FIRST_LOAD: &str = "first-load";
/// Reloads that have ended and are still shown.
const FINISHED_SHOWN: usize = 8;
/// Reloads that are asked for and have not ended. All of them stand in every progress record.
const LIVE_MAX: usize = 1000;

/// What progress remembers of reloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The topic holds every row of the captured tables.
    pub load_complete: bool,
    /// Live ones, and some that have ended.
    pub reloads: Vec<Reload>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Reloads {
    now: Remembered,
    /// What the next seal makes durable; `None` if `now` has changed.
    sealed: Option<Arc<Remembered>>,
}

impl Reloads {
    pub(super) fn new(progress: &Progress) -> Self {
        let now = Remembered { load_complete: progress.load_complete, reloads: progress.reloads.clone() };
        Self { now, sealed: None }
    }

    /// What the transaction that ends now makes durable.
    pub(super) fn remembered(&mut self) -> Arc<Remembered> {
        Arc::clone(self.sealed.get_or_insert_with(|| Arc::new(self.now.clone())))
    }

    pub(super) fn all(&self) -> &[Reload] {
        &self.now.reloads
    }

    /// The reload of this id, unless it has ended.
    pub(super) fn live(&self, id: &str) -> Option<&Reload> {
        self.now.reloads.iter().find(|reload| reload.id == id && !reload.state.is_finished())
    }

    /// Whether nothing is to be done for any.
    pub(super) fn is_idle(&self) -> bool {
        let resting = |reload: &Reload| reload.state.is_finished() || reload.state == ReloadState::Paused;
        self.now.reloads.iter().all(resting)
    }

    /// Adds one. An id that is known is a request that was written twice.
    pub(super) fn add(&mut self, reload: Reload) {
        if self.now.reloads.iter().all(|known| known.id != reload.id) {
            self.sealed = None;
            self.now.reloads.push(reload);
        }
    }

    /// A table has to be read again. One that is asked for and has not begun does for all that happened until it begins.
    pub(super) fn reload_table(&mut self, table: (String, String), place: &str, why: &str) {
        let scope = Scope { table: Some(table), account: None };
        let pending =
            |reload: &Reload| reload.scope == scope && reload.begin == Position::ZERO && !reload.state.is_finished();
        if self.now.reloads.iter().any(pending) {
            return;
        }
        let taken = |id: &String| self.now.reloads.iter().any(|reload| reload.id == *id);
        let mut ids = (0_u32..).map(|n| if n == 0 { place.to_owned() } else { format!("{place}-{n}") });
        let id = ids.find(|id| !taken(id)).expect("there are more ids than reloads");
        self.add(Reload { id, scope, why: why.to_owned(), ..Reload::default() });
    }

    /// Changes one that is live.
    pub(super) fn change(&mut self, id: &str, change: impl FnOnce(&mut Reload)) {
        let live = |reload: &&mut Reload| reload.id == id && !reload.state.is_finished();
        if let Some(reload) = self.now.reloads.iter_mut().find(live) {
            self.sealed = None;
            change(reload);
            if reload.state.is_finished() {
                self.shorten(EndLsn::default());
            }
        }
    }

    /// Everything, unless that is under way or somebody decided against it.
    pub(super) fn load_everything(&mut self) {
        let decided = |reload: &Reload| {
            reload.scope == Scope::default() && (!reload.state.is_finished() || reload.id == FIRST_LOAD)
        };
        if !self.now.load_complete && !self.now.reloads.iter().any(decided) {
            let why = "the first load: captured tables held rows before the slot was made".to_owned();
            self.add(Reload { id: FIRST_LOAD.to_owned(), why, ..Reload::default() });
        }
    }

    /// The first load was decided against; remembered, so that no later start does it unasked.
    pub(super) fn decline_load(&mut self) {
        if !self.now.load_complete && !self.now.reloads.iter().any(|reload| reload.scope == Scope::default()) {
            let detail = "told to go on without it (--from-now); `penstock backfill --all` loads".to_owned();
            let state = ReloadState::Cancelled;
            self.add(Reload { id: FIRST_LOAD.to_owned(), state, detail, ..Reload::default() });
        }
    }

    /// An operator's message; `place` names a reload that has no name of its own. The id of one that was cancelled.
    pub(super) fn request(&mut self, content: &[u8], place: String) -> Option<String> {
        match Request::parse(content) {
            Ok(Request::Reload { id, scope, rows_per_second }) => {
                let why = "asked for by a message".to_owned();
                let live = self.now.reloads.iter().filter(|reload| !reload.state.is_finished()).count();
                let (state, detail) = match live < LIVE_MAX {
                    true => (ReloadState::Requested, String::new()),
                    false => {
                        let detail = format!("{live} reloads have not ended: ask again once some have");
                        (ReloadState::Refused, detail)
                    }
                };
                let id = id.unwrap_or(place);
                self.add(Reload { id, scope, why, state, detail, rows_per_second, ..Reload::default() });
                self.shorten(EndLsn::default());
            }
            Ok(Request::Pause(id)) => self.change(&id, |reload| reload.state = ReloadState::Paused),
            Ok(Request::Resume(id)) => self.change(&id, |reload| {
                let begun = reload.begin != Position::ZERO;
                reload.state = if begun { ReloadState::Running } else { ReloadState::Requested };
            }),
            Ok(Request::Cancel(id)) => {
                self.change(&id, |reload| reload.state = ReloadState::Cancelled);
                return Some(id);
            }
            Err(error) => self.not_understood(place, &error),
        }
        None
    }

    /// Shown among the reloads: whoever wrote the message looks there.
    fn not_understood(&mut self, place: String, error: &RequestError) {
        let why = "a message that was not understood".to_owned();
        self.add(Reload {
            id: place,
            why,
            state: ReloadState::Refused,
            detail: error.to_string(),
            ..Reload::default()
        });
        self.shorten(EndLsn::default());
    }

    /// Every range of the table has been read: it is gone.
    pub(super) fn table_is_gone(&mut self, table: &(String, String)) {
        self.sealed = None;
        let live = self.now.reloads.iter_mut().filter(|reload| !reload.state.is_finished());
        let ranges = live.flat_map(|reload| &mut reload.ranges);
        ranges.filter(|range| is_of(range, table)).for_each(|range| range.done = true);
    }

    /// Ids of those that still have to read the table.
    pub(super) fn reading(&self, table: &(String, String)) -> Vec<String> {
        let left = |reload: &&Reload| reload.ranges.iter().any(|range| !range.done && is_of(range, table));
        let live = self.now.reloads.iter().filter(|reload| !reload.state.is_finished());
        live.filter(left).map(|reload| reload.id.clone()).collect()
    }

    /// The `reload_begin` stands at this position.
    pub(super) fn begun(&mut self, id: &str, at: Position) {
        self.change(id, |reload| {
            reload.begin = at;
            if reload.state == ReloadState::Requested {
                reload.state = ReloadState::Running;
            }
        });
    }

    /// The `reload_end` stands at this position. `durable` is what a start can no longer go back behind.
    pub(super) fn ended(&mut self, id: &str, at: Position, durable: EndLsn) {
        let mut whole = false;
        self.change(id, |reload| {
            (reload.state, reload.end) = (ReloadState::Done, at);
            reload.ranges = summed(&reload.ranges);
            whole = reload.scope == Scope::default();
        });
        self.now.load_complete |= whole;
        self.shorten(durable);
    }

    /// Forgets the oldest that have ended, but for those that a start could have to do again.
    fn shorten(&mut self, durable: EndLsn) {
        let finished = self.now.reloads.iter().filter(|reload| reload.state.is_finished()).count();
        let mut surplus = finished.saturating_sub(FINISHED_SHOWN);
        self.sealed = None;
        self.now.reloads.retain(|reload| {
            let undone = reload.end == Position::ZERO;
            let old = reload.state.is_finished() && (undone || durable.covers(reload.end.commit_lsn));
            let drop = surplus > 0 && old && reload.id != FIRST_LOAD;
            surplus -= usize::from(drop);
            !drop
        });
    }
}

/// Reloads, after records behind `since` were lost: those that were live then, or ended later, begin anew.
pub(crate) fn reopen(load_complete: bool, mut reloads: Vec<Reload>, since: EndLsn) -> (bool, Vec<Reload>) {
    let mut complete = load_complete;
    for reload in &mut reloads {
        let late = reload.state == ReloadState::Done && !since.covers(reload.end.commit_lsn);
        if late || (!reload.state.is_finished() && reload.begin != Position::ZERO) {
            let paused = reload.state == ReloadState::Paused;
            reload.state = if paused { ReloadState::Paused } else { ReloadState::Requested };
            (reload.begin, reload.end) = (Position::ZERO, Position::ZERO);
            reload.ranges.clear();
            complete &= reload.scope != Scope::default();
        }
    }
    (complete, reloads)
}

/// One entry a table: what is shown of a reload that is over.
fn summed(ranges: &[ReloadRange]) -> Vec<ReloadRange> {
    let mut sums: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for range in ranges {
        let sum = sums.entry((&range.schema, &range.table)).or_default();
        *sum = (sum.0 + range.rows, sum.1 + range.rows_estimated);
    }
    let entry = |((schema, table), (rows, rows_estimated)): ((&str, &str), (u64, u64))| ReloadRange {
        schema: schema.to_owned(),
        table: table.to_owned(),
        rows,
        rows_estimated,
        done: true,
        ..ReloadRange::default()
    };
    sums.into_iter().map(entry).collect()
}

fn is_of(range: &ReloadRange, (schema, table): &(String, String)) -> bool {
    range.schema == *schema && range.table == *table
}

#[cfg(test)]
mod tests {
    use penstock_wire::lsn::CommitLsn;
    use penstock_wire::position::Seq;

    use super::*;

    fn ask(reloads: &mut Reloads, count: usize, content: &str) {
        for n in 0..count {
            reloads.request(content.as_bytes(), format!("{content} {n}"));
        }
    }

    fn finished(reloads: &Reloads) -> usize {
        reloads.all().iter().filter(|reload| reload.state.is_finished()).count()
    }

    /// They stand in every progress record, which has to fit into its topic.
    #[test]
    fn what_comes_to_nothing_is_not_remembered_for_ever() {
        let mut reloads = Reloads::new(&Progress::default());
        reloads.decline_load();
        ask(&mut reloads, 50, "nonsense");
        assert_eq!(reloads.all().len(), FINISHED_SHOWN, "the first load's is among them");
        assert_eq!(reloads.all()[0].id, FIRST_LOAD);

        ask(&mut reloads, LIVE_MAX + 50, "{\"reload\": {}}");
        assert_eq!((reloads.all().len(), finished(&reloads)), (LIVE_MAX + FINISHED_SHOWN, FINISHED_SHOWN));
        let last = reloads.all().last().expect("there are some");
        assert_eq!((last.state, last.id.as_str()), (ReloadState::Refused, "{\"reload\": {}} 1049"));

        for n in 0..LIVE_MAX {
            reloads.request(format!("{{\"cancel\": \"{{\\\"reload\\\": {{}}}} {n}\"}}").as_bytes(), String::new());
        }
        assert_eq!(reloads.all().len(), FINISHED_SHOWN, "cancelled ones, too");
    }

    #[test]
    fn one_that_a_start_could_have_to_do_again_is_remembered() {
        let mut reloads = Reloads::new(&Progress::default());
        ask(&mut reloads, 1, "{\"reload\": {}}");
        let at = |commit| Position { epoch: 1, commit_lsn: CommitLsn::new(commit), seq: Seq(8) };
        reloads.begun("{\"reload\": {}} 0", at(10));
        reloads.ended("{\"reload\": {}} 0", at(20), EndLsn::new(15));
        ask(&mut reloads, 50, "nonsense");
        assert_eq!(reloads.all()[0].state, ReloadState::Done);
    }
}
