//! Messages of groups: one body, a share for each member, and nothing left when all have ended.

use super::{
    disk::{break_disk, contents, raw, repair_disk},
    *,
};
use crate::{
    model::Group,
    store::{record::encode, shares::shares_key},
};

const GROUP: u64 = 100;

/// Devices 1 to 3, of which 1 and 2 are a group; its registration is 7.
fn family() -> World {
    let world = World::new();
    for other in [2, 3] {
        world.wait(world.accounts.put_device(device(other))).expect("written");
    }
    set(&world, &[1, 2]);
    world.wait(world.accounts.put_registration(registration(GROUP, 7))).expect("written");
    world
}

fn group(members: &[u64]) -> Group {
    let members = members.iter().copied().map(DeviceId).collect();
    Group { created: UnixTime(5), id: DeviceId(GROUP), members, name: "family".into() }
}

fn set(world: &World, members: &[u64]) {
    world.wait(world.accounts.put_group(group(members))).expect("written");
}

fn to_all(body: &str) -> NewPush {
    NewPush { registration: Arc::new(registration(GROUP, 7)), ..push(body) }
}

fn ack(world: &World, device: u64, id: MessageId) {
    world.ledger.settle(DeviceId(device), &[id], Phase::Acked);
}

/// Who can load a message, of devices 1 to 3.
fn waits_for(world: &World, id: MessageId) -> Vec<u64> {
    let load = |device: &u64| {
        let found = world.backlog.load(DeviceId(*device), id).expect("readable");
        found.inspect(|found| assert_eq!(found.device, DeviceId(*device))).is_some()
    };
    (1..=3).filter(load).collect()
}

/// What was found at the start: device and message.
fn restored(world: &World) -> Vec<(u64, u64)> {
    world.restored.iter().map(|pending| (pending.device.0, pending.id.0)).collect()
}

/// Everything that the planner was told: device, message, and what it replaces, `-1` for withdrawn or `-2` for
/// crowded out.
fn told(world: &mut World, count: usize) -> Vec<(u64, u64, i64)> {
    let mut told = Vec::new();
    for _ in 0..count {
        told.push(match world.arrival() {
            Arrival::Accepted { message, replaces } => {
                (message.device.0, message.id.0, replaces.map_or(0, |id| i64::try_from(id.0).expect("small")))
            }
            Arrival::CrowdedOut(device, id) => (device.0, id.0, -2),
            Arrival::Withdrawn(device, id) => (device.0, id.0, -1),
        });
    }
    assert!(world.arrivals.try_recv().is_err(), "more than {told:?}");
    told
}

/// The records of messages and of shares in a closed database.
fn records(dir: &Path) -> (usize, usize) {
    let all = raw(dir, contents);
    let count = |space: Space| all.iter().filter(|(key, _)| key[0] == space as u8).count();
    (count(Space::Message), count(Space::Shares))
}

#[test]
fn each_member_gets_and_acknowledges_its_own_copy_of_one_body() {
    let mut world = family();
    let id = world.stored(to_all("once"));
    assert_eq!(told(&mut world, 2), [(1, id.0, 0), (2, id.0, 0)]);
    assert_eq!(waits_for(&world, id), [1, 2]);
    ack(&world, 3, id);
    ack(&world, 1, id);
    ack(&world, 1, id);
    assert_eq!(waits_for(&world, id), [2], "the other's copy is its own");
    let (dir, clock) = world.close();
    let bodies = raw(dir.path(), contents).iter().filter(|(_, value)| value.ends_with(b"once")).count();
    assert_eq!(bodies, 1);
    let world = World::open(Arc::clone(&dir), clock);
    assert_eq!(restored(&world), [(2, id.0)]);
    ack(&world, 2, id);
    world.close();
    assert_eq!(records(dir.path()), (0, 0), "the last one takes everything along");
}

#[test]
fn a_share_that_was_committed_stays_ended_after_a_kill() {
    let world = family();
    let ids = [world.stored(to_all("a")), world.stored(to_all("b"))];
    let before = world.commits();
    ack(&world, 1, ids[0]);
    eventually("it is written within its pause", || world.commits() > before);
    let after = world.after_kill();
    assert_eq!(restored(&after), [(2, ids[0].0), (1, ids[1].0), (2, ids[1].0)]);
    assert_eq!(waits_for(&after, ids[0]), [2]);
}

