//! The public listener over real sockets, with a scripted store behind it.

mod aesgcm;
mod autopush;
mod drain;
mod endpoint;
mod framing;
mod hosted;
mod matrix;
mod patience;

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{Limits, Public, Reception, desk::Desk, queue::Queue};
use crate::{
    admission::{Admission, Meter, MissingTtl, Policy, Rate},
    clock::ManualClock,
    model::{
        EndpointToken, MessageId, MessageToken, Moment, Phase, Registration, RegistrationId, UnixTime,
        VapidKey,
    },
    store::{Lookup, NewPush, NotStored},
    telemetry::Telemetry,
    transport::web::{Hosted, Stays},
};

const BASE: &str = "https://push.example.net";
/// 2026-11-14T22:13:20Z.
const NOW: u64 = 1_794_694_400;
const LIVE: EndpointToken = EndpointToken([1; 20]);
const GONE: EndpointToken = EndpointToken([2; 20]);
const BOUND: EndpointToken = EndpointToken([3; 20]);
/// Live, and another app's.
const OTHER: EndpointToken = EndpointToken([6; 20]);
const NOBODYS: EndpointToken = EndpointToken([4; 20]);
const MESSAGE: MessageToken = MessageToken([5; 24]);

/// What the scripted store does with the next writes.
#[derive(Clone, Debug, Default)]
enum Script {
    /// Takes each write and then cannot make it safe.
    Break(NotStored),
    /// Makes a write safe when the test adds a permit.
    Gate(Arc<Semaphore>),
    /// Takes nothing.
    Refuse(NotStored),
    /// Makes everything safe at once.
    #[default]
    Store,
}

#[derive(Debug, Default)]
struct Scripted {
    endpoints: HashMap<EndpointToken, Lookup>,
    pushed: Mutex<Vec<NewPush>>,
    script: Mutex<Script>,
}

impl Scripted {
    fn write(&self) -> Result<<Arc<Self> as Queue>::Commit, NotStored> {
        let script = self.script.lock().expect("no panic").clone();
        match script {
            Script::Refuse(error) => Err(error),
            Script::Break(error) => Ok(Box::pin(async move { Err(error) })),
            Script::Store => Ok(Box::pin(async { Ok(()) })),
            Script::Gate(gate) => Ok(Box::pin(async move {
                gate.acquire().await.expect("never closed").forget();
                Ok(())
            })),
        }
    }
}

impl Queue for Arc<Scripted> {
    type Commit = Pin<Box<dyn Future<Output = Result<(), NotStored>> + Send>>;

    fn append(&self, push: NewPush, _: Moment) -> Result<(MessageId, MessageToken, Self::Commit), NotStored> {
        let commit = self.write()?;
        self.pushed.lock().expect("no panic").push(push);
        Ok((MessageId(1), MESSAGE, commit))
    }

    fn cancel(&self, token: &MessageToken) -> Result<Option<Self::Commit>, NotStored> {
        if *token == MESSAGE { self.write().map(Some) } else { Ok(None) }
    }

    fn lookup(&self, endpoint: &EndpointToken) -> Lookup {
        self.endpoints.get(endpoint).cloned().unwrap_or(Lookup::Unknown)
    }
}

/// A listener on loopback.
struct Gateway {
    address: SocketAddr,
    queue: Arc<Scripted>,
    serving: JoinHandle<()>,
    stop: watch::Sender<bool>,
    telemetry: Arc<Telemetry>,
}

impl Gateway {
    async fn start() -> Self {
        Self::with(Limits::default(), None).await
    }

    async fn with(limits: Limits, bound: Option<VapidKey>) -> Self {
        Self::hosting(limits, bound, Vec::new()).await
    }

    async fn hosting(limits: Limits, bound: Option<VapidKey>, hosted: Vec<Arc<dyn Hosted>>) -> Self {
        Self::serving(limits, Rate { burst: 1, per_second: 0 }, bound, hosted).await
    }

    async fn metered(rate: Rate) -> Self {
        Self::serving(Limits::default(), rate, None, Vec::new()).await
    }

