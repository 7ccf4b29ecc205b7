//! One push at a time: how long until it is answered, and until it is there.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Result,
    mqtt::{self, Incoming},
    push::{Request, answer, body, next_number},
    subscriber::Subscriber,
};

/// The modest rate of the timed pushes.
pub(crate) const PER_SECOND: u32 = 200;
/// How many pushes one server gets before it is the next one's turn.
pub(crate) const TURN: u32 = 100;
/// A push that takes longer than this stops the comparison.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends one push at a time.
#[derive(Debug)]
pub(crate) enum Publisher {
    /// An application server.
    Http(TcpStream, Request),
    /// An MQTT client that publishes at QoS 1 to the topic.
    Mqtt(TcpStream, String),
}

impl Publisher {
    /// An application server that posts to `path`.
    pub(crate) fn http(address: SocketAddr, path: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::Http(stream, Request::new(address, path)))
    }

    /// An MQTT client.
    pub(crate) fn mqtt(address: SocketAddr, topic: &str) -> Result<Self> {
        Ok(Self::Mqtt(mqtt::connect(address, "compare-publisher", None)?, topic.to_owned()))
    }

    /// Sends the push and waits for its answer; both instants.
    fn send(&mut self, number: u64) -> Result<(Instant, Instant)> {
        let mut buffer = [0; 16 * 1024];
        let mut filled = 0;
        match self {
            Self::Http(stream, request) => {
                let bytes = request.numbered(number);
                let sent = Instant::now();
                stream.write_all(bytes)?;
                loop {
                    filled += more(stream, &mut buffer[filled..])?;
                    match answer(&buffer[..filled])? {
                        Some(200..=299) => return Ok((sent, Instant::now())),
                        Some(status) => return Err(format!("a push was answered with {status}").into()),
                        None => {}
                    }
                }
            }
            Self::Mqtt(stream, topic) => {
                let packet = mqtt::publish(topic, &body(number))?;
                let sent = Instant::now();
                stream.write_all(&packet)?;
                loop {
                    filled += more(stream, &mut buffer[filled..])?;
                    if let Some((Incoming::Puback, _)) = mqtt::first(&buffer[..filled])? {
                        return Ok((sent, Instant::now()));
                    }
                }
            }
        }
    }
}

fn more(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize> {
    match stream.read(buffer)? {
        0 => Err("the server closed the connection, or its answer is too long".into()),
        read => Ok(read),
    }
}

/// What the timed pushes of one server took so far, in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    /// Until the push was at the subscriber.
    pub(crate) arrivals: Vec<f64>,
    /// Until it was answered.
    pub(crate) answers: Vec<f64>,
}

impl Times {
    /// Sends [`TURN`] pushes at [`PER_SECOND`], each after the one before was answered and has arrived.
    pub(crate) fn turn(&mut self, publisher: &mut Publisher, subscriber: &Subscriber) -> Result<()> {
        // The first pushes pay for what has gone cold meanwhile.
        for _ in 0..10 {
            one(publisher, subscriber)?;
        }
        let start = Instant::now();
        for number in 0..TURN {
            let due = Duration::from_secs(1) * number / PER_SECOND;
            thread::sleep(due.saturating_sub(start.elapsed()));
            let (answered, arrived) = one(publisher, subscriber)?;
            self.answers.push(answered);
            self.arrivals.push(arrived);
        }
        Ok(())
    }
}

fn one(publisher: &mut Publisher, subscriber: &Subscriber) -> Result<(f64, f64)> {
    let number = next_number();
    let (sent, answered) = publisher.send(number)?;
    loop {
        let (arrived, at) = subscriber
            .arrivals
            .recv_timeout(PATIENCE)
            .map_err(|_| format!("an answered push did not arrive within {PATIENCE:?}"))?;
        if arrived == number {
            return Ok((millis(answered - sent), millis(at.saturating_duration_since(sent))));
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
