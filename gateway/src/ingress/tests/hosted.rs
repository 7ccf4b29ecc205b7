//! Rooms behind the listener: what they are offered, and that a connection which stays is nobody's bother.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Channel, channel::Sender};
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::{
    model::{DeviceId, PathToken},
    transport::web::{self, Visit, Visitor, WebSocket},
};

/// Takes `/stream`, `/echo` and every WebSocket.
struct Room {
    sockets: mpsc::UnboundedSender<WebSocket>,
    streams: mpsc::UnboundedSender<Stream>,
}

impl Hosted for Room {
    fn visit(self: Arc<Self>, mut request: Request<Incoming>, visitor: &Visitor) -> Visit {
        if web::wants_web_socket(request.headers()) {
            return Visit::here(async move {
                match web::shake_hands(&mut request, &["push-notification"]) {
                    Ok((response, upgrade)) => {
                        tokio::spawn(async move {
                            let socket = web::web_socket(upgrade, 1000).await.expect("upgraded");
                            let _ = self.sockets.send(socket);
                        });
                        response
                    }
                    Err(bad) => bad.into_response(),
                }
            });
        }
        match request.uri().path() {
            "/echo" => {
                let said = format!("{} {:?} {:?}", visitor.source, visitor.audience, visitor.path);
                Visit::here(async move { web::answer(StatusCode::OK, said) })
            }
            "/stream" => Visit::here(async move {
                let (sender, body) = Channel::new(1);
                let (guard, dropped) = oneshot::channel();
                let _ = self.streams.send((sender, dropped));
                let guarded = move |frame| (frame, &guard).0;
                Response::new(body.map_frame(guarded).boxed_unsync())
            }),
            _ => Visit::Elsewhere(request),
        }
    }
}

/// The room's end of a stream, and what ends when its body is dropped.
type Stream = (Sender<Bytes, std::convert::Infallible>, oneshot::Receiver<()>);

struct World {
    gateway: Gateway,
    sockets: mpsc::UnboundedReceiver<WebSocket>,
    streams: mpsc::UnboundedReceiver<Stream>,
}

async fn world(limits: Limits) -> World {
    let ((sockets_in, sockets), (streams_in, streams)) =
        (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let room = Room { sockets: sockets_in, streams: streams_in };
    let gateway = Gateway::hosting(limits, None, vec![Arc::new(room)]).await;
    World { gateway, sockets, streams }
}

const UPGRADE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn one_seat() -> Limits {
    Limits {
        max_connections: 1,
        idle: Duration::from_millis(50),
        head: Duration::from_millis(50),
        ..Limits::default()
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.expect("within ten seconds")
}

impl Client {
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.stream.read_u8()).await.expect("a byte"));
        }
        String::from_utf8(head).expect("text")
    }
}

#[tokio::test]
async fn a_room_is_offered_what_is_not_ingresss_own() {
    let world = world(Limits::default()).await;
    let echo = world.gateway.ask("GET", "/echo", "", b"").await;
    assert_eq!((echo.status, echo.body.as_str()), (200, "127.0.0.1 Public None"));
    assert_eq!(world.gateway.ask("GET", "/elsewhere", "", b"").await.status, 404);
    assert_eq!(world.gateway.ask("GET", "/", "", b"").await.status, 200);
}

#[tokio::test]
async fn a_devices_path_is_taken_off_and_hides_ingress() {
    let world = world(Limits::default()).await;
    let token = PathToken::new(DeviceId(9), [3; 12]);
    let echo = world.gateway.ask("GET", &format!("/d/{token}/echo"), "", b"").await;
    assert_eq!((echo.status, echo.body.ends_with("…)")), (200, true), "{:?}", echo.body);
    assert_eq!(world.gateway.ask("GET", &format!("/d/{token}/"), "", b"").await.status, 404);
    assert_eq!(world.gateway.ask("GET", &format!("/d/{token}/health"), "", b"").await.status, 404);
}

