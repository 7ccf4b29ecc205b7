//! The phone's side: one connection on a thread of its own that takes every push, acknowledges it where the
//! protocol knows that, and notes which ones came.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{
    Result,
    mqtt::{self, Incoming, Login},
    push::{BODY_BYTES, NUMBER, number_in},
};

/// How long a subscription may take, and the last pushes of a burst.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a server is subscribed to.
#[derive(Clone, Debug)]
pub(crate) enum Subscription {
    /// MQTT 3.1.1 at QoS 1.
    Mqtt {
        /// Where devices connect.
        address: SocketAddr,
        /// What to subscribe to.
        filter: String,
        /// As whom.
        login: Option<Login>,
    },
    /// ntfy's stream of JSON lines.
    JsonStream {
        /// Where the server listens.
        address: SocketAddr,
        /// Topics, joined by commas.
        topics: String,
        /// As whom.
        login: Option<Login>,
    },
}

/// Asks for one of ntfy's streams.
pub(crate) fn open_stream(address: SocketAddr, path: &str, login: Option<&Login>) -> Result<TcpStream> {
    let authorization = login.map(|Login { user, secret }| {
        let basic = BASE64_STANDARD.encode(format!("{user}:{secret}"));
        format!("Authorization: Basic {basic}\r\n")
    });
    let mut stream = TcpStream::connect(address)?;
    let authorization = authorization.unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}\r\n")?;
    Ok(stream)
}

/// A push that arrived.
pub(crate) type Arrival = (u64, Instant);

