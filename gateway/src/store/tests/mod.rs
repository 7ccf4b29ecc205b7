//! The store's promises, kept over restarts, kills and failing disks.
#![allow(clippy::disallowed_methods, reason = "tests wait for conditions with a limit")]

mod archive;
mod bounds;
mod churn;
mod disk;
mod fixture;
mod format;
mod groups;
mod messages;
mod model;
mod time;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{committer::Pace, disk::Faults, loads::Loads, state::Core, *};
use crate::{
    clock::{Clock as _, ManualClock},
    model::{
        Coding, Device, MessageId, Pending, Phase, Profile, PushMessage, RegistrationId, Session, Ttl,
        Urgency,
    },
};

/// Later than the month of the release.
const START: UnixTime = UnixTime(1_800_000_000_000);

/// A store in a directory of its own.
struct World {
    accounts: Accounts,
    archive: Archive,
    arrivals: mpsc::Receiver<Arrival>,
    backlog: Backlog,
    clock: Arc<ManualClock>,
    closer: Closer,
    dir: Arc<TempDir>,
    intake: Intake,
    ledger: Ledger,
    newest: UnixTime,
    restored: Vec<Pending>,
    runtime: tokio::runtime::Runtime,
}

impl World {
    /// A new store that knows device 1 and its registration 1.
    fn new() -> Self {
        let world = Self::empty();
        world.wait(world.accounts.put_device(device(1))).expect("written");
        world.wait(world.accounts.put_registration(registration(1, 1))).expect("written");
        world
    }

    fn empty() -> Self {
        let dir = Arc::new(tempfile::tempdir().expect("a directory is made"));
        Self::open(dir, Arc::new(ManualClock::new(START)))
    }

    fn open(dir: Arc<TempDir>, clock: Arc<ManualClock>) -> Self {
        let pace = Pace { linger: Duration::from_millis(20), probe: Duration::from_millis(1) };
        let store = open::store(dir.path(), None, |_| clock.moment(), pace).expect("the store opens");
        let Store { accounts, archive, mut backlog, closer, intake, ledger, newest } = store;
        let (arrivals, restored) = (backlog.arrivals(), backlog.restored());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime starts");
        Self {
            accounts,
            archive,
            arrivals,
            backlog,
            clock,
            closer,
            dir,
            intake,
            ledger,
            newest,
            restored,
            runtime,
        }
    }

    /// Closes the store and opens it again.
    fn reopen(self) -> Self {
        let (dir, clock) = self.close();
        Self::open(dir, clock)
    }

    fn close(self) -> (Arc<TempDir>, Arc<ManualClock>) {
        self.assert_counted();
        let Self { closer, runtime, .. } = self;
        bounded(&runtime, closer.close());
        (self.dir, self.clock)
    }

    /// What a power cut now would leave behind, in another store.
    fn after_kill(&self) -> Self {
        let dir = tempfile::tempdir().expect("a directory is made");
        copy(self.dir.path(), dir.path());
        Self::open(Arc::new(dir), Arc::clone(&self.clock))
    }

    /// What is counted by registration and device is what waits.
    fn assert_counted(&self) {
        let mut state = self.core().lock();
        let mut counted = Loads::default();
        let slots =
            state.waiting.iter().filter_map(|(number, ..)| Some((number, state.waiting.get(number)?)));
        slots.for_each(|(number, slot)| counted.add(number, &slot));
        let loads = std::mem::take(&mut state.loads);
        assert!(loads.counts_as(&counted), "{loads:?} instead of {counted:?}");
        state.loads = loads;
    }

    fn append(&self, push: NewPush) -> Result<Appended, NotStored> {
        self.intake.append(push, self.clock.moment())
    }

    /// Appends and waits until it is durable.
    fn stored(&self, push: NewPush) -> MessageId {
        let appended = self.append(push).expect("accepted");
        bounded(&self.runtime, appended.commit).expect("written");
        appended.id
    }

    fn wait(&self, commit: Result<Commit, NotStored>) -> Result<(), NotStored> {
        bounded(&self.runtime, commit.expect("accepted"))
    }

    fn cancel(&self, id: MessageId) -> Result<Option<Commit>, NotStored> {
        self.intake.cancel(&self.backlog.token(id))
    }

    fn settle(&self, id: MessageId) {
        self.ledger.settle(DeviceId(1), &[id], Phase::Acked);
    }

    fn load(&self, id: MessageId) -> Option<Arc<PushMessage>> {
        self.backlog.load(DeviceId(1), id).expect("readable")
    }

    /// What waits on disk, as it was when the store was opened.
    fn ids(&self) -> Vec<u64> {
        self.restored.iter().map(|pending| pending.id.0).collect()
    }

    fn core(&self) -> &Core {
        &self.intake.0
    }

    fn faults(&self) -> &Faults {
        &self.core().disk.faults
    }

    fn commits(&self) -> u64 {
        self.faults().commits.load(Ordering::SeqCst)
    }

    /// The next arrival, which must come.
    fn arrival(&mut self) -> Arrival {
        bounded(&self.runtime, self.arrivals.recv()).expect("the store is open")
    }

    fn accepted(&mut self) -> (MessageId, Option<MessageId>) {
        let arrival = self.arrival();
        let Arrival::Accepted { message, replaces } = arrival else {
            panic!("none was accepted, but {arrival:?}");
        };
        (message.id, replaces)
    }

    fn crowded_out(&mut self) -> MessageId {
        let arrival = self.arrival();
        let Arrival::CrowdedOut(DeviceId(1), id) = arrival else {
            panic!("none was crowded out, but {arrival:?}");
        };
        id
    }

    fn withdrawn(&mut self) -> MessageId {
        let arrival = self.arrival();
        let Arrival::Withdrawn(DeviceId(1), id) = arrival else {
            panic!("none was withdrawn, but {arrival:?}");
        };
        id
    }
}

fn bounded<T>(runtime: &tokio::runtime::Runtime, future: impl Future<Output = T>) -> T {
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await })
        .expect("it happens within 20 s")
}

/// Waits until something is so.
fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).expect("a directory is made");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a file is copied");
        }
    }
}

fn device(id: u64) -> Device {
    Device {
        created: UnixTime(id),
        id: DeviceId(id),
        name: format!("phone {id}").into(),
        profile: Profile::Saver,
        secret_hash: [9; 32],
        transport: "mqtt".into(),
    }
}

fn registration(device: u64, id: u8) -> Registration {
    Registration {
        app: format!("app {id}").into(),
        created: UnixTime(id.into()),
        device: DeviceId(device),
        endpoint: EndpointToken([id; 20]),
        id: RegistrationId(id.into()),
        token: format!("token-{id}").parse().expect("a token"),
        vapid: None,
    }
}

/// A push for registration 1 of device 1.
fn push(body: &str) -> NewPush {
    NewPush {
        body: body.to_owned().into(),
        coding: Coding { content_encoding: Some("aes128gcm".into()), ..Coding::default() },
        registration: Arc::new(registration(1, 1)),
        topic: None,
        ttl: Ttl::DEFAULT,
        urgency: Urgency::High,
    }
}

fn with_topic(body: &str, topic: &str) -> NewPush {
    NewPush { topic: Some(topic.parse().expect("a topic")), ..push(body) }
}

fn volatile(body: &str) -> NewPush {
    NewPush { ttl: Ttl::ZERO, ..push(body) }
}
