//! Group commit: one thread takes what has queued up while it was busy, writes it as one batch, makes
//! it durable with one fdatasync, and only then tells those who wait. No artificial window but
//! [`HeadStart`]'s after a rest: what arrives during one fdatasync is the next batch. It sleeps without
//! a limit when there is nothing to do.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::{
    Meta, NotStored, Waiter,
    head_start::HeadStart,
    message_key,
    proportion::Proportion,
    record::{self, MessageHead, Reserve},
    recovery,
    shares::{Owed, shares_key},
    state::{Core, Flying, Mode, RESERVED, Release, State, Undo, Write},
};
use crate::model::PushMessage;

/// Bytes of bodies in one batch. sled re-uses a segment (512 KB) as soon as it believes that what was
/// in it lies elsewhere, and only our fdatasync makes that true: a batch must not fill many segments.
const BATCH_BYTES: usize = 256 << 10;

/// Deletions in one batch. sled keeps whatever a batch has replaced until its end, and a batch is applied
/// in no order: thousands of deletions would read and copy the same pages of a dozen messages again and
/// again, and hold every copy (half a gigabyte for 70,000).
pub(super) const BATCH_DELETIONS: usize = 256;

/// Deletions that sled applies at a time. It writes a page of a dozen messages anew when most of them are
/// gone, together with the page before it; from left to right there is little left of either.
const SWEEP: usize = 16;

/// How often room in the planner's channel is looked for, while there is none.
const BLOCKED: Duration = Duration::from_millis(20);

/// How often the same is done while a batch waits for it …
const BREATH: Duration = Duration::from_millis(1);

/// … and for how long it does. Senders that are answered faster than the planner can take in what they send
/// would soon be refused; answered later, they go at its pace, and much is acknowledged before it is written.
const HELD_UP: Duration = Duration::from_millis(50);

/// For how many [`Pace::linger`]s nothing comes before the store is at rest.
const QUIET: u32 = 30;

/// How long a failed disk is left alone at most: so much later than its mending messages are accepted again.
const LONGEST_PROBE: Duration = Duration::from_secs(10);

/// How old the newest time on disk may become, in ms: it rides with a batch once an hour.
pub(super) const RECORD_TIME_MS: u64 = 3_600_000;

/// The timers of the committer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long deletions wait for company.
    pub(super) linger: Duration,
    /// How long a failed disk is left alone at first; the pause doubles up to [`LONGEST_PROBE`].
    pub(super) probe: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { linger: Duration::from_secs(2), probe: Duration::from_secs(1) }
    }
}

/// Ends the committer: writes what is queued, then stops. Dropping it does the same without waiting.
#[derive(Debug)]
pub struct Closer {
    core: Arc<Core>,
    ended: watch::Receiver<bool>,
}

impl Closer {
    /// Commits everything that is queued and waits until the database is closed. Later appends are `Busy`.
    pub async fn close(mut self) {
        self.stop();
        self.wait().await;
    }

    /// By which the committer can be asked for a sign of life.
    #[must_use]
    pub fn heart(&self) -> Heart {
        Heart(Arc::clone(&self.core))
    }

