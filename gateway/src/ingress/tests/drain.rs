//! Too many connections, slow ones, and the end.

use super::*;

fn head(length: usize) -> String {
    format!("POST /p/{LIVE} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
}

#[tokio::test]
async fn a_slow_body_is_408() {
    let gateway = Gateway::with(Limits { body: Duration::from_millis(50), ..Limits::default() }, None).await;
    let mut client = gateway.connect().await;
    client.send(head(10) + "abc").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
    assert!(client.is_closed().await);
    assert!(gateway.pushed().is_empty());
}

#[tokio::test]
async fn a_slow_head_and_a_silent_peer_are_shown_out() {
    let gateway = Gateway::with(Limits { head: Duration::from_millis(50), ..Limits::default() }, None).await;
    for beginning in ["", "POST /p/"] {
        let mut client = gateway.connect().await;
        client.send(beginning).await;
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let gateway = Gateway::with(Limits { idle: Duration::from_millis(50), ..Limits::default() }, None).await;
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("GET", "/health", "", b"").await.status, 200);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn beyond_the_limit_connections_are_told_to_come_back() {
    let gateway = Gateway::with(Limits { max_connections: 1, ..Limits::default() }, None).await;
    let mut first = gateway.connect().await;
    assert_eq!(first.ask("GET", "/health", "", b"").await.status, 200);

    let mut second = gateway.connect().await;
    let reply = second.ask("POST", &format!("/p/{LIVE}"), "", b"x").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert!(second.is_closed().await);
    assert!(gateway.pushed().is_empty());

    // The first is not disturbed, and its seat is free once it has left.
    assert_eq!(first.ask("GET", "/health", "", b"").await.status, 200);
    drop(first);
    let served = async { while gateway.push(LIVE, "", b"x").await.status != 201 {} };
    timeout(Duration::from_secs(10), served).await.expect("a seat");
}

#[tokio::test]
async fn when_it_is_full_connections_are_not_kept() {
    let gateway = Gateway::with(Limits { max_connections: 4, ..Limits::default() }, None).await;
    let mut clients = Vec::new();
    for seat in 1..=4 {
        let mut client = gateway.connect().await;
        let reply = client.ask("GET", "/health", "", b"").await;
        assert_eq!(reply.header("connection").is_some(), seat == 4, "{seat}");
        clients.push(client);
    }
}

#[tokio::test]
async fn stopping_finishes_what_is_in_flight() {
    let gateway = Gateway::start().await;
    let gate = Arc::new(Semaphore::new(0));
    gateway.script(Script::Gate(Arc::clone(&gate)));
    let mut idle = gateway.connect().await;
    assert_eq!(idle.ask("GET", "/health", "", b"").await.status, 200);
    let mut half = gateway.connect().await;
    assert_eq!(half.ask("GET", "/health", "", b"").await.status, 200);
    half.send(head(2) + "x").await;
    let mut busy = gateway.connect().await;
    busy.send(head(1) + "x").await;
    while gateway.pushed().is_empty() {
        assert_eq!(gateway.ask("GET", "/health", "", b"").await.status, 200);
    }

    gateway.stop.send(true).expect("it serves");
    assert!(idle.is_closed().await);
    let refused = async { while TcpStream::connect(gateway.address).await.is_ok() {} };
    timeout(Duration::from_secs(10), refused).await.expect("it listens no more");
    assert!(!gateway.serving.is_finished());
    gate.add_permits(2);
    half.send("y").await;
    for mut client in [busy, half] {
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.header("connection")), (201, Some("close")));
        assert!(client.is_closed().await);
    }
    timeout(Duration::from_secs(10), gateway.serving).await.expect("ends").expect("no panic");
}

#[tokio::test]
async fn stopping_waits_for_a_request_that_is_on_its_way() {
    let gateway = Gateway::start().await;
    let mut fresh = gateway.connect().await;
    // The connections are accepted in order, so the first one is being served by now.
    assert_eq!(gateway.ask("GET", "/health", "", b"").await.status, 200);
    gateway.stop.send(true).expect("it serves");
    fresh.send(head(1) + "x").await;
    assert_eq!(fresh.reply().await.status, 201);
}

#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let limits = Limits { drain: Duration::from_millis(50), ..Limits::default() };
    let gateway = Gateway::with(limits, None).await;
    gateway.script(Script::Gate(Arc::new(Semaphore::new(0))));
    let mut stuck = gateway.connect().await;
    stuck.send(head(1) + "x").await;
    while gateway.pushed().is_empty() {
        assert_eq!(gateway.ask("GET", "/health", "", b"").await.status, 200);
    }
    gateway.stop.send(true).expect("it serves");
    assert!(stuck.is_closed().await);
    timeout(Duration::from_secs(10), gateway.serving).await.expect("ends").expect("no panic");
}
