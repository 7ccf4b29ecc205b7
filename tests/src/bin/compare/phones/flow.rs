//! Pushes to many phones: at a steady rate, and as fast as they go.

use std::{
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
    time::sleep_until,
};

use super::{
    fleet::{Connected, Fleet},
    house::House,
};
use crate::{
    Error, Result,
    args::Args,
    load::precise,
    measures::percentile,
    mqtt::{self, Incoming},
    push::answer,
};

/// Bytes of a push.
const BODY: usize = 300;
/// Its first bytes: what the time of sending follows.
const MARK: &[u8; 8] = b"\xffcompare";
/// Senders of the steady rate.
const SENDERS: usize = 32;
/// Messages in flight at saturation.
const IN_FLIGHT: usize = 256;
/// How long the last pushes may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a flow lasts.
pub(super) fn seconds(args: &Args) -> Duration {
    Duration::from_secs(if args.quick { 2 } else { 10 })
}

/// When a push was sent, if it is one of these.
pub(super) fn stamp_in(body: &[u8]) -> Option<u64> {
    let rest = body.strip_prefix(MARK)?;
    Some(u64::from_be_bytes(rest.get(..8)?.try_into().ok()?))
}

/// A sender with its connection: posts to the gateway, publishes to mosquitto.
struct Sender {
    buffer: Vec<u8>,
    is_http: bool,
    stream: TcpStream,
}

impl Sender {
    async fn open(house: &House, name: String) -> Result<Self> {
        let address = house.gateway.as_ref().map_or(house.mqtt, |own| own.public);
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let is_http = house.gateway.is_some();
        if !is_http {
            stream.write_all(&mqtt::hello(&name, None)?).await?;
            stream.read_exact(&mut [0; 4]).await?;
        }
        Ok(Self { buffer: Vec::with_capacity(4096), is_http, stream })
    }

    /// Sends one and waits for its answer.
    async fn send(&mut self, to: &str, stamp: u64) -> Result<()> {
        let mut body = [7; BODY];
        body[..8].copy_from_slice(MARK);
        body[8..16].copy_from_slice(&stamp.to_be_bytes());
        let bytes = if self.is_http {
            let head = format!(
                "POST {to} HTTP/1.1\r\nHost: localhost\r\nTTL: 3600\r\nContent-Encoding: aes128gcm\r\n\
                 Content-Length: {BODY}\r\n\r\n"
            );
            [head.as_bytes(), &body].concat()
        } else {
            mqtt::publish(to, &body)?
        };
        self.stream.write_all(&bytes).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed a sender's connection".into());
            }
            if self.is_http {
                match answer(&self.buffer)? {
                    Some(200..=299) => return Ok(()),
                    Some(status) => return Err(format!("a push was answered with {status}").into()),
                    None => {}
                }
            } else if let Some((Incoming::Puback, _)) = mqtt::first(&self.buffer)? {
                return Ok(());
            }
        }
    }
}

/// Sends to one phone after the other at a steady rate; p99 in ms until arrival.
pub(super) async fn paced(
    house: &House,
    fleet: &Fleet,
    phones: &Connected,
    per_second: u32,
    length: Duration,
) -> Result<f64> {
    let mut senders = Vec::with_capacity(SENDERS);
    for number in 0..SENDERS {
        senders.push(Sender::open(house, format!("sender-{number}")).await?);
    }
    drop(phones.take());
    let targets: Arc<[String]> = fleet.phones.iter().map(|phone| phone.push.clone()).collect();
    let (start, total) = (tokio::time::Instant::now(), u64::from(per_second) * length.as_secs());
    let epoch = phones.stamp();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (first, mut sender) in (0_u64..).zip(senders) {
        let targets = Arc::clone(&targets);
        tasks.spawn(async move {
            let mut number = first;
            while number < total {
                sleep_until(start + Duration::from_secs(1) * u32::try_from(number)? / per_second).await;
                let stamp = epoch + u64::try_from(begun.elapsed().as_nanos())?;
                let target = &targets[usize::try_from(number)? % targets.len()];
                sender.send(target, stamp).await?;
                number += SENDERS as u64;
            }
            Ok::<(), Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    arrived(phones, total).await?;
    Ok(percentile(&mut phones.take(), 99))
}

/// Sends as fast as it goes, each to `members` phones; arrivals a second.
pub(super) async fn saturated(
    house: &House,
    fleet: &Fleet,
    phones: &Connected,
    members: usize,
    length: Duration,
) -> Result<f64> {
    // As many deliveries in flight, however many each message makes.
    let in_flight = (IN_FLIGHT / members).max(1);
    let mut senders = Vec::with_capacity(in_flight);
    for number in 0..in_flight {
        senders.push(Sender::open(house, format!("sender-{number}")).await?);
    }
    drop(phones.take());
    let sent = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, mut sender) in senders.into_iter().enumerate() {
        let (sent, target) =
            (Arc::clone(&sent), fleet.phones[number * members % fleet.phones.len()].push.clone());
        tasks.spawn(async move {
            while start.elapsed() < length {
                sender.send(&target, 0).await?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let sent = sent.load(Ordering::Relaxed) * members as u64;
    arrived(phones, sent).await?;
    Ok(precise(sent) / start.elapsed().as_secs_f64())
}

/// One push to each phone.
pub(super) async fn post_to_each(house: &House, fleet: &Fleet) -> Result<()> {
    let mut sender = Sender::open(house, "sender".to_owned()).await?;
    for phone in &fleet.phones {
        sender.send(&phone.push, 0).await?;
    }
    Ok(())
}

/// Waits until so many have arrived.
async fn arrived(phones: &Connected, count: u64) -> Result<()> {
    let start = Instant::now();
    while (phones.count() as u64) < count {
        if start.elapsed() > PATIENCE {
            let lost = phones.lost();
            return Err(format!("{} of {count} arrived; {lost} connections were lost", phones.count()).into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
