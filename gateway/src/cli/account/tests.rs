//! The commands without and with a running gateway.

use std::{fs, path::Path};

use super::*;
use crate::{
    clock::{Clock as _, SystemClock},
    config::{
        AnonymousPublish, AutopushConfig, MissingTtl, MqttConfig, NtfyConfig, PublicConfig, WakeConfig,
        WebConfig,
    },
    console::{Pairing, Server, Status},
    model::{Budgets, Profile},
    registry::{Origin, Registry, Security},
    store::Store,
};

fn config(state_dir: &Path) -> Config {
    Config {
        announce: false,
        limits: crate::config::LimitsConfig::default(),
        autopush: AutopushConfig { enabled: true },
        home: None,
        log: "info".to_owned(),
        mqtt: MqttConfig {
            host: Some("pi.lan".to_owned()),
            listen: "127.0.0.1:1883".parse().expect("an address"),
            max_connections: 10,
            max_connections_per_source: 64,
            max_keep_alive_s: 600,
            tls: None,
        },
        ntfy: NtfyConfig {
            anonymous_publish: AnonymousPublish::default(),
            anonymous_subscribe: true,
            enabled: true,
            max_new_topics_per_source: 100,
        },
        open_broker: None,
        public: PublicConfig {
            tls: None,
            listen: "127.0.0.1:8080".parse().expect("an address"),
            max_connections: 10,
            missing_ttl: MissingTtl::default(),
            url: None,
        },
        state_dir: state_dir.to_owned(),
        trusted_proxies: Vec::new(),
        web: WebConfig { max_connections: 10, max_connections_per_source: 10 },
        wake: WakeConfig {
            balanced: Budgets::of_profile(Profile::Balanced),
            max_wakes: None,
            profile: Profile::Balanced,
            quiet: None,
            saver: Budgets::of_profile(Profile::Saver),
            tail: std::time::Duration::from_secs(10),
        },
        xmpp: None,
    }
}

/// A state directory that does not exist yet.
struct World {
    config: Config,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { config: config(&dir.path().join("state")), _dir: dir }
    }

    fn device(&self, command: DeviceCommand, terminal: bool) -> Result<String, CliError> {
        let mut out = Vec::new();
        device(&command, &self.config, &mut out, terminal)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    fn registration(&self, command: RegistrationCommand) -> Result<String, CliError> {
        let mut out = Vec::new();
        registration(&command, &self.config, &mut out, false)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    fn pair(&self) -> Pairing {
        let text = self.device(add("phone", true), false).expect("a pairing");
        serde_json::from_str(&text).expect("JSON")
    }
}

fn add(name: &str, json: bool) -> DeviceCommand {
    DeviceCommand::Add { name: name.to_owned(), transport: "mqtt".to_owned(), json }
}

fn register(device: &str, json: bool) -> RegistrationCommand {
    RegistrationCommand::Add { device: device.to_owned(), app: "mail".to_owned(), vapid: None, json }
}

#[test]
fn a_device_is_paired_without_a_gateway() {
    let world = World::new();
    let pairing = world.pair();
    assert_eq!(
        pairing.uri,
        format!("unifiedpush-mqtt+plain://{}:{}@pi.lan:1883", pairing.device, pairing.secret)
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(&world.config.state_dir).expect("a directory").permissions(),
    );
    assert_eq!(mode & 0o777, 0o700);
    let listed = world.device(DeviceCommand::List { json: true }, false).expect("a list");
    assert!(listed.contains(&pairing.device) && !listed.contains(&pairing.secret));
    let rotate = DeviceCommand::Rotate { id: pairing.device.clone(), json: true };
    let rotated: Pairing =
        serde_json::from_str(&world.device(rotate, false).expect("a secret")).expect("JSON");
    assert_eq!(rotated.device, pairing.device);
    let remove = || DeviceCommand::Remove { id: pairing.device.clone() };
    assert_eq!(world.device(remove(), false).expect("removed"), "");
    let again = world.device(remove(), false).expect_err("removed already");
    assert_eq!(again.exit_code(), 1);
    assert_eq!(world.device(DeviceCommand::List { json: true }, false).expect("a list"), "[]\n");
}

#[test]
fn scripts_get_exactly_what_help_says() {
    let world = World::new();
    let text = world.device(add("phone", true), true).expect("a pairing");
    let Pairing { device, secret, uri } = serde_json::from_str(&text).expect("JSON");
    assert_eq!(text, format!("{{\"device\":\"{device}\",\"secret\":\"{secret}\",\"uri\":\"{uri}\"}}\n"));
    let endpoint = world.registration(register(&device, false)).expect("an endpoint");
    let endpoint = endpoint.strip_suffix('\n').expect("one line");
    assert!(endpoint.starts_with("http://127.0.0.1:8080/p/") && !endpoint.contains('\n'));
    let text = world.registration(register(&device, true)).expect("the same");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let channel = value["channel"].as_str().expect("a channel");
    assert_eq!(
        text,
        format!(
            "{{\"device\":\"{device}\",\"app\":\"mail\",\"channel\":\"{channel}\",\"endpoint\":\"{endpoint}\"}}\n"
        )
    );
    let listed = world.registration(RegistrationCommand::List { json: true }).expect("a list");
    let rows: Vec<crate::console::RegistrationRow> = serde_json::from_str(&listed).expect("JSON");
    assert_eq!((rows.len(), rows[0].endpoint.as_str(), rows[0].channel.as_str()), (1, endpoint, channel));
    let remove = RegistrationCommand::Remove { endpoint: endpoint.to_owned() };
    assert_eq!(world.registration(remove).expect("removed"), "");
}

#[test]
fn people_get_a_table_and_a_code_on_their_terminal() {
    let world = World::new();
    let plain = world.device(add("phone", false), false).expect("a pairing");
    assert_eq!(plain.lines().count(), 3, "{plain}");
    let shown = world.device(add("tablet", false), true).expect("a pairing");
    assert!(shown.contains("unifiedpush-mqtt+plain://") && shown.contains('\u{2580}'), "{shown}");
    let listed = world.device(DeviceCommand::List { json: false }, true).expect("a list");
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("DEVICE") && lines[1].ends_with("phone") && lines[2].ends_with("tablet"));
}

