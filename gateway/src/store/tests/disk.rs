//! Disks that fail, files that are damaged, processes that collide.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::store::record::encode;

/// Works on the database of a closed store with sled alone.
pub(super) fn raw<T>(dir: &Path, work: impl FnOnce(&sled::Db) -> T) -> T {
    let path = dir.join("db");
    let db = sled::Config::new().path(&path).flush_every_ms(None).open().expect("the database opens");
    let result = work(&db);
    crate::store::disk::give_up(db, &path);
    result
}

pub(super) fn contents(db: &sled::Db) -> Vec<(sled::IVec, sled::IVec)> {
    db.iter().map(|item| item.expect("readable")).collect()
}

#[test]
fn a_kill_leaves_everything_that_was_committed() {
    let world = World::new();
    let mut expected = Vec::new();
    for round in 0..5 {
        let ids: Vec<_> = (0..50).map(|_| world.stored(push(&"x".repeat(1000))).0).collect();
        expected.extend_from_slice(&ids[..40]);
        for &id in &ids[40..] {
            world.settle(MessageId(id));
        }
        let after = world.after_kill();
        let found: BTreeSet<_> = after.ids().into_iter().collect();
        assert!(expected.iter().all(|id| found.contains(id)), "round {round}");
        assert!(after.accounts.device(DeviceId(1)).is_some());
    }
}

#[test]
fn an_unfinished_snapshot_is_swept() {
    let world = World::new();
    let id = world.stored(push("x"));
    let (dir, clock) = world.close();
    // Its name makes it the newest one for sled.
    let left = dir.path().join("db/snap.00000000FFFFFFFF.generating");
    std::fs::write(&left, b"half").expect("written");
    let world = World::open(Arc::clone(&dir), clock);
    assert_eq!(world.ids(), [id.0]);
    let names = std::fs::read_dir(dir.path().join("db")).expect("a directory");
    let names: Vec<_> = names.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("FFFF")), "{names:?}");
}

#[test]
fn unfinished_settings_of_sled_are_written_again() {
    let world = World::new();
    let id = world.stored(push("x"));
    let (mut dir, mut clock) = world.close();
    let path = dir.path().join("db/conf");
    let whole = std::fs::read(&path).expect("readable");
    // sled writes them in two parts: the second is their checksum.
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).expect("written");
        let world = World::open(Arc::clone(&dir), clock);
        assert_eq!(world.ids(), [id.0], "cut off at {length}");
        assert_eq!(std::fs::read(&path).expect("readable"), whole);
        (dir, clock) = world.close();
    }
}

#[test]
fn a_damaged_snapshot_is_moved_away() {
    let world = World::new();
    let id = world.stored(push("x"));
    // sled writes a snapshot when it opens a log that has grown.
    let (dir, clock) = world.reopen().close();
    let snapshots = || {
        let entries = std::fs::read_dir(dir.path().join("db")).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.to_string_lossy().contains("/snap.")).collect::<Vec<_>>()
    };
    let snapshot = snapshots().pop().expect("there is a snapshot");
    let mut bytes = std::fs::read(&snapshot).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&snapshot, bytes).expect("written");
    let world = World::open(Arc::clone(&dir), clock);
    assert_eq!(world.ids(), [id.0]);
    let name = snapshot.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(dir.path().join("db").join(format!("damaged.{name}")).exists());
}

#[test]
fn a_second_process_is_told_so() {
    let world = World::new();
    let second = Store::open(world.dir.path(), |_| world.clock.moment());
    assert!(matches!(second, Err(OpenError::InUse(path)) if path == world.dir.path()));
}

#[test]
fn nobody_else_may_look_into_the_database() {
    let dir = tempfile::tempdir().expect("a directory is made");
    let state = dir.path().join("made/here");
    let clock = ManualClock::new(START);
    let _store = Store::open(&state, |_| clock.moment()).expect("the store opens");
    for path in [&state, &state.join("db")] {
        let mode = std::fs::metadata(path).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", path.display());
    }
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().expect("a directory is made");
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("written");
    let error = Store::open(&file, |_| ManualClock::new(START).moment()).expect_err("a file is no directory");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}

