//! A disk that fails while the gateway runs: nobody is lied to, nobody else is held up, and all is well
//! again when the disk is.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use harness::{Fault, Gateway, Loss, Mounted, Phone, Response, Version, eventually};

use crate::{absent, bodies_until, phone, push};

/// The longest pause between two attempts, and something for the attempt itself on a busy machine.
const RECOVERY: Duration = Duration::from_secs(15);

/// `None`: this machine does not let us mount, and that was said.
pub(crate) fn disk(test: &str, home: &tempfile::TempDir) -> Option<Mounted> {
    match Mounted::new(&home.path().join("disk")) {
        Ok(disk) => Some(disk),
        Err(error) => {
            // Written past the capture of the test runner: a test that did not run must be seen.
            let _ = writeln!(std::io::stderr(), "SKIPPED {test}: /dev/fuse cannot be used: {error}");
            None
        }
    }
}

async fn post(gateway: &Gateway, endpoint: &str, ttl: u64, body: &str) -> Response {
    gateway.post(endpoint).ttl(ttl).body(body.to_owned()).send().await
}

/// What is stored when the disk has failed already at the start.
async fn starts_on(test: &str, fault: Fault) {
    let home = tempfile::tempdir().expect("a directory is made");
    let Some(mut disk) = disk(test, &home) else { return };
    let run = home.path().join("run");
    std::fs::create_dir(&run).expect("a directory is made");
    let run = run.display().to_string();
    let mut gateway = Gateway::new().state_in(disk.path()).env("RUNTIME_DIRECTORY", &run).start().await;
    let (present, endpoint) = absent(&gateway).await;
    let (away, kept) = absent(&gateway).await;
    // A phone that was there before: a new session would have to be written.
    let mut here = Phone::connect(&gateway, &present, Version::V5).await;
    here.subscribe().await;
    drop(here);
    for number in 0..20 {
        push(&gateway, &endpoint, &number.to_string()).await;
    }
    push(&gateway, &kept, "before").await;
    gateway.kill9().await;

    disk.fail(Some(fault));
    gateway.start_again().await;
    for _ in 0..2 {
        let refused = post(&gateway, &kept, 3600, "during").await;
        assert_eq!(refused.status, 503, "{fault:?}: {refused:?}");
        assert!(refused.header("retry-after").is_some(), "{fault:?}: {refused:?}");
    }
    let mut here = Phone::connect(&gateway, &present, Version::V5).await;
    assert!(here.session_present, "{fault:?}");
    for number in 0..20 {
        let received = here.expect_push().await;
        assert_eq!(received.payload, number.to_string(), "{fault:?}: what was stored is delivered, in order");
        here.ack(&received).await;
    }
    here.settle().await;
    let left = std::fs::read_dir(&run).expect("it is listed").flatten().map(|entry| entry.file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["control.sock"], "{fault:?}: the copy has no name");
    // Nothing of it has reached the disk, so that it may come once more after another start.
    gateway.kill9().await;
    gateway.start_again().await;

    disk.fail(None);
    let pause = accepted_again(&gateway, &kept, "after").await;
    let _ = writeln!(std::io::stderr(), "started on {fault:?}: accepted after {} ms", pause.as_millis());
    assert!(pause < RECOVERY, "{fault:?}: {pause:?}");
    drop(here);
    let mut here = Phone::connect(&gateway, &present, Version::V5).await;
    push(&gateway, &endpoint, "fence").await;
    assert_eq!(bodies_until(&mut here, "fence").await.len(), 20, "{fault:?}");

    disk.power_off();
    gateway.kill9().await;
    disk.cut(&Loss::Unsynced, "db");
    gateway.start_again().await;
    push(&gateway, &kept, "fence").await;
    let mut phone = Phone::connect(&gateway, &away, Version::V5).await;
    phone.subscribe().await;
    assert_eq!(
        bodies_until(&mut phone, "fence").await,
        ["before", "after"],
        "{fault:?}: neither lost nor twice"
    );
    gateway.kill9().await;
    drop((phone, here));
    disk.end();
}

