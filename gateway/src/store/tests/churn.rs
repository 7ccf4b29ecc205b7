//! What years of pushes leave behind.

use super::*;
use crate::model::{Bound, Bounds};

/// What the files may have over 4 times what lives in them: sled turns over five segments of 512 KB even
/// when next to nothing lives.
const SPARE: u64 = 5 * (512 << 10) + (64 << 10);

/// The same when nothing has come for a while, and at the start.
const SPARE_AT_REST: u64 = 2 << 20;

/// The same where much has waited and has left.
const SPARE_AFTER: u64 = 3 << 20;

/// The same while batches come.
const SPARE_RUNNING: u64 = 8 << 20;

/// Sends `count` pushes of 1 KB through a store that keeps the newest `kept` of them, and checks the
/// files each time that a tenth has gone through.
fn churn(count: usize, kept: usize) {
    let world = World::new();
    let mut arrivals = world.arrivals;
    let mut waiting = std::collections::VecDeque::new();
    let mut commits = Vec::new();
    for number in 1..=count {
        let body = format!("{number:01024}");
        let appended = world.intake.append(push(&body), world.clock.moment()).expect("accepted");
        waiting.push_back(appended.id);
        commits.push(appended.commit);
        if commits.len() == 64 {
            for commit in commits.drain(..) {
                bounded(&world.runtime, commit).expect("written");
            }
            while arrivals.try_recv().is_ok() {}
            let over = waiting.len().saturating_sub(kept);
            let acked: Vec<_> = waiting.drain(..over).collect();
            world.ledger.settle(DeviceId(1), &acked, Phase::Acked);
        }
        if number % (count / 10) == 0 {
            let (live, files) = (live(&world.intake.0), files(world.dir.path()));
            assert!(files <= 4 * live + SPARE, "{files} bytes for {live} after {number}");
        }
    }
    let core = &world.intake.0;
    // Asked under its lock: two databases may be changing places.
    let size = || core.disk.size().expect("readable");
    eventually("the file is in proportion", || size() <= 4 * live(core) + SPARE_AT_REST);
    assert_eq!(core.lock().waiting.iter().count(), waiting.len());
}

/// Lets `count` messages of 1 KB wait.
fn fill(world: &mut World, count: usize) -> Vec<MessageId> {
    let (mut ids, mut commits) = (Vec::new(), Vec::new());
    for number in 1..=count {
        let body = format!("{number:01024}");
        let appended = world.intake.append(push(&body), world.clock.moment()).expect("accepted");
        ids.push(appended.id);
        commits.push(appended.commit);
        if commits.len() == 64 || number == count {
            for commit in commits.drain(..) {
                bounded(&world.runtime, commit).expect("written");
            }
            while world.arrivals.try_recv().is_ok() {}
        }
    }
    ids
}

/// Lets `count` messages of 1 KB wait, no more than may, and then settles all but each `kept`th, in an order of its own.
fn drain(count: usize, kept: usize) {
    let mut world = World::new();
    let ids = fill(&mut world, count);
    let (left, gone): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| id.0 % kept as u64 == 0);
    let full = files(world.dir.path());
    assert!(full > 4 * (left.len() as u64 * 1100) + SPARE_AFTER, "{full} bytes are too few to tell");
    // Every seventh, seven times.
    for turn in 0..7 {
        let some: Vec<_> = gone.iter().skip(turn).step_by(7).copied().collect();
        world.ledger.settle(DeviceId(1), &some, Phase::Acked);
    }
    let core = &world.intake.0;
    eventually("the file is in proportion", || {
        let deleted = core.lock().deletions.is_empty() && !core.lock().busy;
        deleted && core.disk.size().expect("readable") <= 4 * live(core) + SPARE_AFTER
    });
    let waiting: Vec<_> = core.lock().waiting.iter().map(|(number, ..)| number).collect();
    assert_eq!(waiting, left.iter().map(|id| id.0).collect::<Vec<_>>());
    for id in left {
        assert!(world.backlog.load(DeviceId(1), id).expect("readable").is_some(), "{id}");
    }
}

/// Bytes of all keys and values.
fn live(core: &Core) -> u64 {
    let mut bytes = 0;
    core.disk.scan(|key, value| bytes += (key.len() + value.len()) as u64).expect("readable");
    bytes
}

/// Bytes of all files of the database.
pub(super) fn files(state: &Path) -> u64 {
    let entries = std::fs::read_dir(state.join("db")).expect("a directory");
    entries
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}

/// In a process of its own: sled's seven threads serve every store of a process, and where other tests' keep them busy
/// a segment more is begun.
#[test]
fn the_file_does_not_grow_with_what_has_passed() {
    const ALONE: &str = "CHURN_ALONE";
    if std::env::var_os(ALONE).is_some() {
        churn(20_000, 0);
        churn(20_000, 1_000);
        return;
    }
    let mut alone = std::process::Command::new(std::env::current_exe().expect("it runs"));
    alone
        .args(["--exact", "store::tests::churn::the_file_does_not_grow_with_what_has_passed"])
        .env(ALONE, "");
    let output = alone.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_file_that_has_been_drained_is_written_anew_while_the_store_is_open() {
    drain(5_000, 10_000_000);
    drain(5_000, 64);
}

/// Backlogs one after the other, beside messages that stay: the file is written anew after the last as after the first.
#[test]
fn a_file_that_was_written_anew_before_is_written_anew_again() {
    const STAY: usize = 1_800;
    let mut world = World::new();
    let most = Bound { bytes: u64::MAX, messages: u32::MAX };
    world.intake.bound(Bounds { device: most, registration: most, ..Bounds::default() });
    fill(&mut world, STAY);
    let core = Arc::clone(&world.intake.0);
    for round in 1..=4 {
        let passing = fill(&mut world, 9_000);
        world.ledger.settle(DeviceId(1), &passing, Phase::Acked);
        eventually("what was settled is deleted", || core.lock().deletions.is_empty());
        // It is not left in peace, in which it may have less.
        let in_proportion = (0..100).any(|_| {
            let passing = fill(&mut world, 1);
            world.ledger.settle(DeviceId(1), &passing, Phase::Acked);
            core.disk.size().expect("readable") <= 4 * live(&core) + SPARE_RUNNING
        });
        assert!(in_proportion, "{} bytes for {} after backlog {round}", files(world.dir.path()), live(&core));
    }
}

/// `cargo test --workspace --release --lib -- churn --ignored`
#[test]
#[ignore = "takes minutes; the shorter one shows the same"]
fn nor_with_a_million() {
    churn(1_000_000, 0);
    churn(1_000_000, 1_000);
}