/// A running subscriber; dropping it ends its connection.
#[derive(Debug)]
pub(crate) struct Subscriber {
    /// Each first arrival, while somebody takes them out; what does not fit is only counted.
    pub(crate) arrivals: Receiver<Arrival>,
    distinct: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Subscriber {
    /// Connects, subscribes and waits until the server has confirmed that.
    pub(crate) fn start(subscription: &Subscription) -> Result<Self> {
        let (stream, is_mqtt) = match subscription {
            Subscription::Mqtt { address, filter, login } => {
                let mut stream = mqtt::connect(*address, "compare-subscriber", login.as_ref())?;
                stream.write_all(&mqtt::subscribe(filter)?)?;
                (stream, true)
            }
            Subscription::JsonStream { address, topics, login } => {
                (open_stream(*address, &format!("/{topics}/json"), login.as_ref())?, false)
            }
        };
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;

        let (sender, arrivals) = sync_channel(1024);
        let distinct = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        // Only after SUBACK, or the line `{"event":"open"}`, may a push be expected to arrive.
        let (ready, confirmed) = sync_channel(1);
        let taker = Taker { distinct: Arc::clone(&distinct), ready, seen: Vec::new(), sender };
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("subscriber".to_owned()).spawn(move || {
            if is_mqtt { take_mqtt(stream, taker, &stopped) } else { take_lines(stream, taker, &stopped) }
        })?;
        let subscriber = Self { arrivals, distinct, stop, thread: Some(thread) };
        confirmed.recv_timeout(PATIENCE).map_err(|_| "the subscription was not confirmed")?;
        Ok(subscriber)
    }

    /// How many different pushes have arrived.
    pub(crate) fn distinct(&self) -> u64 {
        self.distinct.load(Ordering::Relaxed)
    }

    /// Waits until `count` different pushes have arrived since the start.
    pub(crate) fn wait_for(&self, count: u64) -> Result<()> {
        let start = Instant::now();
        while self.distinct() < count {
            if start.elapsed() > PATIENCE {
                return Err(format!("{} of {count} answered pushes arrived", self.distinct()).into());
            }
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                return Err("the subscriber's connection ended".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Forgets arrivals that nobody took out.
    pub(crate) fn drain(&self) {
        while self.arrivals.try_recv().is_ok() {}
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("compare: subscriber: {error}");
        }
    }
}

/// Notes arrivals: at-least-once delivery may bring a push twice, which counts once.
#[derive(Debug)]
struct Taker {
    distinct: Arc<AtomicU64>,
    ready: SyncSender<()>,
    seen: Vec<u64>,
    sender: SyncSender<Arrival>,
}

impl Taker {
    fn take(&mut self, number: u64, at: Instant) -> Result<()> {
        let (word, bit) = (usize::try_from(number / 64)?, 1 << (number % 64));
        if word > 10_000_000 {
            return Err(format!("push number {number} was never sent").into());
        }
        if self.seen.len() <= word {
            self.seen.resize(word + 1024, 0);
        }
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.distinct.fetch_add(1, Ordering::Relaxed);
            let _full = self.sender.try_send((number, at));
        }
        Ok(())
    }
}

/// Reads what is there behind `kept` bytes; `None` when nothing came for a while.
fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>, kept: usize) -> Result<Option<usize>> {
    if buffer.len() < kept + 64 * 1024 {
        buffer.resize(kept + 64 * 1024, 0);
    }
    match stream.read(&mut buffer[kept..]) {
        Ok(0) => Err("the server closed the subscription".into()),
        Ok(read) => Ok(Some(kept + read)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn take_mqtt(mut stream: TcpStream, mut taker: Taker, stop: &AtomicBool) -> Result<()> {
    let mut buffer = Vec::new();
    let mut filled = 0;
    let mut answers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(end) = read_more(&mut stream, &mut buffer, filled)? else { continue };
        let now = Instant::now();
        let mut start = 0;
        while let Some((incoming, length)) = mqtt::first(&buffer[start..end])? {
            match incoming {
                Incoming::Publish { id, payload } => {
                    if let Some(id) = id {
                        answers.extend(mqtt::puback(id));
                    }
                    // Control messages share the inbox and are shorter.
                    if payload.len() == BODY_BYTES {
                        taker.take(number_in(payload).ok_or("a push has no number")?, now)?;
                    }
                }
                Incoming::Suback { code: 0x80.. } => return Err("the subscription was refused".into()),
                Incoming::Suback { .. } => taker.ready.send(())?,
                Incoming::Connack { .. } | Incoming::Puback | Incoming::Other => {}
            }
            start += length;
        }
        // One segment for all: what a phone that saves its radio does as well.
        if !answers.is_empty() {
            stream.write_all(&answers)?;
            answers.clear();
        }
        buffer.copy_within(start..end, 0);
        filled = end - start;
    }
    Ok(())
}

fn take_lines(mut stream: TcpStream, mut taker: Taker, stop: &AtomicBool) -> Result<()> {
    let mut buffer = Vec::new();
    let mut filled = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(end) = read_more(&mut stream, &mut buffer, filled)? else { continue };
        let now = Instant::now();
        let mut start = 0;
        while let Some(length) = buffer[start..end].iter().position(|byte| *byte == b'\n') {
            let line = &buffer[start..start + length];
            if let Some(number) = number_in_line(line) {
                taker.take(number, now)?;
            } else if contains(line, b"\"event\":\"open\"") {
                taker.ready.send(())?;
            }
            start += length + 1;
        }
        buffer.copy_within(start..end, 0);
        filled = end - start;
    }
    Ok(())
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

/// The number inside the base64 of a message line. Only the 16 digits around it are decoded; chunk headers
/// and keep-alive lines have no message.
fn number_in_line(line: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"message\":\"";
    const BLOCK: usize = NUMBER.start / 3;
    let start = line.windows(KEY.len()).position(|window| window == KEY)? + KEY.len() + BLOCK * 4;
    let bytes = BASE64_STANDARD.decode(line.get(start..start + 16)?).ok()?;
    let skip = NUMBER.start - BLOCK * 3;
    Some(u64::from_be_bytes(bytes.get(skip..skip + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::body;

    #[test]
    fn a_line_gives_up_the_number_of_its_push() {
        let message = BASE64_STANDARD.encode(body(123_456_789));
        let line = format!(r#"{{"id":"x","event":"message","message":"{message}","encoding":"base64"}}"#);
        assert_eq!(number_in_line(line.as_bytes()), Some(123_456_789));
        assert_eq!(number_in_line(br#"{"id":"x","event":"keepalive"}"#), None);
    }
}
