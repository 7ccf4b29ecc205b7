//! Backups come back whole, or not at all; rebuilds survive a power cut at each step.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::store::rebuild;

/// A store with something of everything, and its backup.
fn full() -> (World, TempDir, std::path::PathBuf) {
    let world = World::new();
    world.wait(world.accounts.put_registration(registration(1, 2))).expect("written");
    world.wait(world.accounts.put_registration(registration(1, 3))).expect("written");
    let ended = world.accounts.remove_registration(RegistrationId(2)).expect("accepted").expect("there");
    bounded(&world.runtime, ended).expect("written");
    let session = Session { filters: vec![("up/1/#".into(), 1)] };
    world.wait(world.accounts.put_session(DeviceId(1), Some(session))).expect("written");
    let (first, _) = (world.stored(push("first")), world.stored(with_topic("second", "t")));
    world.settle(first);
    std::fs::create_dir(world.dir.path().join("ca")).expect("made");
    std::fs::write(world.dir.path().join("ca/key.pem"), b"a key").expect("written");
    let place = tempfile::tempdir().expect("a directory is made");
    let file = place.path().join("backup");
    let contents = world.archive.write(&mut std::fs::File::create(&file).expect("made")).expect("written");
    assert_eq!((contents.devices, contents.registrations, contents.messages, contents.files), (1, 2, 1, 1));
    (world, place, file)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("readable")
}

#[test]
fn a_backup_brings_everything_back() {
    let (world, _place, file) = full();
    let (dir, clock) =
        (Arc::new(tempfile::tempdir().expect("a directory is made")), Arc::clone(&world.clock));
    let before = Archive::write(&world.archive, &mut std::io::sink()).expect("written");
    assert_eq!(restore(dir.path(), &file).expect("restored"), before);
    let restored = World::open(Arc::clone(&dir), clock);
    assert_eq!(restored.accounts.devices(), world.accounts.devices());
    assert_eq!(restored.accounts.registrations(None), world.accounts.registrations(None));
    assert_eq!(restored.accounts.session(DeviceId(1)), world.accounts.session(DeviceId(1)));
    assert!(matches!(restored.intake.lookup(&EndpointToken([2; 20])), Lookup::Gone));
    assert_eq!(restored.ids(), [2], "what was acknowledged does not come back");
    assert_eq!(restored.load(MessageId(2)).expect("it waits").body, "second");
    assert_eq!(restored.backlog.token(MessageId(2)), world.backlog.token(MessageId(2)));
    assert_eq!(read(&dir.path().join("ca/key.pem")), b"a key");
    let mode = std::fs::metadata(dir.path().join("ca/key.pem")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The old gateway has gone on after its backup: its numbers are not given out again.
    let (old, new) = (world.stored(push("old")), restored.stored(push("new")));
    assert!(new.0 > old.0 + (1 << 40), "{new} {old}");
}

#[test]
fn a_damaged_backup_changes_nothing() {
    let (_world, place, file) = full();
    let whole = read(&file);
    let target = place.path().join("state");
    let refused = |bytes: &[u8]| {
        std::fs::write(&file, bytes).expect("written");
        let error = restore(&target, &file).expect_err("refused").to_string();
        assert!(error.contains("nothing was changed"), "{error}");
        assert!(!target.exists(), "{error}");
        error
    };
    for at in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        refused(&whole[..at]);
        let mut changed = whole.clone();
        changed[at] ^= 1;
        refused(&changed);
    }
    refused(&[&whole[..], b"x"].concat());
    assert!(refused(b"something else").contains("no backup"));
    let mut newer = whole.clone();
    newer[8] = 9;
    assert!(refused(&newer).contains("form 9"));
    std::fs::write(&file, whole).expect("written");
    restore(&target, &file).expect("the whole one is restored");
}

#[test]
fn a_backup_of_a_newer_format_is_refused() {
    let (world, place, file) = full();
    let key = Meta::Format.key();
    let mut batch = sled::Batch::default();
    batch.insert(key.clone(), record::encode(&key, &(FORMAT + 1)));
    world.core().disk.write([batch]).expect("written");
    world.archive.write(&mut std::fs::File::create(&file).expect("made")).expect("written");
    let error = restore(&place.path().join("state"), &file).expect_err("refused").to_string();
    assert!(error.contains(&format!("format {}", FORMAT + 1)), "{error}");
    assert!(!place.path().join("state").exists());
}

#[test]
fn only_an_empty_state_is_restored_into() {
    let (_world, _place, file) = full();
    let other = World::new();
    let (dir, clock) = other.close();
    let error = restore(dir.path(), &file).expect_err("refused").to_string();
    assert!(error.contains("not empty") && error.contains("1 device(s)"), "{error}");
    let still = World::open(dir, clock);
    assert_eq!(still.accounts.registrations(None).len(), 1);
    assert!(restore(still.dir.path(), &file).expect_err("in use").to_string().contains("in use"));
    // A gateway that was only installed has a database, too.
    let (dir, clock) = World::empty().close();
    restore(dir.path(), &file).expect("restored");
    assert_eq!(World::open(dir, clock).ids(), [2]);
}