    /// Resolves when the committer has ended although nobody has closed the store: a bug. Nothing can be
    /// made safe any more; the process should end and be started again.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        drop(ended.wait_for(|ended| *ended).await);
    }

    async fn wait(&mut self) {
        // An error says that the thread is gone, which is as good.
        drop(self.ended.wait_for(|ended| *ended).await);
    }

    fn stop(&self) {
        self.core.lock().mode = Mode::Closing;
        self.core.work.notify_one();
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Asks the committer for a sign of life.
#[derive(Clone, Debug)]
pub struct Heart(Arc<Core>);

impl Heart {
    /// Resolves when the committer has come round to its queue. A disk that fails is no reason not to:
    /// it is probed, and a new process would find no better one. Nothing is written for it.
    pub async fn beat(&self) {
        let (beat, felt) = oneshot::channel();
        self.0.lock().beats.push(beat);
        self.0.work.notify_one();
        if felt.await.is_err() {
            // The committer has ended, of which the process hears by `Closer::ended`.
            std::future::pending().await
        }
    }
}

/// Starts the thread.
pub(super) fn start(core: &Arc<Core>) -> io::Result<Closer> {
    let (sender, ended) = watch::channel(false);
    let own = Arc::clone(core);
    std::thread::Builder::new().name("committer".to_owned()).spawn(move || {
        if catch_unwind(AssertUnwindSafe(|| run(&own))).is_err() {
            tracing::error!("the committer has failed; nothing can be stored until the next start");
        }
        let mut state = own.lock();
        state.mode = Mode::Closing;
        let waiters = state.fail(Job::default());
        drop(state);
        answer(waiters, Err(NotStored::Disk));
        own.disk.close();
        sender.send_replace(true);
    })?;
    Ok(Closer { core: Arc::clone(core), ended })
}

fn run(core: &Core) {
    let mut pause = core.pace.probe;
    let mut head_start = HeadStart::default();
    let mut proportion = Proportion::default();
    loop {
        let mut state = match next(core, &mut head_start, proportion.may_rest()) {
            Next::Batch(state) => state,
            Next::End => return,
            Next::Rest => {
                proportion.rest(core);
                continue;
            }
        };
        if state.mode == Mode::Failed {
            // Whoever asks for a sign of life has the disk probed early: he asks more rarely than that.
            let waited = core.work.wait_timeout_while(state, pause, |state| {
                state.mode == Mode::Failed && state.beats.is_empty()
            });
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            pause = (pause * 2).min(LONGEST_PROBE);
            recovery::attempt(core);
            continue;
        }
        pause = core.pace.probe;
        let job = state.take();
        drop(state);
        let bodies = job.inserts.iter().map(|insert| insert.message.body.len() as u64).sum();
        commit(core, job);
        head_start.written(std::mem::take(&mut core.lock().overtaken));
        proportion.keep(core, bodies);
    }
}

/// What the committer does next.
enum Next<'a> {
    Batch(MutexGuard<'a, State>),
    /// The store is closing and everything is written, or the disk has failed.
    End,
    Rest,
}

/// Waits for work, or if it `may_rest` for none.
fn next<'a>(core: &'a Core, head_start: &mut HeadStart, may_rest: bool) -> Next<'a> {
    let mut state = core.lock();
    let mut quiet = 0;
    let mut lingered = Duration::ZERO;
    let mut rested = false;
    let mut held_up = Duration::ZERO;
    loop {
        core.announce(&mut state);
        for beat in state.beats.drain(..) {
            // Who has asked may have lost patience.
            beat.send(()).ok();
        }
        if state.mode == Mode::Closing && (state.broken || !state.has_work()) {
            return Next::End;
        }
        if state.is_urgent() || lingered >= core.pace.linger {
            if state.mode != Mode::Open {
                return Next::Batch(state);
            }
            let first = state.queue.messages.keys().next().copied();
            let pause = match head_start.next(std::mem::take(&mut rested), first) {
                Some(pause) => pause,
                None if state.is_blocked() && held_up < HELD_UP => {
                    held_up += BREATH;
                    BREATH
                }
                None => return Next::Batch(state),
            };
            drop(state);
            std::thread::sleep(pause);
            state = core.lock();
            continue;
        }
        rested = true;
        let pause = match (state.is_blocked(), !state.has_ends()) {
            (true, _) => BLOCKED,
            (false, true) if may_rest && quiet == QUIET => return Next::Rest,
            (false, true) if may_rest => core.pace.linger,
            (false, false) => core.pace.linger,
            (false, true) => {
                state = core
                    .work
                    .wait_while(state, |state| {
                        !state.is_urgent()
                            && !state.is_blocked()
                            && !state.has_ends()
                            && state.beats.is_empty()
                    })
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
        };
        let blocked = state.is_blocked();
        let waited = core
            .work
            .wait_timeout_while(state, pause, |state| !state.is_urgent() && state.is_blocked() == blocked);
        let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state = woken;
        if timeout.timed_out() && state.has_ends() {
            lingered += pause;
        } else if timeout.timed_out() && !blocked {
            quiet += 1;
        }
    }
}

