//! One cycle after the other: load, death, resurrection, judgement.

use std::{
    io,
    path::Path,
    sync::{Mutex, PoisonError, atomic::AtomicBool},
    thread::sleep,
    time::{Duration, Instant},
};

use harness::{Loss, Mounted, Random};
use tempfile::TempDir;

use crate::{
    Args, Mode,
    burden::{self, Burden},
    check,
    control::{Controls, Verdict},
    judge::{Asked, Judge},
    load::{self, Scene, Sender},
    process::{Gateway, Place},
    totals::Totals,
};

/// Devices that stay: three that are there, the second on 3.1.1, and one that is absent.
const BASE: usize = 4;
/// The store's own file of records.
const LOG: &str = "db";
const SENDERS: usize = 3;
/// In so many of a hundred cycles the gateway is made to write its database anew.
const BURDENED: u64 = 10;
/// Devices that are absent, those that come and go included, come after so many cycles.
const ABSENCE: u64 = 6;

/// Everything that outlives a cycle.
#[derive(Debug)]
pub(crate) struct World {
    controls: Option<Controls>,
    /// `None` in kill mode.
    disk: Option<Mounted>,
    fresh: u64,
    gateway: Option<Gateway>,
    home: TempDir,
    judge: Mutex<Judge>,
    mode: Mode,
    place: Place,
    random: Random,
    senders: Vec<Sender>,
}

impl World {
    /// With SQLite beside it, where there is a disk, if it is `controlled`. An error: this machine has no FUSE for us.
    pub(crate) fn new(args: &Args, seed: u64, controlled: bool) -> io::Result<Self> {
        let home = tempfile::Builder::new().prefix("crash-").tempdir().expect("a temporary directory");
        let disk = match args.mode {
            Mode::Kill => None,
            Mode::Cut | Mode::Torn => Some(Mounted::new(&home.path().join("mnt"))?),
        };
        let controls = disk.as_ref().filter(|_| controlled).map(|disk| {
            let controls = Controls::create(disk.path());
            disk.sync_all();
            controls
        });
        let binary =
            args.bin.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", args.bin.display()));
        let place = Place { binary, log: home.path().join("log"), state: home.path().join("unused") };
        Ok(Self {
            controls,
            disk,
            fresh: args.fresh.max(1),
            gateway: None,
            home,
            judge: Mutex::new(Judge::new(seed, Totals::default())),
            mode: args.mode,
            place,
            random: Random::new(seed),
            senders: Vec::new(),
        })
    }

