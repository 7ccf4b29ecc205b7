//! The life of messages and accounts in a store whose disk works.

use super::{super::state::ARRIVALS, *};
use crate::model::{
    Bound, Bounds, Tally,
    history::{History, Noted, Sheets},
};

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let mut world = World::new();
    let id = world.stored(with_topic("hello", "news"));
    assert_eq!(world.accepted(), (id, None));
    let before = world.load(id).expect("it waits");
    let token = world.backlog.token(id);

    let world = world.reopen();
    assert_eq!(world.ids(), [id.0]);
    assert_eq!(world.backlog.token(id), token);
    let after = world.load(id).expect("it waits");
    assert_eq!(PushMessage { expires: before.expires, ..(*after).clone() }, *before);
    assert_eq!(
        world.restored,
        [PushMessage { expires: world.restored[0].expires, ..(*after).clone() }.pending()]
    );
    assert_eq!(world.accounts.device(DeviceId(1)).as_deref(), Some(&device(1)));
    assert_eq!(world.newest, START);
}

#[test]
fn what_is_acknowledged_before_its_batch_is_not_written() {
    let world = World::new();
    let gate = world.faults().gate.lock().expect("the gate is free");
    // With a batch that is on its way the committer is busy, and takes nothing else.
    let busy = world.append(push("busy")).expect("accepted");
    eventually("the batch is on its way", || !world.core().lock().flying.is_empty());
    let (first, second) =
        (world.append(push("1")).expect("accepted"), world.append(push("2")).expect("accepted"));
    // Both are safe as soon as the device has them, and so is the one that is being written.
    world.settle(first.id);
    world.settle(second.id);
    world.settle(busy.id);
    bounded(&world.runtime, busy.commit).expect("acknowledged");
    bounded(&world.runtime, first.commit).expect("acknowledged");
    bounded(&world.runtime, second.commit).expect("acknowledged");
    let third = world.append(push("3")).expect("accepted");
    world.settle(third.id);
    bounded(&world.runtime, third.commit).expect("acknowledged");
    {
        let state = world.core().lock();
        assert!(state.queue.messages.is_empty(), "the third is still to be written");
        assert!(
            !state.deletions.contains(&third.id.0),
            "it was never written, so there is nothing to delete"
        );
    }
    drop(gate);
    assert_eq!(world.reopen().ids(), [0; 0]);
}

#[test]
fn settled_messages_leave_the_disk_soon() {
    let world = World::new();
    let id = world.stored(push("x"));
    let commits = world.commits();
    world.settle(id);
    assert_eq!(world.load(id), None);
    eventually("the deletion is written", || world.commits() > commits);
    assert_eq!(world.after_kill().ids(), [0; 0]);
}

#[test]
fn a_topic_replaces_what_waits() {
    let mut world = World::new();
    let old = world.stored(with_topic("old", "t"));
    let other = world.stored(with_topic("other", "u"));
    let new = world.stored(with_topic("new", "t"));
    assert_eq!(world.accepted(), (old, None));
    assert_eq!(world.accepted(), (other, None));
    assert_eq!(world.accepted(), (new, Some(old)));
    assert_eq!(world.load(old), None);
    let mut world = world.reopen();
    assert_eq!(world.ids(), [other.0, new.0]);
    let newest = world.stored(with_topic("newest", "t"));
    assert_eq!(world.accepted(), (newest, Some(new)), "the Topics are known again after a restart");
    world.settle(newest);
    let last = world.stored(with_topic("last", "t"));
    assert_eq!(world.accepted(), (last, None), "what was settled is not replaced");
}

#[test]
fn what_is_replaced_in_the_queue_is_not_written() {
    let mut world = World::new();
    let gate = world.faults().gate.lock().expect("the gate is free");
    let first = world.append(push("first")).expect("accepted");
    eventually("the first is on its way", || !world.core().lock().flying.is_empty());
    let old = world.append(with_topic("old", "t")).expect("accepted");
    let new = world.append(with_topic("new", "t")).expect("accepted");
    assert_eq!(world.core().lock().queue.messages.len(), 1);
    drop(gate);
    for commit in [first.commit, old.commit, new.commit] {
        bounded(&world.runtime, commit).expect("written");
    }
    world.accepted();
    assert_eq!(world.accepted(), (old.id, None));
    assert_eq!(world.accepted(), (new.id, Some(old.id)));
    assert_eq!(world.reopen().ids(), [first.id.0, new.id.0]);
}

