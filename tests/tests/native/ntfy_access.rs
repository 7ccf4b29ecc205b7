//! Who may come in by ntfy's protocol, and what everybody else learns: nothing.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness::{Gateway, Response, Stream};

const TOPIC: &str = "upAbCdEf012345";
const NOBODYS: &str = "upGhIjKl678901";
const TWO_SIDES: &str = "[public]\nurl = 'http://push.example'\n[home]\nlisten = '127.0.0.1:0'\n";

/// The path of the URL that a device is paired by, without its last slash, and its id.
async fn pair(gateway: &Gateway) -> (String, String) {
    let pairing = gateway.cli(["device", "add", "phone", "--transport", "ntfy", "--json"]).await.json();
    let (_, token) = pairing["uri"].as_str().unwrap().split_once("/d/").expect("a path of its own");
    (format!("/d/{}", token.trim_end_matches('/')), pairing["device"].as_str().unwrap().to_owned())
}

/// All that somebody outside can tell of an answer, but its moment.
fn shown(response: Response) -> (u16, Vec<u8>) {
    (response.status, response.body.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_outside_only_devices_subscribe_and_nobody_learns_who_does() {
    let gateway = Gateway::new().config(TWO_SIDES).start().await;
    let home = gateway.home.expect("a home listener");
    let mut phone = Stream::open_at(home, &format!("/{TOPIC}/json"), &[]).await.opened().await;
    let (path, device) = pair(&gateway).await;
    let get = async |path: String| shown(gateway.request("GET", &path).send().await);
    for what in ["json", "json?poll=1", "json?poll=1&since=all", "sse", "raw", "auth"] {
        let (status, body) = get(format!("/{TOPIC}/{what}")).await;
        assert_eq!(status, 403, "{what}");
        assert_eq!(get(format!("/{NOBODYS}/{what}")).await, (status, body), "{what}: the same for any topic");
    }
    // A wrong path is one that nobody has.
    let wrong = format!("{}AAAAAAAA", &path[..path.len() - 8]);
    let unknown = format!("/d/{}", "A".repeat(27));
    let (status, body) = get(format!("{wrong}/{TOPIC}/json")).await;
    assert_eq!(status, 404);
    assert_eq!(get(format!("{unknown}/{TOPIC}/json")).await, (status, body));
    let refused = async |user: &str| {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:wrong")));
        shown(gateway.request("GET", &format!("/{TOPIC}/auth")).header("Authorization", &basic).send().await)
    };
    let (status, body) = refused(&device).await;
    assert_eq!(status, 401);
    assert_eq!(refused("0123456789abcdef").await, (status, body), "as for one that there is not");

    let mut outside = Stream::open(&gateway, &format!("{path}/{TOPIC}/json"), &[]).await.opened().await;
    gateway.post(&format!("/{TOPIC}?up=1")).body("to both").send().await.expect(200);
    assert_eq!(phone.message().await, outside.message().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_outside_the_gateway_is_nobodys_push_server() {
    let gateway = Gateway::new().config(TWO_SIDES).start().await;
    // What a stranger pushes waits a while for a subscriber, and no stranger can become one.
    gateway.post(&format!("/{NOBODYS}?up=1")).body("x").send().await.expect(200);
    for topics in [NOBODYS.to_owned(), format!("{TOPIC},{NOBODYS}")] {
        for form in ["json", "json?poll=1&since=all", "sse", "raw"] {
            gateway.request("GET", &format!("/{topics}/{form}")).send().await.expect(403);
        }
    }
    for path in ["/alerts", "/alerts/publish?message=x"] {
        let method = if path.contains('?') { "GET" } else { "POST" };
        gateway.request(method, path).send().await.expect(403);
    }
    gateway.post("/").body(r#"{"topic":"alerts","message":"x"}"#).send().await.expect(403);
    for path in ["/v1/account", "/v1/users", "/v1/stats", "/v1/version", "/d/", "/metrics"] {
        gateway.request("GET", path).send().await.expect(404);
    }
    let devices = gateway.cli(["device", "list", "--json"]).await.json().to_string();
    assert!(!devices.contains("ntfy 127.0.0.1"), "nobody has become a device: {devices}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_behind_a_proxy_is_outside_and_counted_by_its_own_network() {
    let few = "[transport.ntfy]\nmax_new_topics_per_source = 2\n";
    let gateway = Gateway::new().config(few).start().await;
    // On trial, the one listener is for the home too, but not for what a proxy brings.
    let path = format!("/{TOPIC}/json?poll=1");
    gateway.request("GET", &path).send().await.expect(200);
    gateway.request("GET", &path).header("X-Forwarded-For", "127.0.0.1").send().await.expect(403);
    for (source, topic, status) in [
        ("198.51.100.1", "upA00000000001", 200),
        ("198.51.100.1", "upA00000000002", 200),
        ("198.51.100.1", "upA00000000003", 429),
        ("203.0.113.2", "upA00000000004", 200),
        // Only the last is the proxy's word; what stands before it anybody may have written.
        ("203.0.113.3, 198.51.100.1", "upA00000000005", 429),
    ] {
        let push = gateway.post(&format!("/{topic}?up=1")).header("X-Forwarded-For", source).body("x");
        push.send().await.expect(status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_listed_with_its_transport_and_put_out_by_its_removal() {
    let gateway = Gateway::new().start().await;
    let mut stream = Stream::open(&gateway, &format!("/{TOPIC}/json"), &[]).await.opened().await;
    let list = gateway.cli(["device", "list", "--json"]).await.json();
    let ours = list.as_array().unwrap().iter().find(|device| device["name"] == "ntfy 127.0.0.1");
    let ours = ours.unwrap_or_else(|| panic!("not in {list}"));
    assert_eq!(ours["transport"], "ntfy");
    let device = ours["device"].as_str().unwrap();
    assert_eq!(gateway.cli(["device", "remove", device]).await.code, Some(0));
    assert_eq!(harness::within("the end", stream.line()).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn line_4_a_silent_stream_speaks_within_a_minute() {
    let gateway = Gateway::new().start().await;
    let json = Stream::open(&gateway, &format!("/{TOPIC}/json"), &[]).await.opened().await;
    let mut sse = Stream::open(&gateway, &format!("/{TOPIC}/sse"), &[]).await;
    for _ in 0..3 {
        sse.line().await.expect("open");
    }
    for (mut stream, begin) in [(json, "{\"id\":"), (sse, "event: keepalive")] {
        let line = tokio::time::timeout(std::time::Duration::from_secs(60), stream.line()).await;
        let line = line.expect("a line within a minute").expect("not the end");
        assert!(line.starts_with(begin) && line.contains("keepalive"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn line_5_a_path_of_eight_kilobytes_is_read() {
    let gateway = Gateway::new().start().await;
    let topics: Vec<_> = (0..560).map(|number| format!("up{number:012}")).collect();
    let path = format!("/{}/json?poll=1", topics.join(","));
    assert!(path.len() > 8 * 1024, "{}", path.len());
    let mut stream = Stream::open(&gateway, &path, &[]).await;
    assert_eq!((stream.status(), stream.event().await), (200, None));
    // The app's thirty are listened to.
    let thirty = topics[..30].join(",");
    let mut stream = Stream::open(&gateway, &format!("/{thirty}/json"), &[]).await.opened().await;
    gateway.post(&format!("/{}?up=1", topics[29])).body("x").send().await.expect(200);
    assert_eq!(stream.message().await["topic"], topics[29].as_str());
}
