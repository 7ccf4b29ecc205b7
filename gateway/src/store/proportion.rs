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
/// … and so many bytes more, at the start and at rest …
const AT_REST: u64 = 2 << 20;
/// … or while batches come: sled turns over five segments of 512 KB however little lives, and a
/// rewrite costs more than one, which must be little beside what came and went since the last.
const RUNNING: u64 = 8 << 20;

/// How much is written, in bytes, before the file is looked at when no batch comes: for the same reason.
const REST_AFTER: u64 = 16 << 20;

/// What a batch costs the disk besides its bodies at least, in bytes.
const PAGE: u64 = 4096;

/// The most that is written anew while the store is open, in bytes: the next batch waits for it, which must be
/// seconds on a slow card. Where more lives, it is left to the next start.
const MOST: u64 = 8 << 20;

/// What a message has besides its body (key, head, checksum) at least, in bytes.
const HEAD: u64 = 48;

/// For how many batches the file is left alone after it could not be written anew.
const PAUSE: u32 = 1024;

/// How large the files may be when the store is opened, or at rest, and `live` bytes live.
pub(super) fn at_rest(live: u64) -> u64 {
    SHARE * live + AT_REST
}

fn running(live: u64) -> u64 {
    SHARE * live + RUNNING
}

/// Watches the file.
#[derive(Debug, Default)]
pub(super) struct Proportion {
    /// What was found when everything was read last.
    counted: Counted,
    pause: u32,
    /// Bytes, since what lives was written anew or the file was found good at rest.
    written: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    /// What was estimated then.
    estimate: u64,
    /// Bytes of what is not messages.
    others: u64,
    /// Bytes of the file, after it was written anew if it was.
    size: u64,
}

impl Counted {
    /// Whether so much has changed since that what lives is worth counting again: the file has grown, or what seems to
    /// live has become less.
    fn is_stale(&self, size: u64, estimate: u64) -> bool {
        size > self.size + RUNNING / 4 || estimate < self.estimate - self.estimate / 8
    }
}

impl Proportion {
    /// Writes the database anew if it is out of proportion after a batch with so many bytes of bodies. Only the
    /// committer may call this and [`rest`](Self::rest), between two batches.
    pub(super) fn keep(&mut self, core: &Core, bodies: u64) {
        self.written += PAGE + bodies;
        if self.pause > 0 {
            self.pause -= 1;
        } else if let Some((size, estimate)) = self.suspect(core) {
            self.judge(core, size, estimate, running);
        }
    }

    /// Whether so much was written that a rewrite at rest would be little beside it.
    pub(super) fn may_rest(&self) -> bool {
        self.written >= REST_AFTER
    }

    /// Writes the database anew if it is out of proportion although no batch has come for a while: the file may have
    /// less then.
    pub(super) fn rest(&mut self, core: &Core) {
        self.written = 0;
        let Ok(size) = core.disk.length() else { return };
        if let Some(estimate) = self.estimate(core).filter(|estimate| size > at_rest(*estimate)) {
            self.judge(core, size, estimate, at_rest);
        }
    }

    /// Counts what lives, and writes it anew if the file has more than is `allowed` for it.
    fn judge(&mut self, core: &Core, size: u64, estimate: u64, allowed: fn(u64) -> u64) {
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
        if size <= allowed(live) || live > MOST {
            return;
        }
        tracing::info!(size, live, "the database has grown out of proportion; writing it anew");
        match core.disk.rebuild() {
            Ok(()) => {
                self.written = 0;
                self.counted.size = core.disk.length().unwrap_or(0);
            }
            Err(error) => {
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
    }

    /// The size of the file and what seems to live in it, if that seems too little and was not counted just now.
    fn suspect(&self, core: &Core) -> Option<(u64, u64)> {
        let size = core.disk.length().ok().filter(|size| *size > running(self.counted.others))?;
        let estimate = self.estimate(core)?;
        (size > running(estimate) && self.counted.is_stale(size, estimate)).then_some((size, estimate))
    }

    /// What seems to live; `None` while it is no time to look.
    fn estimate(&self, core: &Core) -> Option<u64> {
        let state = core.lock();
        // What waits for its deletion lives on disk, and nobody need wait for it to be copied.
        if state.mode != Mode::Open || state.deletions.len() >= BATCH_DELETIONS {
            return None;
        }
        let (bodies, messages) = state.loads.total();
        Some(bodies + HEAD * messages + self.counted.others)
    }
}