/// One batch.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub(super) deletions: Vec<u64>,
    inserts: Vec<Insert>,
    releases: Vec<Release>,
    reserve: Option<Reserve>,
    /// What is left of shares that have ended.
    pub(super) shares: Vec<(u64, Vec<u8>)>,
    /// Messages that go together with their record of shares.
    shared: BTreeSet<u64>,
    pub(super) undo: Vec<Undo>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) writes: Vec<Write>,
}

#[derive(Debug)]
struct Insert {
    drops: Vec<u64>,
    message: Arc<PushMessage>,
    /// The record of its shares.
    shares: Option<Vec<u8>>,
    trusted: bool,
}

impl State {
    /// Takes the next batch out of the queue. An operation is never split: whatever belongs to an
    /// account goes at once, and a message takes along what it replaces and what gives way to it.
    fn take(&mut self) -> Job {
        let mut job = Job {
            deletions: self.take_deletions(),
            releases: std::mem::take(&mut self.queue.releases),
            shares: self.take_shares(),
            undo: std::mem::take(&mut self.queue.undo),
            waiters: std::mem::take(&mut self.queue.waiters),
            writes: std::mem::take(&mut self.queue.writes),
            ..Job::default()
        };
        let mut bytes = 0;
        while bytes < BATCH_BYTES {
            let Some((number, queued)) = self.queue.messages.pop_first() else {
                break;
            };
            bytes += queued.message.body.len();
            let shares = self.shares_record(number);
            if shares.is_some() {
                self.shares_on_disk.insert(number);
            }
            job.inserts.push(Insert {
                drops: queued.drops.iter().map(|(old, _)| *old).collect(),
                message: Arc::clone(&queued.message),
                shares,
                trusted: queued.trusted,
            });
            let flying = Flying { drops: queued.drops, message: queued.message, waiters: queued.waiters };
            self.flying.insert(number, flying);
        }
        self.queue.bytes -= bytes;
        let drops = job.inserts.iter().flat_map(|insert| &insert.drops);
        let gone = drops.chain(&job.deletions).copied();
        job.shared = gone.filter(|number| self.shares_on_disk.contains(number)).collect();
        // Half a block ahead, so that only the first message of a run waits for its number.
        let writes = !(job.inserts.is_empty()
            && job.deletions.is_empty()
            && job.shares.is_empty()
            && job.writes.is_empty());
        let old_time = self.newest.0.saturating_sub(self.recorded.0) > RECORD_TIME_MS;
        let low = self.next + RESERVED / 2 > self.limit;
        if self.queue.reserve || (writes && (low || old_time)) {
            let limit = if low { self.next + RESERVED } else { self.limit };
            job.reserve = Some(Reserve { limit, newest: self.newest });
            self.queue.reserve = false;
        }
        self.busy = true;
        job
    }

    /// What was taken back, and of the rest the oldest, because they lie together.
    fn take_deletions(&mut self) -> Vec<u64> {
        if self.deletions.len() > BATCH_DELETIONS {
            self.deletions.sort_unstable();
        }
        let later = self.deletions.split_off(self.deletions.len().min(BATCH_DELETIONS));
        let mut now = std::mem::replace(&mut self.deletions, later);
        now.append(&mut self.queue.cancelled);
        now
    }

    /// What is left of the shares that have ended, of the oldest messages.
    fn take_shares(&mut self) -> Vec<(u64, Vec<u8>)> {
        let mut shares = Vec::new();
        while shares.len() < BATCH_DELETIONS {
            let Some(number) = self.shares_changed.pop_first() else { break };
            // A message that is over by now takes its record along.
            if let Some(record) = self.shares_record(number) {
                self.shares_on_disk.insert(number);
                shares.push((number, record));
            }
        }
        shares
    }

    /// The record of who is still to acknowledge a message of a group.
    fn shares_record(&self, number: u64) -> Option<Vec<u8>> {
        match self.waiting.owed(number)? {
            Owed::Own => None,
            Owed::Shared(members) => Some(record::encode(&shares_key(number), members)),
        }
    }

