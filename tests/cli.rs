//! The commands that look, as scripts use them: what they print, and what they exit with.

#[path = "cli/backfill.rs"]
mod backfill;
#[path = "cli/check.rs"]
mod check;
#[path = "cli/copy.rs"]
mod copy;
#[path = "cli/replay.rs"]
mod replay;
#[path = "cli/site.rs"]
mod site;
#[path = "cli/status.rs"]
mod status;
#[allow(dead_code, reason = "shared with the tests of the bridge, which use all of it")]
#[path = "bridge/world.rs"]
mod world;
