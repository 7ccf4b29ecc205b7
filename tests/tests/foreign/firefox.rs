//! Firefox as it is: a page subscribes, application servers send, and its service worker shows what they
//! have sent.

use std::{path::Path, process::Stdio};

use harness::{Foreign, Gateway, Sender, run_with_input, within, workspace};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// A browser with one page, as a program that takes an order and tells what happens.
struct Firefox {
    child: Child,
    events: Lines<BufReader<ChildStdout>>,
}

impl Firefox {
    async fn start(gateway: &Gateway, sender: &Sender, pushes: usize) -> Option<Self> {
        let test = "Firefox";
        let firefox = Foreign::program(test, "firefox-esr")?;
        let node = Foreign::program(test, "node")?;
        let script = Foreign::node_script(test, gateway.scratch(), "firefox.js", "puppeteer-core")?;
        let directory = gateway.scratch().join("firefox");
        std::fs::create_dir(&directory).unwrap();
        let order = json!({
            "directory": directory,
            "firefox": firefox,
            "key": sender.public(),
            "pushes": pushes,
            "server": format!("ws://{}/", gateway.public),
        });
        let mut command = Command::new(node);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(order.to_string().as_bytes()).await.unwrap();
        drop(stdin);
        let events = BufReader::new(child.stdout.take().unwrap()).lines();
        Some(Self { child, events })
    }

    /// What is told next, which must have this field.
    async fn expect(&mut self, field: &str) -> Value {
        let line = within(field, self.events.next_line()).await.unwrap();
        let line = line.unwrap_or_else(|| panic!("{field}: it has ended"));
        let event: Value = serde_json::from_str(&line).unwrap();
        assert!(event[field] != Value::Null, "expected {field}, got {event}");
        event
    }

    /// A push that the service worker has shown.
    async fn expect_shown(&mut self, text: &str) {
        let event = self.expect("push").await;
        assert_eq!(event["push"], text);
        assert!(event["shown"].as_array().unwrap().contains(&text.into()), "{event}");
    }
}

/// Has pywebpush encrypt, sign and send it.
async fn send(python: &Path, subscription: &Value, sender: &Sender, encoding: &str, message: &str) {
    let order = json!({
        "endpoint": subscription["endpoint"],
        "keys": subscription["keys"],
        "message": message,
        "encoding": encoding,
        // Nothing else leaves at once.
        "headers": {"Urgency": "high"},
        "vapid": {"private": sender.private(), "public": sender.public(), "subject": "mailto:owner@example.org"},
    });
    let script = workspace().join("tests/foreign/pywebpush_send.py");
    let status = run_with_input(python, [script], &order.to_string()).await.json();
    assert_eq!(status, 201, "{encoding}: {message}");
}

async fn devices(gateway: &Gateway) -> Vec<String> {
    let list = gateway.cli(["device", "list", "--json"]).await.json();
    let ids = list.as_array().unwrap().iter().map(|device| device["device"].as_str().unwrap().to_owned());
    ids.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn firefox_shows_what_both_encryptions_carry_and_keeps_its_subscription_over_a_restart() {
    let Some(python) = Foreign::python("Firefox") else { return };
    let mut gateway = Gateway::new().start().await;
    let sender = Sender::new();
    let Some(mut firefox) = Firefox::start(&gateway, &sender, 4).await else { return };
    firefox.expect("version").await;
    let subscription = firefox.expect("subscription").await["subscription"].take();
    let endpoint = subscription["endpoint"].as_str().unwrap();
    assert!(endpoint.starts_with(&format!("http://{}/wpush/v2/", gateway.public)), "{endpoint}");
    let known = devices(&gateway).await;
    assert_eq!(known.len(), 1);

    for encoding in ["aes128gcm", "aesgcm"] {
        let message = format!("péage ouvert, by {encoding}");
        send(&python, &subscription, &sender, encoding, &message).await;
        firefox.expect_shown(&message).await;
    }

    // What comes before Firefox is back waits for it; it comes by the subscription that it had.
    gateway.restart().await;
    for encoding in ["aes128gcm", "aesgcm"] {
        let message = format!("after the restart, by {encoding}");
        send(&python, &subscription, &sender, encoding, &message).await;
        firefox.expect_shown(&message).await;
    }
    assert_eq!(devices(&gateway).await, known, "it came back with the uaid that it had");
    let status = within("Firefox ends", firefox.child.wait()).await.unwrap();
    assert!(status.success(), "{status}");
}
