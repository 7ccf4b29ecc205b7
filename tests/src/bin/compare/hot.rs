//! `--hot`: what one endpoint that is posted to without end takes away from the others.
//!
//! Pushes to the apps of one phone are timed one by one, in turns: alternately while nothing else happens and
//! while an endpoint of another phone gets [`RATE`] requests a second, which both phones' gateway refuses or
//! takes as it is told to. Both kinds of turn lie in the same seconds, so that a busy machine hits them alike.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Result,
    args::Args,
    latency::{Publisher, Times},
    load::precise,
    measures::{median, percentile},
    mqtt::Login,
    push::{Request, answer, next_number},
    servers::{Running, listener, text},
    subscriber::{Subscriber, Subscription},
};

/// Requests a second to the hot endpoint.
const RATE: u32 = 1_000;
/// So many connections share them.
const SENDERS: u32 = 4;
/// Apps of the phone whose pushes are timed: each gets less than its own limit.
const APPS: usize = 16;
/// The others' p99 may be so many times as long.
const GOAL: f64 = 1.2;
/// What a sender waits for at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// Measures, and prints a table. True when nothing is missed.
pub(crate) fn measure(args: &Args, work: &Path, machine: &str) -> Result<bool> {
    println!("Machine: {machine}.\n");
    println!(
        "| with {RATE} requests a second to one endpoint | p99 without | p99 with | ratio |\n|---|---:|---:|---:|"
    );
    let limited = rounds(args, work, "")?;
    let met = report("with the default limits", &limited);
    // What the limits spare the others; it has no goal.
    let taken = rounds(args, work, "[limits]\nper_second = 0\n")?;
    report("with all of them accepted", &taken);
    if !met {
        eprintln!("compare: missed: the others' p99 beside a hot endpoint");
    }
    Ok(met || !args.assert)
}

/// The p99s of a round in ms, without and with the hot endpoint: to the answer, and to the phone.
#[derive(Clone, Copy, Debug)]
struct Round {
    answer: [f64; 2],
    arrival: [f64; 2],
}

/// Whether the goal is met by the medians over the rounds.
fn report(how: &str, rounds: &[Round]) -> bool {
    let row = |what: &str, pick: fn(&Round) -> [f64; 2]| {
        let of = |at: usize| median(&rounds.iter().map(|round| pick(round)[at]).collect::<Vec<_>>());
        let ratio = median(&rounds.iter().map(|round| pick(round)[1] / pick(round)[0]).collect::<Vec<_>>());
        println!("| {how}: {what} | {:.2} ms | {:.2} ms | {ratio:.2} |", of(0), of(1));
        ratio <= GOAL
    };
    let (answer, arrival) =
        (row("to the answer", |round| round.answer), row("to the phone", |round| round.arrival));
    answer && arrival
}

fn rounds(args: &Args, work: &Path, limits: &str) -> Result<Vec<Round>> {
    let house = House::start(args, work, limits)?;
    let (other, paths) = house.pair(APPS)?;
    let (hot, hot_paths) = house.pair(1)?;
    let (there, _hot_there) = (Subscriber::start(&other)?, Subscriber::start(&hot)?);
    let mut fire = Fire::light(house.public, &hot_paths[0])?;
    // What an endpoint may get at once is used up before anything is timed.
    fire.burn(true)?;
    thread::sleep(args.idle());
    let (mut rounds, mut turn) = (Vec::new(), 0);
    for number in 1..=args.rounds() {
        let mut times = [Times::default(), Times::default()];
        for _ in 0..args.turns() {
            for burning in [false, true] {
                fire.burn(burning)?;
                // By a connection of its own: until it is the app's turn again the gateway would close it as idle.
                let mut publisher = Publisher::http(house.public, &paths[turn % APPS])?;
                times[usize::from(burning)].turn(&mut publisher, &there)?;
                turn += 1;
            }
        }
        fire.burn(false)?;
        let [quiet, loud] = &mut times;
        let round = Round {
            answer: [percentile(&mut quiet.answers, 99), percentile(&mut loud.answers, 99)],
            arrival: [percentile(&mut quiet.arrivals, 99), percentile(&mut loud.arrivals, 99)],
        };
        eprintln!("compare: round {number} of {}: {round:?}, {}", args.rounds(), fire.describe());
        rounds.push(round);
    }
    Ok(rounds)
}

/// A gateway with its defaults, but for the profile: how long a push may wait for company is not measured.
#[derive(Debug)]
struct House {
    binary: PathBuf,
    mqtt: SocketAddr,
    public: SocketAddr,
    /// Ends it.
    _running: Running,
    state: PathBuf,
}

