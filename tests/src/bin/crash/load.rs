//! What goes on while the gateway is killed: senders, devices and an owner.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Result},
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use harness::Random;
use serde_json::{Value, json};

use crate::{
    http::Http,
    judge::{Asked, Device, Judge, Registration},
    mqtt::{Heard, Mqtt, Publish},
    process::Control,
};

/// How long a device listens before it looks at what else there is to do.
const TICK: Duration = Duration::from_millis(20);

/// What all of them share.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) judge: &'a Mutex<Judge>,
    pub(crate) mqtt: SocketAddr,
    pub(crate) public: SocketAddr,
    /// The end of this cycle.
    pub(crate) stop: AtomicBool,
}

impl Scene<'_> {
    pub(crate) fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Posts one push and notes its answer; gives its number.
    pub(crate) fn push(
        &self,
        http: &mut Http,
        registration: usize,
        topic: Option<String>,
        ttl_s: u32,
    ) -> Result<u64> {
        let push = self.judge().begin(registration, topic, ttl_s);
        let answer = http.ask("POST", &push.path, &push.headers, &push.body)?;
        self.judge().answered(push.id, answer);
        Ok(push.id)
    }
}

/// An application server: one request after the other on one connection.
#[derive(Debug)]
pub(crate) struct Sender {
    name: usize,
    /// Its latest messages.
    recent: Vec<u64>,
}

impl Sender {
    pub(crate) fn new(name: usize) -> Self {
        Self { name, recent: Vec::new() }
    }

    /// Pushes until the gateway is gone.
    pub(crate) fn run(&mut self, scene: &Scene<'_>, random: &mut Random) {
        while !scene.is_over() {
            // Every error is the death that is being waited for.
            let Ok(mut http) = Http::connect(scene.public) else { return sleep(TICK) };
            while !scene.is_over() && self.step(scene, &mut http, random).is_ok() {
                if random.chance(50) {
                    sleep(Duration::from_micros(random.below(12_000)));
                }
            }
        }
    }

    fn step(&mut self, scene: &Scene<'_>, http: &mut Http, random: &mut Random) -> Result<()> {
        if random.chance(8) && !self.recent.is_empty() {
            let at = random.below(self.recent.len() as u64);
            let id = self.recent.swap_remove(usize::try_from(at).expect("an index"));
            let Some(path) = scene.judge().cancel(id) else { return Ok(()) };
            let answer = http.ask("DELETE", &path, "", b"")?;
            scene.judge().cancel_answered(id, answer.status);
            return Ok(());
        }
        let Some(registration) = any_registration(&scene.judge(), random) else { return Ok(()) };
        // A Topic belongs to one sender: otherwise nobody could tell which of two came last.
        let topic = random.chance(30).then(|| format!("t{}-{}", self.name, random.below(3)));
        let ttl_s = match random.below(20) {
            0 if topic.is_none() => 0,
            1 if topic.is_none() => 2,
            2 if topic.is_none() => 120,
            _ => 86_400,
        };
        let id = scene.push(http, registration, topic, ttl_s)?;
        self.recent.push(id);
        if self.recent.len() > 200 {
            self.recent.remove(0);
        }
        Ok(())
    }
}

/// A registration that nobody has asked to remove.
fn any_registration(judge: &Judge, random: &mut Random) -> Option<usize> {
    let live: Vec<usize> =
        (0..judge.registrations.len()).filter(|at| judge.registrations[*at].removed == Asked::No).collect();
    live.get(usize::try_from(random.below(live.len() as u64)).ok()?).copied()
}

/// Connects a device, and subscribes if it has to.
pub(crate) fn join(scene: &Scene<'_>, device: usize) -> Result<Mqtt> {
    let Device { id, secret, level, subscribed, .. } = scene.judge().devices[device].clone();
    let mut client = Mqtt::connect(scene.mqtt, level, &id, &secret).inspect_err(|error| {
        if error.kind() == ErrorKind::PermissionDenied {
            scene.judge().complain(format!("device {id} was refused"));
        }
    })?;
    if subscribed && !client.present {
        scene.judge().complain(format!("the session of device {id} is gone"));
    }
    // A session that was there before its SUBSCRIBE was safe is present, and hears nothing.
    if !subscribed || !client.present {
        match client.subscribe(&id)? {
            Some(code) if code < 2 => scene.judge().devices[device].subscribed = true,
            Some(_) | None => return Err(ErrorKind::Other.into()),
        }
    }
    Ok(client)
}