#[test]
fn a_port_that_nobody_knows_yet_is_named() {
    let mut world = World::new();
    let device = world.pair().device;
    world.config.mqtt.listen.set_port(0);
    world.config.public.listen.set_port(0);
    let refused = world.device(add("phone", true), false).expect_err("no port");
    assert_eq!(refused.exit_code(), 78);
    assert!(refused.to_string().contains("transport.mqtt.listen has port 0"), "{refused}");
    let refused = world.registration(register(&device, true)).expect_err("no port");
    assert!(refused.to_string().contains("public.listen has port 0"), "{refused}");
    let by_url = || DeviceCommand::Add { name: "own path".into(), transport: "autopush".into(), json: true };
    let refused = world.device(by_url(), false).expect_err("no port");
    assert!(refused.to_string().contains("public.listen has port 0"), "{refused}");
    // What does not name the port does not need it.
    assert!(world.device(DeviceCommand::List { json: true }, false).is_ok());
    world.config.public.url = Some("https://push.example.org".to_owned());
    assert!(world.registration(register(&device, true)).is_ok());
    // A device that comes by HTTP is not told where MQTT is.
    let paired = world.device(by_url(), false).expect("a pairing");
    assert!(paired.contains("https://push.example.org/d/"), "{paired}");
    let rotate = DeviceCommand::Rotate { id: device, json: true };
    assert!(world.device(rotate, false).expect_err("no port").to_string().contains("mqtt.listen has port 0"));
}

#[test]
fn a_mistyped_directory_is_not_made() {
    let world = World::new();
    let refused = world.device(DeviceCommand::List { json: true }, false).expect_err("nothing there");
    assert!(refused.to_string().contains("there is no state in"), "{refused}");
    assert!(!world.config.state_dir.exists());
}

#[test]
fn a_store_that_somebody_holds_is_waited_for_but_not_for_ever() {
    let world = World::new();
    world.pair();
    let clock = SystemClock::default();
    let mut held = Some(Store::open(&world.config.state_dir, |_| clock.moment()).expect("a store").closer);
    let mut asked = 0;
    let answer = offline::ask_or_open_unless(&world.config, Request::DeviceList, &mut || {
        asked += 1;
        asked == 3
    });
    assert!(matches!(&answer, Err(CliError::Failed(why)) if why.contains("in use")), "{answer:?}");
    assert_eq!(asked, 3);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let answer = offline::ask_or_open_unless(&world.config, Request::DeviceList, &mut || {
        runtime.block_on(held.take().expect("closed once").close());
        false
    });
    assert!(matches!(&answer, Ok(Reply::Devices { devices }) if devices.len() == 1), "{answer:?}");
}

#[test]
fn a_running_gateway_does_it_itself() {
    let world = World::new();
    world.pair();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let clock = std::sync::Arc::new(SystemClock::default());
    let store = Store::open(&world.config.state_dir, |_| clock.moment()).expect("a store");
    let origin = Origin {
        host: "running".to_owned(),
        port: 4711,
        security: Security::Plain,
        url: "https://running.example".to_owned(),
    };
    let registry = std::sync::Arc::new(Registry::new(store.accounts, clock, origin, Box::new(|_| ())));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let status = Status { home: None, https: None, mqtt: String::new(), mqtts: None, public: String::new() };
    let server = {
        let _entered = runtime.enter();
        Server::bind(&world.config.state_dir, None).expect("a socket")
    };
    let run = runtime.spawn(server.run(registry, store.archive, status, stopped));
    let pairing = world.pair();
    assert!(pairing.uri.ends_with("@running:4711"), "{}", pairing.uri);
    let endpoint = world.registration(register(&pairing.device, false)).expect("an endpoint");
    assert!(endpoint.starts_with("https://running.example/p/"), "{endpoint}");
    let listed = world.device(DeviceCommand::List { json: true }, false).expect("a list");
    assert_eq!(listed.matches("\"name\":\"phone\"").count(), 2, "{listed}");
    stop.send(true).expect("it runs");
    runtime.block_on(run).expect("no panic");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::BrokenPipe))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let devices = Reply::Devices { devices: Vec::new() };
    assert!(print(devices, false, &mut Closed, false).is_ok());
}
