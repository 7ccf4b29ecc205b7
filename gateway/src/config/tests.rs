//! What a file and the command line say, and which of them counts.

use std::{ffi::OsString, fs, path::Path, time::Duration};

use proptest::prelude::*;

use super::{Certificate, Config, ConfigError, MissingTtl, Overrides, address};

use crate::model::{Budgets, Profile, WhenFull};

mod example;
mod mistakes;
mod xmpp;

fn home(name: &str) -> Option<OsString> {
    (name == "HOME").then(|| "/home/me".into())
}

fn load_with(text: &str, overrides: Overrides) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    fs::write(&file, text).unwrap();
    let result = Config::load(&Overrides { config: Some(file), ..overrides }, home);
    let prefix = format!("{}/", dir.path().display());
    result.map_err(|ConfigError(message)| ConfigError(message.replace(&prefix, "")))
}

fn load(text: &str) -> Result<Config, ConfigError> {
    load_with(text, Overrides::default())
}

fn defaults() -> Config {
    Config::load(&Overrides::default(), home).unwrap()
}

#[test]
fn without_a_file_the_defaults_suit_a_trial_on_one_machine() {
    let config = defaults();
    assert_eq!(config.log, "info");
    assert_eq!(config.public.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.public.max_connections, 1024);
    assert_eq!(config.public.missing_ttl, MissingTtl::OneDay);
    assert_eq!(config.public.url, None);
    assert_eq!(config.mqtt.listen.to_string(), "127.0.0.1:1883");
    assert_eq!(config.mqtt.max_connections, 1024);
    assert_eq!(config.mqtt.max_connections_per_source, 64);
    assert_eq!(config.mqtt.max_keep_alive_s, 1680);
    assert_eq!(config.wake.balanced, Budgets::of_profile(Profile::Balanced));
    assert_eq!(config.wake.saver, Budgets::of_profile(Profile::Saver));
    assert_eq!((config.wake.profile, config.wake.quiet), (Profile::Balanced, None));
    assert_eq!((config.wake.max_wakes, config.wake.tail), (Some(12), Duration::from_secs(10)));
    assert_eq!((config.mqtt.host, config.mqtt.tls), (None, None));
    assert_eq!(config.state_dir, Path::new("/home/me/.local/state/unifiedpush-gateway"));
}

#[test]
fn the_samples_of_the_board_and_of_the_yocto_layer_are_valid() {
    for sample in [
        include_str!("../../packaging/board/fat/gateway.toml"),
        include_str!(
            "../../../yocto-layer/recipes-connectivity/unifiedpush-gateway/files/unifiedpush-gateway.toml"
        ),
    ] {
        assert_eq!(load(sample).unwrap().state_dir, Path::new("/var/lib/unifiedpush-gateway"));
    }
}

#[test]
fn only_one_address_of_a_lan_is_announced_without_being_asked() {
    let announced = |text: &str| load(text).unwrap().announce;
    assert!(!defaults().announce);
    assert!(announced("[home]\nlisten = \"192.168.1.10:8081\"\n"));
    assert!(announced("[home]\nlisten = \"100.64.0.10:8081\"\n"));
    assert!(!announced("[home]\nlisten = \"127.0.0.1:8081\"\n"));
    assert!(!announced("[home]\nlisten = \"[::]:8081\"\nallow_public = true\n"));
    assert!(announced("[home]\nlisten = \"[::]:8081\"\nallow_public = true\nannounce = true\n"));
    assert!(!announced("[home]\nlisten = \"192.168.1.10:8081\"\nannounce = false\n"));
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(load("").unwrap(), defaults());
    assert_eq!(load("[public]\n[transport.mqtt]\n").unwrap(), defaults());
}

#[test]
fn everything_can_be_said() {
    let config = load(
        r#"
        log = "warn, unifiedpush_gateway::wake=debug"
        state_dir = "state"
        [public]
        listen = "[::1]:80"
        url = "HTTPS://Push.Example.org:443/"
        missing_ttl = "refuse"
        max_connections = 7
        [limits]
        when_full = "refuse"
        [wake]
        profile = "saver"
        quiet_hours = "22:00-07:00"
        max_wakes_per_registration_per_hour = 0
        radio_tail_s = 0
        [wake.balanced]
        normal_s = 5
        [wake.saver]
        low_s = 7200
        very_low_s = 43200
        [transport.mqtt]
        listen = "0.0.0.0:1884"
        allow_public_plain = true
        host = "Push.Example.org"
        max_connections = 65535
        max_connections_per_source = 3
        max_keep_alive_s = 10
        [transport.mqtt.tls]
        listen = "[::]:8883"
        certificate = "tls/chain.pem"
        key = "/etc/key.pem"
        "#,
    )
    .unwrap();
    assert_eq!(config.log, "warn,unifiedpush_gateway::wake=debug");
    // Relative paths start at the file, which is neither here nor the working directory.
    assert!(config.state_dir.is_absolute() && config.state_dir.ends_with("state"));
    assert_eq!(config.public.listen.to_string(), "[::1]:80");
    assert_eq!(config.public.url.as_deref(), Some("https://push.example.org"));
    assert_eq!(config.public.missing_ttl, MissingTtl::Refuse);
    assert_eq!(config.limits.waiting.when_full, WhenFull::Refuse);
    assert_eq!(config.public.max_connections, 7);
    assert_eq!(config.mqtt.host.as_deref(), Some("push.example.org"));
    assert_eq!(config.mqtt.max_connections, 65_535);
    assert_eq!(config.mqtt.max_connections_per_source, 3);
    assert_eq!(config.mqtt.max_keep_alive_s, 10);
    let wake = config.wake;
    assert_eq!((wake.profile, wake.max_wakes, wake.tail), (Profile::Saver, None, Duration::ZERO));
    assert_eq!(wake.quiet.unwrap().to_string(), "22:00-07:00");
    assert_eq!(wake.balanced.normal, Duration::from_secs(5));
    assert_eq!(wake.balanced.low, Duration::from_secs(900));
    assert_eq!(
        (wake.saver.low, wake.saver.very_low),
        (Duration::from_secs(7200), Duration::from_secs(43_200))
    );
    let tls = config.mqtt.tls.unwrap();
    let Certificate::Files { certificate, key } = tls.certificate else { panic!("files were named") };
    assert!(certificate.is_absolute() && certificate.ends_with("tls/chain.pem"));
    assert_eq!(key, Path::new("/etc/key.pem"));
}