/// A device that acknowledges some of what it gets at once, some later and out of order, some
/// never; and that goes away and comes back now and then.
pub(crate) fn device(scene: &Scene<'_>, device: usize, random: &mut Random) {
    while !scene.is_over() {
        let Ok(client) = join(scene, device) else { return sleep(TICK) };
        let mut client = Listener { client, unheard: VecDeque::new() };
        let mut held: Vec<(u64, u16)> = Vec::new();
        while !scene.is_over() && !random.chance(2) {
            if listen(scene, device, &mut client, &mut held, random).is_err() {
                break;
            }
        }
    }
}

fn listen(
    scene: &Scene<'_>,
    device: usize,
    client: &mut Listener,
    held: &mut Vec<(u64, u16)>,
    random: &mut Random,
) -> Result<()> {
    let mut now = Vec::new();
    let mut limit = TICK;
    while let Some(publish) = client.hear(scene, limit)? {
        limit = Duration::from_millis(1);
        let id = scene.judge().received(device, &publish, client.client.since);
        if let Some(entry) = id.zip(publish.packet_id) {
            // The first device is diligent, the third is not.
            if random.chance(60 - 25 * device as u64) {
                now.push(entry);
            } else if random.chance(50) {
                held.push(entry);
            }
        }
        if now.len() >= 20 {
            break;
        }
    }
    if random.chance(20) && !held.is_empty() {
        let at = random.below(held.len() as u64);
        now.push(held.swap_remove(usize::try_from(at).expect("an index")));
    }
    client.acknowledge(scene, &now)
}

/// A connection, and what was acknowledged on it before each ping that was not answered yet.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) client: Mqtt,
    pub(crate) unheard: VecDeque<Vec<u64>>,
}

impl Listener {
    /// The next PUBLISH; `None`: none within `limit`.
    pub(crate) fn hear(&mut self, scene: &Scene<'_>, limit: Duration) -> Result<Option<Publish>> {
        while let Some(heard) = self.client.hear(limit)? {
            match heard {
                // News of its registrations, which nobody here asks about.
                Heard::Publish(publish) if !publish.topic.contains("/inbox/push/") => {
                    self.client.ack(publish.packet_id.as_slice())?;
                }
                Heard::Publish(publish) => return Ok(Some(publish)),
                Heard::Pong => {
                    let ids = self.unheard.pop_front().unwrap_or_default();
                    scene.judge().heard(ids);
                }
                Heard::SubAck(_) | Heard::Other(_) => {}
            }
        }
        Ok(None)
    }

    /// Sends PUBACKs and notes them; a ping follows, whose answer says that they were heard.
    pub(crate) fn acknowledge(&mut self, scene: &Scene<'_>, entries: &[(u64, u16)]) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let (ids, packet_ids): (Vec<u64>, Vec<u16>) = entries.iter().copied().unzip();
        scene.judge().acking(&ids);
        self.client.ack(&packet_ids)?;
        self.unheard.push_back(ids);
        self.client.ping()
    }
}

/// The owner, who adds and removes apps, and now and then a device with all that belongs to it.
pub(crate) fn owner(scene: &Scene<'_>, control: &Control, base: usize, random: &mut Random) {
    let Ok(mut http) = Http::connect(scene.public) else { return };
    while !scene.is_over() {
        sleep(Duration::from_millis(random.below(60)));
        let done = match random.below(10) {
            0 => remove_device(scene, control, base),
            1 | 2 => add_device(scene, control, 5).map(drop),
            3..=5 => remove_registration(scene, control, base * 2, random),
            _ => {
                let device = random.below(scene.judge().devices.len() as u64);
                let device = usize::try_from(device).expect("an index");
                if scene.judge().devices[device].removed != Asked::No {
                    continue;
                }
                let added = add_registration(scene, control, device);
                // The first message of an app may come before anything else happens to it.
                added.and_then(|added| scene.push(&mut http, added, None, 86_400).ok()).map(drop)
            }
        };
        if done.is_none() {
            return;
        }
    }
}

