//! The command line: one definition from which parsing, help, man page and completions come.

pub mod account;
mod backup;
mod check;
mod dispatch;
mod doctor;
mod listen;
mod man;
mod simulate;

#[cfg(test)]
mod tests;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use clap::{Args, CommandFactory as _, Parser, Subcommand, error::ErrorKind};

pub use account::CliError;
pub use dispatch::dispatch;

/// A self-hosted push gateway: UnifiedPush and Web Push in, MQTT out, nothing accepted is lost.
#[derive(Debug, Parser)]
#[command(name = "unifiedpush-gateway", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do; without it the gateway runs.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where things are; accepted before and after every subcommand.
    #[command(flatten)]
    pub global: Global,
    /// Listeners of `run`, given without the word.
    #[command(flatten)]
    pub run: RunArgs,
}

impl Cli {
    /// Reads the command line, the program's name first. Afterwards [`Cli::run`] holds the
    /// listeners wherever they stood: `--public ADDR run` and `run --public ADDR` are one.
    ///
    /// # Errors
    /// What is wrong with it; also the texts of `--help` and `--version`.
    pub fn read(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let mut cli = Self::try_parse_from(line)?;
        if let Some(Command::Run(after)) = &cli.command {
            // The one closer to its command is the later, more particular word.
            cli.run = RunArgs {
                mqtt: after.mqtt.or(cli.run.mqtt),
                open_broker: after.open_broker.or(cli.run.open_broker),
                public: after.public.or(cli.run.public),
            };
        } else if cli.command.is_some() {
            // Otherwise it would be ignored without a word.
            let strays = [
                ("--public", cli.run.public),
                ("--mqtt", cli.run.mqtt),
                ("--open-broker", cli.run.open_broker),
            ];
            if let Some((option, _)) = strays.iter().find(|(_, said)| said.is_some()) {
                let what = format!(
                    "`{option}` before the subcommand is for `run`; leave it out, or write it after the subcommand if that has it"
                );
                return Err(Self::command().error(ErrorKind::ArgumentConflict, what));
            }
        }
        Ok(cli)
    }
}

/// Accepted before and after every subcommand.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Read settings from this TOML file.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep state here [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/unifiedpush-gateway].
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// Listeners.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// Listen here for application servers (HTTP); port 0 picks a free one [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    pub public: Option<SocketAddr>,
    /// Listen here for devices (MQTT); port 0 picks a free one [default: 127.0.0.1:1883].
    #[arg(long, value_name = "ADDR")]
    pub mqtt: Option<SocketAddr>,
    /// For conformance tests: also be an MQTT broker here without login, for any topic; loopback only.
    #[arg(long, value_name = "ADDR")]
    pub open_broker: Option<SocketAddr>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway (the default).
    Run(RunArgs),
    /// Pair, list, re-key and remove devices.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Let several devices share an endpoint: each gets every push.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Give endpoints to apps, list and remove them.
    #[command(subcommand)]
    Registration(RegistrationCommand),
    /// Be a distributor in this terminal: print an endpoint, then every push that arrives.
    Listen(ListenArgs),
    /// Count what each policy would cost a phone in wakes, delay and charge, over a trace.
    Simulate(simulate::SimulateArgs),
    /// Write everything to one file: devices, endpoints, waiting messages, certificates. The gateway may run.
    Backup {
        /// Where to; only its owner may read it.
        file: PathBuf,
        /// Replace the file if it exists.
        #[arg(long)]
        force: bool,
    },
    /// Bring a backup back into an empty state, while no gateway runs.
    Restore {
        /// A file that `backup` has written.
        file: PathBuf,
    },
    /// Print the certificate of the gateway's own authority, for clients that take a file (PEM).
    Ca {
        /// Print its fingerprint instead, as pairing URIs hold it.
        #[arg(long)]
        fingerprint: bool,
    },
    /// Print what was counted of all devices, as OpenMetrics text.
    Metrics,
    /// Check a configuration file and say what is wrong with it.
    Check,
    /// Look at everything that a push needs to arrive, try one, and say what to do where it does not.
    ///
    /// Configuration, clock, disk, ports, certificates, public name, reverse proxy, and a push through the
    /// public URL to a temporary device. Ends with 0 when there is no problem, 1 when there is one, and 78
    /// when the configuration cannot be used.
    Doctor(DoctorArgs),
    /// Print the manual page (roff).
    #[command(hide = true)]
    Man,
    /// Print shell completions.
    #[command(hide = true)]
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// `doctor`
#[derive(Args, Clone, Copy, Debug)]
pub struct DoctorArgs {
    /// Print JSON: {"problems","warnings","findings":[{"check","level","what","remedy"}]}.
    #[arg(long)]
    pub json: bool,
    /// Leave a WebSocket idle for this long, to see whether the reverse proxy cuts it; 0: do not.
    #[arg(long, value_name = "SECONDS", default_value_t = 65, value_parser = clap::value_parser!(u16).range(0..=3600))]
    pub idle: u16,
}