#[test]
fn what_cannot_be_read_is_set_aside() {
    let world = World::new();
    world.wait(world.accounts.put_registration(registration(1, 2))).expect("written");
    let (damaged, kept) = (world.stored(push("damaged")), world.stored(push("kept")));
    let orphan = world.stored(NewPush { registration: Arc::new(registration(1, 2)), ..push("orphan") });
    let (dir, clock) = world.close();
    let stray = (sled::IVec::from(b"?stray"), sled::IVec::from(b"value"));
    let bad: Vec<(sled::IVec, sled::IVec)> = raw(dir.path(), |db| {
        db.insert(&stray.0, &stray.1).expect("written");
        let damage = [message_key(damaged.0), endpoint_key(Space::Registration, &EndpointToken([2; 20]))];
        for key in &damage {
            let mut value = db.get(key).expect("readable").expect("there").to_vec();
            *value.last_mut().expect("not empty") ^= 1;
            db.insert(key, value).expect("written");
        }
        let keys = damage.into_iter().chain([message_key(orphan.0), stray.0]);
        keys.map(|key| (key.clone(), db.get(&key).expect("readable").expect("there"))).collect()
    });
    let world = World::open(dir, clock);
    assert_eq!(world.ids(), [kept.0]);
    assert_eq!(world.load(damaged), None);
    let world = world.reopen();
    assert_eq!(world.commits(), 0, "once is enough");
    let (dir, _) = world.close();
    raw(dir.path(), |db| {
        for (bad, value) in bad {
            assert_eq!(db.get(&bad).expect("readable"), None);
            assert_eq!(db.get(key(Space::Quarantine, &bad)).expect("readable"), Some(value));
        }
    });
}

#[test]
fn what_waited_for_a_removed_registration_is_deleted() {
    let world = World::new();
    let numbers = [world.stored(push("one")), world.stored(push("two"))];
    let (dir, clock) = world.close();
    // As after a power cut amid the removal of a device for which thousands wait: they go in several batches.
    raw(dir.path(), |db| {
        let key = endpoint_key(Space::Registration, &EndpointToken([1; 20]));
        assert!(db.remove(key).expect("written").is_some());
    });
    let (dir, _) = World::open(dir, clock).close();
    raw(dir.path(), |db| {
        for number in numbers {
            let key_of = message_key(number.0);
            assert_eq!(db.get(&key_of).expect("readable"), None);
            assert_eq!(db.get(key(Space::Quarantine, &key_of)).expect("readable"), None);
        }
    });
}

#[test]
fn lost_numbers_are_jumped_over() {
    let world = World::new();
    let before = world.stored(push("x"));
    world.settle(before);
    let (dir, clock) = world.close();
    raw(dir.path(), |db| db.insert(Meta::Reserve.key(), b"damaged").expect("written"));
    let world = World::open(dir, clock);
    assert!(world.stored(push("y")).0 > before.0 + (1 << 20));
}

#[test]
fn a_newer_format_is_left_alone() {
    let world = World::new();
    world.stored(push("x"));
    let (dir, clock) = world.close();
    let before = raw(dir.path(), |db| {
        let key = Meta::Format.key();
        let value = encode(&key, &(FORMAT + 1));
        db.insert(key, value).expect("written");
        db.insert(b"z-new-keyspace", b"value").expect("written");
        contents(db)
    });
    let error = Store::open(dir.path(), |_| clock.moment()).expect_err("it is a newer format");
    assert!(matches!(error, OpenError::Newer(_, found) if found == FORMAT + 1), "{error}");
    assert_eq!(raw(dir.path(), contents), before);
}

#[test]
fn an_idle_store_writes_nothing() {
    let world = World::new();
    world.stored(push("x"));
    let (dir, clock) = world.reopen().close();
    // Names and bytes; sled sets the length of its file when it opens it, which touches its time.
    let files = || -> std::collections::BTreeMap<_, _> {
        let entries = std::fs::read_dir(dir.path().join("db")).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).ok())).collect()
    };
    let before = files();
    let world = World::open(Arc::clone(&dir), clock);
    let id = MessageId(world.ids()[0]);
    assert!(world.load(id).is_some());
    assert!(!world.core().lock().is_urgent() && world.core().lock().deletions.is_empty());
    assert_eq!(world.commits(), 0);
    world.close();
    assert!(files() == before);
}