/// Pairs a device and gives it an app; `None`: there was no answer.
pub(crate) fn add_device(scene: &Scene<'_>, control: &Control, level: u8) -> Option<usize> {
    let answer = ask(scene, control, &json!({"ask": "device-add", "name": "crash"}))?;
    let field = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let device =
        Device { id: field("device"), level, removed: Asked::No, secret: field("secret"), subscribed: false };
    let mut judge = scene.judge();
    judge.devices.push(device);
    let added = judge.devices.len() - 1;
    drop(judge);
    add_registration(scene, control, added)?;
    Some(added)
}

/// Gives a device one more app; `None`: there was no answer.
pub(crate) fn add_registration(scene: &Scene<'_>, control: &Control, device: usize) -> Option<usize> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let app = format!("app-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let id = {
        let mut judge = scene.judge();
        judge.apps.insert(app.clone());
        judge.devices[device].id.clone()
    };
    let question = json!({"ask": "registration-add", "app": app, "device": id, "vapid": null});
    let answer = ask(scene, control, &question)?;
    let (channel, path) = row(&answer)?;
    let mut judge = scene.judge();
    judge.registrations.push(Registration { channel, device, path, removed: Asked::No });
    Some(judge.registrations.len() - 1)
}

/// The channel and the endpoint's path in a registration's row.
pub(crate) fn row(row: &Value) -> Option<(String, String)> {
    let last = row["endpoint"].as_str()?.rsplit('/').next()?;
    Some((row["channel"].as_str()?.to_owned(), format!("/p/{last}")))
}

fn remove_registration(scene: &Scene<'_>, control: &Control, keep: usize, random: &mut Random) -> Option<()> {
    let (at, endpoint) = {
        let mut judge = scene.judge();
        let spare: Vec<usize> = (keep..judge.registrations.len())
            .filter(|at| judge.registrations[*at].removed == Asked::No)
            .collect();
        let index = usize::try_from(random.below(spare.len() as u64)).ok()?;
        let Some(&at) = spare.get(index) else { return Some(()) };
        judge.registrations[at].removed = Asked::Maybe;
        (at, judge.registrations[at].path.trim_start_matches("/p/").to_owned())
    };
    ask(scene, control, &json!({"ask": "registration-remove", "endpoint": endpoint}))?;
    scene.judge().registrations[at].removed = Asked::Done(std::time::Instant::now());
    Some(())
}

fn remove_device(scene: &Scene<'_>, control: &Control, keep: usize) -> Option<()> {
    let (at, id) = {
        let mut judge = scene.judge();
        let spare = (keep..judge.devices.len()).find(|at| judge.devices[*at].removed == Asked::No);
        let Some(at) = spare else { return Some(()) };
        judge.devices[at].removed = Asked::Maybe;
        end_registrations(&mut judge, at, Asked::Maybe);
        (at, judge.devices[at].id.clone())
    };
    ask(scene, control, &json!({"ask": "device-remove", "id": id}))?;
    let done = Asked::Done(std::time::Instant::now());
    let mut judge = scene.judge();
    judge.devices[at].removed = done;
    end_registrations(&mut judge, at, done);
    Some(())
}

fn end_registrations(judge: &mut Judge, device: usize, how: Asked) {
    for registration in judge.registrations.iter_mut().filter(|each| each.device == device) {
        if !matches!(registration.removed, Asked::Done(_)) {
            registration.removed = how;
        }
    }
}

/// A question whose refusal is a fault; `None`: there was no answer.
pub(crate) fn ask(scene: &Scene<'_>, control: &Control, question: &Value) -> Option<Value> {
    match control.ask(question)? {
        Ok(answer) => Some(answer),
        // A disk that is gone is what the cut is; everything else must work.
        Err(message) if message.contains("disk") || message.contains("busy") => None,
        Err(message) => {
            scene.judge().complain(format!("{question} was refused: {message}"));
            None
        }
    }
}
