//! Programs that are not ours: run to their end, found, or skipped aloud.

use std::{
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{
    binary::{target_dir, workspace},
    wait::within,
};

/// What a program that has ended leaves behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it complained of.
    pub stderr: String,
    /// What it printed.
    pub stdout: String,
}

impl Output {
    /// What it printed, as JSON; panics unless it ended well.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.text())
            .unwrap_or_else(|error| panic!("expected JSON ({error}), got {:?}", self.stdout))
    }

    /// What it printed, without the white space around; panics unless it ended well.
    #[must_use]
    pub fn text(&self) -> &str {
        assert_eq!(self.code, Some(0), "the program failed: {}\n{}", self.stderr, self.stdout);
        self.stdout.trim()
    }
}

/// Runs a prepared command to its end.
pub(crate) async fn finish(mut command: Command) -> Output {
    let output = command.output().await.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    Output {
        code: output.status.code(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
    }
}

/// Runs a program to its end, bounded.
pub async fn run<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    within("the program ends", finish(command)).await
}

/// Runs a program to its end, bounded, with this text on its standard input.
pub async fn run_with_input<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
    input: &str,
) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    within("the program ends", async {
        let mut child = command.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("its input is piped");
        stdin.write_all(input.as_bytes()).await.expect("it reads its input");
        drop(stdin);
        let output = child.wait_with_output().await.expect("it can be waited for");
        Output {
            code: output.status.code(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        }
    })
    .await
}

/// Tests that were skipped so far in this process.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Where foreign programs are found.
#[derive(Debug)]
pub struct Foreign;

impl Foreign {
    /// A program of the distribution, or `None` after having said so.
    #[must_use]
    pub fn program(test: &str, name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
        let mut places = std::env::split_paths(&path).chain(sbin);
        let found = places.find_map(|place| Some(place.join(name)).filter(|file| file.is_file()));
        found.or_else(|| skip(test, name))
    }

    /// The ntfy that `tests/run` and `tests/compare` fetch from a newer suite of Debian.
    #[must_use]
    pub fn ntfy(test: &str) -> Option<PathBuf> {
        let path = target_dir().join("peers/ntfy/usr/bin/ntfy");
        if path.is_file() { Some(path) } else { skip(test, "ntfy") }
    }

    /// The Python that has pywebpush, installed by `tests/run`.
    #[must_use]
    pub fn python(test: &str) -> Option<PathBuf> {
        installed(test, "venv/bin/python", "pywebpush")
    }

    /// The same Python, if it has slixmpp too.
    #[must_use]
    pub fn python_with_slixmpp(test: &str) -> Option<PathBuf> {
        let libraries = target_dir().join("foreign/venv/lib");
        let versions = std::fs::read_dir(libraries).into_iter().flatten().flatten();
        let mut places = versions.map(|version| version.path().join("site-packages/slixmpp"));
        if places.any(|place| place.is_dir()) { Self::python(test) } else { skip(test, "slixmpp") }
    }

    /// A copy of a script of `tests/foreign` in `place`, where Node finds this package of npm, installed
    /// by `tests/run`, beside it.
    #[must_use]
    pub fn node_script(test: &str, place: &Path, name: &str, package: &str) -> Option<PathBuf> {
        installed(test, &format!("node_modules/{package}/package.json"), &format!("{package} (npm)"))?;
        let script = place.join(name);
        std::fs::copy(workspace().join("tests/foreign").join(name), &script).expect("it can be copied");
        std::os::unix::fs::symlink(target_dir().join("foreign/node_modules"), place.join("node_modules"))
            .expect("the place is new");
        Some(script)
    }
}

fn installed(test: &str, path: &str, name: &str) -> Option<PathBuf> {
    let path = target_dir().join("foreign").join(path);
    if path.exists() { Some(path) } else { skip(test, name) }
}

fn skip<T>(test: &str, missing: &str) -> Option<T> {
    assert!(
        std::env::var_os("TESTS_REQUIRE_FOREIGN").is_none_or(|value| value != "1"),
        "{missing} is missing, and TESTS_REQUIRE_FOREIGN=1 asks for it: tests/run installs it"
    );
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // Written past the capture of the test runner: a test that did not run must be seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {missing} is missing ({count} skipped so far)");
    None
}