impl House {
    fn start(args: &Args, work: &Path, limits: &str) -> Result<Self> {
        let binary = args.gateway.clone().ok_or("--gateway was not named")?;
        let dir = work.join(format!("hot-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let (state, config) = (dir.join("state"), dir.join("gateway.toml"));
        std::fs::write(&config, format!("[wake]\nprofile = \"instant\"\n{limits}"))?;
        let mut command = Command::new(&binary);
        command.arg("--config").arg(config).arg("run").arg("--state-dir").arg(&state);
        command.args(["--public", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]);
        let mut running = Running::spawn(command, dir, Stdio::piped())?;
        let ready = running.ready()?;
        let (public, mqtt) = (listener(&ready, "public=http://")?, listener(&ready, "mqtt=mqtt://")?);
        Ok(Self { binary, mqtt, public, _running: running, state })
    }

    fn ask(&self, words: &[&str]) -> Result<Value> {
        let mut command = Command::new(&self.binary);
        let output = command.arg("--state-dir").arg(&self.state).args(words).arg("--json").output()?;
        if !output.status.success() {
            return Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// A phone, and the paths of its apps' endpoints.
    fn pair(&self, apps: usize) -> Result<(Subscription, Vec<String>)> {
        let device = self.ask(&["device", "add", "hot"])?;
        let login = Login { user: text(&device, "device")?, secret: text(&device, "secret")? };
        let mut paths = Vec::new();
        for app in 0..apps {
            let registration = self.ask(&["registration", "add", &login.user, &format!("app-{app}")])?;
            let endpoint = text(&registration, "endpoint")?;
            let path = endpoint.find("/p/").ok_or_else(|| format!("endpoint without /p/: {endpoint}"))?;
            paths.push(endpoint[path..].to_owned());
        }
        let filter = format!("up/{}/inbox/#", login.user);
        Ok((Subscription::Mqtt { address: self.mqtt, filter, login: Some(login) }, paths))
    }
}

/// Who posts to the hot endpoint; dropping it ends them.
#[derive(Debug)]
struct Fire {
    /// For how long it has burnt, before `since`.
    burnt: Duration,
    shared: Arc<Shared>,
    senders: Vec<thread::JoinHandle<()>>,
    since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Shared {
    burning: AtomicBool,
    out: AtomicBool,
    refused: AtomicU64,
    taken: AtomicU64,
}

impl Fire {
    fn light(address: SocketAddr, path: &str) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut senders = Vec::new();
        for _ in 0..SENDERS {
            let (shared, request) = (Arc::clone(&shared), Request::new(address, path));
            let sender = move || send(address, request, &shared);
            senders.push(thread::Builder::new().name("hot".to_owned()).spawn(sender)?);
        }
        Ok(Self { burnt: Duration::ZERO, senders, shared, since: None })
    }

    /// Begins or ends; returns when that is felt.
    fn burn(&mut self, burning: bool) -> Result<()> {
        self.shared.burning.store(burning, Ordering::Relaxed);
        let (start, before) = (Instant::now(), self.answered());
        if let Some(since) = self.since.take() {
            self.burnt += since.elapsed();
        }
        self.since = burning.then_some(start);
        while burning && self.answered() < before + u64::from(RATE / 10) {
            if start.elapsed() > PATIENCE || self.senders.iter().any(thread::JoinHandle::is_finished) {
                return Err("the hot endpoint does not answer".into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn answered(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed) + self.shared.refused.load(Ordering::Relaxed)
    }

    fn describe(&self) -> String {
        let refused = self.shared.refused.load(Ordering::Relaxed);
        let rate = precise(self.answered()) / self.burnt.as_secs_f64();
        format!("{rate:.0} requests a second to the hot endpoint, {refused} of {} refused", self.answered())
    }
}

impl Drop for Fire {
    fn drop(&mut self) {
        self.shared.out.store(true, Ordering::Relaxed);
        // After an error in the midst of it, too.
        self.shared.burning.store(false, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            if sender.join().is_err() {
                eprintln!("compare: a sender to the hot endpoint has failed");
            }
        }
    }
}

/// Posts at its share of [`RATE`] while it burns, whatever the answers are.
fn send(address: SocketAddr, mut request: Request, shared: &Shared) {
    let mut stream = None;
    while !shared.out.load(Ordering::Relaxed) {
        let (start, mut sent) = (Instant::now(), 0);
        while shared.burning.load(Ordering::Relaxed) {
            let due = Duration::from_secs(1) * sent * SENDERS / RATE;
            thread::sleep(due.saturating_sub(start.elapsed()));
            sent += 1;
            match post(address, &mut stream, request.numbered(next_number())) {
                Ok(201) => drop(shared.taken.fetch_add(1, Ordering::Relaxed)),
                Ok(429) => drop(shared.refused.fetch_add(1, Ordering::Relaxed)),
                Ok(status) => return eprintln!("compare: the hot endpoint answers {status}"),
                // The connection was closed after an answer: the next one goes by another.
                Err(_) => stream = None,
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn post(address: SocketAddr, kept: &mut Option<TcpStream>, request: &[u8]) -> Result<u16> {
    let stream = match kept {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            kept.insert(stream)
        }
    };
    stream.write_all(request)?;
    let (mut buffer, mut filled) = ([0; 4096], 0);
    loop {
        match stream.read(&mut buffer[filled..])? {
            0 => return Err("closed".into()),
            read => filled += read,
        }
        if let Some(status) = answer(&buffer[..filled])? {
            return Ok(status);
        }
    }
}
