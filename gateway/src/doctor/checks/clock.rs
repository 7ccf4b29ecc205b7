//! Is the time known? Certificates, VAPID tokens and what expires over a restart depend on it.

use std::{fs, path::Path, time::UNIX_EPOCH};

use crate::doctor::{Finding, case::Case};

/// File systems round times, and other machines may have written the files.
const NUDGE_S: u64 = 60;

pub(in crate::doctor) fn check(case: &Case) -> Vec<Finding> {
    let now = case.clock.moment();
    let remedy = "wait until the time service has heard a time server (`timedatectl`), or set the clock; until then nothing expires and no VAPID token is judged by its time";
    if !now.trusted {
        let what = "the clock stands before this release was made, so it is wrong and not trusted";
        return vec![Finding::problem(what, remedy)];
    }
    let newest = newest(&case.config.state_dir).unwrap_or_default();
    if newest > now.wall.as_secs() + NUDGE_S {
        let behind = newest - now.wall.as_secs();
        let what = format!("the clock is at least {behind} s behind: the state was written later than now");
        return vec![Finding::problem(what, remedy)];
    }
    vec![Finding::good("the clock is later than this release and than everything in the state")]
}

/// When the newest file of the state was written, in seconds since 1970.
fn newest(dir: &Path) -> Option<u64> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let written = |entry: fs::DirEntry| entry.metadata().and_then(|found| found.modified()).ok();
    let seconds =
        |time: std::time::SystemTime| time.duration_since(UNIX_EPOCH).ok().map(|time| time.as_secs());
    entries.filter_map(written).filter_map(seconds).max()
}
