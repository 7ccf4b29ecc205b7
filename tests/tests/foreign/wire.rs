//! Packets as a capture on the loopback sees them: what a wake costs on the wire.

use std::{process::Stdio, time::Duration};

use harness::{Foreign, Gateway, Phone, Version, eventually, holds_for};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// A TCP segment.
#[derive(Clone, Debug)]
struct Segment {
    /// From the gateway to the phone.
    down: bool,
    flags: String,
    length: usize,
}

/// A capture of the gateway's MQTT port.
struct Capture {
    file: std::path::PathBuf,
    port: u16,
    program: std::path::PathBuf,
    tcpdump: Child,
}

impl Capture {
    /// `None` where there is no tcpdump, or none that may capture.
    async fn start(test: &str, gateway: &Gateway) -> Option<Self> {
        let program = Foreign::program(test, "tcpdump")?;
        let (file, port) = (gateway.scratch().join("capture"), gateway.mqtt.port());
        let mut tcpdump = Command::new(&program)
            .args(["-i", "lo", "-n", "-U", "--immediate-mode", "-s", "256", "-Z", "root", "-w"])
            .arg(&file)
            .arg(format!("tcp port {port}"))
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("tcpdump starts");
        let mut said = BufReader::new(tcpdump.stderr.take().expect("piped")).lines();
        let listening = async {
            while let Ok(Some(line)) = said.next_line().await {
                if line.contains("listening on") {
                    return true;
                }
            }
            false
        };
        assert!(harness::within("tcpdump listens", listening).await, "tcpdump may not capture on lo");
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        Some(Self { file, port, program, tcpdump })
    }

    /// Everything so far, in order.
    async fn segments(&self) -> Vec<Segment> {
        let file = self.file.display().to_string();
        let read = Command::new(&self.program).args(["-n", "-r", &file]).output().await.expect("it reads");
        let from = format!(".{} > ", self.port);
        let text = String::from_utf8_lossy(&read.stdout).into_owned();
        let segment = |line: &str| {
            let flags = line.split_once("Flags [")?.1.split(']').next()?.to_owned();
            let length = line.split("length ").nth(1)?.split([':', ' ']).next()?.parse().ok()?;
            Some(Segment { down: line.contains(&from), flags, length })
        };
        text.lines().filter_map(segment).collect()
    }

    /// What was captured once it satisfies `complete`, without the first `skip`.
    async fn until(&self, skip: usize, complete: impl Fn(&[Segment]) -> bool) -> Vec<Segment> {
        eventually("the capture holds all of it", async || {
            let all = self.segments().await;
            let new = all.get(skip..).unwrap_or_default();
            complete(new).then(|| new.to_vec())
        })
        .await
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.tcpdump.start_kill();
    }
}

fn data(segments: &[Segment], down: bool) -> usize {
    segments.iter().filter(|segment| segment.down == down && segment.length > 0).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_due_together_are_one_segment_down_and_their_pubacks() {
    const MESSAGES: usize = 8;
    for version in Version::ALL {
        let config = "[wake.balanced]\nnormal_s = 2\n[wake]\nradio_tail_s = 0\n";
        let gateway = Gateway::new().config(config).start().await;
        let Some(capture) = Capture::start("wire", &gateway).await else { return };
        let device = gateway.pair("phone").await;
        let mut phone = Phone::connect(&gateway, &device, version).await;
        phone.subscribe().await;
        let app = phone.register("app").await;
        phone.expect_control("plan").await;
        phone.settle().await;
        // What came before is over when nothing more comes.
        assert!(holds_for(Duration::from_millis(300), || true).await);
        let before = capture.segments().await.len();
        assert!(before > 10, "{before}: the capture sees the connection");
        for number in 0..MESSAGES {
            let body = format!("message {number}");
            gateway.post(&app.endpoint).ttl(3600).body(body).send().await.expect(201);
        }
        for number in 0..MESSAGES {
            let push = phone.expect_push().await;
            assert_eq!(push.payload, format!("message {number}"));
            phone.ack(&push).await;
        }
        phone.settle().await;
        let seen = capture.until(before, |seen| data(seen, false) > 0 && data(seen, true) > 1).await;
        // The answer of `settle` is the second one down.
        assert_eq!(data(&seen, true), 2, "{version:?}: one segment for {MESSAGES} messages: {seen:?}");
        let first = seen.iter().find(|segment| segment.length > 0).expect("there is data");
        assert!(first.down && first.length > MESSAGES * "message 0".len(), "{seen:?}");
        let housekeeping = |segment: &Segment| segment.flags.contains(['F', 'R', 'S']);
        assert!(!seen.iter().any(housekeeping), "{seen:?}");
    }
}