    pub(crate) fn totals(&self) -> Totals {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner).totals
    }

    /// The figures, and those of the controls.
    pub(crate) fn end(mut self) -> (Totals, Option<Verdict>) {
        if let Some(gateway) = self.gateway.take() {
            gateway.kill();
        }
        let totals = self.totals();
        if let Some(disk) = self.disk.take() {
            disk.end();
        }
        if !totals.is_clean() {
            // What was wrong can be looked at.
            println!("kept: {}", self.home.keep().display());
        }
        (totals, self.controls.as_ref().map(Controls::verdict))
    }

    /// One cycle.
    pub(crate) fn cycle(&mut self, cycle: u64) {
        if self.gateway.is_none() || cycle % self.fresh == 1 {
            self.begin_anew(cycle);
        }
        let Some(gateway) = self.gateway.take() else { return };
        self.judge().totals.cycles += 1;
        self.load_and_kill(gateway);
        self.stumble(30);
        if let Some(controls) = &mut self.controls {
            controls.check();
        }
        let before = self.home.path().join("before");
        std::fs::remove_dir_all(&before).ok();
        self.keep(&before);
        let complaints = self.totals().complaints;
        if !self.start() {
            return;
        }
        self.check(cycle % ABSENCE == 0);
        if self.totals().complaints > complaints {
            // What the gateway found when it started can be looked at; the first of them says most.
            std::fs::rename(&before, self.home.path().join(format!("wrong-{cycle}"))).ok();
        }
    }

    fn judge(&mut self) -> &mut Judge {
        self.judge.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty state directory; sometimes the first start of all is the one that is killed.
    fn begin_anew(&mut self, cycle: u64) {
        if let Some(gateway) = self.gateway.take() {
            gateway.kill();
        }
        let root = self.disk.as_ref().map_or(self.home.path(), Mounted::path);
        let before = std::mem::replace(&mut self.place.state, root.join(format!("state-{cycle}")));
        // What lies there is not needed any more; the first time there is nothing.
        std::fs::remove_dir_all(before).ok();
        let (totals, seed) = (self.totals(), self.random.number());
        self.judge = Mutex::new(Judge::new(seed, totals));
        self.senders = (0..SENDERS).map(Sender::new).collect();
        self.stumble(50);
        if !self.start() {
            return;
        }
        let Some(gateway) = &self.gateway else { return };
        let (scene, control) = (scene(&self.judge, gateway), gateway.control());
        for level in [5, 4, 5, 5] {
            let added = load::add_device(&scene, &control, level);
            let added = added.and_then(|device| load::add_registration(&scene, &control, device));
            assert!(added.is_some(), "a device is paired while nothing is wrong");
        }
    }

    /// Starts, and kills on the way.
    fn stumble(&mut self, percent: u64) {
        while self.random.chance(percent) {
            self.judge().totals.opens += 1;
            let process = self.place.spawn();
            sleep(Duration::from_millis(self.random.below(150)));
            self.power_off();
            process.kill();
            self.forget();
        }
    }

    fn start(&mut self) -> bool {
        self.judge().totals.opens += 1;
        match self.place.spawn().ready(&self.place) {
            Ok(gateway) => {
                self.gateway = Some(gateway);
                true
            }
            Err(error) => {
                self.judge().totals.failed_opens += 1;
                self.judge().complain(format!("the store did not open: {error}"));
                self.keep_evidence();
                false
            }
        }
    }

    /// Copies a database that did not open to where it survives the run.
    fn keep_evidence(&self) {
        let to = self.home.path().join(format!("failed-{}", self.totals().failed_opens));
        self.keep(&to);
    }

    fn keep(&self, to: &Path) {
        if let Err(error) = copy(&self.place.state, to) {
            eprintln!("cannot keep {}: {error}", to.display());
        }
    }

    fn load_and_kill(&mut self, gateway: Gateway) {
        let length = match self.random.below(10) {
            0..=4 => self.random.below(1200),
            5..=7 => 1000 + self.random.below(1500),
            _ => 3200 + self.random.below(1500),
        };
        let (in_order, burdened) = (self.random.chance(12), self.random.chance(BURDENED));
        let mut random = self.random.clone();
        self.random.number();
        if let Some(controls) = &mut self.controls {
            controls.start();
        }
        let mut gateway = Some(gateway);
        let control = gateway.as_ref().expect("it runs").control();
        let scene = scene(&self.judge, gateway.as_ref().expect("it runs"));
        let (mut asked, mut amid) = (None, false);
        let burden = if burdened { Burden::place(&scene, &control) } else { None };
        let state = &self.place.state;
        std::thread::scope(|scope| {
            let scene = &scene;
            for sender in &mut self.senders {
                let mut random = random.split();
                scope.spawn(move || sender.run(scene, &mut random));
            }
            for device in 0..BASE - 1 {
                let mut random = random.split();
                scope.spawn(move || load::device(scene, device, &mut random));
            }
            let mut own = random.split();
            let owned = control.clone();
            scope.spawn(move || load::owner(scene, &owned, BASE, &mut own));
            match burden {
                Some(burden) => burden.lift(scene, &control, state, &mut random),
                None => sleep(Duration::from_millis(length)),
            }
            let gateway = gateway.take().expect("it runs");
            amid = burden::is_rewriting(state);
            if in_order {
                let now = Instant::now();
                asked = Some(now);
                if !gateway.terminate() {
                    scene.judge().complain("SIGTERM did not end the gateway with 0".to_owned());
                }
            } else {
                // From here on nothing reaches the disk, and what is answered is owed to what did.
                if let Some(disk) = &self.disk {
                    disk.power_off();
                }
                let how = gateway.kill();
                if !how.contains("signal: 9") {
                    scene.judge().complain(format!("the gateway ended by itself: {how}"));
                }
            }
            scene.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        self.judge().totals.amid += u64::from(amid);
        if burdened {
            self.judge().unsure();
        }
        match asked {
            Some(at) => self.judge().stopped(at),
            None => self.judge().died(),
        }
        self.power_off();
        if let Some(controls) = &mut self.controls {
            controls.kill();
        }
        self.forget();
    }

    fn power_off(&self) {
        if let Some(disk) = &self.disk {
            disk.power_off();
        }
    }

    /// The power is back; what was not synced is not.
    fn forget(&mut self) {
        let loss = match self.mode {
            Mode::Kill => return,
            Mode::Cut => Loss::Unsynced,
            Mode::Torn => Loss::Torn(self.random.split()),
        };
        if let Some(disk) = &mut self.disk {
            let hit = disk.cut(&loss, LOG);
            self.judge().totals.hits += u64::from(hit);
        }
    }

    fn check(&mut self, all: bool) {
        let Some(gateway) = &self.gateway else { return };
        let (scene, control) = (scene(&self.judge, gateway), gateway.control());
        check::accounts(&scene, &control);
        let mut failed = check::endpoints(&scene).err();
        let paired =
            scene.judge().devices.iter().map(|device| device.removed == Asked::No).collect::<Vec<_>>();
        let present = paired.iter().enumerate().filter(|(at, paired)| **paired && (all || *at < BASE - 1));
        for (device, _) in present {
            if let Err(error) = check::drain(&scene, device) {
                // What it could not even ask for has not come.
                let due = scene.judge().due(device);
                scene.judge().missed(&due);
                failed = failed.or(Some(error));
            }
        }
        if let Some(error) = failed {
            scene.judge().complain(format!("the gateway does not serve after a restart: {error}"));
        }
    }
}

fn scene<'a>(judge: &'a Mutex<Judge>, gateway: &Gateway) -> Scene<'a> {
    Scene { judge, mqtt: gateway.mqtt, public: gateway.public, stop: AtomicBool::new(false) }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
