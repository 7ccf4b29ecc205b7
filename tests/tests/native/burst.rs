//! A burst for somebody who is away: what waits lies on disk, and in memory there is little of it.

use harness::Gateway;
use tokio::task::JoinSet;

use crate::{absent, own_kb};

/// Enough for the store's cache to forget, by far.
const PUSHES: usize = 6_000;
const IN_FLIGHT: usize = 32;
/// About as large as a push may be.
const BODY: usize = 4_000;

/// What may stay. sled never forgets the last page of each of its cache's 256 shards, each with nine or ten
/// bodies: 10 MB; a message itself takes a hundred bytes. All bodies are 24 MB.
const GROWN_KB: u64 = 18 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_lies_on_disk_and_not_in_memory() {
    let unbounded = "[limits]\nburst = 8192\nper_second = 8192\nwaiting_per_registration = 8192\n\
                     waiting_mb_per_registration = 64\nwaiting_mb_per_device = 64\n";
    let gateway = Gateway::new().config(unbounded).start().await;
    let (_, endpoint) = absent(&gateway).await;
    let before = own_kb(&gateway);
    let mut senders = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let request = gateway.post(&endpoint).ttl(3600).body([b'x'; BODY]);
        senders.spawn(async move {
            for _ in 0..PUSHES / IN_FLIGHT {
                request.clone().send().await.expect(201);
            }
        });
    }
    while let Some(ended) = senders.join_next().await {
        ended.expect("everything was accepted");
    }
    let grown = own_kb(&gateway).saturating_sub(before);
    assert!(grown <= GROWN_KB, "{grown} KB for {PUSHES} messages");
}
