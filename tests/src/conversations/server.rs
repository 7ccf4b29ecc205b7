//! Prosody and ejabberd, each with one domain of accounts and one external component.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::{
    foreign::Foreign,
    ports::free_port,
    wait::{eventually_within, patience, within},
};

/// Which server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DaemonKind {
    /// Debian's `ejabberd`.
    Ejabberd,
    /// Debian's `prosody` with `prosody-modules`.
    Prosody,
}

/// A server on loopback that lets everybody have an account. It is killed when it goes out of scope, and the end
/// of its log printed if the test failed.
#[derive(Debug)]
pub struct XmppDaemon {
    child: Option<Child>,
    /// Where phones connect.
    pub clients: SocketAddr,
    /// Where the component of [`Self::COMPONENT`] connects.
    pub components: SocketAddr,
    home: TempDir,
    /// Where the HTTP side of Prosody's own push service listens.
    pub http: SocketAddr,
    kind: DaemonKind,
    program: PathBuf,
}

impl XmppDaemon {
    /// The name of the gateway on the server.
    pub const COMPONENT: &str = "push.home.test";
    /// Whose accounts live on the server.
    pub const DOMAIN: &str = "home.test";
    /// Whose accounts live there too, and are not to use the gateway.
    pub const ELSEWHERE: &str = "elsewhere.test";
    /// Prosody's own push service (mod_unified_push).
    pub const REFERENCE: &str = "ref.home.test";
    /// What a component says to be let in.
    pub const SECRET: &str = "s3cret <&> component";
    /// How long a session that has lost its connection can be resumed.
    const HIBERNATION_S: u32 = 300;

    /// Starts it, or says aloud that it is missing.
    pub async fn start(test: &str, kind: DaemonKind) -> Option<Self> {
        let program = match kind {
            DaemonKind::Ejabberd => Foreign::program(test, "ejabberdctl")?,
            DaemonKind::Prosody => Foreign::program(test, "prosody")?,
        };
        let home = tempfile::Builder::new().prefix("xmpp-test-").tempdir().expect("a temporary directory");
        let [clients, components, http] = [(); 3].map(|()| free_port());
        let mut server = Self { child: None, clients, components, home, http, kind, program };
        fs::create_dir(server.file("data")).expect("it is new");
        fs::write(server.config_file(), server.config()).expect("the configuration is written");
        server.start_again().await;
        Some(server)
    }

