//! The control socket, end to end.

use std::os::unix::fs::PermissionsExt as _;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
};

use super::*;
use crate::{
    console::{AskError, ask},
    registry::tests::House,
};

fn status() -> Status {
    let [mqtt, public] = ["mqtt://127.0.0.1:1883", "http://127.0.0.1:8080"].map(str::to_owned);
    Status { home: None, https: None, mqtt, mqtts: None, public }
}

/// A served house.
struct Served {
    house: House,
    run: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Served {
    fn start() -> Self {
        Self::start_in(None)
    }

    fn start_in(runtime_dir: Option<&Path>) -> Self {
        let house = House::open();
        let server = Server::bind(house.path(), runtime_dir).expect("a socket");
        let (stop, stopped) = watch::channel(false);
        let run = tokio::spawn(server.run(house.registry.clone(), house.archive.clone(), status(), stopped));
        Self { house, run, stop }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.house.path().join("control.sock")).await.expect("somebody listens")
    }

    async fn ask(&self, request: Request) -> Result<Reply, AskError> {
        let dir = self.house.path().to_owned();
        tokio::task::spawn_blocking(move || ask(&dir, &request)).await.expect("no panic")
    }

    async fn ask_here(&self, line: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(line.as_bytes()).await.expect("written");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        text
    }

    async fn stop(self) -> House {
        self.stop.send(true).expect("it runs");
        timeout(Duration::from_secs(20), self.run).await.expect("it stops").expect("no panic");
        self.house
    }
}

async fn read(mut stream: UnixStream) -> Reply {
    let mut text = Vec::new();
    // The server may have hung up on what it did not read: its answer counts.
    let _ = stream.read_to_end(&mut text).await;
    serde_json::from_slice(&text).expect("a reply")
}

async fn failure(stream: UnixStream) -> String {
    let Reply::Failed { message } = read(stream).await else {
        panic!("no failure");
    };
    message
}

#[tokio::test]
async fn a_command_is_answered() {
    let served = Served::start();
    assert_eq!(served.ask(Request::Status).await.expect("an answer"), Reply::Status(status()));
    let paired =
        served.ask(Request::DeviceAdd { name: "phone".to_owned(), transport: "mqtt".to_owned() }).await;
    assert!(matches!(paired, Ok(Reply::Paired(_))), "{paired:?}");
    assert_eq!(served.house.registry.devices().len(), 1);
    served.stop().await;
}

#[tokio::test]
async fn the_file_is_the_owner_s_and_goes_away() {
    let served = Served::start();
    let path = served.house.path().join("control.sock");
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let house = served.stop().await;
    assert!(fs::symlink_metadata(&path).is_err());
    assert!(matches!(ask(house.path(), &Request::Status), Err(AskError::NotRunning(_))));
}

#[tokio::test]
async fn a_socket_in_the_runtime_directory_is_found_by_the_state_directory() {
    let runtime = tempfile::tempdir().expect("a directory");
    let served = Served::start_in(Some(runtime.path()));
    assert!(runtime.path().join("control.sock").exists());
    assert!(served.ask(Request::Status).await.is_ok());
    let house = served.stop().await;
    for dir in [runtime.path(), house.path()] {
        assert!(fs::symlink_metadata(dir.join("control.sock")).is_err(), "{}", dir.display());
    }
}

#[tokio::test]
async fn what_a_dead_gateway_left_is_replaced() {
    let (state, runtime) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
    let real = runtime.path().join("control.sock");
    // A listener that is dropped leaves its file behind, as a killed gateway does.
    drop(std::os::unix::net::UnixListener::bind(&real).expect("a socket"));
    symlink(&real, state.path().join("control.sock")).expect("a link");
    assert!(matches!(ask(state.path(), &Request::Status), Err(AskError::NotRunning(_))));
    let in_runtime = Server::bind(state.path(), Some(runtime.path())).expect("both are replaced");
    drop(in_runtime);
    symlink(runtime.path().join("nowhere"), state.path().join("control.sock")).expect("a link");
    assert!(Server::bind(state.path(), None).is_ok());
}

#[tokio::test]
async fn a_live_socket_and_foreign_files_are_left_alone() {
    let state = tempfile::tempdir().expect("a directory");
    let first = Server::bind(state.path(), None).expect("a socket");
    assert!(matches!(Server::bind(state.path(), None), Err(BindError::InUse(_))));
    assert!(state.path().join("control.sock").exists(), "the loser must not remove the winner's file");
    drop(first);
    fs::write(state.path().join("control.sock"), "precious").expect("a file");
    assert!(matches!(Server::bind(state.path(), None), Err(BindError::NotASocket(_))));
    assert_eq!(fs::read(state.path().join("control.sock")).expect("still there"), b"precious");
}