#[test]
fn what_is_acknowledged_by_all_before_its_batch_is_never_written() {
    let world = family();
    let core = Arc::clone(&world.intake.0);
    let gate = core.disk.faults.gate.lock().expect("the gate is free");
    let first = world.append(push("busy")).expect("accepted");
    eventually("the committer is busy", || core.lock().busy);
    let (both, one) = (world.append(to_all("x")).expect("ok"), world.append(to_all("y")).expect("ok"));
    ack(&world, 1, both.id);
    ack(&world, 1, one.id);
    ack(&world, 2, both.id);
    assert_eq!(bounded(&world.runtime, both.commit), Ok(()), "while nothing can be written");
    drop(gate);
    assert_eq!(bounded(&world.runtime, one.commit), Ok(()));
    assert_eq!(bounded(&world.runtime, first.commit), Ok(()));
    assert_eq!(restored(&world.after_kill()), [(1, first.id.0), (2, one.id.0)]);
}

#[test]
fn who_joins_later_gets_what_comes_later_and_who_leaves_nothing_more() {
    let mut world = family();
    let old = world.stored(to_all("old"));
    set(&world, &[1, 2, 3]);
    let new = world.stored(to_all("new"));
    assert_eq!((waits_for(&world, old), waits_for(&world, new)), (vec![1, 2], vec![1, 2, 3]));
    told(&mut world, 5);
    ack(&world, 1, old);
    set(&world, &[1, 3]);
    assert_eq!(told(&mut world, 2), [(2, old.0, -1), (2, new.0, -1)]);
    assert_eq!((waits_for(&world, old), waits_for(&world, new)), (vec![], vec![1, 3]));
    let world = world.reopen();
    assert_eq!(restored(&world), [(1, new.0), (3, new.0)]);
    let (dir, _) = world.close();
    assert_eq!(records(dir.path()), (1, 1));
}

#[test]
fn who_left_just_before_the_power_failed_is_owed_nothing() {
    let world = family();
    let id = world.stored(to_all("x"));
    let (dir, clock) = world.close();
    raw(dir.path(), |db| {
        let key = device_key(Space::Group, DeviceId(GROUP));
        let value = encode(&key, &group(&[2]));
        db.insert(&key, value).expect("written");
        // And shares of a message that is there no longer.
        let key = shares_key(7777);
        let value = encode(&key, &[DeviceId(1)].as_slice());
        db.insert(&key, value).expect("written");
    });
    let world = World::open(Arc::clone(&dir), clock);
    assert_eq!(restored(&world), [(2, id.0)]);
    world.close();
    assert_eq!(records(dir.path()), (1, 1));
}

#[test]
fn a_topic_replaces_for_those_who_still_wait_and_a_cancel_is_for_all() {
    let mut world = family();
    let topic = |body| NewPush { topic: Some("t".parse().expect("a topic")), ..to_all(body) };
    let old = world.stored(topic("old"));
    ack(&world, 1, old);
    let new = world.stored(topic("new"));
    let replaces = i64::try_from(old.0).expect("small");
    assert_eq!(told(&mut world, 4)[2..], [(1, new.0, 0), (2, new.0, replaces)]);
    assert_eq!(restored(&world.after_kill()), [(1, new.0), (2, new.0)]);
    let cancelled = world.cancel(new).expect("accepted").expect("it waits");
    bounded(&world.runtime, cancelled).expect("written");
    assert_eq!(told(&mut world, 2), [(1, new.0, -1), (2, new.0, -1)]);
    let (dir, _) = world.close();
    assert_eq!(records(dir.path()), (0, 0));
}

#[test]
fn ttl_0_is_each_members_own_affair_and_expiry_too() {
    let world = family();
    let now = world.append(NewPush { ttl: Ttl::ZERO, ..to_all("now") }).expect("accepted").id;
    world.ledger.settle(DeviceId(1), &[now], Phase::Expired);
    assert_eq!(waits_for(&world, now), [2], "the absent one's loss is not the other's");
    ack(&world, 2, now);
    assert!(world.core().lock().volatile.is_empty());
    let id = world.stored(to_all("x"));
    world.ledger.settle(DeviceId(1), &[id], Phase::Expired);
    world.ledger.settle(DeviceId(2), &[id], Phase::Expired);
    let (dir, _) = world.close();
    assert_eq!(records(dir.path()), (0, 0));
}

