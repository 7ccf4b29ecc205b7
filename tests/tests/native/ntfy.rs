//! ntfy's protocol, as its Android app, its command line and KUnifiedPush speak it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness::{Device, Gateway, Response, Stream, within};
use serde_json::{Value, json};

const TOPIC: &str = "upAbCdEf012345";
const OTHER: &str = "upGhIjKl678901";

fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{error}: {response:?}"))
}

/// A failure in ntfy's form.
fn fails(response: Response, code: u64) {
    let status = u16::try_from(code / 100).unwrap();
    let response = response.expect(status);
    let error = body(&response);
    assert_eq!((&error["code"], &error["http"]), (&json!(code), &json!(status)), "{error}");
    assert!(error["error"].as_str().is_some_and(|text| text.len() > 8), "{error}");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
}

async fn push(gateway: &Gateway, topic: &str, payload: impl Into<Vec<u8>>) -> Value {
    body(&gateway.post(&format!("/{topic}?up=1")).body(payload).send().await.expect(200))
}

fn payload(message: &Value) -> Vec<u8> {
    assert_eq!(message["encoding"], "base64", "{message}");
    STANDARD.decode(message["message"].as_str().unwrap()).unwrap()
}

async fn listen(gateway: &Gateway, path: &str) -> Stream {
    let stream = Stream::open(gateway, path, &[]).await;
    assert_eq!(stream.status(), 200, "{}", stream.head);
    stream.opened().await
}

fn basic(device: &Device) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", device.id, device.secret)))
}

async fn pair(gateway: &Gateway) -> Device {
    let json = gateway.cli(["device", "add", "phone", "--transport", "ntfy", "--json"]).await.json();
    Device {
        id: json["device"].as_str().unwrap().to_owned(),
        secret: json["secret"].as_str().unwrap().to_owned(),
    }
}

