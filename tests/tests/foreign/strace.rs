//! strace as a witness: kill -9 never finds a missing fsync, because the page cache survives it.

use std::fs;

use harness::{Foreign, Gateway, eventually};
use tokio::task::JoinSet;

/// What the witness saw, in order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Seen {
    /// A 201 was about to be written.
    Created,
    /// An fsync or fdatasync below the state directory has ended well.
    Synced,
}

/// A gateway under strace, and what it is witnessed doing by `scenario`, from ready to exit.
async fn witness(scenario: impl AsyncFnOnce(&Gateway, &str)) -> Option<Vec<Seen>> {
    let strace = Foreign::program("strace", "strace")?;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let record = directory.path().join("record");
    let (strace, file) = (strace.display().to_string(), record.display().to_string());
    // -D: the gateway stays our child, so that its process id is the one that is signalled.
    let calls = "trace=fdatasync,fsync,write,writev,sendto,sendmsg";
    let wrapper = [strace.as_str(), "-D", "-f", "-y", "-s", "16", "-o", &file, "-e", calls, "--"];
    let mut gateway = Gateway::new().under(wrapper).start().await;
    let device = gateway.pair("absent").await;
    let endpoint = gateway.cli(["registration", "add", &device.id, "app"]).await.text().to_owned();
    let lines = async || {
        let mut before = 0;
        eventually("the record stands still", async || {
            let size = fs::metadata(&record).map(|data| data.len()).unwrap_or_default();
            std::mem::replace(&mut before, size).eq(&size).then_some(())
        })
        .await;
        fs::read_to_string(&record).expect("strace writes its record").lines().count()
    };
    let start = lines().await;
    scenario(&gateway, &endpoint).await;
    let end = lines().await;
    assert_eq!(gateway.terminate().await.code(), Some(0));
    let text = fs::read_to_string(&record).expect("strace writes its record");
    Some(text.lines().skip(start).take(end - start).filter_map(seen).collect())
}

/// A call that was interrupted by another thread's has two lines: writes count by their first, syncs
/// by their last.
fn seen(line: &str) -> Option<Seen> {
    if line.contains("\"HTTP/1.1 201") {
        return Some(Seen::Created);
    }
    let sync = line.contains("fdatasync") || line.contains("fsync");
    (sync && line.trim_end().ends_with("= 0")).then_some(Seen::Synced)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_201_comes_after_an_fsync_of_its_own() {
    const PUSHES: usize = 10;
    let record = witness(async |gateway, endpoint| {
        for _ in 0..PUSHES {
            gateway.post(endpoint).ttl(600).body("x").send().await.expect(201);
        }
    })
    .await;
    let Some(record) = record else { return };
    assert_eq!(record.iter().filter(|seen| **seen == Seen::Created).count(), PUSHES, "{record:?}");
    let mut synced = false;
    for seen in &record {
        if *seen == Seen::Created {
            assert!(synced, "a 201 without an fsync since the one before it: {record:?}");
        }
        synced = *seen == Seen::Synced;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_that_come_together_share_an_fsync() {
    const PUSHES: usize = 200;
    let record = witness(async |gateway, endpoint| {
        let mut posts = JoinSet::new();
        for _ in 0..PUSHES {
            posts.spawn(gateway.post(endpoint).ttl(600).body("x").send());
        }
        while let Some(response) = posts.join_next().await {
            response.expect("it was answered").expect(201);
        }
    })
    .await;
    let Some(record) = record else { return };
    let count = |what: Seen| record.iter().filter(|seen| **seen == what).count();
    assert_eq!(count(Seen::Created), PUSHES);
    assert_eq!(record.first(), Some(&Seen::Synced), "the first 201 comes after an fsync: {record:?}");
    assert!(count(Seen::Synced) < PUSHES / 2, "{} fsyncs for {PUSHES} pushes", count(Seen::Synced));
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_0_never_touches_the_disk() {
    let record = witness(async |gateway, endpoint| {
        for _ in 0..10 {
            gateway.post(endpoint).ttl(0).body("x").send().await.expect(201);
        }
    })
    .await;
    let Some(record) = record else { return };
    assert_eq!(record, [Seen::Created; 10]);
}