#[tokio::test]
async fn a_web_socket_escapes_deadlines_and_gives_its_seat_back() {
    let mut world = world(one_seat()).await;
    let mut client = world.gateway.connect().await;
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Protocol: push-notification\r\n{UPGRADE}\r\n"
        ))
        .await;
    let head = client.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    // RFC 6455 §1.3: the accept of the sample nonce.
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
    assert!(head.contains("sec-websocket-protocol: push-notification\r\n"), "{head}");
    let socket = soon(world.sockets.recv()).await.expect("a socket");
    // The only seat is free, and a whole idle time goes by.
    let mut other = world.gateway.connect().await;
    assert_eq!(other.ask("GET", "/health", "", b"").await.status, 200);
    soon(async { while other.stream.read_u8().await.is_ok() {} }).await;
    let reading = timeout(Duration::from_millis(50), client.stream.read_u8()).await;
    assert!(reading.is_err(), "the WebSocket is still open: {reading:?}");
    drop(socket);
    let end = soon(client.stream.read_u8()).await.expect_err("no Close frame");
    assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_stream_escapes_deadlines_and_notices_that_its_listener_left() {
    let mut world = world(one_seat()).await;
    let mut client = world.gateway.connect().await;
    client.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let head = client.head().await.to_ascii_lowercase();
    assert!(head.contains("transfer-encoding: chunked") && head.contains("connection: close"), "{head}");
    let (mut stream, dropped) = soon(world.streams.recv()).await.expect("a stream");
    let mut other = world.gateway.connect().await;
    assert_eq!(other.ask("GET", "/health", "", b"").await.status, 200);
    soon(async { while other.stream.read_u8().await.is_ok() {} }).await;
    stream.send_data(Bytes::from_static(b"one\n")).await.expect("still there");
    let mut line = [0; 9];
    soon(client.stream.read_exact(&mut line)).await.expect("a chunk");
    assert_eq!(&line, b"4\r\none\n\r\n");
    drop(client);
    // Without a byte being written.
    soon(dropped).await.expect_err("the body is dropped");
}

#[tokio::test]
async fn a_stream_ends_by_its_last_chunk_or_with_the_connection() {
    let mut world = world(Limits::default()).await;
    for (version, sent) in [("1.1", "4\r\none\n\r\n0\r\n\r\n"), ("1.0", "one\n")] {
        let mut client = world.gateway.connect().await;
        client.send(format!("GET /stream HTTP/{version}\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")).await;
        let head = client.head().await.to_ascii_lowercase();
        assert!(head.starts_with(&format!("http/{version} 200 ok\r\n")), "{head}");
        assert_eq!(head.contains("transfer-encoding: chunked"), version == "1.1", "{head}");
        assert!(head.contains("\r\ndate: ") && head.contains("connection: close"), "{head}");
        let (mut stream, _) = soon(world.streams.recv()).await.expect("a stream");
        stream.send_data(Bytes::from_static(b"one\n")).await.expect("still there");
        // Nothing is said, but it would be the last chunk.
        stream.send_data(Bytes::new()).await.expect("still there");
        drop(stream);
        let mut rest = String::new();
        soon(client.stream.read_to_string(&mut rest)).await.expect("an end, and no reset");
        assert_eq!(rest, sent);
    }
}

#[tokio::test]
async fn rfc9110_9_3_2_of_a_stream_head_gets_the_head_alone() {
    let mut world = world(Limits::default()).await;
    let mut client = world.gateway.connect().await;
    client.send("HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let head = client.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n") && head.contains("connection: close"), "{head}");
    let (stream, dropped) = soon(world.streams.recv()).await.expect("a stream");
    soon(dropped).await.expect_err("the body is dropped");
    drop(stream);
    let mut rest = String::new();
    soon(client.stream.read_to_string(&mut rest)).await.expect("an end, and no reset");
    assert_eq!(rest, "");
}

#[tokio::test]
async fn a_listener_that_takes_nothing_is_given_up() {
    let mut world = world(Limits { write: Duration::from_millis(100), ..Limits::default() }).await;
    let mut client = world.gateway.connect().await;
    client.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let (mut stream, dropped) = soon(world.streams.recv()).await.expect("a stream");
    soon(async { while stream.send_data(Bytes::from_static(&[0; 100_000])).await.is_ok() {} }).await;
    soon(dropped).await.expect_err("the body is dropped");
    drop(client);
}

#[tokio::test]
async fn what_stays_does_not_hold_up_the_end() {
    let mut world = world(Limits::default()).await;
    let (mut socket, mut stream) = (world.gateway.connect().await, world.gateway.connect().await);
    socket.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n")).await;
    stream.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let _held = (soon(world.sockets.recv()).await, soon(world.streams.recv()).await);
    socket.head().await;
    world.gateway.stop.send_replace(true);
    timeout(Duration::from_secs(5), world.gateway.serving).await.expect("at once").expect("no panic");
}

#[tokio::test]
async fn a_malformed_handshake_is_told_why() {
    let world = world(Limits::default()).await;
    for (headers, status) in [
        (UPGRADE.replace("13", "8"), 426),
        (UPGRADE.replace("dGhl", ""), 400),
        (UPGRADE.replace("Connection: keep-alive, Upgrade\r\n", ""), 400),
    ] {
        assert_eq!(world.gateway.ask("GET", "/", &headers, b"").await.status, status, "{headers}");
    }
    assert_eq!(world.gateway.ask("POST", "/", UPGRADE, b"").await.status, 400);
}