/// Every message that a poll finds, in order.
async fn poll(gateway: &Gateway, path: &str) -> Vec<Value> {
    let mut stream = Stream::open(gateway, path, &[]).await;
    assert_eq!(stream.status(), 200, "{}", stream.head);
    let mut messages = Vec::new();
    while let Some(message) = stream.event().await {
        messages.push(message);
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn line_1_discovery_and_anonymous_pushes_byte_for_byte() {
    let gateway = Gateway::new().start().await;
    let found = gateway.request("GET", &format!("/{TOPIC}?up=1")).send().await.expect(200);
    assert_eq!(found.body, b"{\"unifiedpush\":{\"version\":1}}\n");
    let mut stream = listen(&gateway, &format!("/{TOPIC}/json?since=none")).await;

    let mut largest = vec![0_u8; 5630];
    getrandom::fill(&mut largest).unwrap();
    let texts: [&[u8]; 6] = [b"plain", b"", b"a\0b\0", b" spaces \r\n", "\u{e9}".as_bytes(), b"\xff\xfe"];
    for bytes in texts.into_iter().chain([&largest[..]]) {
        push(&gateway, TOPIC, bytes).await;
        let message = stream.message().await;
        assert_eq!(payload(&message), bytes);
        assert_eq!(message["topic"], TOPIC);
    }
    for method in ["POST", "PUT"] {
        let request = gateway.request(method, &format!("/{TOPIC}")).header("Content-Encoding", "aes128gcm");
        let request = request.header("Authorization", "vapid t=abc, k=def").body(&b"\x01\x02"[..]);
        request.send().await.expect(200);
        assert_eq!(payload(&stream.message().await), b"\x01\x02");
    }
    let request = gateway.post(&format!("/{TOPIC}?up=1")).header("Authorization", "WebPush abc");
    request.body("x").send().await.expect(200);
    largest.push(0);
    fails(gateway.post(&format!("/{TOPIC}?up=1")).body(largest).send().await, 41301);
    assert_eq!(payload(&stream.message().await), b"x", "what is too large was not cut off, but refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn line_2_pushes_before_the_first_subscriber_are_kept() {
    let mut gateway = Gateway::new().start().await;
    for number in 0..16_u8 {
        push(&gateway, TOPIC, [number]).await;
    }
    let refused = gateway.post(&format!("/{TOPIC}?up=1")).body("one more").send().await;
    fails(refused, 42901);
    gateway.restart().await;
    // The app's first connection says that it knows nothing.
    let mut stream = listen(&gateway, &format!("/{TOPIC}/json?since=none")).await;
    for number in 0..16_u8 {
        assert_eq!(payload(&stream.message().await), [number]);
    }
    push(&gateway, TOPIC, "live").await;
    assert_eq!(payload(&stream.message().await), b"live");
    let devices = gateway.cli(["device", "list", "--json"]).await.json().to_string();
    assert!(devices.contains("ntfy 127.0.0.1"), "the client has become a device: {devices}");
}

#[tokio::test(flavor = "multi_thread")]
async fn line_3_several_topics_and_one_cursor_over_them() {
    let gateway = Gateway::new().start().await;
    let path = format!("/{TOPIC},{OTHER},alerts/json");
    let mut stream = listen(&gateway, &path).await;
    let mut ids = Vec::new();
    for (number, topic) in [(1, TOPIC), (2, OTHER), (3, TOPIC), (4, OTHER)] {
        push(&gateway, topic, [number]).await;
        let message = stream.message().await;
        assert_eq!((payload(&message), &message["topic"]), (vec![number], &json!(topic)));
        ids.push(message["id"].as_str().unwrap().to_owned());
    }
    let numbers = async |since: &str| -> Vec<u8> {
        let poll = poll(&gateway, &format!("{path}?poll=1&since={since}")).await;
        poll.iter().map(|message| payload(message)[0]).collect()
    };
    assert_eq!(numbers("all").await, [1, 2, 3, 4]);
    assert_eq!(numbers("").await, [1, 2, 3, 4], "a poll wants all by default");
    assert_eq!(numbers("none").await, [0_u8; 0]);
    assert_eq!(numbers("latest").await, [3, 4]);
    assert_eq!(numbers(&ids[1]).await, [3, 4], "an id of one topic is a cursor over the others");
    assert_eq!(numbers("AAAAAAAAAAAA").await, [1, 2, 3, 4], "an unknown id: all that is stored");
    assert_eq!(numbers("1700000000").await, [1, 2, 3, 4]);
    assert_eq!(numbers("10m").await, [1, 2, 3, 4]);
    assert_eq!(numbers("4102444800").await, [0_u8; 0], "from the year 2100 on");
    for wrong in ["yesterday", "-5", "1x"] {
        fails(gateway.request("GET", &format!("{path}?since={wrong}")).send().await, 40008);
    }
    drop(stream);
    let mut stream = listen(&gateway, &format!("{path}?since={}", ids[2])).await;
    assert_eq!(payload(&stream.message().await), [4], "a stream begins after its cursor");
}

#[tokio::test(flavor = "multi_thread")]
async fn line_5_polls_end_and_logins_are_judged() {
    let gateway = Gateway::new().config("[transport.ntfy]\nanonymous_subscribe = false\n").start().await;
    let device = pair(&gateway).await;
    let path = format!("/{TOPIC}/json?poll=1");
    fails(gateway.request("GET", &path).send().await, 40301);
    fails(gateway.request("GET", &format!("/{TOPIC}/auth")).send().await, 40301);
    let wrong = format!("Basic {}", STANDARD.encode(format!("{}:wrong", device.id)));
    fails(gateway.request("GET", &path).header("Authorization", &wrong).send().await, 40101);
    fails(gateway.request("GET", &path).header("Authorization", "Bearer tk_wrong").send().await, 40101);
    let auth = gateway.request("GET", &format!("/{TOPIC}/auth")).header("Authorization", &basic(&device));
    assert_eq!(body(&auth.send().await.expect(200)), json!({"success": true}));

    let uri = gateway.cli(["device", "rotate", &device.id, "--json"]).await.json();
    let device = Device { secret: uri["secret"].as_str().unwrap().to_owned(), ..device };
    let url = uri["uri"].as_str().unwrap().trim_end_matches('/').to_owned();
    let token = url.rsplit('/').next().unwrap().to_owned();
    let query = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(basic(&device));
    let bearer = format!("Bearer tk_{token}");
    for (path, header) in [
        (format!("/{TOPIC}/json"), Some(basic(&device))),
        (format!("/{TOPIC}/json"), Some(bearer)),
        (format!("/{TOPIC}/json"), Some(format!("Basic {}", STANDARD.encode(format!(":{token}"))))),
        (format!("/{TOPIC}/json?auth={query}"), None),
        (format!("/d/{token}/{TOPIC}/json"), None),
    ] {
        let headers: Vec<_> = header.iter().map(|value| ("Authorization", value.as_str())).collect();
        let stream = Stream::open(&gateway, &path, &headers).await;
        assert_eq!(stream.status(), 200, "{path} {header:?}: {}", stream.head);
        stream.opened().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn line_6_overlapping_connections_are_both_served() {
    let gateway = Gateway::new().start().await;
    let mut first = listen(&gateway, &format!("/{TOPIC}/json")).await;
    push(&gateway, TOPIC, "one").await;
    let one = first.message().await;
    let id = one["id"].as_str().unwrap().to_owned();
    // The app opens the new connection first, then closes the old one.
    let mut second = listen(&gateway, &format!("/{TOPIC},{OTHER}/json?since={id}")).await;
    push(&gateway, TOPIC, "two").await;
    assert_eq!(payload(&first.message().await), b"two");
    assert_eq!(payload(&second.message().await), b"two");
    drop(first);
    push(&gateway, OTHER, "three").await;
    assert_eq!(payload(&second.message().await), b"three");
}

#[tokio::test(flavor = "multi_thread")]
async fn line_7_streams_end_without_an_answer_in_between() {
    let mut gateway = Gateway::new().start().await;
    let mut stream = listen(&gateway, &format!("/{TOPIC}/json")).await;
    assert_eq!(gateway.terminate().await.code(), Some(0));
    assert_eq!(within("the end", stream.line()).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn line_4_open_comes_first_and_a_web_socket_speaks_the_same() {
    let gateway = Gateway::new().start().await;
    let topics = format!("{TOPIC},{OTHER}");
    let mut stream = Stream::open(&gateway, &format!("/{topics}/json"), &[]).await;
    let head = stream.head.to_lowercase();
    for wanted in ["transfer-encoding: chunked", "application/x-ndjson", "x-accel-buffering: no"] {
        assert!(head.contains(wanted), "{wanted}: {head}");
    }
    assert!(!head.contains("content-encoding"), "a compressed stream is held back by proxies: {head}");
    let open = stream.event().await.unwrap();
    assert_eq!((&open["event"], &open["topic"]), (&json!("open"), &json!(topics)));

    let mut sse = Stream::open(&gateway, &format!("/{TOPIC}/sse?up=1&since=all"), &[]).await;
    assert!(sse.head.contains("text/event-stream"), "{}", sse.head);
    assert_eq!(sse.line().await.unwrap(), "event: open");
    assert!(sse.line().await.unwrap().starts_with("data: {\"id\":\""));
    assert_eq!(sse.line().await.unwrap(), "");
    let mut raw = Stream::open(&gateway, &format!("/{TOPIC}/raw"), &[]).await;
    assert_eq!(raw.line().await.unwrap(), "");

    push(&gateway, TOPIC, "to all").await;
    assert_eq!(payload(&stream.message().await), b"to all");
    let data = sse.line().await.unwrap();
    let message: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(payload(&message), b"to all", "a message has no event line");
    assert_eq!(raw.line().await.unwrap(), STANDARD.encode("to all"));
    fails(gateway.request("GET", &format!("/{TOPIC}/ws")).send().await, 40016);
}

#[tokio::test(flavor = "multi_thread")]
async fn line_10_pages_may_ask_and_errors_are_ntfys() {
    let gateway = Gateway::new().start().await;
    let preflight = gateway.request("OPTIONS", &format!("/{TOPIC}")).send();
    let preflight = preflight.await;
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    assert_eq!(preflight.header("access-control-allow-methods"), Some("GET, PUT, POST, PATCH, DELETE"));
    let health = gateway.request("GET", "/v1/health").send().await.expect(200);
    assert_eq!(body(&health), json!({"healthy": true}));
    let config = body(&gateway.request("GET", "/v1/config").send().await.expect(200));
    assert_eq!(config["enable_signup"], false);
    assert!(config["disallowed_topics"].as_array().unwrap().contains(&json!("wpush")), "{config}");
    // A page in a browser at home may be anybody's.
    let page = gateway.request("GET", &format!("/{TOPIC}/json?poll=1")).header("Origin", "https://a.example");
    fails(page.send().await, 40301);
    for (method, path, code) in [
        ("GET", "/a,,b/json", 40009),
        ("GET", "/a,docs/json", 40010),
        ("POST", "/%20", 40009),
        ("POST", "/alerts", 40301),
        ("POST", "/", 40024),
        ("GET", "/up!/json", 40009),
    ] {
        fails(gateway.request(method, path).send().await, code);
    }
    let many = vec!["a"; 1001].join(",");
    fails(gateway.request("GET", &format!("/{many}/json")).send().await, 42904);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_in_every_form_keep_what_they_say() {
    let gateway = Gateway::new().config("[transport.ntfy]\nanonymous_publish = \"all\"\n").start().await;
    let mut stream = listen(&gateway, "/alerts/json").await;
    let request = gateway.post("/alerts").header("Title", "Door").header("Priority", "high");
    let sent = body(&request.header("Tags", "a, b").body(" is open\n").send().await.expect(200));
    let message = stream.message().await;
    assert_eq!(message, sent, "who publishes is told what subscribers get");
    assert_eq!(message["message"], " is open\n", "verbatim");
    assert_eq!((&message["title"], &message["priority"]), (&json!("Door"), &json!(4)));
    assert_eq!(message["tags"], json!(["a", "b"]));
    assert_eq!(message["expires"].as_u64().unwrap() - message["time"].as_u64().unwrap(), 12 * 3600);

    gateway.request("GET", "/alerts/publish?message=by+GET&ttl=1").send().await.expect(200);
    assert_eq!(stream.message().await["message"], "by GET");
    let published =
        json!({"topic": "alerts", "message": "in JSON", "title": "T", "priority": 5, "tags": ["x"]});
    gateway.request("PUT", "/").body(published.to_string()).send().await.expect(200);
    let message = stream.message().await;
    assert_eq!((&message["message"], &message["title"]), (&json!("in JSON"), &json!("T")));
    gateway.post("/alerts").body(&b"\xff\0"[..]).send().await.expect(200);
    assert_eq!(payload(&stream.message().await), b"\xff\0");
    let empty = body(&gateway.post("/alerts").send().await.expect(200));
    assert_eq!(empty["message"], "", "nothing is put in its place");
    stream.message().await;

    // TTL, Urgency and Topic count here too.
    let sent = body(&gateway.post("/alerts").ttl(60).body("short").send().await.expect(200));
    assert_eq!(sent["expires"].as_u64().unwrap() - sent["time"].as_u64().unwrap(), 60);
    drop(stream);
    for text in ["old", "new"] {
        gateway.post("/alerts").header("Topic", "state").body(text).send().await.expect(200);
    }
    let texts: Vec<_> = poll(&gateway, "/alerts/json?poll=1").await;
    let texts: Vec<_> = texts.iter().map(|message| message["message"].as_str().unwrap()).collect();
    assert!(texts.contains(&"new") && !texts.contains(&"old"), "{texts:?}");
    for (name, value, code) in [
        ("TTL", "soon", 40000),
        ("Urgency", "extreme", 40000),
        ("Priority", "9", 40007),
        ("Actions", "view, x", 40018),
        ("Delay", "10m", 40000),
        ("Email", "a@example.org", 40000),
    ] {
        fails(gateway.post("/alerts").header(name, value).body("x").send().await, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_topics_from_one_source_leave_the_others_alone() {
    let gateway = Gateway::new().start().await;
    let mut stream = listen(&gateway, &format!("/{TOPIC}/json")).await;
    let mut kept = 0;
    for number in 0..10_000 {
        let response = gateway.post(&format!("/up{number:012}?up=1")).body("x").send().await;
        match response.status {
            200 => kept += 1,
            _ => fails(response, 42904),
        }
    }
    assert_eq!(kept, 99, "a hundred within the hour, of which the subscriber's was one");
    push(&gateway, TOPIC, "still served").await;
    assert_eq!(payload(&stream.message().await), b"still served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_acknowledges_what_was_written() {
    let gateway = Gateway::new().start().await;
    let path = format!("/{TOPIC}/json");
    let mut stream = listen(&gateway, &path).await;
    push(&gateway, TOPIC, "one").await;
    let one = stream.message().await;
    drop(stream);
    assert_eq!(poll(&gateway, &format!("{path}?poll=1&since=all")).await.len(), 1, "a socket proves nothing");
    let id = one["id"].as_str().unwrap();
    let mut stream = listen(&gateway, &format!("{path}?since={id}")).await;
    push(&gateway, TOPIC, "two").await;
    assert_eq!(payload(&stream.message().await), b"two");
    harness::eventually("the first is over", async || {
        (poll(&gateway, &format!("{path}?poll=1&since=all")).await.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn line_8_an_empty_push_is_empty() {
    let gateway = Gateway::new().start().await;
    let mut stream = listen(&gateway, &format!("/{TOPIC}/json")).await;
    for query in ["up=1", "unifiedpush=1"] {
        let sent = gateway.post(&format!("/{TOPIC}?{query}")).send().await.expect(200);
        let message = stream.message().await;
        assert_eq!(payload(&message), b"", "nothing is put in its place: {message}");
        assert_eq!(body(&sent), message, "who publishes is told what subscribers get");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn line_9_homeservers_reach_topics() {
    let gateway = Gateway::new().start().await;
    const NOTIFY: &str = "/_matrix/push/v1/notify";
    let event = |id: &str| {
        let pushkey = format!("http://{}/{TOPIC}?up=1", gateway.public);
        let devices = json!([{"app_id": "im.example", "pushkey": pushkey, "pushkey_ts": 1, "data": {}}]);
        json!({"notification": {"event_id": id, "prio": "high", "devices": devices}})
    };
    let early = gateway.post(NOTIFY).body(event("$early").to_string()).send().await;
    assert_eq!(early.status, 503, "a homeserver keeps it, and comes again: {early:?}");
    let mut stream = listen(&gateway, &format!("/{TOPIC}/json")).await;
    let accepted = gateway.post(NOTIFY).body(event("$one").to_string()).send().await.expect(200);
    assert_eq!(body(&accepted), json!({"rejected": []}));
    assert_eq!(payload(&stream.message().await), event("$one").to_string().as_bytes());
    drop(stream);
    let listed = gateway.cli(["registration", "list", "--json"]).await.json();
    let found = listed.to_string();
    assert!(found.contains(TOPIC), "{found}");
}
