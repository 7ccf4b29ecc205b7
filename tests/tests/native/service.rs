//! The gateway under a service manager: sockets that outlive it, readiness, and a watchdog that only
//! progress feeds.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use harness::{Gateway, Phone, Version, eventually, patience, within};
use nix::{
    sys::{ptrace, wait},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixDatagram},
    task::JoinSet,
};

use crate::{absent, bodies_until, push};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_under_load_refuses_no_connection_and_loses_nothing() {
    let mut gateway = Gateway::new().held().start().await;
    let (device, endpoint) = absent(&gateway).await;
    let (posted, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut senders = JoinSet::new();
    for sender in 0..8 {
        let (request, posted, stop) = (gateway.post(&endpoint).ttl(3600), posted.clone(), stop.clone());
        senders.spawn(async move {
            let mut accepted = Vec::new();
            for number in 0_u64.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let body = format!("{sender}/{number}");
                let answer = request.clone().body(body.clone()).try_send().await;
                let response = answer.unwrap_or_else(|error| panic!("{body} had no answer: {error}"));
                match response.status {
                    201 => accepted.push(body),
                    // What came while it was stopping: to be tried again, and so it is.
                    503 => {}
                    other => panic!("{body}: {other}"),
                }
                posted.fetch_add(1, Ordering::SeqCst);
            }
            accepted
        });
    }
    for _ in 0..3 {
        let before = posted.load(Ordering::SeqCst);
        eventually("pushes are answered", async || {
            (posted.load(Ordering::SeqCst) > before + 200).then_some(())
        })
        .await;
        gateway.restart().await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut accepted = Vec::new();
    while let Some(sender) = within("the senders end", senders.join_next()).await {
        accepted.extend(sender.expect("every connection was answered"));
    }

    push(&gateway, &endpoint, "fence").await;
    let mut phone = Phone::connect(&gateway, &device, Version::V5).await;
    phone.subscribe().await;
    let received = bodies_until(&mut phone, "fence").await;
    let lost: Vec<_> = accepted.iter().filter(|body| !received.contains(body)).collect();
    assert!(lost.is_empty(), "{} of {} were lost: {lost:?}", lost.len(), accepted.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listener_can_be_held_and_refuses_nobody_while_the_gateway_is_away() {
    let config = "[home]\nlisten = \"127.0.0.1:0\"\n[transport.mqtt.tls]\nlisten = \"127.0.0.1:0\"\n";
    let mut gateway = Gateway::new().config(config).held_all().start().await;
    let (home, mqtts) = (gateway.home.expect("it listens at home"), gateway.mqtts.expect("and with TLS"));
    assert!(!gateway.log().contains("no setting asks for"), "every socket has its listener");
    assert_eq!(gateway.terminate().await.code(), Some(0));

    let mut waiting = Vec::new();
    for address in [home, mqtts, gateway.mqtt, gateway.public] {
        waiting.push(TcpStream::connect(address).await.expect("the socket is held open"));
    }
    for place in [0, 3] {
        let asked = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        waiting[place].write_all(asked).await.expect("it is queued");
    }
    gateway.start_again().await;
    assert_eq!((gateway.home, gateway.mqtts), (Some(home), Some(mqtts)));
    for place in [0, 3] {
        let mut answer = String::new();
        within("the answer", waiting[place].read_to_string(&mut answer)).await.expect("not reset");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // A wrong first packet is answered by the end of the connection, which somebody has to be there for.
    for place in [1, 2] {
        waiting[place].write_all(&[0xff; 64]).await.expect("it is open");
        let _ = within("somebody hangs up", waiting[place].read(&mut [0; 64])).await;
    }
}

/// A thread of the gateway that does not run, until it is let go.
struct Hung {
    release: mpsc::Sender<()>,
    tracer: JoinHandle<()>,
}

impl Hung {
    /// Stops the threads of this name, and no others: the kernel lets a parent do so.
    async fn threads(pid: u32, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("our own child's threads are listed");
        let tasks: Vec<_> = tasks
            .flatten()
            .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name))
            .map(|task| Pid::from_raw(task.file_name().to_string_lossy().parse().expect("a number")))
            .collect();
        assert!(!tasks.is_empty(), "the gateway has a thread {name}");
        let (release, released) = mpsc::channel();
        let (say, stopped) = tokio::sync::oneshot::channel();
        // Only the thread that stopped them may let them go.
        let tracer = std::thread::spawn(move || {
            for &task in &tasks {
                ptrace::seize(task, ptrace::Options::empty()).expect("a child can be traced");
                ptrace::interrupt(task).expect("a traced thread can be stopped");
                wait::waitpid(task, Some(wait::WaitPidFlag::__WALL)).expect("it stops");
            }
            say.send(()).expect("the test waits");
            // An error says that the test has ended.
            let _ = released.recv();
            for &task in &tasks {
                let _ = ptrace::detach(task, None);
            }
        });
        within("the thread stops", stopped).await.expect("the tracer has not failed");
        Self { release, tracer }
    }

    fn let_go(self) {
        self.release.send(()).expect("the tracer waits");
        self.tracer.join().expect("the tracer has not failed");
    }
}

/// What a service manager hears.
struct Manager {
    dir: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket in it");
        Self { dir, socket }
    }

    fn path(&self) -> String {
        self.dir.path().join("notify").display().to_string()
    }

    async fn hear(&self) -> String {
        let mut bytes = [0; 256];
        let length = self.socket.recv(&mut bytes).await.expect("a datagram");
        String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
    }

    async fn expect(&self, what: &str) {
        assert_eq!(within(what, self.hear()).await, what);
    }

    /// Whether it hears nothing for this long.
    async fn silence(&self, window: Duration) -> bool {
        tokio::time::timeout(window, self.hear()).await.is_err()
    }
}

async fn hanging_is_noticed(thread: &str) {
    let manager = Manager::new();
    let builder = Gateway::new().env("NOTIFY_SOCKET", &manager.path()).env("WATCHDOG_USEC", "400000");
    let mut gateway = builder.start().await;
    manager.expect("READY=1").await;
    for _ in 0..3 {
        manager.expect("WATCHDOG=1").await;
    }
    let hung = Hung::threads(gateway.pid(), thread).await;
    // One sign may have been under way.
    within("the watchdog starves", async { while !manager.silence(patience() / 10).await {} }).await;
    // Whatever was asked of the hanging part is answered late, and counts again.
    hung.let_go();
    manager.expect("WATCHDOG=1").await;

    // What the service manager does about a starved watchdog.
    let hung = Hung::threads(gateway.pid(), thread).await;
    // In this order: killed while it hangs, and only then let go, for a traced thread is not reaped.
    tokio::join!(gateway.kill9(), async { hung.let_go() });
    gateway.start_again().await;
    within("it is fed again", async { while manager.hear().await != "READY=1" {} }).await;
    manager.expect("WATCHDOG=1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committer_that_hangs_starves_the_watchdog() {
    hanging_is_noticed("committer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_hangs_starves_the_watchdog() {
    hanging_is_noticed("router-0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_hang_starve_the_watchdog() {
    hanging_is_noticed("tokio-rt-worker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_watchdog_nobody_is_told_anything() {
    let manager = Manager::new();
    let mut gateway = Gateway::new().env("NOTIFY_SOCKET", &manager.path()).start().await;
    manager.expect("READY=1").await;
    assert!(manager.silence(Duration::from_secs(2)).await);
    assert_eq!(gateway.terminate().await.code(), Some(0));
    manager.expect("STOPPING=1").await;
}
