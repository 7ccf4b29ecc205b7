//! The gateway as a process: started, spoken to, stopped, killed and started again.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use command_fds::{CommandFdExt as _, FdMapping};
use nix::{sys::signal, unistd::Pid};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    binary,
    foreign::{self, Output},
    http::Request,
    unit_environment,
    wait::within,
};

/// What a gateway is to be started with.
#[derive(Debug)]
pub struct Builder {
    args: Vec<String>,
    config: Option<String>,
    env: Vec<(String, String)>,
    held: Option<Held>,
    mqtt: Option<SocketAddr>,
    state_dir: Option<PathBuf>,
    wrapper: Vec<String>,
}

impl Builder {
    /// Adds arguments after the harness's own.
    #[must_use]
    pub fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.args.extend(args.map(String::from));
        self
    }

    /// Writes this TOML to a file and passes it by `--config`.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Holds its sockets, as a service manager does: they stay open while it does not run.
    #[must_use]
    pub fn held(mut self) -> Self {
        self.held = Some(Held::of(["mqtt", "public"]));
        self
    }

    /// The same with every listener there can be; the configuration has to ask for those.
    #[must_use]
    pub fn held_all(mut self) -> Self {
        self.held = Some(Held::of(["mqtt", "public", "home", "mqtts"]));
        self
    }

    /// Listens here for devices, instead of at a free port of the loopback.
    #[must_use]
    pub fn mqtt_at(mut self, address: &str) -> Self {
        self.mqtt = Some(address.parse().expect("an address with a port"));
        self
    }

    /// Keeps its state below this directory.
    #[must_use]
    pub fn state_in(mut self, directory: &Path) -> Self {
        self.state_dir = Some(directory.join("state"));
        self
    }

    /// Uses another gateway's state.
    #[must_use]
    pub fn state_of(mut self, other: &Gateway) -> Self {
        self.state_dir = Some(other.state_dir());
        self
    }

    /// Starts the gateway by way of another program, which must not become its parent.
    #[must_use]
    pub fn under<const N: usize>(mut self, wrapper: [&str; N]) -> Self {
        self.wrapper.extend(wrapper.map(String::from));
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Gateway {
        let at = self.mqtt.unwrap_or_else(any_port);
        let setting = Setting::new(self);
        let (child, Ready { home, mqtt, mqtts, public }) = setting.spawn(any_port(), at).await;
        Gateway { child: Some(child), home, mqtt, mqtts, public, setting }
    }

    /// Starts it and waits until it has ended by itself, as it must with a configuration that it refuses.
    pub async fn run_to_exit(self) -> Output {
        let setting = Setting::new(self);
        within("the gateway ends by itself", foreign::finish(setting.command(any_port(), any_port()))).await
    }
}