/// How long it took until a message was accepted again.
async fn accepted_again(gateway: &Gateway, endpoint: &str, body: &str) -> Duration {
    let start = Instant::now();
    eventually("messages are accepted again", async || {
        let answer = post(gateway, endpoint, 3600, body).await;
        assert!([201, 503].contains(&answer.status), "{answer:?}");
        (answer.status == 201).then_some(())
    })
    .await;
    start.elapsed()
}

async fn survives(test: &str, fault: Fault) {
    let home = tempfile::tempdir().expect("a directory is made");
    let Some(mut disk) = disk(test, &home) else { return };
    let mut gateway = Gateway::new().state_in(disk.path()).start().await;
    let (away, kept) = absent(&gateway).await;
    let (present, mut here) = phone(&gateway, Version::V5).await;
    let app = here.register("app").await;
    push(&gateway, &kept, "before").await;
    // More than are in flight at a time.
    for number in 0..20 {
        push(&gateway, &app.endpoint, &number.to_string()).await;
    }

    disk.fail(Some(fault));
    // A disk that is full lets a few be written that need no new room.
    let mut written = Vec::new();
    let refused = loop {
        let body = format!("during {}", written.len());
        let answer = post(&gateway, &kept, 3600, &body).await;
        if answer.status != 201 {
            break answer;
        }
        written.push(body);
        assert!(written.len() < 5_000, "{fault:?} is never noticed");
    };
    assert_eq!(refused.status, 503, "{fault:?}: {refused:?}");
    assert!(refused.header("retry-after").is_some(), "{fault:?}: {refused:?}");
    assert_eq!(post(&gateway, &kept, 3600, "again").await.status, 503, "{fault:?}");
    // What was accepted before goes on, and so does what needs no disk.
    for number in 0..20 {
        let received = here.expect_push().await;
        assert_eq!(received.payload, number.to_string(), "{fault:?}");
        here.ack(&received).await;
    }
    post(&gateway, &app.endpoint, 0, "a call").await.expect(201);
    assert_eq!(bodies_until(&mut here, "a call").await, [""; 0], "{fault:?}");
    here.settle().await;

    disk.fail(None);
    let pause = accepted_again(&gateway, &kept, "after").await;
    // Past the capture: a number that is worth seeing.
    let _ = writeln!(std::io::stderr(), "{fault:?}: accepted again after {} ms", pause.as_millis());
    assert!(pause < RECOVERY, "{fault:?}: {pause:?}");
    push(&gateway, &kept, "fence").await;

    // What it has said since is as true as ever, and what it said before as well.
    disk.power_off();
    gateway.kill9().await;
    disk.cut(&Loss::Unsynced, "db");
    gateway.start_again().await;
    let mut phone = Phone::connect(&gateway, &away, Version::V5).await;
    phone.subscribe().await;
    let mut expected = vec!["before".to_owned()];
    expected.extend(written);
    expected.push("after".to_owned());
    assert_eq!(bodies_until(&mut phone, "fence").await, expected, "{fault:?}: neither lost nor twice");
    push(&gateway, &app.endpoint, "fence").await;
    let mut here = Phone::connect(&gateway, &present, Version::V5).await;
    let again = bodies_until(&mut here, "fence").await;
    assert!(
        again.len() <= 20,
        "what was acknowledged may come again once, if it was not committed: {again:?}"
    );
    gateway.kill9().await;
    drop((phone, here));
    disk.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_fsync_that_fails() {
    survives("an_fsync_that_fails", Fault::Sync).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails() {
    survives("a_write_that_fails", Fault::Write).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full() {
    survives("a_disk_that_is_full", Fault::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_read_only() {
    survives("a_disk_that_is_read_only", Fault::ReadOnly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_disk_that_is_full() {
    starts_on("a_start_on_a_disk_that_is_full", Fault::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_disk_that_is_read_only() {
    starts_on("a_start_on_a_disk_that_is_read_only", Fault::ReadOnly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_disk_whose_writes_fail() {
    starts_on("a_start_on_a_disk_whose_writes_fail", Fault::Write).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_disk_whose_fsync_fails() {
    starts_on("a_start_on_a_disk_whose_fsync_fails", Fault::Sync).await;
}
