//! The command line, beside a running gateway and without one.

use harness::{Gateway, Phone, Subscriber, Terminal, Version, eventually};
use serde_json::Value;

use crate::{absent, push};

#[tokio::test(flavor = "multi_thread")]
async fn devices_and_registrations_are_kept_with_and_without_a_running_gateway() {
    let mut gateway = Gateway::new().start().await;
    let running = gateway.pair("paired while running").await;
    gateway.terminate().await;
    let stopped = gateway.pair("paired while stopped").await;
    let add = gateway.cli(["registration", "add", &stopped.id, "offline app", "--json"]).await.json();
    assert_eq!(
        (&add["device"], &add["app"]),
        (&Value::from(stopped.id.clone()), &Value::from("offline app"))
    );
    assert!(add["channel"].is_string(), "{add}");

    for _ in 0..2 {
        let devices = gateway.cli(["device", "list", "--json"]).await.json();
        let ids: Vec<_> = rows(&devices).iter().map(|row| row["device"].clone()).collect();
        assert_eq!(ids, [running.id.as_str(), stopped.id.as_str()], "oldest first");
        let registrations = gateway.cli(["registration", "list", "--json"]).await.json();
        assert_eq!(rows(&registrations).len(), 1, "{registrations}");
        let (mine, its) = (&rows(&registrations)[0]["endpoint"], &add["endpoint"]);
        assert_eq!(path(mine), path(its), "the endpoint is the same, stopped or running");
        let text = gateway.cli(["device", "list"]).await;
        assert!(text.text().contains("paired while stopped"), "{text:?}");
        assert!(!text.text().contains(&stopped.secret), "a secret is shown once");
        if gateway_is_stopped(&gateway).await {
            gateway.start_again().await;
        }
    }
    let endpoint = gateway.cli(["registration", "list", "--json"]).await.json();
    let endpoint = rows(&endpoint)[0]["endpoint"].as_str().expect("a URL").to_owned();
    push(&gateway, &endpoint, "x").await;
    let mut phone = Phone::connect(&gateway, &stopped, Version::V4).await;
    phone.subscribe().await;
    assert_eq!(phone.expect_push().await.payload, "x");
    drop(phone);

    gateway.terminate().await;
    // A stopped gateway does not know its port of tomorrow, but the last segment names an endpoint too.
    let token = endpoint.rsplit_once('/').expect("a path").1;
    let removed = gateway.cli(["registration", "remove", token]).await;
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert_eq!(gateway.cli(["device", "remove", &running.id]).await.code, Some(0));
    gateway.start_again().await;
    gateway.post(&endpoint).ttl(60).body("x").send().await.expect(410);
    assert!(Phone::try_connect(&gateway, &running, Version::V5).await.is_err());
}

async fn gateway_is_stopped(gateway: &Gateway) -> bool {
    gateway.request("GET", "/").try_send().await.is_err()
}

fn path(url: &Value) -> &str {
    url.as_str().and_then(|url| url.rsplit_once("/p/")).expect("an endpoint").1
}