/// `device …`
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Pair a device: prints its id, its secret (shown once) and a pairing URI.
    Add {
        /// What to call it.
        name: String,
        /// What it speaks: mqtt; or autopush (Firefox, Sunup) or ntfy, for which the URI is the server's
        /// address to enter there.
        #[arg(long, default_value = "mqtt", value_parser = ["autopush", "mqtt", "ntfy"])]
        transport: String,
        /// Print JSON: {"device","secret","uri"}.
        #[arg(long)]
        json: bool,
    },
    /// List the paired devices.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give a device a new secret; the old one, and its open connection, end at once.
    Rotate {
        /// Its id.
        id: String,
        /// Print JSON: {"device","secret","uri"}.
        #[arg(long)]
        json: bool,
    },
    /// Show how often a device was woken and why, how long its messages waited, and what its networks bear.
    Show {
        /// Its id.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Choose how a device is woken; in force at once.
    #[command(group = clap::ArgGroup::new("choice").required(true).multiple(true))]
    Set {
        /// Its id.
        id: String,
        /// How long messages may wait for company: instant, balanced or saver; default: what the configuration says.
        #[arg(long, group = "choice", value_name = "PROFILE")]
        profile: Option<String>,
        /// When only urgency high passes, local time, such as 22:00-07:00; or none; or default.
        #[arg(long, group = "choice", value_name = "HOURS")]
        quiet: Option<String>,
    },
    /// Unpair a device: its connection, registrations and waiting messages end at once.
    Remove {
        /// Its id.
        id: String,
    },
}

/// `group …`
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Make a group: prints its id, for which `registration add` gives endpoints.
    Add {
        /// What to call it.
        name: String,
        /// Print JSON: {"group"}.
        #[arg(long)]
        json: bool,
    },
    /// Make a device a member: it gets its own copy of every push from now on.
    Join {
        /// The group's id.
        group: String,
        /// The device's id.
        device: String,
    },
    /// End a device's membership; it gets nothing more of what is the group's.
    Leave {
        /// The group's id.
        group: String,
        /// The device's id.
        device: String,
    },
    /// List the groups and their members.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove a group: its endpoints and waiting messages end at once, its members stay paired.
    Remove {
        /// The group's id.
        group: String,
    },
}

/// `registration …`
#[derive(Debug, Subcommand)]
pub enum RegistrationCommand {
    /// Give an app on a device, or in a group, an endpoint; the same app gets the same endpoint again.
    Add {
        /// The device's id, or a group's.
        device: String,
        /// The app's name, which is also its token.
        app: String,
        /// Accept pushes only from the application server with this public key (RFC 8292).
        #[arg(long, value_name = "KEY")]
        vapid: Option<String>,
        /// Print JSON: {"device","app","channel","endpoint"}.
        #[arg(long)]
        json: bool,
    },
    /// List the registrations.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a registration; its endpoint answers 410 from now on.
    Remove {
        /// Its endpoint, or the last segment of its path, which one time in 64 begins with a hyphen.
        #[arg(allow_hyphen_values = true)]
        endpoint: String,
    },
}

/// `listen`
#[derive(Args, Clone, Debug)]
pub struct ListenArgs {
    /// Be this device, instead of pairing a new one by the control socket.
    #[arg(long, value_name = "ID", requires = "secret")]
    pub device: Option<String>,
    /// The device's secret.
    #[arg(long, value_name = "S", requires = "device", allow_hyphen_values = true)]
    pub secret: Option<String>,
    /// Where the gateway listens for devices, or a device's whole pairing URI, also for TLS by the gateway's
    /// own authority [default: what the running gateway says].
    #[arg(long, value_name = "ADDR")]
    pub mqtt: Option<String>,
    /// Stop after this many pushes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Print a JSON object a line.
    #[arg(long)]
    pub json: bool,
}
