//! The servers, with room for the crowd.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use harness::free_port;
use serde_json::Value;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, pem::PemObject as _},
    },
};

use crate::{
    Result,
    args::Args,
    measures::Side,
    proc,
    servers::{Running, Server, listener, text},
};

/// Which server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Posted to by HTTP; keeps on disk what is not acknowledged in time.
    Gateway,
    /// Published to, keeps nothing.
    Mosquitto,
    /// The gateway's listener without login: published to, keeps nothing.
    OpenBroker,
}

/// A server.
#[derive(Debug)]
pub(super) struct House {
    binary: PathBuf,
    pub(super) mqtt: SocketAddr,
    /// Where the gateway takes pushes, and listens with TLS. Others are published to.
    pub(super) gateway: Option<Gateway>,
    running: Running,
    state: PathBuf,
}

/// What mosquitto has not.
pub(super) struct Gateway {
    pub(super) connector: TlsConnector,
    pub(super) mqtts: SocketAddr,
    pub(super) public: SocketAddr,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("mqtts", &self.mqtts).finish_non_exhaustive()
    }
}

impl House {
    pub(super) fn start(kind: Kind, args: &Args, work: &Path) -> Result<Self> {
        match kind {
            Kind::Gateway => Self::gateway(args, work),
            Kind::Mosquitto => Self::mosquitto(args, work),
            Kind::OpenBroker => Self::open_broker(args, work),
        }
    }

    /// The gateway with its defaults, but for the limits of a single endpoint and the profile; see
    /// [`crate::servers`].
    pub(super) fn gateway(args: &Args, work: &Path) -> Result<Self> {
        let binary = Server::binary(Side::Gateway, args).ok_or("--gateway was not named")?.to_owned();
        let dir = fresh(work, "phones-gateway")?;
        let (state, config) = (dir.join("state"), dir.join("gateway.toml"));
        fs::write(
            &config,
            "[public]\nmax_connections = 4096\n[limits]\nper_second = 0\n[wake]\nprofile = \"instant\"\n\
             [transport.mqtt]\nhost = \"localhost\"\nmax_connections = 4096\n\
             [transport.mqtt.tls]\nlisten = \"127.0.0.1:0\"\n",
        )?;
        let mut command = Command::new(&binary);
        command.arg("--config").arg(&config).arg("run").arg("--state-dir").arg(&state);
        command.args(["--public", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]);
        let mut running = Running::spawn(command, dir, Stdio::piped())?;
        let ready = running.ready()?;
        let mut authority = Command::new(&binary);
        let authority = authority.arg("--config").arg(&config).arg("--state-dir").arg(&state).arg("ca");
        let authority = authority.output()?.stdout;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&authority)?)?;
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let gateway = Gateway {
            connector: TlsConnector::from(Arc::new(client)),
            mqtts: listener(&ready, "mqtts=mqtts://")?,
            public: listener(&ready, "public=http://")?,
        };
        let mqtt = listener(&ready, "mqtt=mqtt://")?;
        Ok(Self { binary, gateway: Some(gateway), mqtt, running, state })
    }

    /// Without persistence, and without the limit beyond which it loses what is queued.
    fn mosquitto(args: &Args, work: &Path) -> Result<Self> {
        let binary = Server::binary(Side::Mosquitto, args).ok_or("--mosquitto was not named")?.to_owned();
        let dir = fresh(work, "phones-mosquitto")?;
        let (address, config, state) = (free_port(), dir.join("mosquitto.conf"), dir.clone());
        fs::write(
            &config,
            format!(
                "listener {} {}\nallow_anonymous true\npersistence false\nuser root\nset_tcp_nodelay true\n\
                 max_queued_messages 0\n",
                address.port(),
                address.ip()
            ),
        )?;
        let mut command = Command::new(&binary);
        command.envs(args.mosquitto_libraries.as_deref().map(|path| ("LD_LIBRARY_PATH", path)));
        command.arg("-c").arg(config);
        let mut running = Running::spawn(command, dir, Stdio::null())?;
        running.wait_for(address)?;
        Ok(Self { binary, gateway: None, mqtt: address, running, state })
    }

    /// The gateway's session layer as a broker for anybody.
    fn open_broker(args: &Args, work: &Path) -> Result<Self> {
        let binary = Server::binary(Side::Gateway, args).ok_or("--gateway was not named")?.to_owned();
        let dir = fresh(work, "phones-open-broker")?;
        let state = dir.join("state");
        let mut command = Command::new(&binary);
        command.arg("run").arg("--state-dir").arg(&state).args(["--public", "127.0.0.1:0"]);
        command.args(["--mqtt", "127.0.0.1:0", "--open-broker", "127.0.0.1:0"]);
        let mut running = Running::spawn(command, dir, Stdio::piped())?;
        let mqtt = listener(&running.ready()?, "open-broker=mqtt://")?;
        Ok(Self { binary, gateway: None, mqtt, running, state })
    }

    /// What only the gateway has.
    pub(super) fn own(&self) -> Result<&Gateway> {
        Ok(self.gateway.as_ref().ok_or("only the gateway is asked for this")?)
    }

    /// Runs a command of the gateway's that has something to say.
    pub(super) fn ask(&self, words: &[&str]) -> Result<Value> {
        Ok(serde_json::from_slice(&self.tell(&[words, &["--json"]].concat())?)?)
    }

    /// Runs a command of the gateway's; what it prints.
    pub(super) fn tell(&self, words: &[&str]) -> Result<Vec<u8>> {
        let output = Command::new(&self.binary).arg("--state-dir").arg(&self.state).args(words).output()?;
        if !output.status.success() {
            return Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(output.stdout)
    }

    /// Pairs a device: its id and secret.
    pub(super) fn pair(&self) -> Result<(String, String)> {
        let device = self.ask(&["device", "add", "phone"])?;
        Ok((text(&device, "device")?, text(&device, "secret")?))
    }

    /// Resident memory in bytes.
    pub(super) fn resident(&self) -> Result<u64> {
        proc::resident(self.running.pid())
    }
}

fn fresh(work: &Path, name: &str) -> Result<PathBuf> {
    let dir = work.join(format!("{name}-{}", std::process::id()));
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    Ok(dir)
}
