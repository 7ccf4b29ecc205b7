//! How large the file of the database may be for what lives in it, and what is done about a larger one.
//!
//! sled fills segments again of which most is dead, and cuts off its file where the last ones are free. But when
//! much has waited and has left, what stays lies scattered over the file, and the file keeps its size: 55 MB
//! after 30,000 messages of 1 KB, although nothing lives. So what lives is written anew: at the start, and between
//! two batches while the store is open.

use super::{
    committer::BATCH_DELETIONS,
    state::{Core, Mode},
};

/// The file may be so many times as large as what lives in it …
const SHARE: u64 = 4;
/// … and so many bytes more at the start …
const AT_START: u64 = 2 << 20;
/// … or while it is open: sled turns over five segments of 512 KB however little lives, and a
/// rewrite costs more than one, which must be little beside what came and went since the last.
const RUNNING: u64 = 8 << 20;

/// The most that is written anew while the store is open, in bytes: the next batch waits for it, which must be
/// seconds on a slow card. Where more lives, it is left to the next start.
const MOST: u64 = 8 << 20;

/// What a message has besides its body (key, head, checksum) at least, in bytes.
const HEAD: u64 = 48;

/// For how many batches the file is left alone after it could not be written anew.
const PAUSE: u32 = 1024;

/// How large the files may be when the store is opened and `live` bytes live.
pub(super) fn at_start(live: u64) -> u64 {
    SHARE * live + AT_START
}

fn running(live: u64) -> u64 {
    SHARE * live + RUNNING
}

/// Watches the file after each batch.
#[derive(Debug, Default)]
pub(super) struct Proportion {
    /// What was found when everything was read last.
    counted: Counted,
    pause: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    /// What was estimated then.
    estimate: u64,
    /// Bytes of what is not messages.
    others: u64,
    /// Bytes of the file.
    size: u64,
}

impl Proportion {
    /// Writes the database anew if it is out of proportion. Only the committer may call it, between two batches.
    pub(super) fn keep(&mut self, core: &Core) {
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let Some((size, estimate)) = self.suspect(core) else { return };
        let (mut live, mut others) = (0, 0);
        let scanned = core.disk.scan(|key, value| {
            let bytes = (key.len() + value.len()) as u64;
            live += bytes;
            others += if key.first() == Some(&(super::Space::Message as u8)) { 0 } else { bytes };
        });
        self.counted = Counted { estimate, others, size };
        if let Err(error) = scanned {
            tracing::warn!(%error, "what lives in the database cannot be counted");
            self.pause = PAUSE;
            return;
        }
        if size <= running(live) || live > MOST {
            return;
        }
        tracing::info!(size, live, "the database has grown out of proportion; writing it anew");
        if let Err(error) = core.disk.rebuild() {
            tracing::warn!(%error, "the database could not be written anew; going on with the old one");
            self.pause = PAUSE;
            if !core.disk.is_open() {
                // As after a batch that failed, but none has.
                let mut state = core.lock();
                state.broken = true;
                if state.mode == Mode::Open {
                    state.mode = Mode::Failed;
                }
            }
        }
    }

    /// The size of the file and what seems to live in it, if that seems too little and was not counted just now.
    fn suspect(&self, core: &Core) -> Option<(u64, u64)> {
        let size = core.disk.length().ok().filter(|size| *size > running(self.counted.others))?;
        let state = core.lock();
        // What waits for its deletion lives on disk, and nobody need wait for it to be copied.
        if state.mode != Mode::Open || state.deletions.len() >= BATCH_DELETIONS {
            return None;
        }
        let (bodies, messages) = state.loads.total();
        let estimate = bodies + HEAD * messages + self.counted.others;
        let changed = size > self.counted.size + RUNNING / 4
            || estimate < self.counted.estimate - self.counted.estimate / 8;
        (size > running(estimate) && (changed || self.counted.size == 0)).then_some((size, estimate))
    }
}