#[test]
fn ttl_0_never_touches_the_disk() {
    let mut world = World::new();
    world.stored(push("reserves numbers"));
    let commits = world.commits();
    let appended = world.append(volatile("now")).expect("accepted");
    let mut commit = appended.commit;
    let poll = Pin::new(&mut commit).poll(&mut Context::from_waker(std::task::Waker::noop()));
    assert_eq!(poll, Poll::Ready(Ok(())), "its commit is ready at once");
    world.accepted();
    assert_eq!(world.accepted(), (appended.id, None));
    assert_eq!(world.load(appended.id).expect("loaded").body, "now");
    world.settle(appended.id);
    assert_eq!(world.load(appended.id), None);
    assert_eq!(world.commits(), commits);
    assert_eq!(world.reopen().restored.len(), 1);
}

/// A DELETE is answered by the batch that has its deletion, however many others are to come before it.
#[test]
fn what_was_taken_back_is_deleted_before_that_is_answered() {
    let world = World::new();
    let commits: Vec<_> = (0..600).map(|_| world.append(push("settled")).expect("accepted")).collect();
    let settled: Vec<_> = commits.iter().map(|appended| appended.id).collect();
    commits.into_iter().for_each(|one| bounded(&world.runtime, one.commit).expect("written"));
    let cancelled = world.stored(push("cancelled"));
    let gate = world.faults().gate.lock().expect("the gate is free");
    let held_up = world.append(push("held up")).expect("accepted");
    eventually("its batch has begun", || world.core().lock().busy);
    world.ledger.settle(DeviceId(1), &settled, Phase::Acked);
    let cancel = world.cancel(cancelled).expect("accepted").expect("it waits");
    drop(gate);
    bounded(&world.runtime, held_up.commit).expect("written");
    bounded(&world.runtime, cancel).expect("written");
    let found = world.core().disk.read(&message_key(cancelled.0)).expect("readable");
    assert!(found.is_none(), "it would come back after a kill");
}

#[test]
fn a_message_can_be_taken_back() {
    let mut world = World::new();
    let id = world.stored(push("x"));
    world.accepted();
    let commit = world.cancel(id).expect("accepted").expect("it waits");
    bounded(&world.runtime, commit).expect("written");
    assert_eq!(world.withdrawn(), id);
    assert_eq!(world.load(id), None);
    assert!(world.cancel(id).expect("answered").is_none(), "only once");
    assert!(world.intake.cancel(&crate::model::MessageToken([3; 24])).expect("answered").is_none());
    let acked = world.stored(push("y"));
    world.settle(acked);
    assert!(world.cancel(acked).expect("answered").is_none(), "not when it was delivered");
    assert_eq!(world.after_kill().ids(), [acked.0]);

    let gate = world.faults().gate.lock().expect("the gate is free");
    let flying = world.append(push("a")).expect("accepted");
    let queued = world.append(push("b")).expect("accepted");
    let now = world.append(volatile("c")).expect("accepted");
    let cancelled = [&flying, &queued, &now].map(|appended| world.cancel(appended.id).expect("accepted"));
    drop(gate);
    for commit in cancelled {
        bounded(&world.runtime, commit.expect("it waits")).expect("written");
    }
    assert_eq!(world.reopen().ids(), [0; 0]);
}

#[test]
fn a_registration_ends_with_all_that_waits_for_it() {
    let mut world = World::new();
    world.wait(world.accounts.put_registration(registration(1, 2))).expect("written");
    let id = world.stored(push("x"));
    let kept = world.stored(NewPush { registration: Arc::new(registration(1, 2)), ..push("y") });
    world.accepted();
    world.accepted();
    let commit = world.accounts.remove_registration(RegistrationId(1)).expect("accepted").expect("known");
    assert!(matches!(world.intake.lookup(&EndpointToken([1; 20])), Lookup::Gone), "visible at once");
    bounded(&world.runtime, commit).expect("written");
    assert_eq!(world.withdrawn(), id);
    assert!(world.accounts.remove_registration(RegistrationId(1)).expect("answered").is_none());
    assert_eq!(world.append(push("late")).map(drop), Err(NotStored::Busy));

    let world = world.after_kill();
    assert_eq!(world.ids(), [kept.0]);
    assert!(matches!(world.intake.lookup(&EndpointToken([1; 20])), Lookup::Gone));
    assert!(matches!(world.intake.lookup(&EndpointToken([2; 20])), Lookup::Live(_)));
    assert!(matches!(world.intake.lookup(&EndpointToken([3; 20])), Lookup::Unknown));
}

