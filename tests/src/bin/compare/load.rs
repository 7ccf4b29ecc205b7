//! The burst: as many keep-alive connections as pushes in flight, all on one thread.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    Error, Result,
    push::{Request, answer, next_number},
};

/// How long after the end of a burst its last answers may come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a burst brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    /// Pushes that were answered with success.
    pub(crate) answered: u64,
    /// From the first request to the last answer.
    pub(crate) took: Duration,
}

impl Burst {
    /// Answered pushes per second.
    pub(crate) fn rate(&self) -> f64 {
        precise(self.answered) / self.took.as_secs_f64()
    }
}

/// A count as a number to divide by; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of this program stay far below 2^53")]
pub(crate) fn precise(count: u64) -> f64 {
    count as f64
}

/// What a burst is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Requests open at every moment.
    pub(crate) in_flight: usize,
    /// When it ends.
    pub(crate) length: Duration,
    /// After how many answers it ends, if that comes first.
    pub(crate) most: u64,
}

/// Sends `plan` to `address`, spread over `paths`.
///
/// # Errors
/// Any refusal: a server that answers 429 to half of the load would look fast.
pub(crate) fn burst(address: SocketAddr, paths: &[String], plan: Plan) -> Result<Burst> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match tokio::time::timeout(plan.length + PATIENCE, send(address, paths, plan)).await {
            Ok(burst) => burst,
            Err(_) => Err(format!("{address} left pushes unanswered for {PATIENCE:?}").into()),
        }
    })
}

async fn send(address: SocketAddr, paths: &[String], plan: Plan) -> Result<Burst> {
    let Plan { in_flight, length, most } = plan;
    let answered = Arc::new(AtomicU64::new(0));
    let mut connections = Vec::with_capacity(in_flight);
    for path in paths.iter().cycle().take(in_flight) {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        connections.push((stream, Request::new(address, path)));
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (mut stream, mut request) in connections {
        let answered = Arc::clone(&answered);
        tasks.spawn(async move {
            let mut buffer = Vec::with_capacity(8 * 1024);
            while start.elapsed() < length && answered.load(Ordering::Relaxed) < most {
                stream.write_all(request.numbered(next_number())).await?;
                buffer.clear();
                let status = loop {
                    if stream.read_buf(&mut buffer).await? == 0 {
                        return Err(format!("{address} closed a connection during the burst").into());
                    }
                    if let Some(status) = answer(&buffer)? {
                        break status;
                    }
                };
                if !(200..300).contains(&status) {
                    return Err(
                        format!("{address} refused a push: {}", String::from_utf8_lossy(&buffer)).into()
                    );
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<Instant, Error>(Instant::now())
        });
    }
    let mut last = start;
    while let Some(done) = tasks.join_next().await {
        last = last.max(done??);
    }
    Ok(Burst { answered: answered.load(Ordering::Relaxed), took: last - start })
}