/// Sockets that outlive the process, by name.
#[derive(Debug)]
struct Held(Vec<(&'static str, TcpListener)>);

impl Held {
    fn of<const N: usize>(names: [&'static str; N]) -> Self {
        let listen = |name| (name, TcpListener::bind(any_port()).expect("a free port on loopback"));
        Self(names.into_iter().map(listen).collect())
    }

    /// Passes them as sd_listen_fds(3) says, from descriptor 3 on.
    fn pass(&self, command: &mut Command) {
        let map = |((_, socket), child_fd): (&(&str, TcpListener), i32)| {
            let parent_fd = socket.try_clone().expect("a socket can be cloned").into();
            FdMapping { parent_fd, child_fd }
        };
        let mappings = self.0.iter().zip(3..).map(map).collect();
        command.as_std_mut().fd_mappings(mappings).expect("each has a number of its own");
        let names: Vec<_> = self.0.iter().map(|(name, _)| *name).collect();
        // LISTEN_PID would be the child's, which nobody knows yet.
        command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Where a gateway lives, and how it is started each time.
#[derive(Debug)]
struct Setting {
    builder: Builder,
    config: Option<PathBuf>,
    home: TempDir,
    state_dir: PathBuf,
}

impl Setting {
    fn new(builder: Builder) -> Self {
        let home = tempfile::Builder::new().prefix("gateway-test-").tempdir().expect("a temporary directory");
        let config = builder.config.as_ref().map(|toml| {
            let path = home.path().join("gateway.toml");
            fs::write(&path, toml).expect("the configuration is written");
            path
        });
        let state_dir = builder.state_dir.clone().unwrap_or_else(|| home.path().join("state"));
        Self { builder, config, home, state_dir }
    }

    /// The binary with nothing of this machine's surroundings: no systemd, no state of a user, but with the
    /// variables that the unit sets.
    fn bare_command(&self) -> Command {
        let mut command = match self.builder.wrapper.split_first() {
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(binary::gateway());
                command
            }
            None => Command::new(binary::gateway()),
        };
        for name in [
            "JOURNAL_STREAM",
            "LISTEN_FDNAMES",
            "LISTEN_FDS",
            "LISTEN_PID",
            "NOTIFY_SOCKET",
            "RUST_LOG",
            "STATE_DIRECTORY",
            "WATCHDOG_USEC",
        ] {
            command.env_remove(name);
        }
        command.envs(unit_environment());
        command.env("HOME", self.home.path()).env("XDG_STATE_HOME", self.home.path().join("xdg"));
        command.envs(self.builder.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    fn global_args(&self) -> Vec<String> {
        let mut args = vec!["--state-dir".into(), self.state_dir.display().to_string()];
        if let Some(config) = &self.config {
            args.extend(["--config".into(), config.display().to_string()]);
        }
        args
    }

    fn command(&self, public: SocketAddr, mqtt: SocketAddr) -> Command {
        let mut command = self.bare_command();
        command.arg("run").args(self.global_args());
        command.args(["--public", &public.to_string(), "--mqtt", &mqtt.to_string()]);
        command.args(&self.builder.args);
        if let Some(held) = &self.builder.held {
            held.pass(&mut command);
        }
        command
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("log")
    }

    async fn spawn(&self, public: SocketAddr, mqtt: SocketAddr) -> (Child, Ready) {
        // A file, not a pipe: it can neither fill up nor be lost when the test panics.
        let log = File::options().append(true).create(true).open(self.log()).expect("the log is writable");
        let mut command = self.command(public, mqtt);
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the gateway starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        let first = within("the ready line", lines.next_line()).await.expect("its output is text");
        let Some(ready) = first.as_deref().and_then(parse_ready) else {
            panic!("expected the ready line, got {first:?}; its log:\n{}", self.read_log());
        };
        // Keeps the pipe open and empty for as long as the process lives.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        (child, ready)
    }

    fn read_log(&self) -> String {
        fs::read(self.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

/// Where a gateway says that it listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Ready {
    home: Option<SocketAddr>,
    mqtt: SocketAddr,
    mqtts: Option<SocketAddr>,
    public: SocketAddr,
}

/// `ready public=http://127.0.0.1:8080 mqtt=mqtt://127.0.0.1:1883`, and more behind it, for example
/// ` mqtts=mqtts://127.0.0.1:8883 home=http://127.0.0.1:8081`.
fn parse_ready(line: &str) -> Option<Ready> {
    let (public, rest) = line.strip_prefix("ready public=http://")?.split_once(" mqtt=mqtt://")?;
    // What an option adds to the line stands behind a space.
    let mut words = rest.split(' ');
    let mqtt = words.next()?.parse().ok()?;
    let named = |name| words.clone().find_map(|word| word.strip_prefix(name)?.parse().ok());
    let (home, mqtts) = (named("home=http://"), named("mqtts=mqtts://"));
    Some(Ready { home, mqtt, mqtts, public: public.parse().ok()? })
}

/// A running gateway. It is killed when it goes out of scope, and its log printed if the test failed.
#[derive(Debug)]
pub struct Gateway {
    child: Option<Child>,
    /// Where it listens for the owner's own network, if it does.
    pub home: Option<SocketAddr>,
    /// Where it listens for devices.
    pub mqtt: SocketAddr,
    /// Where it listens for devices with TLS, if it does.
    pub mqtts: Option<SocketAddr>,
    /// Where it listens for application servers.
    pub public: SocketAddr,
    setting: Setting,
}

/// The credentials of a paired device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl Device {
    fn from_json(json: &Value) -> Self {
        let text = |key: &str| json[key].as_str().unwrap_or_else(|| panic!("no {key} in {json}")).to_owned();
        Self { id: text("device"), secret: text("secret") }
    }
}

impl Gateway {
    /// A gateway on free ports with a state directory of its own.
    #[expect(clippy::new_ret_no_self, reason = "Gateway::new().config(…).start() reads as a sentence")]
    #[must_use]
    pub fn new() -> Builder {
        Builder {
            args: Vec::new(),
            config: None,
            env: Vec::new(),
            held: None,
            mqtt: None,
            state_dir: None,
            wrapper: Vec::new(),
        }
    }

    /// Runs the binary's command line against this gateway's state, whether it runs or not.
    pub async fn cli<const N: usize>(&self, args: [&str; N]) -> Output {
        let globals = self.setting.global_args();
        self.cli_exactly(args.map(String::from).into_iter().chain(globals)).await
    }

    /// Runs the binary with these arguments and no others.
    pub async fn cli_exactly(&self, args: impl IntoIterator<Item = String>) -> Output {
        let mut command = self.setting.bare_command();
        command.args(args);
        within("the command ends", foreign::finish(command)).await
    }

    /// `--state-dir DIR` and, if there is a file, `--config FILE`.
    #[must_use]
    pub fn global_args(&self) -> Vec<String> {
        self.setting.global_args()
    }

    /// A command of the binary that goes on for a while, such as `listen`.
    #[must_use]
    pub fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = self.setting.bare_command();
        command.args(args).args(self.setting.global_args());
        command
    }

    /// Ends it as a power cut would, as far as the process can tell.
    pub async fn kill9(&mut self) {
        let mut child = self.child.take().expect("the gateway runs");
        within("the gateway is killed", child.kill()).await.expect("it can be killed");
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.setting.read_log()
    }

    /// Pairs a device by the command line.
    pub async fn pair(&self, name: &str) -> Device {
        Device::from_json(&self.cli(["device", "add", name, "--json"]).await.json())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("the gateway runs")
    }

    /// A push to an endpoint.
    #[must_use]
    pub fn post(&self, url: &str) -> Request {
        self.request("POST", url)
    }

    /// Any request; `url` may be a path on the public listener.
    #[must_use]
    pub fn request(&self, method: &str, url: &str) -> Request {
        Request::to(self.public, method, url)
    }

    /// Stops it in order and starts it again on the same ports.
    pub async fn restart(&mut self) {
        let status = self.terminate().await;
        assert_eq!(status.code(), Some(0), "SIGTERM ends the gateway with 0; its log:\n{}", self.log());
        self.start_again().await;
    }

    /// Gives a device a new secret.
    pub async fn rotate(&self, device: &Device) -> Device {
        Device::from_json(&self.cli(["device", "rotate", &device.id, "--json"]).await.json())
    }

    /// Starts it on the same ports after [`Self::kill9`] or [`Self::terminate`].
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "the gateway runs already");
        let (child, Ready { home, mqtt, mqtts, public }) = self.setting.spawn(self.public, self.mqtt).await;
        (self.home, self.mqtts) = (home, mqtts);
        assert_eq!((public, mqtt), (self.public, self.mqtt), "it listens where it did before");
        self.child = Some(child);
    }

    /// Its state directory.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.setting.state_dir.clone()
    }

    /// A directory that lives as long as this gateway.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.setting.home.path()
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal_term();
        let mut child = self.child.take().expect("the gateway runs");
        within("the gateway stops", child.wait()).await.expect("it can be waited for")
    }

    /// Sends SIGUSR2, and waits for the end that it is to bring about.
    pub async fn ends_by_sigusr2(&mut self) -> ExitStatus {
        let pid = i32::try_from(self.pid()).expect("process ids are positive");
        signal::kill(Pid::from_raw(pid), signal::Signal::SIGUSR2).expect("it can be signalled");
        let mut child = self.child.take().expect("the gateway runs");
        within("the gateway ends", child.wait()).await.expect("it can be waited for")
    }

    /// Sends SIGHUP, as `systemctl reload` does.
    pub fn reload(&self) {
        let pid = i32::try_from(self.pid()).expect("process ids are positive");
        signal::kill(Pid::from_raw(pid), signal::Signal::SIGHUP).expect("it can be signalled");
    }

    /// Sends SIGTERM and does not wait.
    pub fn signal_term(&self) {
        let pid = i32::try_from(self.pid()).expect("process ids are positive");
        signal::kill(Pid::from_raw(pid), signal::Signal::SIGTERM).expect("it can be signalled");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "a failing test shows what its gateway said")]
            {
                eprintln!("--- log of the gateway ---\n{}--- end ---", self.log());
            }
        }
        // The child itself is killed by `kill_on_drop`.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_read() {
        let (public, mqtt) = ("127.0.0.1:8080".parse().expect("valid"), "[::1]:1883".parse().expect("valid"));
        let line = "ready public=http://127.0.0.1:8080 mqtt=mqtt://[::1]:1883";
        assert_eq!(parse_ready(line), Some(Ready { home: None, mqtt, mqtts: None, public }));
        let more = format!("{line} mqtts=mqtts://127.0.0.1:8883 home=http://127.0.0.1:8081");
        let more = parse_ready(&more).expect("it is a ready line");
        assert_eq!(more.home, "127.0.0.1:8081".parse().ok());
        assert_eq!(more.mqtts, "127.0.0.1:8883".parse().ok());
        assert_eq!(parse_ready("ready"), None);
    }
}