#[test]
fn without_files_the_certificate_is_the_gateways_own() {
    let own = |text: &str| {
        let text = format!("state_dir = '/state'\n{text}\n[transport.mqtt.tls]\nlisten = '[::]:8883'");
        match load(&text).unwrap().mqtt.tls.unwrap().certificate {
            Certificate::Own { dir, names } => {
                assert_eq!(dir, Path::new("/state/tls"));
                names
            }
            Certificate::Acme(_) | Certificate::Files { .. } => panic!("neither was named"),
        }
    };
    assert_eq!(own(""), Vec::<String>::new());
    assert_eq!(own("public.url = 'https://a.example:444'"), ["a.example"]);
    let both = "public.url = 'https://a.example'\n[transport.mqtt]\nhost = ";
    assert_eq!(own(&format!("{both}'a.example'")), ["a.example"]);
    assert_eq!(own(&format!("{both}'[2001:DB8::1]'")), ["2001:db8::1", "a.example"]);
}

#[test]
fn the_command_line_overrules_the_file() {
    let overrides = Overrides {
        mqtt: Some("127.0.0.1:0".parse().unwrap()),
        public: Some("127.0.0.1:0".parse().unwrap()),
        state_dir: Some("here".into()),
        ..Overrides::default()
    };
    let text =
        "state_dir = '/there'\n[public]\nlisten = '127.0.0.1:1'\n[transport.mqtt]\nlisten = '127.0.0.1:2'";
    let config = load_with(text, overrides.clone()).unwrap();
    assert_eq!(config.public.listen.port(), 0);
    assert_eq!(config.mqtt.listen.port(), 0);
    assert_eq!(config.state_dir, Path::new("here"));
    // And the file is checked all the same: what it says matters again tomorrow.
    assert!(load_with("[public]\nlisten = 'nowhere'", overrides).is_err());
}

#[test]
fn the_state_directory_is_looked_up_in_order() {
    let find = |variables: &[(&str, &str)]| {
        let variables = variables.to_vec();
        let env = move |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        Config::load(&Overrides::default(), env).map(|config| config.state_dir.display().to_string())
    };
    let all = [("STATE_DIRECTORY", "/a:/b"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
    assert_eq!(find(&all).unwrap(), "/a");
    assert_eq!(find(&all[1..]).unwrap(), "/x/unifiedpush-gateway");
    assert_eq!(find(&all[2..]).unwrap(), "/h/.local/state/unifiedpush-gateway");
    // Empty is unset, and a relative XDG path is invalid by its specification.
    let odd = [("STATE_DIRECTORY", ""), ("XDG_STATE_HOME", "relative"), ("HOME", "/h")];
    assert_eq!(find(&odd).unwrap(), "/h/.local/state/unifiedpush-gateway");
    let ConfigError(message) = find(&[]).unwrap_err();
    assert!(message.contains("--state-dir"), "{message}");
}

#[test]
fn private_addresses_are_those_that_the_internet_cannot_reach() {
    let private = |text: &str| address::is_private(text.parse().unwrap());
    for text in [
        "127.0.0.1",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "169.254.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "::1",
        "fd00::1",
        "fe80::1",
        "::ffff:192.168.1.1",
    ] {
        assert!(private(text), "{text}");
    }
    for text in [
        "0.0.0.0",
        "::",
        "8.8.8.8",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.0",
        "2001:db8::1",
        "::ffff:8.8.8.8",
    ] {
        assert!(!private(text), "{text}");
    }
}

#[test]
fn an_origin_has_one_spelling() {
    for (text, origin) in [
        ("https://Push.example.org/", "https://push.example.org"),
        ("https://push.example.org:443", "https://push.example.org"),
        ("http://192.168.1.2:8080", "http://192.168.1.2:8080"),
        ("http://push:80/", "http://push"),
        ("http://push:443", "http://push:443"),
        ("https://[2001:DB8::0:1]:8443", "https://[2001:db8::1]:8443"),
    ] {
        assert_eq!(address::origin(text).as_deref(), Ok(origin), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_loading_panic(text in "(\\[[a-z.]{0,9}\\]\n|[a-z_.]{1,12} ?= ?('?[^\n]{0,20}'?)?\n|\\PC{0,20}\n){0,6}") {
        let _ = load(&text);
    }

    #[test]
    fn an_accepted_origin_is_accepted_again_unchanged(text in "https?://[a-zA-Z0-9.:@/?#\\[\\]-]{0,20}") {
        if let Ok(origin) = address::origin(&text) {
            prop_assert_eq!(address::origin(&origin), Ok(origin));
        }
    }
}