/// Makes the disk fail and waits until the store has noticed.
pub(super) fn break_disk(world: &World, fault: &std::sync::atomic::AtomicBool) {
    fault.store(true, Ordering::SeqCst);
    let appended = world.append(push("fails")).expect("accepted");
    assert_eq!(bounded(&world.runtime, appended.commit), Err(NotStored::Disk));
}

pub(super) fn repair_disk(world: &World) {
    world.faults().sync.store(false, Ordering::SeqCst);
    world.faults().write.store(false, Ordering::SeqCst);
    eventually("it accepts again", || world.core().lock().mode == state::Mode::Open);
}

#[test]
fn after_a_failed_fsync_nothing_is_acknowledged_until_the_disk_works() {
    let mut world = World::new();
    let kept = world.stored(push("kept"));
    assert_eq!(world.accepted().0, kept);
    break_disk(&world, &world.faults().sync);
    let failed = world.accepted().0;
    assert_eq!(world.withdrawn(), failed);
    assert_eq!(world.load(failed), None);
    assert_eq!(world.append(push("refused")).map(drop), Err(NotStored::Disk));
    assert_eq!(world.accounts.put_device(device(2)).map(drop), Err(NotStored::Disk));
    world.settle(kept);
    repair_disk(&world);
    let next = world.stored(push("works"));
    // The failed batch is on disk, but its message must not come back.
    assert_eq!(world.after_kill().ids(), [next.0]);
    assert_eq!(world.reopen().ids(), [next.0]);
}

#[test]
fn accounts_are_rolled_back() {
    let world = World::new();
    world.faults().sync.store(true, Ordering::SeqCst);
    let gate = world.faults().gate.lock().expect("the gate is free");
    let renamed = Device { name: "renamed".into(), ..device(1) };
    let changes = [
        world.accounts.put_device(renamed).expect("accepted"),
        world.accounts.put_device(device(2)).expect("accepted"),
        world.accounts.put_registration(registration(1, 2)).expect("accepted"),
        world.accounts.remove_registration(RegistrationId(1)).expect("accepted").expect("known"),
        world.accounts.put_session(DeviceId(1), Some(Session::default())).expect("accepted"),
    ];
    drop(gate);
    for change in changes {
        assert_eq!(bounded(&world.runtime, change), Err(NotStored::Disk));
    }
    let check = |world: &World| {
        assert_eq!(world.accounts.devices(), [Arc::new(device(1))]);
        assert_eq!(world.accounts.registrations(None), [Arc::new(registration(1, 1))]);
        assert_eq!(world.accounts.session(DeviceId(1)), None);
        assert!(matches!(world.accounts.lookup(&EndpointToken([1; 20])), Lookup::Live(_)));
        assert!(matches!(world.accounts.lookup(&EndpointToken([2; 20])), Lookup::Unknown));
    };
    check(&world);
    repair_disk(&world);
    check(&world.after_kill());
    check(&world.reopen());
}

#[test]
fn what_a_failed_batch_replaced_waits_again() {
    let mut world = World::new();
    let old = world.stored(with_topic("old", "t"));
    let cancelled = world.stored(push("cancelled"));
    world.accepted();
    world.accepted();
    world.faults().write.store(true, Ordering::SeqCst);
    let gate = world.faults().gate.lock().expect("the gate is free");
    let new = world.append(with_topic("new", "t")).expect("accepted");
    let cancel = world.cancel(cancelled).expect("accepted").expect("it waits");
    drop(gate);
    assert_eq!(bounded(&world.runtime, new.commit), Err(NotStored::Disk));
    assert_eq!(bounded(&world.runtime, cancel), Err(NotStored::Disk));
    assert_eq!(world.accepted(), (new.id, Some(old)));
    let withdrawn = BTreeSet::from([world.withdrawn(), world.withdrawn()]);
    assert_eq!(withdrawn, BTreeSet::from([new.id, cancelled]));
    repair_disk(&world);
    let again = BTreeSet::from([world.accepted().0, world.accepted().0]);
    assert_eq!(again, BTreeSet::from([old, cancelled]));
    let newer = world.stored(with_topic("newer", "t"));
    assert_eq!(world.accepted(), (newer, Some(old)), "the Topic is its again");
    assert_eq!(world.reopen().ids(), [cancelled.0, newer.0]);
}

