//! Much that waits, and is gone at once: then the gateway writes its database anew, and is killed meanwhile.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use harness::Random;
use serde_json::json;

use crate::{
    http::Http,
    load::{Scene, ask, row},
    process::Control,
};

/// Messages of [`BODY`] bytes, from so many senders: enough to make the file several times as large as it may be
/// without them.
const MESSAGES: usize = 3_200;
const SENDERS: usize = 16;
const BODY: usize = 1_200;
/// So long a rewrite is waited for at most: on a busy machine it comes late, and where the process stumbles never.
const PATIENCE: Duration = Duration::from_secs(20);
/// It is over by then, more or less.
const LENGTH_MS: u64 = 150;

/// A device that nobody will ever ask for.
#[derive(Debug)]
pub(crate) struct Burden(String);

impl Burden {
    /// Pairs it, and lets messages wait for it; `None`: there was no answer.
    pub(crate) fn place(scene: &Scene<'_>, control: &Control) -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let app = format!("burden-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        scene.judge().apps.insert(app.clone());
        let device = ask(scene, control, &json!({"ask": "device-add", "name": "burden"}))?;
        let device = device["device"].as_str()?.to_owned();
        let question = json!({"ask": "registration-add", "app": app, "device": device, "vapid": null});
        let (_, path) = row(&ask(scene, control, &question)?)?;
        std::thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| {
                    let Ok(mut http) = Http::connect(scene.public) else { return };
                    for _ in 0..MESSAGES / SENDERS {
                        match http.ask("POST", &path, "TTL: 86400\r\n", &[0x55; BODY]) {
                            Ok(answer) if matches!(answer.status, 201 | 503) => {}
                            Ok(answer) => scene.judge().complain(format!("{path} gave {}", answer.status)),
                            Err(error) => return scene.judge().complain(format!("{path}: {error}")),
                        }
                    }
                });
            }
        });
        Some(Self(device))
    }

    /// Removes it, and returns some time during the rewrite that follows.
    pub(crate) fn lift(self, scene: &Scene<'_>, control: &Control, state: &Path, random: &mut Random) {
        sleep(Duration::from_millis(random.below(300)));
        ask(scene, control, &json!({"ask": "device-remove", "id": self.0}));
        let start = Instant::now();
        while !is_rewriting(state) && start.elapsed() < PATIENCE {
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(random.below(LENGTH_MS)));
    }
}

/// Whether a second database lies in the state.
pub(crate) fn is_rewriting(state: &Path) -> bool {
    ["db.part", "db.new", "db.old"].iter().any(|name| state.join(name).exists())
}
