//! Starts the servers: each with an empty state directory, on loopback, on a free port.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use harness::{free_port, unit_environment};
use serde_json::Value;

use crate::{Error, Result, args::Args, measures::Side, mqtt::Login, subscriber::Subscription};

/// How many apps of the one device the pushes are for.
const APPS: usize = 16;
/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server; dropping it kills it and removes its state.
#[derive(Debug)]
pub(crate) struct Server {
    /// Which one.
    pub(crate) side: Side,
    /// Where it takes pushes.
    pub(crate) address: SocketAddr,
    /// What to post to, one path for each app. Empty for a server without HTTP.
    pub(crate) paths: Vec<String>,
    /// The same of a second device.
    pub(crate) spare_paths: Vec<String>,
    /// What to publish to instead.
    pub(crate) publish_topic: Option<String>,
    /// How to subscribe.
    pub(crate) subscription: Subscription,
    /// What it says it is.
    pub(crate) version: String,
    /// The gateway's commands.
    commands: Option<Commands>,
    running: Running,
}

/// Runs the gateway's commands that have something to say.
#[derive(Debug)]
struct Commands {
    binary: PathBuf,
    state: PathBuf,
}

impl Commands {
    fn ask(&self, words: &[&str]) -> Result<Value> {
        let output = Command::new(&self.binary)
            .arg("--state-dir")
            .arg(&self.state)
            .args(words)
            .arg("--json")
            .output()?;
        if !output.status.success() {
            return Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn pair(&self, transport: &str) -> Result<Login> {
        let device = self.ask(&["device", "add", "compare", "--transport", transport])?;
        Ok(Login { user: text(&device, "device")?, secret: text(&device, "secret")? })
    }
}

/// A server's process and its directory; dropping it ends both.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    command: Command,
    dir: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _status = self.child.wait();
        let _left_behind = fs::remove_dir_all(&self.dir);
    }
}

