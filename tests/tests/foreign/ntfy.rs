//! ntfy's own program: its command line as a client of the gateway, and its server as the oracle, which is
//! asked the same as the gateway.

mod oracle;

use std::path::{Path, PathBuf};

use harness::{Device, Foreign, Gateway, Output, Terminal, run};
use serde_json::{Value, json};
use tokio::process::Command;

/// The client, with settings of its own.
struct Ntfy {
    program: PathBuf,
    settings: String,
    url: String,
}

impl Ntfy {
    /// For one topic of a gateway.
    fn find(test: &str, gateway: &Gateway, topic: &str) -> Option<Self> {
        let program = Foreign::ntfy(test)?;
        let settings = empty_file(gateway.scratch());
        Some(Self { program, settings, url: format!("http://{}/{topic}", gateway.public) })
    }

    fn args<'a>(&'a self, command: &'a str, options: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec![command, "--config", &self.settings];
        args.extend(options);
        args.push(&self.url);
        args
    }

    /// Publishes a text, with these options.
    async fn publish(&self, options: &[&str], text: &str) -> Output {
        let mut args = self.args("publish", options);
        args.push(text);
        run(&self.program, args).await
    }

    /// What `ntfy subscribe --poll` prints.
    async fn poll(&self, options: &[&str]) -> Vec<Value> {
        let mut args = self.args("subscribe", options);
        args.insert(1, "--poll");
        let output = run(&self.program, args).await;
        output.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn subscribe(&self, options: &[&str]) -> Terminal {
        let mut command = Command::new(&self.program);
        command.args(self.args("subscribe", options));
        Terminal::start(command)
    }
}

/// Without it, the settings of this machine's user would count.
fn empty_file(place: &Path) -> String {
    let file = place.join("client.yml");
    std::fs::write(&file, "").unwrap();
    file.display().to_string()
}

fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["message"].as_str().unwrap()).collect()
}

/// The next message that a subscriber prints.
async fn printed(terminal: &mut Terminal, what: &str) -> Value {
    terminal.line(what, |line| serde_json::from_str(line).ok()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ntfy_program_publishes_polls_and_looks_back() {
    let gateway = Gateway::new().config("[transport.ntfy]\nanonymous_publish = \"all\"\n").start().await;
    let Some(ntfy) = Ntfy::find("ntfy publish and poll", &gateway, "alerts") else { return };
    let options = ["--title", "Door", "--priority", "high", "--tags", "a,b", "--click", "https://a.example"];
    let sent = ntfy.publish(&options, "is open").await.json();
    assert_eq!((&sent["event"], &sent["topic"]), (&json!("message"), &json!("alerts")), "{sent}");
    let second = ntfy.publish(&[], "second").await.json();
    let _ = ntfy.publish(&[], "third").await.json();

    let all = ntfy.poll(&[]).await;
    assert_eq!(texts(&all), ["is open", "second", "third"]);
    let wanted = json!({"title": "Door", "priority": 4, "tags": ["a", "b"], "click": "https://a.example"});
    for (field, value) in wanted.as_object().unwrap() {
        assert_eq!((&sent[field], &all[0][field]), (value, value), "{field}");
    }
    let id = second["id"].as_str().unwrap();
    for (since, wanted) in [
        ("all", &["is open", "second", "third"][..]),
        ("none", &[]),
        ("latest", &["third"]),
        (id, &["third"]),
        ("10m", &["is open", "second", "third"]),
        ("1700000000", &["is open", "second", "third"]),
        ("4102444800", &[]),
    ] {
        assert_eq!(texts(&ntfy.poll(&["--since", since]).await), wanted, "--since {since}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ntfy_program_subscribes_and_comes_back_after_a_restart() {
    let mut gateway = Gateway::new().config("[transport.ntfy]\nanonymous_publish = \"all\"\n").start().await;
    let Some(ntfy) = Ntfy::find("ntfy subscribe", &gateway, "alerts") else { return };
    let _ = ntfy.publish(&[], "before").await.json();
    let mut subscriber = ntfy.subscribe(&["--since", "all"]);
    assert_eq!(printed(&mut subscriber, "what waited").await["message"], "before");
    let sent = ntfy.publish(&["--markdown"], "*live*").await.json();
    assert_eq!(printed(&mut subscriber, "what comes").await["id"], sent["id"]);
    gateway.restart().await;
    let _ = ntfy.publish(&[], "after").await.json();
    // It comes back within ten seconds, and asks with the `since` that it began with.
    subscriber.line("what came meanwhile", |line| line.contains("\"message\":\"after\"").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ntfy_program_logs_in_and_says_why_it_is_refused() {
    let gateway = Gateway::new().config("[transport.ntfy]\nanonymous_subscribe = false\n").start().await;
    let Some(ntfy) = Ntfy::find("ntfy login", &gateway, "alerts") else { return };
    let added = gateway.cli(["device", "add", "desk", "--transport", "ntfy", "--json"]).await.json();
    let text = |key: &str| added[key].as_str().unwrap().to_owned();
    let device = Device { id: text("device"), secret: text("secret") };
    let user = format!("{}:{}", device.id, device.secret);
    let token =
        text("uri").trim_end_matches('/').rsplit('/').next().map(|token| format!("tk_{token}")).unwrap();
    for (login, message) in [(["--user", &user], "by password"), (["--token", &token], "by token")] {
        let _ = ntfy.publish(&login, message).await.json();
        assert_eq!(texts(&ntfy.poll(&login).await).last(), Some(&message));
    }
    let wrong = format!("{}:wrong", device.id);
    let large = "x".repeat(5631);
    for (options, text, reason) in [
        (&[][..], "hello", "forbidden"),
        (&["--user", &wrong], "hello", "unauthorized"),
        (&["--user", &user], &large, "too large"),
        (&["--user", &user, "--delay", "10m"], "hello", "delays"),
    ] {
        let refused = ntfy.publish(options, text).await;
        assert!(refused.code != Some(0) && refused.stderr.contains(reason), "{reason}: {refused:?}");
    }
}