    fn has_work(&self) -> bool {
        let queue = &self.queue;
        !(queue.messages.is_empty()
            && queue.writes.is_empty()
            && queue.waiters.is_empty()
            && !self.has_ends()
            && !queue.reserve)
    }
}

impl Job {
    /// The deletions in small batches of neighbours, and then everything that belongs together.
    fn batches(&self) -> Vec<sled::Batch> {
        let mut deletions = self.deletions.clone();
        deletions.sort_unstable();
        let sweep = |numbers: &[u64]| {
            let mut batch = sled::Batch::default();
            numbers.iter().for_each(|number| self.remove(&mut batch, *number));
            batch
        };
        deletions.chunks(SWEEP).map(sweep).chain(self.batch()).collect()
    }

    fn remove(&self, batch: &mut sled::Batch, number: u64) {
        batch.remove(message_key(number));
        if self.shared.contains(&number) {
            batch.remove(shares_key(number));
        }
    }

    fn batch(&self) -> Option<sled::Batch> {
        let mut batch = sled::Batch::default();
        let mut any = false;
        for insert in &self.inserts {
            let key = message_key(insert.message.id.0);
            let value = message_record(&key, &insert.message, insert.trusted);
            batch.insert(key, value);
            if let Some(shares) = &insert.shares {
                batch.insert(shares_key(insert.message.id.0), shares.as_slice());
            }
        }
        for (number, shares) in &self.shares {
            batch.insert(shares_key(*number), shares.as_slice());
            any = true;
        }
        for number in self.inserts.iter().flat_map(|insert| &insert.drops) {
            self.remove(&mut batch, *number);
            any = true;
        }
        for (key, value) in &self.writes {
            match value {
                Some(value) => batch.insert(key, value.as_slice()),
                None => batch.remove(key),
            }
            any = true;
        }
        if let Some(reserve) = &self.reserve {
            let key = Meta::Reserve.key();
            let value = record::encode(&key, reserve);
            batch.insert(key, value);
            any = true;
        }
        (any || !self.inserts.is_empty()).then_some(batch)
    }
}

fn message_record(key: &[u8], message: &PushMessage, trusted: bool) -> Vec<u8> {
    let head = MessageHead {
        accepted: message.accepted,
        trusted,
        ttl: message.ttl,
        urgency: message.urgency,
        device: message.device,
        registration: message.registration,
        topic: message.topic.as_ref().map(Cow::Borrowed),
        coding: Cow::Borrowed(&message.coding),
    };
    record::encode_with(key, &head, &message.body)
}

/// Writes a batch and answers those who wait for it.
fn commit(core: &Core, job: Job) {
    // Answering a cancelled message may need no write at all.
    let batches = job.batches();
    let fresh: Vec<_> = job.inserts.iter().map(|insert| message_key(insert.message.id.0)).collect();
    let written = if batches.is_empty() { Ok(()) } else { core.disk.write_fresh(batches, &fresh) };
    let mut state = core.lock();
    state.busy = false;
    let (waiters, outcome) = match written {
        Ok(()) => {
            if let Some(reserve) = job.reserve {
                state.limit = state.limit.max(reserve.limit);
                state.recorded = reserve.newest;
            }
            state.queue.reserve = state.next > state.limit;
            state.shares_on_disk.retain(|number| !job.shared.contains(number));
            job.releases.iter().for_each(|release| state.release(release));
            let flown = std::mem::take(&mut state.flying).into_values();
            let mut waiters = job.waiters;
            waiters.extend(flown.flat_map(|flying| flying.waiters));
            (waiters, Ok(()))
        }
        Err(error) => {
            let path = core.disk.path();
            tracing::error!(%error, path = %path.display(), "the disk refused a write; refusing messages until it works again");
            if state.mode == Mode::Open {
                state.mode = Mode::Failed;
            }
            state.broken = true;
            (state.fail(job), Err(NotStored::Disk))
        }
    };
    core.announce(&mut state);
    drop(state);
    answer(waiters, outcome);
}

fn answer(waiters: Vec<Waiter>, outcome: Result<(), NotStored>) {
    for waiter in waiters {
        // A sender that has gone away does not need the answer.
        waiter.send(outcome).ok();
    }
}