impl Server {
    /// The server's binary, if it was named.
    pub(crate) fn binary(side: Side, args: &Args) -> Option<&Path> {
        match side {
            Side::Gateway => args.gateway.as_deref(),
            Side::Ntfy => args.ntfy.as_deref(),
            Side::Mosquitto => args.mosquitto.as_deref(),
        }
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(side: Side, args: &Args, work: &Path) -> Result<Self> {
        let binary = Self::binary(side, args).ok_or("its binary was not named")?;
        let dir = work.join(format!("{}-{}", side.name(), std::process::id()));
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        match side {
            Side::Gateway => gateway(binary, dir),
            Side::Ntfy => ntfy(binary, dir),
            Side::Mosquitto => mosquitto(binary, dir, args.mosquitto_libraries.as_deref()),
        }
        .map_err(|error| format!("cannot start {}: {error}", binary.display()).into())
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// The login of a new device that speaks ntfy's protocol; ntfy takes anybody.
    pub(crate) fn pair_ntfy(&self) -> Result<Option<Login>> {
        self.commands.as_ref().map(|commands| commands.pair("ntfy")).transpose()
    }

    /// Kills it, starts it again, and waits for its first answer: how long that took from the start.
    pub(crate) fn recover(&mut self) -> Result<Duration> {
        let start = self.running.kill_and_start()?;
        if self.side == Side::Gateway {
            self.address = listener(&self.running.ready()?, "public=http://")?;
        } else {
            self.running.wait_for(self.address)?;
        }
        let path = if self.side == Side::Gateway { "/health" } else { "/v1/health" };
        let mut stream = TcpStream::connect(self.address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if !answer.starts_with("HTTP/1.1 200 ") {
            return Err(format!("{path} is answered {answer:?}").into());
        }
        Ok(start.elapsed())
    }

    /// What went wrong, with the end of its log.
    pub(crate) fn failure(&self, error: &Error) -> Error {
        format!("{}: {error}\n{}", self.side.name(), self.running.log()).into()
    }
}

impl Running {
    /// Starts `command` with its log in `dir`.
    pub(crate) fn spawn(mut command: Command, dir: PathBuf, stdout: Stdio) -> Result<Self> {
        let log = File::options().create(true).append(true).open(dir.join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(log).spawn()?;
        Ok(Self { child, command, dir })
    }

    /// Kills it and starts it again; since when it runs.
    fn kill_and_start(&mut self) -> Result<Instant> {
        self.child.kill()?;
        self.child.wait()?;
        let start = Instant::now();
        self.child = self.command.spawn()?;
        Ok(start)
    }

    /// The gateway's `ready public=http://127.0.0.1:PORT mqtt=mqtt://127.0.0.1:PORT …`.
    pub(crate) fn ready(&mut self) -> Result<String> {
        let stdout = BufReader::new(self.child.stdout.take().ok_or("no standard output")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            stdout.lines().map_while(std::result::Result::ok).all(|line| sender.send(line).is_ok())
        });
        let ready = lines.recv_timeout(PATIENCE);
        Ok(ready.map_err(|_| format!("it did not print its ready line\n{}", self.log()))?)
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// Waits until something accepts connections at `address`.
    pub(crate) fn wait_for(&mut self, address: SocketAddr) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("it ended with {status}\n{}", self.log()).into());
            }
            if start.elapsed() > PATIENCE {
                return Err(
                    format!("it does not listen on {address} after {PATIENCE:?}\n{}", self.log()).into()
                );
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// The gateway with its defaults and with what its unit sets, but without the limit of a single endpoint: the
/// load here comes to a few, and its peers have none; and as many streams as there may be, from one source. And
/// with the profile `instant`: they deliver at once too, and how long a push may wait for company is not what is
/// measured.
fn gateway(binary: &Path, dir: PathBuf) -> Result<Server> {
    let (state, config) = (dir.join("state"), dir.join("gateway.toml"));
    std::fs::write(
        &config,
        "[limits]\nper_second = 0\nwaiting_per_registration = 65535\nwaiting_mb_per_registration = 256\nwaiting_per_device = 65535\nwaiting_mb_per_device = 256\n[wake]\nprofile = \"instant\"\n[transport.web]\nmax_connections_per_source = 4096\n",
    )?;
    let mut command = Command::new(binary);
    command.envs(unit_environment());
    command.arg("--config").arg(config).arg("run").arg("--state-dir").arg(&state);
    command.args(["--public", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]);
    let mut running = Running::spawn(command, dir, Stdio::piped())?;

    let ready = running.ready()?;
    let (address, mqtt) = (listener(&ready, "public=http://")?, listener(&ready, "mqtt=mqtt://")?);

    let commands = Commands { binary: binary.to_owned(), state };
    let pair = || -> Result<(Login, Vec<String>)> {
        let login = commands.pair("mqtt")?;
        let mut paths = Vec::new();
        for app in 0..APPS {
            let registration = commands.ask(&["registration", "add", &login.user, &format!("app-{app}")])?;
            let endpoint = text(&registration, "endpoint")?;
            let path = endpoint.find("/p/").ok_or_else(|| format!("endpoint without /p/: {endpoint}"))?;
            paths.push(endpoint[path..].to_owned());
        }
        Ok((login, paths))
    };
    let ((login, paths), (_, spare_paths)) = (pair()?, pair()?);
    let filter = format!("up/{}/inbox/#", login.user);
    Ok(Server {
        side: Side::Gateway,
        address,
        paths,
        spare_paths,
        publish_topic: None,
        subscription: Subscription::Mqtt { address: mqtt, filter, login: Some(login) },
        version: version_line(Command::new(binary).arg("--version"), "unifiedpush-gateway")
            + ", profile instant",
        commands: Some(commands),
        running,
    })
}

/// An address of the gateway's ready line.
pub(crate) fn listener(ready: &str, name: &str) -> Result<SocketAddr> {
    let word = ready.split_ascii_whitespace().find_map(|word| word.strip_prefix(name));
    Ok(word.ok_or_else(|| format!("the ready line has no {name}: {ready}"))?.parse()?)
}

pub(crate) fn text(object: &Value, key: &str) -> Result<String> {
    Ok(object[key].as_str().ok_or_else(|| format!("no \"{key}\" in {object}"))?.to_owned())
}

/// ntfy with its defaults, a cache file, and limits that let the load pass: by default it takes 60 pushes at
/// once and then one each five seconds from one address, and 30 subscriptions to 100 new topics.
fn ntfy(binary: &Path, dir: PathBuf) -> Result<Server> {
    let address = free_port();
    let config = dir.join("server.yml");
    fs::write(
        &config,
        format!(
            "base-url: \"http://{address}\"\n\
             listen-http: \"{address}\"\n\
             cache-file: \"{}\"\n\
             visitor-request-limit-burst: 1000000000\n\
             visitor-request-limit-replenish: \"1ms\"\n\
             visitor-request-limit-exempt-hosts: \"127.0.0.1\"\n\
             visitor-subscription-limit: 100000\n\
             visitor-topic-creation-limit-burst: 0\n\
             visitor-message-daily-limit: 1000000000\n",
            dir.join("cache.db").display()
        ),
    )?;
    let mut command = Command::new(binary);
    command.arg("serve").arg("--config").arg(config);
    let mut running = Running::spawn(command, dir, Stdio::null())?;
    running.wait_for(address)?;
    // The topics that the ntfy app makes up for UnifiedPush: `up` and 12 more characters.
    let topics: Vec<String> = (0..APPS).map(|app| format!("upCompareApp{app:02}")).collect();
    Ok(Server {
        side: Side::Ntfy,
        address,
        paths: topics.iter().map(|topic| format!("/{topic}?up=1")).collect(),
        spare_paths: Vec::new(),
        publish_topic: None,
        subscription: Subscription::JsonStream { address, topics: topics.join(","), login: None },
        version: version_line(Command::new(binary).arg("--help"), "ntfy "),
        commands: None,
        running,
    })
}

/// mosquitto without persistence: the fastest way through memory, to compare latency with.
fn mosquitto(binary: &Path, dir: PathBuf, libraries: Option<&Path>) -> Result<Server> {
    let address = free_port();
    let config = dir.join("mosquitto.conf");
    fs::write(
        &config,
        format!(
            "listener {} {}\nallow_anonymous true\npersistence false\nuser root\n",
            address.port(),
            address.ip()
        ),
    )?;
    let environment = libraries.map(|path| ("LD_LIBRARY_PATH", path));
    let mut command = Command::new(binary);
    command.envs(environment).arg("-c").arg(config);
    let mut running = Running::spawn(command, dir, Stdio::null())?;
    running.wait_for(address)?;
    Ok(Server {
        side: Side::Mosquitto,
        address,
        paths: Vec::new(),
        spare_paths: Vec::new(),
        publish_topic: Some("up/compare/inbox/push/1".to_owned()),
        subscription: Subscription::Mqtt { address, filter: "up/compare/inbox/#".to_owned(), login: None },
        version: version_line(Command::new(binary).envs(environment).arg("-h"), "mosquitto version"),
        commands: None,
        running,
    })
}

/// The last line that starts with `prefix`, up to a comma: how these programs say their version.
fn version_line(command: &mut Command, prefix: &str) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    let line = text.lines().rev().find(|line| line.starts_with(prefix)).unwrap_or("version unknown");
    line.split([',', '(']).next().unwrap_or(line).trim().to_owned()
}