#[tokio::test]
async fn a_path_longer_than_an_address_will_do() {
    let outer = tempfile::tempdir().expect("a directory");
    let state = outer.path().join("d".repeat(120));
    fs::create_dir(&state).expect("a directory");
    let house = House::open();
    let server = Server::bind(&state, None).expect("a socket");
    let (stop, stopped) = watch::channel(false);
    let run = tokio::spawn(server.run(house.registry.clone(), house.archive.clone(), status(), stopped));
    let asked = state.clone();
    let reply = tokio::task::spawn_blocking(move || ask(&asked, &Request::Status)).await.expect("no panic");
    assert!(reply.is_ok(), "{reply:?}");
    stop.send(true).expect("it runs");
    run.await.expect("no panic");
    assert!(!state.join("control.sock").exists());
}

#[tokio::test]
async fn nonsense_is_told_what_is_wrong() {
    let served = Served::start();
    for (line, expected) in [
        (&b"{\"ask\":\"dance\"}\n"[..], "dance"),
        (b"\n", "this is no request"),
        (b"\xff\xfe\n", "this is no request"),
        (b"{\"ask\":\"device-remove\"}\n", "id"),
    ] {
        let mut stream = served.connect().await;
        stream.write_all(line).await.expect("written");
        let message = failure(stream).await;
        assert!(message.contains(expected), "{message}");
    }
    let mut stream = served.connect().await;
    stream.write_all(b"{\"ask\":\"device-list\"}").await.expect("written");
    stream.shutdown().await.expect("half closed");
    assert!(failure(stream).await.contains("ends with a newline"));
    assert!(served.ask(Request::Status).await.is_ok(), "it goes on");
    served.stop().await;
}

#[tokio::test]
async fn a_line_has_a_limit() {
    let served = Served::start();
    let name = |length: usize| {
        let empty =
            serde_json::to_vec(&Request::DeviceAdd { name: String::new(), transport: "mqtt".to_owned() })
                .expect("JSON")
                .len();
        let mut line = serde_json::to_vec(&Request::DeviceAdd {
            name: "a".repeat(length - empty - 1),
            transport: "mqtt".to_owned(),
        })
        .expect("JSON");
        line.push(b'\n');
        line
    };
    for (length, expected) in [(MAX_REQUEST, "is too long"), (MAX_REQUEST + 1, "at most 65536 bytes")] {
        let line = name(length);
        assert_eq!(line.len(), length);
        let (mut reader, mut writer) = served.connect().await.into_split();
        // It may hang up before all is written.
        let write = tokio::spawn(async move {
            let _ = writer.write_all(&line).await;
            writer
        });
        let mut text = Vec::new();
        let _ = reader.read_to_end(&mut text).await;
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains(expected), "{text}");
        write.await.expect("no panic");
    }
    served.stop().await;
}

// With a paused clock, time moves only when everybody waits: the deadline is the next event.
#[tokio::test(start_paused = true)]
async fn a_slow_owner_is_sent_away() {
    let served = Served::start();
    let mut stream = served.connect().await;
    stream.write_all(b"{\"ask\":").await.expect("written");
    #[expect(clippy::disallowed_methods, reason = "measures the paused clock")]
    let before = tokio::time::Instant::now();
    assert!(failure(stream).await.contains("within 10 s"));
    assert!((9..=11).contains(&before.elapsed().as_secs()));
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_silent_peers_delays_but_does_not_shut_out() {
    let served = Served::start();
    let mut crowd = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        crowd.push(served.connect().await);
    }
    let mut stream = served.connect().await;
    stream.write_all(b"{\"ask\":\"status\"}\n").await.expect("written");
    assert_eq!(read(stream).await, Reply::Status(status()));
    drop(crowd);
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_does_not_delay_the_end() {
    let served = Served::start();
    let stream = served.connect().await;
    // Served means that it is being read from, not only queued.
    assert!(served.ask_here("{\"ask\":\"status\"}\n").await.contains("status"));
    #[expect(clippy::disallowed_methods, reason = "measures the paused clock")]
    let before = tokio::time::Instant::now();
    served.stop().await;
    assert!(before.elapsed() < Duration::from_secs(1));
    drop(stream);
}

#[test]
fn only_root_and_the_own_user_may_ask() {
    assert!(allowed(0, 991) && allowed(991, 991) && allowed(0, 0));
    assert!(!allowed(1000, 991) && !allowed(1000, 0));
}

#[test]
fn a_gateway_that_hangs_up_is_reported() {
    let state = tempfile::tempdir().expect("a directory");
    let listener =
        std::os::unix::net::UnixListener::bind(state.path().join("control.sock")).expect("a socket");
    let hang_up = std::thread::spawn(move || drop(listener.accept().expect("a peer")));
    let answer = ask(state.path(), &Request::Status);
    assert!(matches!(answer, Err(AskError::Broken(..))), "{answer:?}");
    hang_up.join().expect("no panic");
}