    async fn serving(
        limits: Limits,
        rate: Rate,
        bound: Option<VapidKey>,
        hosted: Vec<Arc<dyn Hosted>>,
    ) -> Self {
        let live = |endpoint, vapid| {
            let registration: Arc<Registration> = crate::admission::tests::registration(endpoint, vapid);
            (endpoint, Lookup::Live(registration))
        };
        let other = Registration {
            id: RegistrationId(3),
            ..Registration::clone(&crate::admission::tests::registration(OTHER, None))
        };
        let endpoints = HashMap::from([
            live(LIVE, None),
            live(BOUND, bound),
            (OTHER, Lookup::Live(Arc::new(other))),
            (GONE, Lookup::Gone),
        ]);
        let queue = Arc::new(Scripted { endpoints, ..Scripted::default() });
        let telemetry = Arc::new(Telemetry::default());
        let policy = Policy { missing_ttl: MissingTtl::OneDay, origin: BASE.to_owned() };
        let desk = Desk {
            admission: Admission::new(&policy),
            base: BASE.to_owned(),
            clock: Arc::new(ManualClock::new(UnixTime(NOW * 1000))),
            limits,
            meter: Meter::new(rate),
            notified: super::matrix::Recent::default(),
            ntfy: Admission::new(&policy),
            queue: Arc::clone(&queue),
            telemetry: Arc::clone(&telemetry),
            topics: None,
        };
        let reception = Reception {
            hosted,
            ntfy: None,
            stays: Stays::new(100, 100),
            trial: false,
            trusted_proxies: Vec::new(),
        };
        let public = Public::bind("127.0.0.1:0".parse().expect("valid")).await.expect("loopback");
        let address = public.local_addr().expect("bound");
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(public.serve_desk(desk, reception, stopped));
        Self { address, queue, serving, stop, telemetry }
    }

    fn script(&self, script: Script) {
        *self.queue.script.lock().expect("no panic") = script;
    }

    fn pushed(&self) -> Vec<NewPush> {
        self.queue.pushed.lock().expect("no panic").clone()
    }

    fn counted(&self, phase: Phase) -> u64 {
        self.telemetry.counted(phase)
    }

    async fn connect(&self) -> Client {
        Client { read: Vec::new(), stream: TcpStream::connect(self.address).await.expect("listening") }
    }

    /// One request on a connection of its own.
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        self.connect().await.ask(method, path, headers, body).await
    }

    async fn push(&self, endpoint: EndpointToken, headers: &str, body: &[u8]) -> Reply {
        self.ask("POST", &format!("/p/{endpoint}"), headers, body).await
    }
}

/// A connection that says exactly what it is told to.
struct Client {
    read: Vec<u8>,
    stream: TcpStream,
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the gateway reads");
    }

    async fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let length = body.len();
        self.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n"
        ))
        .await;
        self.send(body).await;
        self.reply_to(method).await
    }

    async fn reply(&mut self) -> Reply {
        self.reply_to("POST").await
    }

    /// Reads one answer, by its own framing.
    async fn reply_to(&mut self, method: &str) -> Reply {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill().await, "closed within an answer: {:?}", String::from_utf8_lossy(&self.read));
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).expect("ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().expect("a status line");
        let status = status.split(' ').nth(1).expect("a status").parse().expect("a number");
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").expect("a header"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut reply = Reply { body: String::new(), headers, status };
        if method != "HEAD" && status >= 200 {
            let length = reply.header("content-length").map_or(0, |length| length.parse().expect("a number"));
            while self.read.len() < length {
                assert!(self.fill().await, "closed within a body");
            }
            reply.body = String::from_utf8(self.read.drain(..length).collect()).expect("UTF-8");
        }
        reply
    }

    /// Whether the gateway has closed the connection, having said nothing more.
    async fn is_closed(&mut self) -> bool {
        !self.fill().await && self.read.is_empty()
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = [0; 4096];
        let read = timeout(Duration::from_secs(10), self.stream.read(&mut chunk)).await.expect("an answer");
        let read = read.unwrap_or(0);
        self.read.extend_from_slice(&chunk[..read]);
        read > 0
    }
}

#[derive(Debug)]
struct Reply {
    body: String,
    headers: Vec<(String, String)>,
    status: u16,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}
