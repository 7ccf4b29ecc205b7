//! `doctor` at the bed of a real gateway: healthy, absent, behind the wrong name, with a full disk.

use std::process::Command;

use harness::{Gateway, Output, free_port};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// The findings of one check.
#[track_caller]
fn of<'r>(report: &'r Value, check: &str) -> Vec<&'r Value> {
    report["findings"].as_array().unwrap().iter().filter(|line| line["check"] == check).collect()
}

/// Expects a finding of this level with these words, and a remedy where something is wrong.
#[track_caller]
fn expect(report: &Value, check: &str, level: &str, words: &str) {
    let found = of(report, check);
    let is = |line: &&&Value| line["level"] == level && line["what"].as_str().unwrap().contains(words);
    let line = found.iter().find(is).unwrap_or_else(|| panic!("no {level} with `{words}` in {found:#?}"));
    assert_eq!(line["remedy"].is_string(), level != "good", "{line}");
}

/// Its report and exit code. Standard output is the report alone.
fn read(output: &Output) -> (Value, Option<i32>) {
    let report = serde_json::from_str(&output.stdout);
    (report.unwrap_or_else(|error| panic!("{error}: {output:?}")), output.code)
}

async fn doctor(gateway: &Gateway) -> (Value, Option<i32>) {
    read(&gateway.cli(["doctor", "--json", "--idle", "1"]).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_gateway_is_found_healthy_and_left_as_it_was() {
    let gateway = Gateway::new()
        .config("[public]\nlisten = \"127.0.0.1:0\"\n[transport.mqtt]\nlisten = \"127.0.0.1:0\"\n")
        .start()
        .await;
    let (report, code) = doctor(&gateway).await;
    assert_eq!(code, Some(0), "{report:#}");
    expect(&report, "configuration", "good", "is valid");
    expect(&report, "clock", "good", "later than");
    expect(&report, "state", "good", "safe on disk after");
    expect(&report, "ports", "good", "[transport.mqtt] answers");
    expect(&report, "public", "good", "leads from here to a gateway");
    expect(&report, "matrix", "good", "is the gateway's");
    expect(&report, "push", "good", "came back to a device");
    expect(&report, "proxy", "good", "idle for 1 s still lives");
    assert_eq!(gateway.cli(["device", "list", "--json"]).await.json(), serde_json::json!([]));
    let scraps = std::fs::read_dir(gateway.state_dir()).unwrap().flatten();
    assert!(scraps.into_iter().all(|file| !file.file_name().to_string_lossy().starts_with("doctor")));

    // For people.
    let output = gateway.cli(["doctor", "--idle", "0"]).await;
    assert!(output.stdout.contains("good    push ") && output.stdout.contains("0 problems"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_temporary_device_goes_also_when_the_doctor_is_stopped() {
    let gateway = Gateway::new().start().await;
    let mut command = gateway.command(["doctor", "--idle", "600"]);
    let mut child =
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let devices = async || gateway.cli(["device", "list", "--json"]).await.json().as_array().unwrap().len();
    harness::eventually("the doctor has paired its device", async || (devices().await > 0).then_some(()))
        .await;
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = harness::within("the doctor stops", child.wait()).await.unwrap();
    assert!(!status.success());
    assert_eq!(devices().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_is_told_with_its_line() {
    let gateway = Gateway::new().start().await;
    let file = gateway.scratch().join("broken.toml");
    std::fs::write(&file, "[public]\nurl = \"push.example.org\"\n").unwrap();
    let args = ["doctor", "--json", "--config"].map(String::from).into_iter();
    let output = gateway.cli_exactly(args.chain([file.display().to_string()])).await;
    let (report, code) = read(&output);
    assert_eq!(code, Some(78));
    expect(&report, "configuration", "problem", "broken.toml:2: public.url");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_missing_is_told_by_run_check_and_doctor() {
    let config = "[transport.mqtt.tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"/run/credentials/none/fullchain.pem\"\nkey = \"/run/credentials/none/privkey.pem\"\n";
    let output = Gateway::new().config(config).run_to_exit().await;
    assert_eq!(output.code, Some(78));
    assert!(output.stderr.contains("/run/credentials/none/fullchain.pem: No such file"), "{output:?}");
    let gateway = Gateway::new().start().await;
    let file = gateway.scratch().join("missing.toml");
    std::fs::write(&file, config).unwrap();
    let args = ["doctor", "--json", "--config"].map(String::from).into_iter();
    let (report, code) = read(&gateway.cli_exactly(args.chain([file.display().to_string()])).await);
    assert_eq!(code, Some(78));
    expect(&report, "configuration", "problem", "fullchain.pem: No such file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_run_and_a_port_that_is_taken_are_problems() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut gateway = Gateway::new()
        .config(&format!("[public]\nlisten = \"{address}\"\n[transport.mqtt]\nlisten = \"127.0.0.1:0\"\n"))
        .start()
        .await;
    // While it runs elsewhere than the file says, that is worth a warning.
    let (report, _) = doctor(&gateway).await;
    expect(&report, "ports", "warning", &format!("public.listen is {address}, but the gateway listens at"));

    gateway.terminate().await;
    let (report, code) = doctor(&gateway).await;
    assert_eq!(code, Some(1));
    expect(&report, "ports", "problem", "no gateway runs");
    expect(&report, "ports", "problem", &format!("cannot listen on {address}"));
    expect(&report, "ports", "good", "transport.mqtt.listen: 127.0.0.1:0 is free");
    expect(&report, "push", "skipped", "no gateway answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_s_own_authority_is_believed_and_its_loss_is_a_problem() {
    let gateway = Gateway::new().config("[transport.mqtt.tls]\nlisten = \"127.0.0.1:0\"\n").start().await;
    let (report, _) = doctor(&gateway).await;
    expect(&report, "tls", "good", "the certificate is good for");
    std::fs::remove_file(gateway.state_dir().join("tls/ca.pem")).unwrap();
    let (report, code) = doctor(&gateway).await;
    assert_eq!(code, Some(1));
    expect(&report, "tls", "problem", "ca.pem: the gateway's own certificate authority cannot be read");
}

/// A web server that is no gateway.
async fn other_service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 8192];
                let _ = stream.read(&mut request).await;
                let _ = stream
                    .write_all(
                        b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\nconnection: close\r\n\r\nnope\n",
                    )
                    .await;
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn another_service_under_the_public_name_is_a_problem() {
    let gateway =
        Gateway::new().config(&format!("[public]\nurl = \"{}\"\n", other_service().await)).start().await;
    let (report, code) = doctor(&gateway).await;
    assert_eq!(code, Some(1));
    expect(&report, "configuration", "warning", "without TLS");
    expect(&report, "name", "warning", "this machine itself");
    expect(&report, "public", "problem", "another service has that name");
    expect(&report, "matrix", "warning", "404");
    expect(&report, "push", "problem", "was answered 404");
    expect(&report, "proxy", "problem", "does not pass them on: it answers 404");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_url_that_nobody_serves_is_a_problem() {
    let free = free_port();
    let gateway = Gateway::new().config(&format!("[public]\nurl = \"http://{free}\"\n")).start().await;
    let (report, code) = doctor(&gateway).await;
    assert_eq!(code, Some(1));
    expect(&report, "public", "problem", "cannot be reached from here");
    expect(&report, "push", "problem", "had no answer");
    expect(&report, "matrix", "skipped", "not reached");
}

/// A small file system of its own; gone when it goes out of scope.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=20m", "tmpfs"]).arg(dir.path());
        let is_mounted = mount.output().is_ok_and(|output| output.status.success());
        is_mounted.then_some(Self(dir))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_partition_is_a_problem_and_loses_nothing() {
    let Some(tmpfs) = Tmpfs::mount() else {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "SKIPPED a_full_partition: only root may mount a file system");
        return;
    };
    let mut gateway = Gateway::new().state_in(tmpfs.0.path()).start().await;
    let (device, endpoint) = crate::absent(&gateway).await;
    crate::push(&gateway, &endpoint, "accepted before").await;
    let ballast = tmpfs.0.path().join("ballast");
    // As much as there is.
    let _ = std::fs::write(&ballast, vec![1; 20 << 20]);
    let (report, code) = doctor(&gateway).await;
    assert_eq!(code, Some(1));
    expect(&report, "state", "problem", "as good as full");
    expect(&report, "state", "problem", "tmpfs: it may be gone after a power cut");
    gateway.kill9().await;
    std::fs::remove_file(&ballast).unwrap();
    gateway.start_again().await;
    let mut phone = harness::Phone::connect(&gateway, &device, harness::Version::V5).await;
    phone.subscribe().await;
    assert_eq!(phone.expect_push().await.payload, b"accepted before"[..]);
}
