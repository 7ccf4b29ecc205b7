//! Bounded waiting: for a condition, never for a time.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How long anything that must happen may take: `TEST_PATIENCE` seconds, 20 if unset.
#[must_use]
pub fn patience() -> Duration {
    let seconds = std::env::var("TEST_PATIENCE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(20))
}

/// The result of `work`, or a panic that says what did not happen in time.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    in_time(patience(), what, work).await
}

/// Asks again and again until `condition` gives a value; panics when [`patience`] is over.
pub async fn eventually<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(patience(), what, condition).await
}

/// As [`eventually`], with a limit of its own for what is known to be slow.
pub async fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    in_time(limit, what, async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            pause().await;
        }
    })
    .await
}

async fn in_time<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: did not happen within {limit:?}"),
    }
}

/// Whether `condition` is true now and stays true for all of `window`.
pub async fn holds_for(window: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + window;
    while condition() {
        if Instant::now() >= end {
            return true;
        }
        pause().await;
    }
    false
}

/// The only sleep of the tests: between two looks at a condition.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