#[test]
fn a_device_ends_with_everything_that_is_its() {
    let mut world = World::new();
    let session = Session { filters: vec![("up/1/#".into(), 1)] };
    world.wait(world.accounts.put_session(DeviceId(1), Some(session.clone()))).expect("written");
    world.wait(world.accounts.put_floor(DeviceId(1), Urgency::High)).expect("written");
    let mut history = History::after(Sheets::new());
    (0..1_000).for_each(|second| history.note(second * 10, Noted::Contact));
    let sheets = history.take();
    world.wait(world.accounts.put_tally(DeviceId(1), Tally::default(), sheets.clone())).expect("written");
    let id = world.stored(push("x"));
    world.accepted();
    let mut world = world.reopen();
    assert_eq!(world.accounts.session(DeviceId(1)), Some(session));
    assert_eq!((world.accounts.history(DeviceId(1)), sheets.len()), (sheets, 7));
    assert_eq!(world.accounts.floor(DeviceId(1)), Some(Urgency::High));
    let commit = world.accounts.remove_device(DeviceId(1)).expect("accepted").expect("known");
    bounded(&world.runtime, commit).expect("written");
    assert_eq!(world.withdrawn(), id);
    let world = world.reopen();
    assert_eq!(world.ids(), [0; 0]);
    assert_eq!(world.accounts.session(DeviceId(1)), None);
    world.wait(world.accounts.put_floor(DeviceId(1), Urgency::High)).expect("nothing to write");
    let late = world.accounts.put_tally(DeviceId(1), Tally::default(), history.take());
    world.wait(late).expect("nothing to write");
    let left = |key: &[u8], _: &[u8]| assert_ne!(key[0], Space::History as u8);
    world.core().disk.scan(left).expect("readable");
    assert_eq!(world.accounts.history(DeviceId(1)), Sheets::new());
    assert_eq!(world.accounts.floor(DeviceId(1)), None);
    assert!(world.accounts.devices().is_empty() && world.accounts.registrations(None).is_empty());
    assert!(matches!(world.accounts.lookup(&EndpointToken([1; 20])), Lookup::Gone));
}

#[test]
fn a_history_is_written_in_one_batch_and_its_oldest_sheets_end_with_it() {
    let world = World::new();
    let mut history = History::after(Sheets::new());
    for round in 0..10_u64 {
        (0..1_000).for_each(|step| history.note(round * 100_000 + step * 100, Noted::Push(Urgency::Low)));
        let commits = world.commits();
        let mut tally = Tally::default();
        tally.missed = u32::try_from(round).expect("small");
        world.wait(world.accounts.put_tally(DeviceId(1), tally, history.take())).expect("written");
        assert_eq!(world.commits(), commits + 1);
    }
    let kept = world.accounts.history(DeviceId(1));
    assert_eq!(kept.len(), 32);
    assert_eq!(world.reopen().accounts.history(DeviceId(1)), kept);
}

#[test]
fn writing_what_is_known_writes_nothing() {
    let world = World::new();
    let commits = world.commits();
    world.wait(world.accounts.put_registration(registration(1, 1))).expect("nothing to write");
    world.wait(world.accounts.put_device(device(1))).expect("nothing to write");
    world.wait(world.accounts.put_session(DeviceId(1), None)).expect("nothing to write");
    assert_eq!(world.commits(), commits);
}

#[test]
fn a_new_endpoint_buries_the_old_one() {
    let world = World::new();
    let moved = Registration { endpoint: EndpointToken([9; 20]), ..registration(1, 1) };
    world.wait(world.accounts.put_registration(moved.clone())).expect("written");
    let world = world.reopen();
    assert!(matches!(world.accounts.lookup(&EndpointToken([1; 20])), Lookup::Gone));
    assert_eq!(world.accounts.registrations(Some(DeviceId(1))), [Arc::new(moved)]);
    // And back again.
    world.wait(world.accounts.put_registration(registration(1, 1))).expect("written");
    let world = world.reopen();
    assert!(matches!(world.accounts.lookup(&EndpointToken([1; 20])), Lookup::Live(_)));
    assert!(matches!(world.accounts.lookup(&EndpointToken([9; 20])), Lookup::Gone));
    let found = world.accounts.registration_of(DeviceId(1), &registration(1, 1).token);
    assert_eq!(found.as_deref(), Some(&registration(1, 1)));
}

#[test]
fn no_number_is_given_out_twice() {
    let mut seen = BTreeSet::new();
    let mut world = World::new();
    for round in 0..4 {
        let (first, second) = (world.stored(push("a")), world.append(volatile("b")).expect("accepted").id);
        assert!(seen.insert(first) && seen.insert(second), "round {round}");
        world.settle(first);
        // Every other time without closing.
        world = if round % 2 == 0 { world.after_kill() } else { world.reopen() };
    }
}

#[test]
fn no_number_is_shown_before_it_is_reserved() {
    let mut world = World::new().reopen();
    let core = Arc::clone(&world.intake.0);
    let gate = core.disk.faults.gate.lock().expect("the gate is free");
    let first = world.append(volatile("a")).expect("accepted");
    eventually("the reservation is on its way", || world.core().lock().busy);
    assert!(world.arrivals.try_recv().is_err(), "a device would see a number that a crash gives out again");
    drop(gate);
    bounded(&world.runtime, first.commit).expect("reserved");
    assert_eq!(world.accepted().0, first.id);
}

