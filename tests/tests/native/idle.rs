//! A gateway with nothing to do does nothing: an SD card wears out by writes.

use std::{fs, time::Duration};

use harness::{Gateway, Version, eventually, holds_for};

use crate::{bodies_until, phone, push};

/// Longer than any flusher's period, and than the two seconds after which deletions are written.
const WINDOW: Duration = Duration::from_secs(4);

/// Bytes caused to be written, and write calls, since the process started (proc(5)).
fn writes(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).expect("our own child's counters are readable");
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel counts it");
        line.trim_start_matches(':').trim().parse().expect("a number")
    };
    (field("write_bytes"), field("syscw"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_gateway_writes_nothing() {
    let gateway = Gateway::new().start().await;
    let (_, mut phone) = phone(&gateway, Version::V5).await;
    let app = phone.register("app").await;
    for number in 0..10 {
        push(&gateway, &app.endpoint, &number.to_string()).await;
    }
    push(&gateway, &app.endpoint, "fence").await;
    bodies_until(&mut phone, "fence").await;
    phone.settle().await;

    let pid = gateway.pid();
    let busy = writes(pid);
    assert!(busy.0 > 0 && busy.1 > 0, "pushes were written, so the counters count: {busy:?}");
    eventually("nothing is written for a while, with a phone connected", async || {
        let before = writes(pid);
        holds_for(WINDOW, || writes(pid) == before).await.then_some(())
    })
    .await;
}
