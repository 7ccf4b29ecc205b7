//! The gateway as a process, and its control socket.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// How long it may take to open its store, on a busy machine.
const READY: Duration = Duration::from_secs(60);

/// Where a gateway lives.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) binary: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) state: PathBuf,
}

/// A process that was started, and may not be ready yet.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    ready: mpsc::Receiver<String>,
}

/// A gateway that is ready.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) mqtt: SocketAddr,
    process: Process,
    pub(crate) public: SocketAddr,
    state: PathBuf,
}

impl Place {
    /// Starts the gateway; gives what can be killed at any moment.
    pub(crate) fn spawn(&self) -> Process {
        let log = File::options().append(true).create(true).open(&self.log).expect("the log is writable");
        let mut command = Command::new(&self.binary);
        for name in ["NOTIFY_SOCKET", "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "WATCHDOG_USEC"] {
            command.env_remove(name);
        }
        command.arg("run").arg("--state-dir").arg(&self.state);
        // A few endpoints get all of the load here.
        let config = self.log.with_extension("toml");
        std::fs::write(&config, "[limits]\nper_second = 0\n").expect("the configuration is writable");
        command.arg("--config").arg(config);
        command.args(["--public", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the gateway's binary can be run");
        let out = child.stdout.take().expect("its output is piped");
        let (say, ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // Nobody waits for the lines after the first.
                say.send(line).ok();
            }
        });
        Process { child, ready }
    }

    /// What it has said last.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Process {
    /// Waits until it is ready; `Err`: it is not, and has been ended.
    pub(crate) fn ready(self, place: &Place) -> Result<Gateway, String> {
        let line = match self.ready.recv_timeout(READY) {
            Ok(line) => line,
            Err(error) => {
                let status = self.kill();
                return Err(format!("not ready ({error}; {status}):\n{}", place.last_words()));
            }
        };
        let addresses = line
            .strip_prefix("ready public=http://")
            .and_then(|rest| rest.split_once(" mqtt=mqtt://"))
            .and_then(|(public, mqtt)| Some((public.parse().ok()?, mqtt.parse().ok()?)));
        let Some((public, mqtt)) = addresses else {
            self.kill();
            return Err(format!("an unknown ready line: {line}"));
        };
        Ok(Gateway { mqtt, process: self, public, state: place.state.clone() })
    }

    /// kill -9; gives how it ended, which may have been before.
    pub(crate) fn kill(mut self) -> String {
        // An error says that it has ended already.
        self.child.kill().ok();
        self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

impl Gateway {
    /// kill -9.
    pub(crate) fn kill(self) -> String {
        self.process.kill()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.child.id()).expect("process ids are positive"))
    }

    /// SIGTERM; whether it ended well.
    pub(crate) fn terminate(mut self) -> bool {
        kill(self.pid(), Signal::SIGTERM).expect("it can be signalled");
        self.process.child.wait().is_ok_and(|status| status.success())
    }

    /// Asks by the control socket.
    pub(crate) fn control(&self) -> Control {
        Control(self.state.join("control.sock"))
    }
}

/// The way to ask the gateway for what its command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct Control(PathBuf);

impl Control {
    /// One question; `None`: there was no answer, so nothing is known. `Err`: it was refused.
    pub(crate) fn ask(&self, question: &Value) -> Option<Result<Value, String>> {
        let answer: Value = serde_json::from_slice(&converse(&self.0, question)?).ok()?;
        if answer["reply"] == "failed" {
            return Some(Err(answer["message"].as_str().unwrap_or_default().to_owned()));
        }
        Some(Ok(answer))
    }
}

fn converse(path: &Path, question: &Value) -> Option<Vec<u8>> {
    let mut stream = UnixStream::connect(path).ok()?;
    stream.set_read_timeout(Some(READY)).ok()?;
    stream.write_all(format!("{question}\n").as_bytes()).ok()?;
    stream.shutdown(Shutdown::Write).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    answer.ends_with(b"\n").then_some(answer)
}
