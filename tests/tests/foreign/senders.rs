//! Application servers' own libraries: they encrypt to keys that the test holds, and sign by themselves.

use std::path::{Path, PathBuf};

use harness::{
    Foreign, Gateway, Output, Phone, Push, Sender, Subscriber, Terminal, Version, run_with_input, workspace,
};
use serde_json::{Value, json};

use crate::{hex, unhex};

const MESSAGE: &str = "péage ouvert, \u{1f6a6} and 42 other things";

/// A library, as a program that takes an order.
struct Library {
    args: Vec<PathBuf>,
    program: PathBuf,
}

impl Library {
    fn pywebpush(test: &str) -> Option<Self> {
        let script = workspace().join("tests/foreign/pywebpush_send.py");
        Some(Self { args: vec![script], program: Foreign::python(test)? })
    }

    fn web_push(test: &str, gateway: &Gateway) -> Option<Self> {
        let program = Foreign::program(test, "node")?;
        let script = Foreign::node_script(test, gateway.scratch(), "web_push_send.js", "web-push")?;
        Some(Self { args: vec![script], program })
    }

    /// Sends a push; the status code that the library saw.
    async fn send(&self, endpoint: &str, keys: &Value, encoding: &str, sender: Option<&Sender>) -> Output {
        let vapid = sender.map(|sender| {
            json!({"private": sender.private(), "public": sender.public(), "subject": "mailto:owner@example.org"})
        });
        let order = json!({
            "endpoint": endpoint,
            "keys": {"auth": keys["auth"], "p256dh": keys["p256dh"]},
            "message": MESSAGE,
            "encoding": encoding,
            "vapid": vapid,
        });
        run_with_input(&self.program, &self.args, &order.to_string()).await
    }
}

/// Decrypts what arrived as an app would.
async fn decrypted(
    python: &Path,
    keys: &Subscriber,
    push: &Push,
    version: Version,
    encoding: &str,
) -> Vec<u8> {
    if encoding == "aes128gcm" {
        return keys.decrypt(&push.payload);
    }
    let (encryption, crypto_key, body) = match version {
        Version::V5 => {
            assert_eq!(push.property("content-encoding"), Some("aesgcm"));
            let header = |name: &str| push.property(name).unwrap_or_else(|| panic!("no {name}")).to_owned();
            (header("encryption"), header("crypto-key"), &push.payload[..])
        }
        Version::V4 => prefixed(&push.payload),
    };
    let order = json!({
        "keys": keys.json(),
        "encryption": encryption,
        "crypto_key": crypto_key,
        "body": hex(body),
    });
    let script = workspace().join("tests/foreign/decrypt.py");
    unhex(run_with_input(python, [script], &order.to_string()).await.text())
}

/// `aesgcm\nEncryption: …\nCrypto-Key: …\n` and the body.
fn prefixed(payload: &[u8]) -> (String, String, &[u8]) {
    let mut parts = payload.splitn(4, |&byte| byte == b'\n');
    let mut line = || String::from_utf8_lossy(parts.next().expect("three lines and a body")).into_owned();
    assert_eq!(line(), "aesgcm");
    let encryption = line().strip_prefix("Encryption: ").expect("Encryption").to_owned();
    let crypto_key = line().strip_prefix("Crypto-Key: ").expect("Crypto-Key").to_owned();
    (encryption, crypto_key, parts.next().expect("a body"))
}

/// Every encryption, to both MQTT versions, signed and not, to endpoints that ask for it and that do not.
async fn every_way_arrives(gateway: &Gateway, library: &Library, python: &Path) {
    for version in Version::ALL {
        let device = gateway.pair("phone").await;
        let mut phone = Phone::connect(gateway, &device, version).await;
        phone.subscribe().await;
        let sender = Sender::new();
        let (open, bound) =
            (phone.register("open").await, phone.register_bound("bound", &sender.public()).await);
        for encoding in ["aes128gcm", "aesgcm"] {
            for (app, signer, expected) in [
                (&open, None, 201),
                (&open, Some(&sender), 201),
                (&bound, Some(&sender), 201),
                (&bound, None, 401),
                (&bound, Some(&Sender::new()), 403),
            ] {
                let keys = Subscriber::new();
                let what = format!("{encoding} to {version:?}, signed: {}", signer.is_some());
                let output = library.send(&app.endpoint, &keys.json(), encoding, signer).await;
                let status: Value = output.json();
                assert_eq!(status, expected, "{what}: {output:?}");
                if expected == 201 {
                    let push = phone.expect_push().await;
                    phone.ack(&push).await;
                    let plain = decrypted(python, &keys, &push, version, encoding).await;
                    assert_eq!(String::from_utf8_lossy(&plain), MESSAGE, "{what}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pywebpush_is_understood() {
    let Some(python) = Foreign::python("pywebpush") else { return };
    let Some(library) = Library::pywebpush("pywebpush") else { return };
    let gateway = Gateway::new().start().await;
    every_way_arrives(&gateway, &library, &python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_push_for_node_is_understood() {
    let Some(python) = Foreign::python("web-push for Node") else { return };
    let gateway = Gateway::new().start().await;
    let Some(library) = Library::web_push("web-push for Node", &gateway) else { return };
    every_way_arrives(&gateway, &library, &python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listen_shows_what_pywebpush_has_encrypted_either_way() {
    let Some(library) = Library::pywebpush("listen") else { return };
    let gateway = Gateway::new().start().await;
    let mut terminal = Terminal::start(gateway.command(["listen", "--json", "--count", "3"]));
    let mut line =
        async || -> Value { terminal.line("a line", |line| serde_json::from_str(line).ok()).await };
    let subscription = line().await;
    let endpoint = subscription["endpoint"].as_str().unwrap();
    let way = endpoint.replace(':', "%3A").replace('/', "%2F");
    let way = format!("http://{}/aesgcm?e={way}", gateway.public);
    for (endpoint, encoding) in [(endpoint, "aes128gcm"), (endpoint, "aesgcm"), (&way, "aesgcm")] {
        let output = library.send(endpoint, &subscription["keys"], encoding, None).await;
        assert_eq!(output.json(), 201, "{endpoint} {encoding}: {output:?}");
        let push = line().await;
        assert_eq!((&push["text"], &push["decrypted"]), (&json!(MESSAGE), &json!(true)), "{push}");
        assert!(push.get("remark").is_none(), "{push}");
    }
}
