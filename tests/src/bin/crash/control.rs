//! SQLite on the same disk, as the judge's judge: one database that promises what the gateway promises,
//! and one that does not.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    thread::JoinHandle,
};

/// Inserts rows of 1 KB, each in a transaction of its own, and prints each number once it is committed.
const WRITER: &str = r"
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('PRAGMA journal_mode=WAL')
db.execute('PRAGMA synchronous=' + sys.argv[2])
db.execute('CREATE TABLE IF NOT EXISTS push (id INTEGER PRIMARY KEY, body BLOB)')
first = int(sys.argv[3])
for number in range(first, first + int(sys.argv[4])):
    db.execute('INSERT OR REPLACE INTO push VALUES (?, randomblob(1000))', (number,))
    print(number, flush=True)
    time.sleep(0.003)
";

/// Prints the numbers of all rows.
const READER: &str = r"
import sqlite3, sys
for (number,) in sqlite3.connect(sys.argv[1]).execute('SELECT id FROM push'):
    print(number)
";

/// Both databases.
#[derive(Debug)]
pub(crate) struct Controls {
    full: Control,
    normal: Control,
}

#[derive(Debug)]
struct Control {
    committed: Vec<u64>,
    lost: u64,
    next: u64,
    path: PathBuf,
    synchronous: &'static str,
    total: u64,
    writer: Option<(Child, JoinHandle<Vec<u64>>)>,
}

impl Controls {
    /// Creates both; whoever calls must make them durable.
    pub(crate) fn create(below: &Path) -> Self {
        let control = |synchronous: &'static str| {
            let path = below.join(format!("{}.sqlite", synchronous.to_lowercase()));
            let status = python(WRITER).arg(&path).args([synchronous, "0", "0"]).status();
            assert!(status.is_ok_and(|status| status.success()), "python3 with sqlite3 is needed");
            Control { committed: Vec::new(), lost: 0, next: 0, path, synchronous, total: 0, writer: None }
        };
        Self { full: control("FULL"), normal: control("NORMAL") }
    }

    /// Lets both write.
    pub(crate) fn start(&mut self) {
        self.full.start();
        self.normal.start();
    }

    /// kill -9 for both.
    pub(crate) fn kill(&mut self) {
        self.full.kill();
        self.normal.kill();
    }

    /// Counts what is gone of what was committed since the last check.
    pub(crate) fn check(&mut self) {
        self.full.check();
        self.normal.check();
    }

    /// What they have shown.
    pub(crate) fn verdict(&self) -> Verdict {
        let Self { full, normal } = self;
        Verdict { full: (full.lost, full.total), normal: (normal.lost, normal.total) }
    }
}

/// What the controls lost, of how many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Verdict {
    full: (u64, u64),
    normal: (u64, u64),
}

impl Verdict {
    /// Another job's figures join these.
    pub(crate) fn add(&mut self, other: Self) {
        for (own, other) in [(&mut self.full, other.full), (&mut self.normal, other.normal)] {
            *own = (own.0 + other.0, own.1 + other.1);
        }
    }

    /// The one that promises has lost nothing, the other one something.
    pub(crate) fn is_fit(self) -> bool {
        self.full.1 > 0 && self.full.0 == 0 && self.normal.0 > 0
    }

    /// One line.
    pub(crate) fn line(self) -> String {
        let Self { full, normal } = self;
        format!(
            "controls: SQLite WAL FULL lost {} of {}, SQLite WAL NORMAL lost {} of {}",
            full.0, full.1, normal.0, normal.1
        )
    }
}

impl Control {
    fn start(&mut self) {
        let mut command = python(WRITER);
        command.arg(&self.path).arg(self.synchronous).arg(self.next.to_string()).arg("1000000");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("python3 starts");
        let out = child.stdout.take().expect("its output is piped");
        let reader = std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).filter_map(|line| line.parse().ok()).collect()
        });
        self.writer = Some((child, reader));
    }

    fn kill(&mut self) {
        let Some((mut child, reader)) = self.writer.take() else { return };
        // It may have ended by itself when its disk went away.
        child.kill().ok();
        child.wait().expect("it was started here");
        self.committed = reader.join().expect("reading lines does not panic");
        self.next = self.committed.last().map_or(self.next, |last| last + 1);
    }

    fn check(&mut self) {
        let output = python(READER).arg(&self.path).output().expect("python3 starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let found: std::collections::BTreeSet<u64> =
            text.lines().filter_map(|line| line.parse().ok()).collect();
        let committed = std::mem::take(&mut self.committed);
        self.total += committed.len() as u64;
        self.lost += committed.iter().filter(|number| !found.contains(number)).count() as u64;
    }
}

/// Four of them run in each cycle: without what sorts out versions on the way to an interpreter, and without the
/// packages that are installed, which would cost as much as all gateways together.
fn python(program: &str) -> Command {
    static INTERPRETER: LazyLock<String> = LazyLock::new(|| {
        let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let path = output.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
        if path.trim().is_empty() { "python3".to_owned() } else { path.trim().to_owned() }
    });
    let mut command = Command::new(&*INTERPRETER);
    command.args(["-I", "-S", "-c", program]).stdin(Stdio::null());
    command
}
