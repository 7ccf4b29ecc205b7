//! An SD card wears out by writes: how many bytes a push message costs.
//!
//! They are counted on a disk of our own, in pages of 4 KB, each once a sync. `write_bytes` of proc(5) cannot
//! tell on kernels with large folios: there one byte that changes counts as everything that was once written
//! together with it, up to a megabyte.

use std::{io::Write as _, time::Duration};

use harness::{Gateway, Mounted, Phone, Version, eventually, holds_for};
use tokio::task::JoinSet;

use crate::{absent, bodies_until, faults, phone, push};

/// Longer than deletions wait for company.
const LINGER: Duration = Duration::from_secs(4);

/// What one message is.
const BODY: usize = 1024;

/// Bytes and syncs, when nothing has been written for a while.
async fn written_at_rest(disk: &Mounted) -> (u64, u64) {
    eventually("it comes to rest", async || {
        let before = disk.written();
        holds_for(LINGER, || disk.written() == before).await.then_some(before)
    })
    .await
}

fn since(now: (u64, u64), before: (u64, u64)) -> (u64, u64) {
    (now.0 - before.0, now.1 - before.1)
}

fn body(number: usize) -> String {
    let mut body = format!("{number} ");
    body.extend(std::iter::repeat_n('x', BODY - body.len()));
    body
}

/// Past the capture of the test runner: numbers that are worth seeing.
fn say(what: &str, (bytes, syncs): (u64, u64), pushes: usize) -> u64 {
    let each = bytes / pushes as u64;
    let _ = writeln!(
        std::io::stderr(),
        "wear: {what}: {each} bytes written per push of {BODY}, {syncs} syncs for {pushes}"
    );
    each
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_push_and_its_deletion_cost_at_most_12_kb() {
    const PUSHES: usize = 5;
    let home = tempfile::tempdir().expect("a directory is made");
    let Some(disk) = faults::disk("a_lone_push_and_its_deletion_cost_at_most_12_kb", &home) else { return };
    let mut gateway = Gateway::new().state_in(disk.path()).start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    let mut cost = (0, 0);
    for number in 0..PUSHES {
        let before = written_at_rest(&disk).await;
        push(&gateway, &app.endpoint, &body(number)).await;
        // It acknowledges only what is on disk already: the costly way.
        let received = phone.expect_push().await;
        phone.ack(&received).await;
        phone.settle().await;
        let both = since(written_at_rest(&disk).await, before);
        cost = (cost.0 + both.0, cost.1 + both.1);
    }
    assert!(cost.0 > 0, "the counter counts");
    let each = say("alone, with its deletion", cost, PUSHES);
    assert!(each <= 12 << 10, "{each}");
    gateway.kill9().await;
    drop(phone);
    disk.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_in_a_burst_costs_at_most_5_kb_with_its_deletion() {
    const PUSHES: usize = 2_048;
    const IN_FLIGHT: usize = 64;
    let home = tempfile::tempdir().expect("a directory is made");
    let Some(disk) = faults::disk("a_push_in_a_burst_costs_at_most_5_kb_with_its_deletion", &home) else {
        return;
    };
    // What is measured is the disk: no sender is told to slow down, however fast the machine.
    let unmetered = "[limits]\nburst = 4096\nper_second = 4096\n";
    let mut gateway = Gateway::new().config(unmetered).state_in(disk.path()).start().await;
    let (device, endpoint) = absent(&gateway).await;
    push(&gateway, &endpoint, "reserves numbers").await;
    let before = written_at_rest(&disk).await;
    let mut senders = JoinSet::new();
    for sender in 0..IN_FLIGHT {
        let request = gateway.post(&endpoint).ttl(3600);
        senders.spawn(async move {
            for number in 0..PUSHES / IN_FLIGHT {
                let body = body(sender * PUSHES + number);
                request.clone().body(body).send().await.expect(201);
            }
        });
    }
    while let Some(ended) = senders.join_next().await {
        ended.expect("everything was accepted");
    }
    let inserted = written_at_rest(&disk).await;
    say("in bursts of 64, without its deletion", since(inserted, before), PUSHES);
    let mut phone = Phone::connect(&gateway, &device, Version::V5).await;
    phone.subscribe().await;
    push(&gateway, &endpoint, "fence").await;
    bodies_until(&mut phone, "fence").await;
    phone.settle().await;
    let each = say("in bursts of 64, with its deletion", since(written_at_rest(&disk).await, before), PUSHES);
    assert!(each <= 5 << 10, "{each}");
    gateway.kill9().await;
    drop(phone);
    disk.end();
}
