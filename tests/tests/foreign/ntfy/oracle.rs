//! The same requests to a real ntfy server and to the gateway. Where their answers differ, [`DIFFERENCES`] says
//! so, and why; a difference that is not listed fails, and so does a listed one that is none.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    process::Stdio,
};

use harness::{Foreign, Gateway, Request, Stream, eventually, free_port, within};
use serde_json::Value;
use tokio::process::{Child, Command};

/// A request; answers that go on are read line by line.
struct Case {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static [u8],
    lines: usize,
}

const fn ask(name: &'static str, method: &'static str, path: &'static str) -> Case {
    Case { name, method, path, headers: &[], body: b"", lines: 0 }
}

impl Case {
    const fn body(mut self, body: &'static [u8]) -> Self {
        self.body = body;
        self
    }

    const fn header(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }

    /// An answer of lines, of which so many are read; a poll must end after them.
    const fn lines(mut self, lines: usize) -> Self {
        self.lines = lines;
        self
    }
}

/// In this order, because later ones ask for what earlier ones have published.
const CASES: [Case; 36] = [
    ask("health", "GET", "/v1/health"),
    ask("config", "GET", "/v1/config"),
    ask("discovery", "GET", "/upAbCdEf012345?up=1"),
    ask("preflight", "OPTIONS", "/upAbCdEf012345"),
    ask("push of text", "POST", "/upAbCdEf012345?up=1").body(b"hello"),
    ask("push of bytes", "PUT", "/upAbCdEf012345?up=1").body(b"\xff\xfe"),
    ask("push with a coding alone", "POST", "/upAbCdEf012345")
        .header(&[("Content-Encoding", "aes128gcm"), ("Authorization", "vapid t=a, k=b")])
        .body(b"\x01\xff"),
    ask("push with a NUL", "POST", "/upAbCdEf012345?up=1").body(b"a\0b"),
    ask("empty push", "POST", "/upAbCdEf012345?up=1"),
    ask("push with UnifiedPush: 1", "POST", "/upAbCdEf012345").header(&[("UnifiedPush", "1")]).body(b"\xff"),
    ask("message", "POST", "/alerts").body(b" is open\n"),
    ask("message with everything", "POST", "/alerts")
        .header(&[
            ("X-Title", "Door"),
            ("Priority", "high"),
            ("Tags", "a, b"),
            ("Click", "https://a.example"),
            ("Icon", "https://a.example/i.png"),
            ("Markdown", "yes"),
        ])
        .body(b"*open*"),
    ask("message by GET", "GET", "/alerts/publish?message=by+GET&priority=2"),
    ask("message in JSON", "PUT", "/")
        .body(br#"{"topic":"alerts","message":"json","title":"T","priority":5,"tags":["x"]}"#),
    ask("message of bytes", "POST", "/bytes").body(b"\xff\xfe"),
    ask("poll", "GET", "/alerts/json?poll=1").lines(4),
    ask("poll of several topics", "GET", "/upOther0123456,alerts/json?poll=1&since=all").lines(4),
    ask("poll of the latest", "GET", "/alerts/json?poll=1&since=latest").lines(1),
    ask("poll of none", "GET", "/alerts/json?poll=1&since=none").lines(0),
    ask("poll since a while", "GET", "/alerts/json?poll=1&since=10m").lines(4),
    ask("poll after an unknown id", "GET", "/alerts/json?poll=1&since=AAAAAAAAAAAA").lines(4),
    ask("poll as events", "GET", "/alerts/sse?poll=1&since=latest").lines(1),
    ask("poll as text", "GET", "/alerts/raw?poll=1&since=latest").lines(1),
    ask("stream", "GET", "/alerts,other/json?since=latest").lines(2),
    ask("stream of events", "GET", "/alerts/sse?since=latest").lines(4),
    ask("stream of text", "GET", "/alerts/raw?since=latest").lines(2),
    ask("login", "GET", "/alerts/auth"),
    ask("no WebSocket", "GET", "/alerts/ws"),
    ask("wrong since", "GET", "/alerts/json?since=yesterday"),
    ask("wrong priority", "POST", "/alerts").header(&[("Priority", "9")]).body(b"x"),
    ask("wrong actions", "POST", "/alerts").header(&[("Actions", "x")]).body(b"x"),
    ask("no JSON", "POST", "/").body(b"nothing"),
    ask("no topic", "POST", "/").body(b"{}"),
    ask("reserved topic", "GET", "/a,docs/json"),
    ask("malformed list", "GET", "/a,,b/json"),
    ask("large push", "POST", "/upAbCdEf012345?up=1").body(&[b'a'; 9000]),
];

/// Case, what differs (the key of the answer), and why. `link` is left out everywhere: the gateway's errors say
/// what would be right, and point nowhere.
const DIFFERENCES: [(&str, &str, &str); 15] = [
    ("config", "0 enable_login", "a paired device may log in here"),
    ("push of text", "0 encoding", "always base64: what is a text by chance is bytes all the same"),
    ("push of text", "0 message", "always base64: what is a text by chance is bytes all the same"),
    ("push with a NUL", "0 encoding", "byte for byte; ntfy drops the NUL"),
    ("push with a NUL", "0 message", "byte for byte; ntfy drops the NUL"),
    ("empty push", "0 encoding", "nothing is put in the place of an empty push"),
    ("empty push", "0 message", "nothing is put in the place of an empty push"),
    ("message", "0 message", "a text is kept as it is, with its white space"),
    ("message of bytes", "status", "there are no attachments, and 5,630 bytes need none"),
    ("poll", "0 message", "a text is kept as it is, with its white space"),
    ("poll of several topics", "0 message", "a text is kept as it is, with its white space"),
    ("poll since a while", "0 message", "a text is kept as it is, with its white space"),
    ("poll after an unknown id", "0 message", "a text is kept as it is, with its white space"),
    (
        "malformed list",
        "status",
        "ntfy says that there is no such page; here it is said what is wrong with the list",
    ),
    (
        "large push",
        "status",
        "ntfy cuts it off at 4,096 bytes and says that all is well; what is cut cannot be decrypted",
    ),
];

/// ntfy as a server, with nothing but its defaults.
struct Oracle {
    address: SocketAddr,
    _child: Child,
}

impl Oracle {
    async fn start(program: &Path, place: &Path) -> Self {
        let address = free_port();
        let settings = place.join("server.yml");
        let cache = place.join("cache.db");
        let text = format!(
            "base-url: \"http://{address}\"\nlisten-http: \"{address}\"\ncache-file: \"{}\"\n",
            cache.display()
        );
        std::fs::write(&settings, text).unwrap();
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(settings).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(place.join("ntfy.log")).unwrap()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        eventually("ntfy listens", async || tokio::net::TcpStream::connect(address).await.ok().map(drop))
            .await;
        Self { address, _child: child }
    }
}

/// An answer as keys and values, without what differs each time.
type Answer = BTreeMap<String, String>;

async fn answer(address: SocketAddr, case: &Case) -> Answer {
    let mut answer = Answer::new();
    let is_stream = ["/json", "/sse", "/raw"].iter().any(|form| case.path.contains(form));
    if is_stream {
        // An answer without a line has a length, not chunks: it ends where the connection does.
        let mut stream = Stream::open_at(address, case.path, &[("Connection", "close")]).await;
        if stream.status() == 200 {
            answer.insert("status".into(), "200".into());
            for name in ["content-type", "access-control-allow-origin", "content-encoding"] {
                answer.insert(name.into(), head_value(&stream.head, name));
            }
            let mut number = 0;
            while number < case.lines || case.path.contains("poll=1") {
                let Some(line) = within(case.name, stream.line()).await else { break };
                read_line(&mut answer, number, &line);
                number += 1;
            }
            answer.insert("lines".into(), number.to_string());
            return answer;
        }
    }
    let mut request = Request::to(address, case.method, case.path).body(case.body);
    for (name, value) in case.headers {
        request = request.header(name, value);
    }
    let response = request.send().await;
    answer.insert("status".into(), response.status.to_string());
    for name in [
        "content-type",
        "access-control-allow-origin",
        "access-control-allow-methods",
        "access-control-allow-headers",
    ] {
        answer.insert(name.into(), response.header(name).unwrap_or("-").to_owned());
    }
    read_line(&mut answer, 0, &String::from_utf8_lossy(&response.body));
    answer
}

fn head_value(head: &str, name: &str) -> String {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
    values.next().map_or("-".into(), |(_, value)| value.trim().to_owned())
}

/// JSON key by key, with or without `data: ` before it; anything else as it is.
fn read_line(answer: &mut Answer, number: usize, line: &str) {
    let (prefix, json) = line.split_at(if line.starts_with("data: ") { 6 } else { 0 });
    match serde_json::from_str::<Value>(json) {
        Ok(Value::Object(object)) => {
            answer.insert(format!("{number} form"), format!("{prefix}object"));
            for (key, value) in object.into_iter().filter(|(key, _)| key != "link") {
                answer.insert(format!("{number} {key}"), shown(&key, &value));
            }
        }
        _ => drop(answer.insert(format!("{number} form"), line.to_owned())),
    }
}

/// What is new in each answer is told by its kind.
fn shown(key: &str, value: &Value) -> String {
    match (key, value) {
        ("id", Value::String(id))
            if id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) =>
        {
            "an id".into()
        }
        ("time" | "expires", Value::Number(number)) if number.is_u64() => "a time".into(),
        ("error" | "config_hash", Value::String(_)) => "a text".into(),
        ("disallowed_topics", Value::Array(_)) => "a list".into(),
        ("message", Value::String(text)) if text.len() > 100 => "a long text".into(),
        _ => value.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_answers_as_a_real_ntfy_server() {
    let Some(program) = Foreign::ntfy("ntfy as oracle") else { return };
    let gateway = Gateway::new().config("[transport.ntfy]\nanonymous_publish = \"all\"\n").start().await;
    let oracle = Oracle::start(&program, gateway.scratch()).await;
    let mut found = BTreeSet::new();
    let mut report = String::new();
    for case in &CASES {
        let (theirs, ours) = (answer(oracle.address, case).await, answer(gateway.public, case).await);
        if theirs["status"] != ours["status"] {
            // Nothing else can be the same then.
            found.insert((case.name, "status".to_owned()));
            report.push_str(&format!("{}: ntfy {theirs:?}, gateway {ours:?}\n", case.name));
            continue;
        }
        for key in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
            let (theirs, ours) = (theirs.get(key), ours.get(key));
            if theirs != ours {
                found.insert((case.name, key.clone()));
                report.push_str(&format!("{}, {key}: ntfy {theirs:?}, gateway {ours:?}\n", case.name));
            }
        }
    }
    let listed: BTreeSet<_> = DIFFERENCES.iter().map(|(case, key, _)| (*case, (*key).to_owned())).collect();
    let (unlisted, gone): (Vec<_>, Vec<_>) =
        (found.difference(&listed).collect(), listed.difference(&found).collect());
    assert!(unlisted.is_empty() && gone.is_empty(), "not listed: {unlisted:#?}\ngone: {gone:#?}\n{report}");
}
