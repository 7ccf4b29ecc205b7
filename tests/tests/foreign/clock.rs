//! The wall clock as a Raspberry Pi may have it: in 1970, ten years ahead, and put right without warning.

use std::{fs, path::PathBuf};

use harness::{Foreign, Gateway, Phone, Sender, Version, now_s};

/// Ten years, in seconds.
const LEAP: u64 = 3653 * 86_400;

/// A machine whose wall clock is told by a file; its monotonic clock is the real one.
struct Wall {
    file: PathBuf,
    library: PathBuf,
    _home: tempfile::TempDir,
}

impl Wall {
    /// `None`: libfaketime is missing, and that was said.
    fn new(test: &str) -> Option<Self> {
        Foreign::program(test, "faketime")?;
        let places = fs::read_dir("/usr/lib").expect("Debian has libraries").flatten();
        let library = places
            .map(|place| place.path().join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.is_file())
            .expect("Debian's faketime has a library for threads");
        let home = tempfile::tempdir().expect("a directory is made");
        let wall = Self { file: home.path().join("now"), library, _home: home };
        wall.ahead(0);
        Some(wall)
    }

    /// The wall clock shows so many seconds more than is right, from now on.
    fn ahead(&self, seconds: i64) {
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{seconds:+}\n")).expect("writable");
        fs::rename(next, &self.file).expect("renamed");
    }

    fn gateway(&self) -> harness::Builder {
        let (file, library) = (self.file.display().to_string(), self.library.display().to_string());
        [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            // What a time server's daemon has touched it has touched at the right time.
            ("NO_FAKE_STAT", "1"),
        ]
        .into_iter()
        .fold(Gateway::new(), |builder, (name, value)| builder.env(name, value))
    }
}

fn seconds(time: u64) -> i64 {
    i64::try_from(time).expect("a time")
}

async fn post(gateway: &Gateway, endpoint: &str, ttl: u64, body: &str) {
    gateway.post(endpoint).ttl(ttl).body(body.to_owned()).send().await.expect(201);
}

/// Receives and acknowledges until the fence: the body and the seconds that it still had.
async fn received(phone: &mut Phone) -> Vec<(String, u32)> {
    let mut bodies = Vec::new();
    loop {
        let push = phone.expect_push().await;
        phone.ack(&push).await;
        let body = String::from_utf8_lossy(&push.payload).into_owned();
        if body == "fence" {
            phone.settle().await;
            return bodies;
        }
        bodies.push((body, push.expiry_s.expect("MQTT 5.0 tells")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_years_ahead_and_back_loses_and_repeats_nothing() {
    let Some(wall) = Wall::new("ten_years_ahead_and_back_loses_and_repeats_nothing") else { return };
    let mut gateway = wall.gateway().start().await;
    let device = gateway.pair("phone").await;
    let endpoint = gateway.cli(["registration", "add", &device.id, "app"]).await.text().to_owned();
    post(&gateway, &endpoint, 3600, "before").await;
    // While it runs, and over a restart, and back while it runs.
    wall.ahead(seconds(LEAP));
    post(&gateway, &endpoint, 3600, "ahead").await;
    gateway.restart().await;
    post(&gateway, &endpoint, 3600, "ahead again").await;
    gateway.kill9().await;
    gateway.start_again().await;
    wall.ahead(0);
    post(&gateway, &endpoint, 3600, "back").await;
    post(&gateway, &endpoint, 3600, "fence").await;

    let mut phone = Phone::connect(&gateway, &device, Version::V5).await;
    phone.subscribe().await;
    let all = received(&mut phone).await;
    let bodies: Vec<_> = all.iter().map(|(body, _)| body.as_str()).collect();
    assert_eq!(bodies, ["before", "ahead", "ahead again", "back"]);
    assert!(all.iter().all(|(_, left)| (3400..=3600).contains(left)), "{all:?}");

    gateway.restart().await;
    let mut phone = Phone::connect(&gateway, &device, Version::V5).await;
    phone.subscribe().await;
    post(&gateway, &endpoint, 3600, "fence").await;
    assert_eq!(received(&mut phone).await, [], "what was acknowledged does not come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_not_trusted_forbids_nobody_anything() {
    let Some(wall) = Wall::new("a_clock_that_is_not_trusted_forbids_nobody_anything") else { return };
    // It wakes up in 1970 and has no time server.
    wall.ahead(-seconds(now_s()) + 100);
    let mut gateway = wall.gateway().start().await;
    let device = gateway.pair("phone").await;
    let mut phone = Phone::connect(&gateway, &device, Version::V5).await;
    phone.subscribe().await;
    let sender = Sender::new();
    let bound = phone.register_bound("bound", &sender.public()).await;
    let open = phone.register("open").await;
    let origin = format!("http://{}", gateway.public);
    let valid = sender.authorization(&origin, now_s() + 3600);
    let attempt = async |gateway: &Gateway, endpoint: &str| {
        let request = gateway.post(endpoint).ttl(60).header("Authorization", &valid).body("signed");
        let answer = request.send().await;
        (answer.status, answer.header("retry-after").is_some())
    };
    let refused_for_now = (503, true);
    assert_eq!(attempt(&gateway, &bound.endpoint).await, refused_for_now, "1970");
    assert_eq!(attempt(&gateway, &open.endpoint).await.0, 201, "1970, and nobody has to sign");
    wall.ahead(0);
    assert_eq!(attempt(&gateway, &bound.endpoint).await.0, 201, "the right time");
    wall.ahead(seconds(LEAP));
    assert_eq!(attempt(&gateway, &bound.endpoint).await, refused_for_now, "ten years ahead");
    assert_eq!(attempt(&gateway, &open.endpoint).await.0, 201, "ten years ahead, and nobody has to sign");
    gateway.restart().await;
    assert_eq!(attempt(&gateway, &bound.endpoint).await, refused_for_now, "ten years ahead, after a restart");
    wall.ahead(0);
    assert_eq!(attempt(&gateway, &bound.endpoint).await.0, 201, "the right time again");
    let late = sender.authorization(&origin, now_s() - 3600);
    let request = gateway.post(&bound.endpoint).ttl(60).header("Authorization", &late).body("late");
    assert_eq!(request.send().await.status, 403, "and now it is judged");
}