/// The rows of a list, whether it is a bare array or the only member of an object.
fn rows(list: &Value) -> &Vec<Value> {
    list.as_array().unwrap_or_else(|| panic!("a list is a JSON array: {list}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn global_options_stand_before_or_after_the_command() {
    let gateway = Gateway::new().config("[public]\nmissing_ttl = \"refuse\"\n").start().await;
    let device = gateway.pair("phone").await;
    let globals = gateway.global_args();
    let command = ["device", "list", "--json"].map(String::from);
    let (words, flags) = command.split_at(1);
    let orders = [
        [&globals[..], &command[..]].concat(),
        [&command[..], &globals[..]].concat(),
        [words, &globals[..], flags].concat(),
    ];
    for args in orders {
        let list = gateway.cli_exactly(args.clone()).await;
        assert_eq!(list.json()[0]["device"], device.id.as_str(), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_output_is_what_a_script_wants() {
    let gateway = Gateway::new().start().await;
    let json = gateway.cli(["device", "add", "phone", "--json"]).await.json();
    let uri = json["uri"].as_str().expect("a pairing URI");
    let (device, secret) = (json["device"].as_str().expect("text"), json["secret"].as_str().expect("text"));
    let expected = format!("unifiedpush-mqtt+plain://{device}:{secret}@{}", gateway.mqtt);
    assert_eq!(uri, expected);

    let plain = gateway.cli(["registration", "add", device, "app"]).await;
    let as_json = gateway.cli(["registration", "add", device, "app", "--json"]).await.json();
    assert_eq!(plain.text(), as_json["endpoint"].as_str().expect("a URL"), "the endpoint and nothing else");
    assert!(plain.text().starts_with(&format!("http://{}/p/", gateway.public)), "{plain:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_done_says_why() {
    let mut gateway = Gateway::new().start().await;
    let (device, endpoint) = absent(&gateway).await;
    let gone = format!("{}{}", &endpoint[..endpoint.len() - 27], "A".repeat(27));
    for _ in 0..2 {
        for args in [
            ["device", "remove", "0000000000000"],
            ["device", "rotate", "nonsense"],
            ["registration", "remove", gone.as_str()],
            ["registration", "remove", "nonsense"],
        ] {
            let output = gateway.cli(args).await;
            assert!(output.code.is_some_and(|code| code != 0), "{args:?}: {output:?}");
            assert_eq!(output.stdout, "", "{args:?}");
            assert!(output.stderr.trim().len() > 20, "a sentence: {args:?}: {output:?}");
        }
        let key = gateway.cli(["registration", "add", &device.id, "app2", "--vapid", "nonsense"]).await;
        assert!(key.code != Some(0) && key.stderr.contains("87 characters"), "{key:?}");
        let unknown = gateway.cli(["registration", "add", "0000000000000", "app"]).await;
        assert!(unknown.code != Some(0) && unknown.stderr.contains("0000000000000"), "{unknown:?}");
        if !gateway_is_stopped(&gateway).await {
            gateway.terminate().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listen_is_a_distributor_in_a_terminal() {
    let gateway = Gateway::new().start().await;
    let mut terminal = Terminal::start(gateway.command(["listen", "--count", "1"]));
    let endpoint =
        terminal.line("an endpoint", |line| line.strip_prefix("endpoint ").map(str::to_owned)).await;
    let subscription: Value = terminal
        .line("a subscription", |line| serde_json::from_str(line).ok().filter(Value::is_object))
        .await;
    assert_eq!(subscription["endpoint"], endpoint.as_str());
    let body = Subscriber::encrypt_for(&subscription, "péage ouvert".as_bytes());
    let request = gateway.post(&endpoint).ttl(60).header("Content-Encoding", "aes128gcm").body(body);
    request.send().await.expect(201);
    terminal.line("the push, decrypted", |line| line.contains("péage ouvert").then_some(())).await;
    assert_eq!(terminal.end().await, Some(0), "it ends after --count pushes");
}

#[tokio::test(flavor = "multi_thread")]
async fn listen_as_a_paired_device() {
    let gateway = Gateway::new().start().await;
    let device = gateway.pair("terminal").await;
    let args = ["listen", "--device", &device.id, "--secret", &device.secret];
    let mut terminal = Terminal::start(gateway.command(args));
    let endpoint =
        terminal.line("an endpoint", |line| line.strip_prefix("endpoint ").map(str::to_owned)).await;
    push(&gateway, &endpoint, "in the clear").await;
    terminal.line("the push, as it came", |line| line.contains("in the clear").then_some(())).await;
    let list = gateway.cli(["registration", "list", "--json"]).await.json();
    assert_eq!(rows(&list)[0]["device"], device.id.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_documents_itself() {
    let gateway = Gateway::new().start().await;
    let ask = async |args: &[&str]| gateway.cli_exactly(args.iter().map(|&arg| arg.to_owned())).await;
    assert!(ask(&["man"]).await.text().contains(".TH unifiedpush-gateway"));
    for shell in ["bash", "fish", "zsh"] {
        assert!(ask(&["completions", shell]).await.text().contains("unifiedpush-gateway"), "{shell}");
    }
    assert!(ask(&["--help"]).await.text().contains("--state-dir"));
    assert!(ask(&["--version"]).await.text().starts_with("unifiedpush-gateway 0."));
    let wrong = ask(&["--bogus"]).await;
    assert!(wrong.code.is_some_and(|code| code != 0) && wrong.stderr.contains("--bogus"), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_do_not_get_in_each_others_way() {
    let mut gateway = Gateway::new().start().await;
    let pairing = async |gateway: &Gateway| {
        let (one, two, three) = tokio::join!(gateway.pair("one"), gateway.pair("two"), gateway.pair("three"));
        let list = gateway.cli(["device", "list", "--json"]).await.json();
        for device in [one, two, three] {
            assert!(rows(&list).iter().any(|row| row["device"] == device.id.as_str()), "{list}");
        }
    };
    pairing(&gateway).await;
    // Without a gateway, a command holds the store; right after a stop it may still be closing.
    gateway.terminate().await;
    let one = gateway.pair("after").await;
    gateway.start_again().await;
    eventually("the device is known", async || {
        let list = gateway.cli(["device", "list", "--json"]).await.json();
        rows(&list).iter().any(|row| row["device"] == one.id.as_str()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listen_by_tls_trusts_the_authority_of_the_pairing_uri_and_no_other() {
    let tls = "[transport.mqtt]\nhost = \"127.0.0.1\"\n[transport.mqtt.tls]\nlisten = \"127.0.0.1:0\"\n";
    let gateway = Gateway::new().config(tls).start().await;
    let device = gateway.cli(["device", "add", "terminal", "--json"]).await.json();
    let uri = device["uri"].as_str().expect("a pairing URI").to_owned();
    assert!(uri.starts_with("unifiedpush-mqtt://") && uri.contains("?ca=sha256:"), "{uri}");
    let listen = |uri: &str| Terminal::start(gateway.command(["listen", "--count", "1", "--mqtt", uri]));
    let mut terminal = listen(&uri);
    let endpoint =
        terminal.line("the endpoint", |line| line.strip_prefix("endpoint ").map(str::to_owned)).await;
    gateway.post(&endpoint).ttl(60).body("by TLS").send().await.expect(201);
    let push = terminal.line("the push", |line| line.starts_with("push ").then(|| line.to_owned())).await;
    assert!(push.ends_with("by TLS"), "{push}");
    assert_eq!(terminal.end().await, Some(0));
    let (rest, pin) = uri.split_at(uri.len() - 64);
    let other: String = pin.chars().rev().collect();
    assert_eq!(listen(&format!("{rest}{other}")).end().await, Some(1), "another authority is not trusted");
    let left = std::fs::read_dir(gateway.state_dir()).expect("its state");
    let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(
        left.iter().all(|name| !name.to_string_lossy().starts_with("listen-")
            || name.to_string_lossy().ends_with(".json")),
        "{left:?}"
    );
}