    /// Starts it on the same ports and with the same accounts after [`Self::terminate`] or [`Self::kill9`].
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = File::options().append(true).create(true).open(self.file("log")).expect("it is writable");
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("it is open")).stderr(log);
        self.child = Some(command.kill_on_drop(true).spawn().expect("the server starts"));
        for address in [self.clients, self.components] {
            self.listens_at(address).await;
        }
    }

    /// Asks it to stop and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server runs");
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).expect("the server runs");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)
            .expect("it can be signalled");
        within("the server stops", child.wait()).await.expect("it can be waited for")
    }

    /// Ends it as a power cut would, as far as the process can tell.
    pub async fn kill9(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        within("the server is killed", child.kill()).await.expect("it can be killed");
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.file("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// `[transport.xmpp]` of a gateway that is to be its component, and says this secret.
    #[must_use]
    pub fn gateway_config(&self, secret: &str) -> String {
        let file =
            tempfile::Builder::new().prefix("secret-").tempfile_in(self.home.path()).expect("a new file");
        let (_, file) = file.keep().expect("it is kept");
        fs::write(&file, format!("{secret}\n")).expect("it is written");
        format!(
            "[transport.xmpp]\nserver = \"{}\"\ncomponent = \"{}\"\nsecret_file = {file:?}\n\
             allowed_domains = [\"{}\"]\n",
            self.components,
            Self::COMPONENT,
            Self::DOMAIN,
        )
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn config_file(&self) -> PathBuf {
        self.file(match self.kind {
            DaemonKind::Ejabberd => "ejabberd.yml",
            DaemonKind::Prosody => "prosody.cfg.lua",
        })
    }

    /// Each of the two reads its rules from a file; both trust this machine's processes, and no other can connect.
    fn config(&self) -> String {
        match self.kind {
            DaemonKind::Ejabberd => self.ejabberd_config(),
            DaemonKind::Prosody => self.prosody_config(),
        }
    }

    fn ejabberd_config(&self) -> String {
        let (domain, elsewhere) = (Self::DOMAIN, Self::ELSEWHERE);
        let (component, secret) = (Self::COMPONENT, Self::SECRET);
        let (clients, components, hibernation) =
            (self.clients.port(), self.components.port(), Self::HIBERNATION_S);
        format!(
            r#"
hosts: ["{domain}", "{elsewhere}"]
loglevel: info
auth_method: internal
auth_password_format: plain
registration_timeout: infinity
access_rules:
  everybody: {{allow: all}}
listen:
  - port: {clients}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    access: everybody
  - port: {components}
    ip: "127.0.0.1"
    module: ejabberd_service
    access: everybody
    hosts:
      "{component}": {{password: "{secret}"}}
modules:
  mod_adhoc: {{}}
  mod_client_state: {{}}
  mod_disco: {{}}
  mod_mam: {{default: always}}
  mod_ping: {{}}
  mod_push: {{}}
  mod_push_keepalive: {{}}
  mod_register: {{access: everybody, ip_access: everybody}}
  mod_roster: {{}}
  mod_stream_mgmt: {{resume_timeout: {hibernation}, max_ack_queue: infinity}}
"#
        )
    }

    fn prosody_config(&self) -> String {
        let (domain, elsewhere) = (Self::DOMAIN, Self::ELSEWHERE);
        let (component, secret) = (Self::COMPONENT, Self::SECRET);
        let (reference, hibernation, data) = (Self::REFERENCE, Self::HIBERNATION_S, self.file("data"));
        let (clients, components, http) = (self.clients.port(), self.components.port(), self.http.port());
        format!(
            r#"
-- Tests run as whoever runs them; as root in a container.
run_as_root = true
data_path = {data:?}
certificates = {data:?}
plugin_paths = {{ "/usr/lib/prosody/modules" }}
interfaces = {{ "127.0.0.1" }}
local_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {clients} }}
component_ports = {{ {components} }}
http_ports = {{ {http} }}
c2s_direct_tls_ports, https_ports, s2s_ports = {{}}, {{}}, {{}}
modules_enabled = {{
    "cloud_notify", "disco", "iq", "mam", "message", "ping", "presence", "register_ibr", "roster", "saslauth", "smacks"
}}
modules_disabled = {{ "s2s", "tls" }}
allow_registration = true
allow_unencrypted_plain_auth = true
c2s_require_encryption = false
authentication = "internal_plain"
smacks_hibernation_time = {hibernation}
log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}
VirtualHost "{domain}"
VirtualHost "{elsewhere}"
Component "{component}"
    component_secret = "{secret}"
    component_conflict_resolve = "kick_old"
Component "{reference}" "unified_push"
    unified_push_acl = {{ "{domain}" }}
    http_host = "127.0.0.1"
    http_external_url = "http://127.0.0.1:{http}/"
"#
        )
    }

    fn command(&self) -> Command {
        match self.kind {
            DaemonKind::Ejabberd => self.ejabberd(),
            DaemonKind::Prosody => {
                let mut command = Command::new(&self.program);
                command.arg("-F").arg("--config").arg(self.config_file());
                command
            }
        }
    }

    /// Without `ejabberdctl`, which would change to a user of its own and make it a node that others can reach: so
    /// there is no distribution, and no epmd that outlives it.
    fn ejabberd(&self) -> Command {
        let script = fs::read_to_string(&self.program).expect("ejabberdctl is a script");
        let libraries = script.lines().find_map(|line| line.strip_prefix("ERL_LIBS="));
        let mut command = Command::new("erl");
        command.env("EJABBERD_CONFIG_PATH", self.config_file());
        command.env("EJABBERD_LOG_PATH", self.file("ejabberd.log"));
        command.env("ERL_CRASH_DUMP_BYTES", "0").env("HOME", self.home.path());
        command.env("ERL_LIBS", libraries.expect("it says where its libraries are").trim_matches('\''));
        // Its threads would spin while they wait for work, and make it start six times slower on a busy machine.
        command.args(["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"]);
        command.args(["+P", "50000", "-noinput", "-mnesia", "dir"]).arg(format!("{:?}", self.file("data")));
        command.args(["-ejabberd", "log_rotate_size", "10485760", "-s", "ejabberd"]);
        command
    }

    async fn listens_at(&mut self, address: SocketAddr) {
        let child = self.child.as_mut().expect("it has been started");
        // ejabberd alone needs ten seconds on a busy machine.
        let listens = eventually_within(6 * patience(), "the XMPP server listens", async || {
            match child.try_wait().expect("it can be asked") {
                Some(status) => Some(Err(status)),
                None => TcpStream::connect(address).await.is_ok().then_some(Ok(())),
            }
        });
        if let Err(status) = listens.await {
            panic!("{:?} ended with {status}; its log:\n{}", self.kind, self.log());
        }
    }
}

impl Drop for XmppDaemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(60)..].join("\n");
            #[expect(clippy::print_stderr, reason = "a failing test shows what its server said")]
            {
                eprintln!("--- end of the log of {:?} ---\n{end}\n--- end ---", self.kind);
            }
        }
    }
}
