//! The gateway as a process: how it starts, refuses to start, and stops.

use std::{
    fs,
    net::TcpListener,
    sync::{Arc, Mutex},
};

use harness::{Gateway, Phone, Version, eventually};
use tokio::task::JoinSet;

use crate::{absent, bodies_until, push};

/// Application servers that post as fast as they are answered, and remember what was answered 201.
pub(crate) struct Load {
    accepted: Arc<Mutex<Vec<String>>>,
    senders: JoinSet<()>,
}

pub(crate) fn load(gateway: &Gateway, endpoint: &str, senders: usize) -> Load {
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let mut set = JoinSet::new();
    for sender in 0..senders {
        let (accepted, request) = (Arc::clone(&accepted), gateway.post(endpoint).ttl(3600));
        set.spawn(async move {
            for number in 0_u64.. {
                let body = format!("{sender}/{number}");
                // 503 is an honest answer while stopping, and so is no answer at all.
                match request.clone().body(body.clone()).try_send().await {
                    Ok(response) if response.status == 201 => accepted.lock().unwrap().push(body),
                    Ok(response) => assert_eq!(response.status, 503, "{response:?}"),
                    Err(_) => return,
                }
            }
        });
    }
    Load { accepted, senders: set }
}

impl Load {
    /// Waits until this many were accepted.
    pub(crate) async fn answered(&self, count: usize) {
        eventually("the gateway accepts pushes", async || {
            (self.accepted.lock().unwrap().len() >= count).then_some(())
        })
        .await;
    }

    /// Waits until the senders have noticed that the gateway is gone; what was accepted.
    pub(crate) async fn stop(mut self) -> Vec<String> {
        while let Some(ended) = self.senders.join_next().await {
            ended.expect("a sender saw only answers that it may see");
        }
        let accepted = self.accepted.lock().unwrap();
        accepted.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_ends_with_0_and_loses_nothing() {
    let mut gateway = Gateway::new().start().await;
    let (device, endpoint) = absent(&gateway).await;
    let running = load(&gateway, &endpoint, 8);
    running.answered(100).await;
    assert_eq!(gateway.terminate().await.code(), Some(0));
    let accepted = running.stop().await;
    gateway.start_again().await;

    push(&gateway, &endpoint, "fence").await;
    let mut phone = Phone::connect(&gateway, &device, Version::V4).await;
    phone.subscribe().await;
    let received = bodies_until(&mut phone, "fence").await;
    let lost: Vec<_> = accepted.iter().filter(|body| !received.contains(body)).collect();
    assert!(lost.is_empty(), "{} of {} were lost: {lost:?}", lost.len(), accepted.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_an_idle_gateway_with_phones_connected() {
    let mut gateway = Gateway::new().start().await;
    let (_, mut phone) = crate::phone(&gateway, Version::V5).await;
    assert_eq!(gateway.terminate().await.code(), Some(0));
    phone.lost().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_refused_before_anything_is_bound() {
    // What is wrong, and which words the message must have beside the file's name.
    let wrong = [
        ("[public]\nlissten = \"127.0.0.1:0\"\n", "lissten"),
        ("[public]\nlisten = \"somewhere\"\n", "listen"),
        ("[public]\nmissing_ttl = \"maybe\"\n", "missing_ttl"),
        ("[public]\nurl = \"ftp://example.org\"\n", "url"),
        ("[transport.mqtt]\nmax_connections = \"many\"\n", "max_connections"),
        ("[transport.carrier-pigeon]\n", "carrier-pigeon"),
        ("[public\n", "gateway.toml"),
    ];
    for (toml, word) in wrong {
        let output = Gateway::new().config(toml).run_to_exit().await;
        assert_eq!(output.code, Some(78), "{toml}: {output:?}");
        assert_eq!(output.stdout, "", "nothing was ready: {toml}");
        for expected in ["gateway.toml", word] {
            assert!(output.stderr.contains(expected), "{toml}: {expected} is not in {:?}", output.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_configuration_file_is_refused() {
    let gateway = Gateway::new().start().await;
    let path = gateway.scratch().join("missing.toml").display().to_string();
    let output = gateway.cli_exactly(["check", "--config", &path].map(String::from)).await;
    assert_eq!(output.code, Some(78), "{output:?}");
    assert!(output.stderr.contains(&path), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_judges_a_file_without_starting() {
    let gateway = Gateway::new().start().await;
    let path = gateway.scratch().join("checked.toml");
    let check = async |toml: &str| {
        fs::write(&path, toml).expect("writable");
        gateway.cli_exactly(["check".into(), "--config".into(), path.display().to_string()]).await
    };
    let good = check("[public]\nmissing_ttl = \"refuse\"\n[transport.mqtt]\nmax_keep_alive_s = 600\n").await;
    assert_eq!(good.code, Some(0), "{good:?}");
    let bad = check("[public]\nmissing_ttl = \"maybe\"\n").await;
    assert_eq!(bad.code, Some(78), "{bad:?}");
    assert!(bad.stderr.contains("checked.toml") && bad.stderr.contains("missing_ttl"), "{bad:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_on_the_same_state_is_refused() {
    let gateway = Gateway::new().start().await;
    let output = Gateway::new().state_of(&gateway).run_to_exit().await;
    assert!(output.code.is_some_and(|code| code != 0), "{output:?}");
    assert_eq!(output.stdout, "", "it was never ready");
    let directory = gateway.state_dir().display().to_string();
    assert!(output.stderr.contains(&directory), "the message names the state directory: {output:?}");
    // The first one is none the worse for it.
    let (_, endpoint) = absent(&gateway).await;
    push(&gateway, &endpoint, "still here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_occupied_port_is_named() {
    let occupied = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = occupied.local_addr().expect("it is bound").to_string();
    let toml = format!("[public]\nlisten = \"{address}\"\n");
    let gateway = Gateway::new().start().await;
    let path = gateway.scratch().join("occupied.toml");
    fs::write(&path, toml).expect("writable");
    let state = gateway.scratch().join("other-state").display().to_string();
    let args =
        ["run", "--mqtt", "127.0.0.1:0", "--state-dir", &state, "--config", &path.display().to_string()];
    let output = gateway.cli_exactly(args.map(String::from)).await;
    assert!(output.code.is_some_and(|code| code != 0), "{output:?}");
    assert!(output.stderr.contains(&address), "the message names the address: {output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_directory_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let gateway = Gateway::new().start().await;
    let mode = fs::metadata(gateway.state_dir()).expect("it exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "{mode:o}");
}
