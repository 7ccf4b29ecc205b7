//! Where the state lies: room, the mount, and how long the disk takes to promise something.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::statvfs::statvfs;

use crate::doctor::{Finding, case::Case};

/// Below this sled cannot clean up any more: it writes anew what it keeps.
const LEAST_FREE: u64 = 16 << 20;
/// Below this the waiting messages of a few devices may not fit.
const LITTLE_FREE: u64 = 128 << 20;
/// So many times a page is written and synced.
const TRIES: usize = 9;
/// A push is answered after one of these: slower, and senders begin to give up.
const SLOW: Duration = Duration::from_millis(100);

pub(in crate::doctor) fn check(case: &Case) -> Vec<Finding> {
    let dir = &case.config.state_dir;
    let found = match fs::metadata(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![Finding::skipped(
                format!("{} does not exist yet", dir.display()),
                "the gateway makes it when it starts for the first time; if it has run before, --state-dir or state_dir is another one",
            )];
        }
        Err(error) => return vec![unreadable(dir, &error)],
    };
    let mut findings = Vec::new();
    if found.mode() & 0o077 != 0 {
        findings.push(Finding::warning(
            format!("other users may look into {}, where the secrets of devices are", dir.display()),
            format!("chmod 700 {}", dir.display()),
        ));
    }
    findings.extend(room(dir));
    findings.extend(
        fs::read_to_string("/proc/self/mountinfo").ok().map(|all| mount(&all, dir)).unwrap_or_default(),
    );
    findings.push(sync(case, dir));
    findings
}

fn unreadable(dir: &Path, error: &io::Error) -> Finding {
    Finding::problem(
        format!("cannot look at {}: {error}", dir.display()),
        "run this as root or as the gateway's user; if that is who you are, the card may have failed: `dmesg` says more",
    )
}

fn room(dir: &Path) -> Option<Finding> {
    let found = statvfs(dir).ok()?;
    #[allow(clippy::useless_conversion, reason = "the types differ between systems")]
    let free = u64::from(found.blocks_available()).saturating_mul(u64::from(found.fragment_size()));
    let full = |what: String| {
        Finding::problem(
            what,
            "make room on this partition: until then pushes are answered 503 and application servers keep them; nothing accepted is lost",
        )
    };
    // Some file systems count no inodes, and say 0 of 0.
    if found.files() > 0 && found.files_available() == 0 {
        return Some(full(format!("{}: the file system has no inode left", dir.display())));
    }
    let mb = free >> 20;
    Some(if free < LEAST_FREE {
        full(format!("{}: {mb} MB are free, the partition is as good as full", dir.display()))
    } else if free < LITTLE_FREE {
        Finding::warning(format!("{}: only {mb} MB are free", dir.display()), "make room before it is full")
    } else {
        Finding::good(format!("{}: {mb} MB are free", dir.display()))
    })
}

/// What is to be said of the mount that holds `dir`, by `/proc/self/mountinfo`.
pub(in crate::doctor) fn mount(mountinfo: &str, dir: &Path) -> Vec<Finding> {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    // The last of two on one place is the one that is seen.
    let of_dir = mountinfo.lines().filter_map(Mount::parse).filter(|mount| dir.starts_with(&mount.place));
    let Some(mount) = of_dir.reduce(|best, next| {
        if next.place.components().count() >= best.place.components().count() { next } else { best }
    }) else {
        return Vec::new();
    };
    let place = mount.place.display();
    let mut findings = Vec::new();
    let has = |word: &str| mount.options.iter().any(|option| option == word);
    if has("ro") {
        findings.push(Finding::problem(
            format!("{place} is mounted read-only"),
            "mount it writable; a card that went read-only by itself is failing: `dmesg` says more",
        ));
    }
    match mount.kind.as_str() {
        "tmpfs" | "ramfs" | "overlay" => findings.push(Finding::problem(
            format!(
                "{place} is a {}: it may be gone after a power cut, and with it every endpoint",
                mount.kind
            ),
            "keep the state on a partition of its own; in a container, on a volume",
        )),
        "nfs" | "nfs4" | "cifs" | "vfat" | "exfat" | "ntfs" | "ntfs3" | "fuseblk" => {
            findings.push(Finding::warning(
                format!("{place} is {}, which does not promise what the store relies on", mount.kind),
                "keep the state on ext4, f2fs, btrfs or xfs on a disk of this machine",
            ))
        }
        _ => {}
    }
    if has("nobarrier") || has("barrier=0") {
        findings.push(Finding::problem(
            format!("{place} is mounted without barriers: after a power cut, what was answered with 201 may be gone"),
            "remove nobarrier / barrier=0 from its mount options",
        ));
    }
    for (option, why, instead) in [
        ("strictatime", "every read is a write", "noatime"),
        ("sync", "every write goes to the card alone", "nothing: the gateway syncs what matters"),
        ("data=journal", "everything is written twice", "data=ordered"),
    ] {
        if has(option) {
            findings.push(Finding::warning(
                format!("{place} is mounted with {option}: {why}, which wears a card"),
                format!("write in its mount options instead: {instead}"),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::good(format!("{place} is {}, mounted as it should be", mount.kind)));
    }
    findings
}

/// A line of proc_pid_mountinfo(5).
struct Mount {
    kind: String,
    options: Vec<String>,
    place: PathBuf,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ');
        let place = front.nth(4)?.replace("\\040", " ").into();
        let mut back = back.split(' ');
        let (own, kind, of_all) = (front.next()?, back.next()?.to_owned(), back.nth(1).unwrap_or_default());
        Some(Self {
            kind,
            options: own.split(',').chain(of_all.split(',')).map(str::to_owned).collect(),
            place,
        })
    }
}

fn sync(case: &Case, dir: &Path) -> Finding {
    match measure(case, dir) {
        Ok((median, longest)) => {
            let what = format!(
                "a page is safe on disk after {:.1} ms (median of {TRIES}; the longest {:.1} ms)",
                median.as_secs_f64() * 1e3,
                longest.as_secs_f64() * 1e3
            );
            if median >= SLOW {
                Finding::warning(
                    format!("{what}; every push is answered after one of these"),
                    "a card that has become this slow is worn or of a poor kind: take one rated A1 or better, or an SSD",
                )
            } else {
                Finding::good(what)
            }
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Finding::skipped(
            format!("may not write to {}, so the disk was not timed", dir.display()),
            "run this as root or as the gateway's user",
        ),
        Err(error) => Finding::problem(
            format!("cannot write to {}: {error}", dir.display()),
            "make room if it is full; otherwise `dmesg` says what the disk has",
        ),
    }
}

/// A file that is gone when it goes out of scope, whatever happened.
struct Scrap(PathBuf);

impl Drop for Scrap {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn measure(case: &Case, dir: &Path) -> io::Result<(Duration, Duration)> {
    let scrap = Scrap(dir.join(format!("doctor.{}", std::process::id())));
    let mut file = File::create(&scrap.0)?;
    let mut times = [Duration::ZERO; TRIES];
    for time in &mut times {
        let before = case.clock.moment().instant;
        file.write_all(&[0x55; 4096])?;
        file.sync_data()?;
        *time = case.clock.moment().instant.saturating_duration_since(before);
    }
    times.sort_unstable();
    Ok((times[TRIES / 2], times[TRIES - 1]))
}