#[test]
fn ttl_counts_down_over_a_restart_when_both_clocks_are_trusted() {
    let world = World::new();
    let (short, long) = (NewPush { ttl: Ttl::from_secs(60), ..push("s") }, push("l"));
    let (short, long) = (world.stored(short), world.stored(long));
    let (dir, _) = world.after_kill().close();
    world.clock.advance(Duration::from_secs(3600));
    let left = |world: &World, at: Instant| -> Vec<u64> {
        world.restored.iter().map(|pending| (pending.expires - at).as_secs()).collect()
    };
    let now = world.clock.moment();
    let world = world.reopen();
    assert_eq!(world.ids(), [short.0, long.0]);
    assert_eq!(left(&world, now.instant), [0, 86_400 - 3600]);

    // A clock that is not trusted ends nothing.
    let untrusted = Moment { trusted: false, ..now };
    let mut store = Store::open(dir.path(), |_| untrusted).expect("the store opens");
    let left: Vec<_> = store.backlog.restored().iter().map(|pending| pending.expires - now.instant).collect();
    assert_eq!(left, [Duration::from_secs(60), Duration::from_secs(86_400)]);
}

#[test]
fn a_planner_that_lags_slows_the_senders_and_misses_nothing() {
    let mut world = World::new();
    let mut expected = vec![world.stored(push("first"))];
    let refused = loop {
        match world.append(volatile("x")) {
            Ok(appended) => expected.push(appended.id),
            Err(refused) => break refused,
        }
        assert!(expected.len() < 5000, "nobody is slowed down");
    };
    assert_eq!(refused, NotStored::Busy);
    // Withdrawals are not refused.
    assert!(world.cancel(expected[0]).is_err(), "a cancellation may be tried again");
    for id in expected {
        assert_eq!(world.accepted().0, id);
    }
    let next = world.append(push("again")).expect("accepted again");
    assert_eq!(world.accepted().0, next.id);
}

#[test]
fn who_sends_faster_than_the_planner_takes_in_is_answered_later_instead_of_refused() {
    let mut world = World::new();
    let first = world.stored(push("first"));
    // None of them waits for the disk: the channel is full, and one more has no room in it.
    let ids: Vec<MessageId> =
        (0..ARRIVALS).map(|_| world.append(volatile("x")).expect("accepted").id).collect();
    let start = Instant::now();
    let behind = world.append(push("behind")).expect("accepted");
    bounded(&world.runtime, behind.commit).expect("written");
    let held_up = start.elapsed();
    assert!(held_up >= Duration::from_millis(50), "answered after {held_up:?}, long before it is taken in");
    for id in [first].into_iter().chain(ids).chain([behind.id]) {
        assert_eq!(world.accepted().0, id);
    }
    let start = Instant::now();
    world.stored(push("once more"));
    assert!(start.elapsed() < held_up, "a planner that has caught up holds up nobody");
}

#[test]
fn the_queue_has_a_limit() {
    let mut world = World::new();
    let all = Bound { bytes: u64::MAX, messages: u32::MAX };
    world.intake.bound(Bounds { device: all, registration: all, ..Bounds::default() });
    let core = Arc::clone(&world.intake.0);
    world.stored(push("reserves numbers"));
    let gate = core.disk.faults.gate.lock().expect("the gate is free");
    let body = "x".repeat(4000);
    let mut accepted = 0;
    while world.append(push(&body)).is_ok() {
        accepted += 1;
        while world.arrivals.try_recv().is_ok() {}
        assert!(accepted < 20_000, "the queue has no limit");
    }
    assert!(accepted >= (16 << 20) / 4000);
    drop(gate);
    eventually("the queue is written", || world.core().lock().queue.messages.is_empty());
    world.stored(push("accepted again"));
}

#[test]
fn closing_writes_what_is_queued_and_refuses_the_rest() {
    let world = World::new();
    let commits: Vec<_> = (0..10).map(|_| world.append(push("x")).expect("accepted")).collect();
    let intake = world.intake.clone();
    let clock = Arc::clone(&world.clock);
    let (dir, _) = world.close();
    assert_eq!(intake.append(push("late"), clock.moment()).map(drop), Err(NotStored::Busy));
    let world = World::open(dir, clock);
    assert_eq!(world.ids(), commits.iter().map(|appended| appended.id.0).collect::<Vec<_>>());
    for appended in commits {
        bounded(&world.runtime, appended.commit).expect("written");
    }
}