#[test]
fn a_removed_device_leaves_its_groups_and_a_removed_group_nothing() {
    let mut world = family();
    let (a, b) = (world.stored(to_all("a")), world.stored(to_all("b")));
    ack(&world, 1, a);
    told(&mut world, 4);
    let removed = world.accounts.remove_device(DeviceId(2)).expect("accepted").expect("it is known");
    bounded(&world.runtime, removed).expect("written");
    assert_eq!(told(&mut world, 2), [(2, a.0, -1), (2, b.0, -1)]);
    assert_eq!(world.accounts.groups(), [Arc::new(group(&[1]))]);
    let mut world = world.reopen();
    assert_eq!(restored(&world), [(1, b.0)], "the message that only it still waited for is over");
    let removed = world.accounts.remove_group(DeviceId(GROUP), &[]).expect("accepted").expect("it is known");
    bounded(&world.runtime, removed).expect("written");
    assert_eq!(told(&mut world, 1), [(1, b.0, -1)]);
    assert!(matches!(world.accounts.lookup(&EndpointToken([7; 20])), Lookup::Gone));
    let world = world.reopen();
    assert!(world.accounts.groups().is_empty() && world.ids().is_empty());
    let (dir, _) = world.close();
    assert_eq!(records(dir.path()), (0, 0));
}

#[test]
fn a_group_without_members_is_owed_nothing() {
    let mut world = family();
    set(&world, &[]);
    let id = world.stored(to_all("nobody"));
    assert!(waits_for(&world, id).is_empty());
    told(&mut world, 0);
    assert!(world.cancel(id).expect("accepted").is_none());
    let (dir, _) = world.close();
    assert_eq!(records(dir.path()), (0, 0));
}

#[test]
fn a_failed_disk_takes_back_what_was_for_all_and_keeps_who_wanted_to_leave() {
    let mut world = family();
    let kept = world.stored(to_all("kept"));
    told(&mut world, 2);
    world.faults().write.store(true, Ordering::SeqCst);
    let core = Arc::clone(&world.intake.0);
    let gate = core.disk.faults.gate.lock().expect("the gate is free");
    let failed = world.append(to_all("failed")).expect("accepted");
    eventually("it is on its way", || core.lock().busy);
    let left = world.accounts.put_group(group(&[1])).expect("accepted");
    drop(gate);
    assert_eq!(bounded(&world.runtime, failed.commit), Err(NotStored::Disk));
    assert_eq!(bounded(&world.runtime, left), Err(NotStored::Disk));
    let id = failed.id.0;
    assert_eq!(told(&mut world, 4), [(1, id, 0), (2, id, 0), (1, id, -1), (2, id, -1)]);
    assert_eq!(waits_for(&world, kept), [1, 2]);
    ack(&world, 1, kept);
    repair_disk(&world);
    let next = world.stored(to_all("works"));
    assert_eq!(world.accounts.groups(), [Arc::new(group(&[1, 2]))]);
    let world = world.reopen();
    assert_eq!(restored(&world), [(2, kept.0), (1, next.0), (2, next.0)]);
}

#[test]
fn shares_that_a_failed_batch_held_are_written_later() {
    let world = family();
    let id = world.stored(to_all("x"));
    world.faults().write.store(true, Ordering::SeqCst);
    ack(&world, 1, id);
    break_disk(&world, &world.faults().write);
    repair_disk(&world);
    assert_eq!(waits_for(&world, id), [2]);
    assert_eq!(restored(&world.reopen()), [(2, id.0)]);
}

/// A database of before there were groups opens, stays as it was, and becomes one of format 2 together with
/// its first group, so that an older release leaves it alone.
#[test]
fn an_older_format_opens_and_changes_with_the_first_group() {
    let format = |dir: &Path| -> u32 {
        let value = raw(dir, |db| db.get(Meta::Format.key()).expect("readable").expect("there"));
        record::decode(&Meta::Format.key(), &value).expect("a format")
    };
    let world = World::new();
    let id = world.stored(push("from before"));
    let (dir, clock) = world.close();
    assert_eq!(format(dir.path()), 1);
    let before = raw(dir.path(), contents);
    let (dir, clock) = World::open(dir, clock).close();
    assert_eq!(raw(dir.path(), contents), before, "reading it changes nothing");
    let world = World::open(dir, clock);
    set(&world, &[1]);
    assert_eq!(restored(&world), [(1, id.0)]);
    let (dir, clock) = world.close();
    assert_eq!(format(dir.path()), 2);
    let world = World::open(dir, clock);
    assert_eq!(world.load(id).expect("it waits").body, "from before");
    assert_eq!(world.accounts.groups(), [Arc::new(group(&[1]))]);
}

/// Records of format 2 as the first release with groups wrote them.
#[test]
fn format_2_is_frozen() {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(encode(b"g", &group(&[1, 2]))), "01c061ccbb05640201020666616d696c79");
    assert_eq!(hex(encode(b"a", &[DeviceId(1), DeviceId(300)].as_slice())), "0199647d080201ac02");
    assert_eq!(hex(encode(b"x", &FORMAT)), "0197b0b65202");
}
