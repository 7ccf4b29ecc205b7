//! One client's task.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::{sleep_until, timeout},
};

use super::{Broker, session::Session};
use crate::{
    model::DeviceId,
    transport::mqtt::{config::Limits, io::hang_up, router::RouterDied},
};

/// Bytes read at once.
const READ: usize = 4096;

/// Serves a connection from its first byte to its last.
pub(super) async fn serve(broker: &Arc<Broker>, mut stream: TcpStream, slot: u64) -> Result<(), RouterDied> {
    let limits = Limits::default();
    let (kick, mut kicked) = watch::channel(None);
    // Linked before anything can be meant for it: nothing that waits is overlooked.
    let mut link = broker.post.link(DeviceId(slot)).await?;
    let mut session = Session::new(slot, kick, broker.now());
    let mut buffer = [0; READ];
    loop {
        let out = session.take();
        let intact = out.bytes.is_empty()
            || matches!(timeout(limits.write, stream.write_all(&out.bytes)).await, Ok(Ok(())));
        if out.close || !intact {
            break;
        }
        if !out.bytes.is_empty() {
            // There may be more than one write takes.
            broker.with(|house, now| session.deliver(house, now));
            continue;
        }
        let due = session.deadline().map(tokio::time::Instant::from_std);
        let timer = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = kicked.changed() => {
                let reason = *kicked.borrow_and_update();
                if let Some(reason) = reason {
                    session.goodbye(reason);
                }
            }
            ticket = link.next() => {
                ticket?;
                broker.with(|house, now| session.called(house, now));
            }
            read = stream.read(&mut buffer) => match read {
                Ok(read) if read > 0 => {
                    broker.with(|house, now| session.receive(house, &buffer[..read], now));
                }
                Ok(_) | Err(_) => break,
            },
            () = timer => session.on_time(broker.now()),
        }
    }
    broker.with(|house, now| session.finish(house, now));
    broker.changed.notify_one();
    hang_up(&mut stream, limits.farewell).await;
    Ok(())
}
