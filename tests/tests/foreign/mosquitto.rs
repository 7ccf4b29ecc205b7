//! Debian's mosquitto clients.

use std::{fs, path::Path};

use harness::{Device, Foreign, Gateway, Phone, Subscriber, Terminal, Version, run};
use serde_json::json;
use tokio::process::Command;

use crate::{hex, unhex};

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];

/// The arguments that every client needs.
fn login(gateway: &Gateway, device: &Device, version: &str) -> Vec<String> {
    let (host, port) = (gateway.mqtt.ip().to_string(), gateway.mqtt.port().to_string());
    let args =
        ["-h", &host, "-p", &port, "-u", &device.id, "-P", &device.secret, "-V", version, "-i", "mosquitto"];
    args.map(String::from).to_vec()
}

async fn endpoint(gateway: &Gateway, device: &Device) -> String {
    gateway.cli(["registration", "add", &device.id, "app"]).await.text().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_sub_receives_decryptable_pushes_once() {
    let Some(program) = Foreign::program("mosquitto_sub", "mosquitto_sub") else { return };
    let gateway = Gateway::new().start().await;
    for version in VERSIONS {
        let device = gateway.pair(version).await;
        let endpoint = endpoint(&gateway, &device).await;
        let keys = Subscriber::new();
        let post = async |message: &str| {
            let request = gateway.post(&endpoint).ttl(600).header("Content-Encoding", "aes128gcm");
            request.body(keys.encrypt(message.as_bytes())).send().await.expect(201);
        };
        let listen = |count: &str| {
            let mut command = Command::new(&program);
            command.args(login(&gateway, &device, version)).args(["-c", "-q", "1", "-C", count]);
            command.args(["-t", &format!("up/{}/inbox/push/+", device.id), "-F", "%x"]);
            Terminal::start(command)
        };
        post("while it was away").await;
        let mut terminal = listen("2");
        let first = terminal.line("the first push", |line| Some(unhex(line))).await;
        assert_eq!(keys.decrypt(&first), b"while it was away");
        post("while it is there").await;
        let second = terminal.line("the second push", |line| Some(unhex(line))).await;
        assert_eq!(keys.decrypt(&second), b"while it is there");
        assert_eq!(terminal.end().await, Some(0));

        post("fence").await;
        let only = listen("1").line("the fence", |line| Some(unhex(line))).await;
        assert_eq!(keys.decrypt(&only), b"fence", "what was acknowledged does not come again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_sub_shows_the_properties_of_mqtt_5() {
    let Some(program) = Foreign::program("mosquitto_sub properties", "mosquitto_sub") else { return };
    let gateway = Gateway::new().start().await;
    let device = gateway.pair("phone").await;
    let endpoint = endpoint(&gateway, &device).await;
    let request = gateway.post(&endpoint).ttl(600).header("Content-Encoding", "aes128gcm");
    request.body("body").send().await.expect(201);
    let mut command = Command::new(&program);
    command.args(login(&gateway, &device, "mqttv5")).args(["-q", "1", "-C", "1", "-F", "%P|%E|%p"]);
    command.args(["-t", &format!("up/{}/inbox/push/+", device.id)]);
    let line = Terminal::start(command).line("a push", |line| Some(line.to_owned())).await;
    assert!(line.contains("message-id:") && line.contains("content-encoding:aes128gcm"), "{line}");
    assert!(line.ends_with("|body"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_sub_trusts_the_gateways_own_authority_by_tls() {
    let Some(program) = Foreign::program("mosquitto_sub by TLS", "mosquitto_sub") else { return };
    let tls = "[transport.mqtt.tls]\nlisten = \"127.0.0.1:0\"\n";
    let gateway = Gateway::new().config(tls).start().await;
    let port = gateway.mqtts.expect("it listens with TLS").port().to_string();
    let (ours, theirs) = (gateway.scratch().join("ca.pem"), gateway.scratch().join("another.pem"));
    fs::write(&ours, gateway.cli(["ca"]).await.text()).expect("it is written");
    let another = Gateway::new().config(tls).start().await;
    fs::write(&theirs, another.cli(["ca"]).await.text()).expect("it is written");
    for version in VERSIONS {
        let device = gateway.pair(version).await;
        let endpoint = endpoint(&gateway, &device).await;
        gateway.post(&endpoint).ttl(600).body("by TLS").send().await.expect(201);
        let listen = |authority: &Path| {
            let mut command = Command::new(&program);
            command.args(["-h", "127.0.0.1", "-p", &port, "-u", &device.id, "-P", &device.secret]);
            command.args(["-V", version, "-q", "1", "-C", "1", "--cafile"]).arg(authority);
            command.args(["-t", &format!("up/{}/inbox/push/+", device.id), "-F", "%p"]);
            Terminal::start(command)
        };
        assert_ne!(listen(&theirs).end().await, Some(0), "another authority is not trusted");
        let line = listen(&ours).line("the push", |line| Some(line.to_owned())).await;
        assert_eq!(line, "by TLS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_pub_registers_an_app() {
    let Some(program) = Foreign::program("mosquitto_pub", "mosquitto_pub") else { return };
    let gateway = Gateway::new().start().await;
    for (version, qos) in [("mqttv311", "1"), ("mqttv311", "2"), ("mqttv5", "1")] {
        let device = gateway.pair(version).await;
        let token = format!("app-{version}-{qos}");
        let mut args = login(&gateway, &device, version);
        let topic = format!("up/{}/outbox/register", device.id);
        args.extend(["-q", qos, "-t", &topic, "-m", &json!({"token": token}).to_string()].map(String::from));
        let output = run(&program, &args).await;
        assert_eq!(output.code, Some(0), "{output:?}");
        let list = gateway.cli(["registration", "list", "--json"]).await.json();
        let mine = list.as_array().expect("rows").iter().find(|row| row["token"] == token.as_str());
        let endpoint = mine.and_then(|row| row["endpoint"].as_str()).expect("it is registered").to_owned();
        // And what it registered works for another client of the same device.
        let mut phone = Phone::connect(&gateway, &device, Version::V5).await;
        phone.subscribe().await;
        gateway.post(&endpoint).ttl(60).body("x").send().await.expect(201);
        assert_eq!(hex(&phone.expect_push().await.payload), "78");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_sub_understands_the_refusals() {
    let Some(program) = Foreign::program("mosquitto_sub refusals", "mosquitto_sub") else { return };
    let gateway = Gateway::new().start().await;
    let device = gateway.pair("phone").await;
    let wrong = Device { secret: "wrong".into(), ..device.clone() };
    for version in VERSIONS {
        let mut args = login(&gateway, &wrong, version);
        args.extend(["-t", &format!("up/{}/inbox/#", device.id)].map(String::from));
        let output = run(&program, &args).await;
        assert_ne!(output.code, Some(0), "{output:?}");
        assert!(output.stderr.to_lowercase().contains("not authori"), "{output:?}");

        let mut args = login(&gateway, &device, version);
        args.extend(["-t", "#"].map(String::from));
        let output = run(&program, &args).await;
        assert!(output.stderr.contains("denied"), "SUBSCRIBE to # by {version}: {output:?}");
    }
}
