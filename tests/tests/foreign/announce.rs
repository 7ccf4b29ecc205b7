//! What the network at home hears of the gateway: a multicast listener that shares nothing with it, in a
//! network of their own.

use harness::{Builder, Foreign, Gateway, run, workspace};

const OWN: &str = "192.168.77.1";
/// Makes a network with one address, then becomes the gateway.
const SCRIPT: &str = "ip link set lo up && ip link add lan type veth peer name far && ip link set far up && ip link set lan up multicast on && \
    ip address add 192.168.77.1/24 dev lan && ip route add 224.0.0.0/4 dev lan && exec \"$0\" \"$@\"";

fn in_a_network_of_its_own(config: &str) -> Builder {
    Gateway::new().config(config).under(["unshare", "--net", "sh", "-c", SCRIPT])
}

/// What is heard there of both kinds within so many seconds.
async fn heard(gateway: &Gateway, seconds: &str) -> String {
    let script = workspace().join("tests/foreign/mdns_query.py").display().to_string();
    let pid = gateway.pid().to_string();
    let args =
        ["--target", &pid, "--net", "python3", &script, seconds, OWN, "_unifiedpush._tcp", "_mqtt._tcp"];
    let output = run("nsenter", args).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    output.stdout
}

async fn may_make_networks(test: &str) -> bool {
    if Foreign::program(test, "ip").is_none() || Foreign::program(test, "unshare").is_none() {
        return false;
    }
    let may = run("unshare", ["--net", "true"]).await.code == Some(0);
    if !may {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: only root may make a network");
    }
    may
}

#[tokio::test(flavor = "multi_thread")]
async fn the_home_listener_is_announced_with_mqtt_beside_it() {
    if !may_make_networks("the_home_listener_is_announced").await {
        return;
    }
    let gateway = in_a_network_of_its_own("[home]\nlisten = \"192.168.77.1:8081\"\n")
        .mqtt_at("192.168.77.1:1883")
        .start()
        .await;
    let expected = format!("_unifiedpush._tcp 8081 {OWN}\n_mqtt._tcp 1883 {OWN}\n");
    assert_eq!(heard(&gateway, "20").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_the_loopback_or_unwanted_is_not_announced() {
    if !may_make_networks("what_is_on_the_loopback").await {
        return;
    }
    let nothing = "_unifiedpush._tcp none\n_mqtt._tcp none\n";
    for config in [
        // The public profile.
        "",
        "[home]\nlisten = \"192.168.77.1:8081\"\nannounce = false\n",
        "[home]\nlisten = \"[::]:8081\"\nallow_public = true\n",
        "[home]\nlisten = \"127.0.0.1:8081\"\n",
    ] {
        let gateway = in_a_network_of_its_own(config).mqtt_at("192.168.77.1:1883").start().await;
        assert_eq!(heard(&gateway, "3").await, nothing, "{config}");
    }
    // MQTT that nobody else can reach stays out.
    let gateway = in_a_network_of_its_own("[home]\nlisten = \"192.168.77.1:8081\"\n").start().await;
    assert_eq!(heard(&gateway, "5").await, format!("_unifiedpush._tcp 8081 {OWN}\n_mqtt._tcp none\n"));
}
