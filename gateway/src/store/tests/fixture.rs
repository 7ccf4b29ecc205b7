//! Databases of earlier formats, as they were written then: whatever comes later opens them and keeps everything.

use super::*;
use crate::model::{Habit, Learnt, NetworkName, Preferences, QuietChoice, Tally, history::Sheets};

/// A database of format 1, closed in order: the name of each file, its length, and its bytes without
/// the zeros at its end.
const FORMAT_1: [(&str, u64, &[u8]); 2] = [
    ("conf", include_bytes!("fixtures/format-1/conf").len() as u64, include_bytes!("fixtures/format-1/conf")),
    ("db", 512 << 10, include_bytes!("fixtures/format-1/db")),
];
/// The second message of it, by its public name.
const SECOND: &str = "kQmI1Qele2m84ic0X_IEFB6gKZRjXqsi";

fn habit() -> Habit {
    let mut habit = Habit::default();
    let learnt = Learnt { ask_s: 427, borne_s: 427, failed_s: Some(450), settled: true, strikes: 1 };
    habit.learn(NetworkName::of([192, 0, 2, 1].into()), learnt);
    habit
}

fn tally() -> Tally {
    let mut tally = Tally::default();
    tally.missed = 3;
    tally.today(Some(20_000)).push = 300;
    tally
}

fn preferences() -> Preferences {
    let quiet = QuietChoice::Hours("22:00-07:00".parse().expect("hours"));
    Preferences { profile: Some(Profile::Saver), quiet: Some(quiet) }
}

fn session() -> Session {
    Session { filters: vec![("up/1/#".into(), 1)] }
}

/// What the fixture holds.
fn filled() -> World {
    let world = World::new();
    for commit in [
        world.accounts.put_device(device(2)),
        world.accounts.put_registration(registration(2, 2)),
        world.accounts.put_registration(registration(1, 3)),
        world.accounts.put_habit(DeviceId(1), habit()),
        world.accounts.put_tally(DeviceId(1), tally(), Sheets::new()),
        world.accounts.put_preferences(DeviceId(1), preferences()),
        world.accounts.put_session(DeviceId(1), Some(session())),
    ] {
        world.wait(commit).expect("written");
    }
    let ended = world.accounts.remove_registration(RegistrationId(3));
    world.wait(ended.map(|commit| commit.expect("it is there"))).expect("written");
    world.stored(with_topic("first", "news"));
    world.stored(NewPush { registration: Arc::new(registration(2, 2)), ..push("second") });
    world
}

#[test]
#[ignore = "writes the fixture anew: for a format that has none yet"]
#[expect(clippy::print_stderr, reason = "it tells what to put above")]
fn write_a_fixture() {
    let world = filled();
    let token = world.backlog.token(MessageId(2));
    let (dir, _) = world.close();
    let out = std::env::var_os("FIXTURE").expect("FIXTURE names a directory that is to be filled");
    for entry in
        std::fs::read_dir(dir.path().join("db")).expect("a database").map(|entry| entry.expect("a file"))
    {
        let Ok(bytes) = std::fs::read(entry.path()) else { continue };
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        std::fs::write(Path::new(&out).join(entry.file_name()), &bytes[..end]).expect("written");
        eprintln!("{:?}: {} bytes", entry.file_name(), bytes.len());
    }
    eprintln!("the second message: {token}");
}

#[test]
fn a_database_of_format_1_opens_and_nothing_is_lost() {
    let dir = Arc::new(tempfile::tempdir().expect("a directory is made"));
    std::fs::create_dir(dir.path().join("db")).expect("a directory is made");
    for (name, length, bytes) in FORMAT_1 {
        let path = dir.path().join("db").join(name);
        std::fs::write(&path, bytes).expect("written");
        let file = std::fs::File::options().write(true).open(&path).expect("it is there");
        file.set_len(length).expect("it grows");
    }
    // Twice: what a migration has written is read like the rest.
    let mut world = World::open(dir, Arc::new(ManualClock::new(START)));
    for _ in 0..2 {
        for id in [1, 2] {
            assert_eq!(world.accounts.device(DeviceId(id)).as_deref(), Some(&device(id)));
        }
        assert_eq!(world.accounts.registration(RegistrationId(1)).as_deref(), Some(&registration(1, 1)));
        assert_eq!(world.accounts.registration(RegistrationId(2)).as_deref(), Some(&registration(2, 2)));
        assert!(matches!(world.accounts.lookup(&registration(1, 3).endpoint), Lookup::Gone));
        assert_eq!(world.accounts.habit(DeviceId(1)), habit());
        assert_eq!(world.accounts.tally(DeviceId(1)), tally());
        assert_eq!(world.accounts.preferences(DeviceId(1)), preferences());
        assert_eq!(world.accounts.session(DeviceId(1)), Some(session()));
        assert_eq!(world.ids(), [1, 2]);
        let [first, second] = [1, 2].map(|id| world.load(MessageId(id)).expect("it waits"));
        assert_eq!((&*first.body, &first.topic), (b"first".as_slice(), &with_topic("", "news").topic));
        assert_eq!((&*second.body, second.device), (b"second".as_slice(), DeviceId(2)));
        assert_eq!(
            (second.ttl, second.urgency, &second.coding),
            (Ttl::DEFAULT, Urgency::High, &push("").coding)
        );
        assert_eq!(world.backlog.token(MessageId(2)).to_string(), SECOND);
        assert_eq!(world.newest, START);
        let quarantined = world.core().disk.scan(|key, _| assert_ne!(key[0], Space::Quarantine as u8));
        quarantined.expect("readable");
        world = world.reopen();
    }
    // And it goes on: a number that was given out is not given out again.
    assert!(world.stored(push("third")).0 > 2);
}