#[test]
fn batches_go_on_after_a_backup() {
    let (mut world, _place, _file) = full();
    std::thread::scope(|scope| {
        let archive = world.archive.clone();
        let backups = scope.spawn(move || {
            for _ in 0..20 {
                let mut bytes = Vec::new();
                let written = archive.write(&mut bytes).expect("written");
                assert_eq!(verify(&bytes[..]).expect("whole"), written);
            }
        });
        while !backups.is_finished() {
            world.stored(push("meanwhile"));
            while world.arrivals.try_recv().is_ok() {}
        }
    });
}

/// Calls `hook` after each step of the rebuilds of this thread, until the end of the scope.
fn with_hook<T>(hook: impl FnMut(u8) -> std::io::Result<()> + 'static, work: impl FnOnce() -> T) -> T {
    rebuild::steps::HOOK.set(Some(Box::new(hook)));
    let done = work();
    rebuild::steps::HOOK.set(None);
    done
}

/// `world` has the message, and nothing is left of a rebuild.
fn assert_whole(world: &World, id: MessageId, when: &str) {
    assert_eq!(world.ids(), [id.0], "{when}");
    assert_eq!(world.load(id).expect("it waits").body, "kept", "{when}");
    for left in ["db.part", "db.new", "db.old"] {
        assert!(!world.dir.path().join(left).exists(), "{left} {when}");
    }
}

#[test]
fn a_rebuild_cut_off_at_any_step_leaves_one_whole_database() {
    for step in 0..4 {
        let world = World::new();
        let id = world.stored(push("kept"));
        let (state, left) =
            (world.dir.path().to_owned(), Arc::new(tempfile::tempdir().expect("a directory is made")));
        let to = left.path().to_owned();
        let cut = move |done| {
            if done == step {
                copy(&state, &to);
            }
            Ok(())
        };
        with_hook(cut, || world.core().disk.rebuild()).expect("rebuilt");
        let after = World::open(left, Arc::clone(&world.clock));
        assert_whole(&after, id, &format!("after step {step}"));
    }
}

#[test]
fn a_rebuild_that_fails_at_any_step_leaves_a_store_that_goes_on() {
    for step in 0..4 {
        let world = World::new();
        let id = world.stored(push("kept"));
        let fail = move |done| if done == step { Err(std::io::Error::other("failed")) } else { Ok(()) };
        with_hook(fail, || world.core().disk.rebuild()).expect_err("it is told");
        assert_eq!(world.load(id).expect("it waits").body, "kept", "step {step}");
        let more = world.stored(push("more"));
        assert_eq!(world.after_kill().ids(), [id.0, more.0], "step {step}");
        world.settle(more);
        assert_whole(&world.reopen(), id, &format!("step {step}"));
    }
}

#[test]
fn what_is_said_and_asked_during_a_rebuild_is_heard() {
    let world = World::new();
    let ids: Vec<_> = (0..200).map(|_| world.stored(push("kept"))).collect();
    let core = Arc::clone(&world.intake.0);
    let rebuilds = std::thread::spawn(move || (0..10).try_for_each(|_| core.disk.rebuild()));
    let (mut read, mut more) = (ids.iter().cycle(), Vec::new());
    while !rebuilds.is_finished() {
        assert!(world.load(*read.next().expect("there are some")).is_some());
        more.push(world.stored(push("more")).0);
    }
    rebuilds.join().expect("no panic").expect("rebuilt");
    let expected: Vec<_> = ids.iter().map(|id| id.0).chain(more).collect();
    assert_eq!(world.after_kill().ids(), expected);
    assert_eq!(world.reopen().ids(), expected);
}

#[test]
fn a_file_out_of_proportion_is_rebuilt_at_the_next_start() {
    let mut world = World::new();
    let kept = world.stored(push("kept"));
    for _ in 0..60 {
        while world.arrivals.try_recv().is_ok() {}
        let ids: Vec<_> = (0..64).map(|_| world.append(push(&"x".repeat(1000))).expect("accepted")).collect();
        let ids: Vec<_> = ids
            .into_iter()
            .map(|appended| {
                bounded(&world.runtime, appended.commit).expect("written");
                appended.id
            })
            .collect();
        world.ledger.settle(DeviceId(1), &ids, Phase::Acked);
    }
    let (dir, clock) = world.close();
    let before = crate::store::tests::churn::files(dir.path());
    assert!(before > (2 << 20), "{before} bytes");
    let world = World::open(Arc::clone(&dir), clock);
    let after = crate::store::tests::churn::files(dir.path());
    assert!(after <= (2 << 20), "{after} bytes");
    assert_eq!(world.ids(), [kept.0]);
    let more = world.stored(push("more"));
    assert_eq!(world.reopen().ids(), [kept.0, more.0]);
}