/// What was replaced by a message that is withdrawn before it is written: it ends with that message, or
/// waits again with nothing done at all.
#[test]
fn a_replacement_that_is_withdrawn_from_the_queue_takes_the_replaced_one_along() {
    for (by_cancel, fails) in [(true, false), (true, true), (false, false), (false, true)] {
        let world = World::new();
        let old = world.stored(with_topic("old", "t"));
        let core = Arc::clone(&world.intake.0);
        let gate = core.disk.faults.gate.lock().expect("the gate is free");
        core.disk.faults.write.store(fails, Ordering::SeqCst);
        let first = world.append(push("first")).expect("accepted");
        eventually("the first is on its way", || core.lock().busy);
        let new = world.append(with_topic("new", "t")).expect("accepted");
        let end = if by_cancel {
            world.cancel(new.id)
        } else {
            world.accounts.remove_registration(RegistrationId(1))
        };
        drop(gate);
        let outcome = if fails { Err(NotStored::Disk) } else { Ok(()) };
        for commit in [first.commit, new.commit, end.expect("accepted").expect("it is there")] {
            assert_eq!(bounded(&world.runtime, commit), outcome, "cancelled {by_cancel}, fails {fails}");
        }
        repair_disk(&world);
        let expected = match (fails, by_cancel) {
            (true, _) => vec![old.0],
            (false, true) => vec![first.id.0],
            (false, false) => vec![],
        };
        assert_eq!(world.load(old).is_some(), fails, "cancelled {by_cancel}, fails {fails}");
        let world = world.reopen();
        assert_eq!(world.ids(), expected, "cancelled {by_cancel}, fails {fails}");
        assert_eq!(world.commits(), 0, "something was left over and set aside");
    }
}

#[test]
fn a_replacement_that_is_on_disk_after_all_stays() {
    let mut world = World::new();
    let old = world.stored(with_topic("old", "t"));
    world.accepted();
    world.faults().sync.store(true, Ordering::SeqCst);
    let new = world.append(with_topic("new", "t")).expect("accepted");
    assert_eq!(bounded(&world.runtime, new.commit), Err(NotStored::Disk));
    assert_eq!(world.accepted(), (new.id, Some(old)));
    assert_eq!(world.withdrawn(), new.id);
    repair_disk(&world);
    // One of the two has to be there, and the old one is not any more.
    assert_eq!(world.withdrawn(), old);
    assert_eq!(world.accepted(), (new.id, None));
    assert_eq!(world.load(new.id).expect("it waits").body, "new");
    assert_eq!(world.reopen().ids(), [new.id.0]);
}

#[test]
fn a_store_whose_disk_is_broken_closes() {
    let world = World::new();
    let kept = world.stored(push("kept"));
    break_disk(&world, &world.faults().write);
    let world = world.reopen();
    assert_eq!(world.ids(), [kept.0]);
}

#[test]
fn a_message_that_is_damaged_while_it_waits_is_set_aside() {
    let mut world = World::new();
    let id = world.stored(push("x"));
    world.accepted();
    let mut batch = sled::Batch::default();
    batch.insert(message_key(id.0), b"damaged");
    world.core().disk.write([batch]).expect("written");
    assert_eq!(world.load(id), None);
    assert_eq!(world.withdrawn(), id);
    let (dir, _) = world.close();
    let key = key(Space::Quarantine, &message_key(id.0));
    let found = raw(dir.path(), |db| db.get(key).expect("readable"));
    assert_eq!(found.as_deref(), Some(&b"damaged"[..]));
}
