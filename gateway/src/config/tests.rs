//! Wrong files, the order of precedence, and the example file.

use std::{ffi::OsString, fs, path::Path, time::Duration};

use proptest::prelude::*;

use super::{Certificate, Config, ConfigError, MissingTtl, Overrides, address};

use crate::model::{Budgets, Profile, WhenFull};

const EXAMPLE: &str = include_str!("../../unifiedpush-gateway.example.toml");

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
        log = "warn,unifiedpush_gateway::wake=debug"
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

/// Wrong text, and what its error must say: the place first, then what would be right.
const WRONG: &[(&str, &str, &str)] = &[
    ("pubic = 1", "gateway.toml:1: pubic: unknown field `pubic`, expected one of", "`public`"),
    ("[public]\n\nlisten_ = '127.0.0.1:80'", "gateway.toml:3: public.listen_: unknown field", "`listen`"),
    ("[transport.smtp]", "gateway.toml:1: transport.smtp: unknown field", "`mqtt`"),
    ("[public\n", "gateway.toml:1: ", "]"),
    ("log = 3", "gateway.toml:1: log: invalid type: integer `3`", "expected a string"),
    ("log = 'inof'", "gateway.toml:1: log: `inof` is not a log filter", "info"),
    ("log = 'a=b=c'", "gateway.toml:1: log: ", "info,unifiedpush_gateway::wake=debug"),
    (
        "[wake]\nprofile = 'fast'",
        "gateway.toml:2: wake.profile: `fast` is not known",
        "instant, balanced, saver",
    ),
    ("[wake]\nquiet_hours = '22-7'", "gateway.toml:2: wake.quiet_hours: `22-7`", "22:00-07:00"),
    (
        "[wake]\nmax_wakes_per_registration_per_hour = 3601",
        "gateway.toml:2: wake.max_wakes_per_",
        "0 to 3600",
    ),
    ("[wake]\nradio_tail_s = 61", "gateway.toml:2: wake.radio_tail_s: 61", "0 to 60"),
    ("[wake.saver]\nlow_s = -1", "gateway.toml:2: wake.saver.low_s: -1", "0 to 43200"),
    ("[wake.balanced]\nhigh_s = 1", "gateway.toml:2: wake.balanced.high_s: unknown field", "`normal_s`"),
    (
        "[wake.balanced]\nnormal_s = 901",
        "gateway.toml:1: wake.balanced: what matters less",
        "at least the one before",
    ),
    ("state_dir = ''", "gateway.toml:1: state_dir: the path is empty", "/var/lib/"),
    ("[public]\nlisten = 'localhost:80'", "gateway.toml:2: public.listen: `localhost:80`", "127.0.0.1:8080"),
    ("[public]\nlisten = '127.0.0.1'", "gateway.toml:2: public.listen: `127.0.0.1`", "ADDRESS:PORT"),
    ("public.listen = '127.0.0.1:99999'", "gateway.toml:1: public.listen: ", "ADDRESS:PORT"),
    (
        "[public]\nurl = 'ftp://x'",
        "gateway.toml:2: public.url: `ftp://x` is not an origin",
        "https://push.example.org",
    ),
    ("[public]\nurl = 'push.example.org'", "gateway.toml:2: public.url: ", "https://push.example.org"),
    ("[public]\nurl = 'https://x/push'", "gateway.toml:2: public.url: ", "without a path"),
    ("[public]\nurl = 'https://x?a'", "gateway.toml:2: public.url: ", "without a path"),
    ("[public]\nurl = 'https://x#a'", "gateway.toml:2: public.url: ", "without a path"),
    ("[public]\nurl = 'https://me@x'", "gateway.toml:2: public.url: ", "user name"),
    ("[public]\nurl = 'https://x:99999'", "gateway.toml:2: public.url: ", "port"),
    ("[public]\nurl = 'https://x:'", "gateway.toml:2: public.url: ", "port"),
    ("[public]\nurl = 'https://a..b'", "gateway.toml:2: public.url: ", "host"),
    ("[public]\nurl = ''", "gateway.toml:2: public.url: ", "https://push.example.org"),
    (
        "[public]\nmissing_ttl = 'never'",
        "gateway.toml:2: public.missing_ttl: `never`",
        "\"one-day\" or \"refuse\"",
    ),
    (
        "[limits]\nwhen_full = 'drop'",
        "gateway.toml:2: limits.when_full: `drop`",
        "expire-oldest (the oldest of the same endpoint expire early) or refuse (429)",
    ),
    ("[public]\nmax_connections = 0", "gateway.toml:2: public.max_connections: 0", "1 to 65535"),
    ("[public]\nmax_connections = -1", "gateway.toml:2: public.max_connections: -1", "1 to 65535"),
    (
        "[public]\nmax_connections = '9'",
        "gateway.toml:2: public.max_connections: ",
        "a whole number without quotes",
    ),
    ("public = { max_connections = 1.5 }", "gateway.toml:1: public.max_connections: ", "a whole number"),
    (
        "[transport.mqtt]\nmax_connections = 65536",
        "gateway.toml:2: transport.mqtt.max_connections: ",
        "1 to 65535",
    ),
    (
        "[transport.mqtt]\nmax_keep_alive_s = 9",
        "gateway.toml:2: transport.mqtt.max_keep_alive_s: 9",
        "10 to 65535",
    ),
    (
        "[transport.mqtt]\nhost = 'https://x'",
        "gateway.toml:2: transport.mqtt.host: ",
        "without scheme and port",
    ),
    ("[transport.mqtt]\nhost = 'x:8883'", "gateway.toml:2: transport.mqtt.host: ", "without scheme and port"),
    (
        "[transport.mqtt]\nlisten = '0.0.0.0:1883'",
        "gateway.toml:2: transport.mqtt.listen: ",
        "allow_public_plain = true",
    ),
    ("[transport.mqtt]\nlisten = '[2001:db8::1]:1883'", "gateway.toml:2: transport.mqtt.listen: ", "LAN"),
    (
        "[transport.mqtt]\nlisten = '127.0.0.1:8080'",
        "gateway.toml:2: transport.mqtt.listen: ",
        "another port",
    ),
    (
        "[transport.mqtt.tls]\nlisten = '[::]:8883'\nkey = 'b'",
        "gateway.toml:1: transport.mqtt.tls.certificate: is missing",
        "[transport.mqtt.tls]",
    ),
    (
        "[transport.mqtt]\nmax_connections_per_source = 0",
        "gateway.toml:2: transport.mqtt.max_connections_per_source: 0",
        "1 to 65535",
    ),
    (
        "[transport.mqtt.tls]\ncertificate = 'a'\nkey = 'b'",
        "gateway.toml:1: transport.mqtt.tls.listen: is missing",
        "[::]:8883",
    ),
    (
        "[transport.mqtt.tls]\nlisten = '127.0.0.1:1883'\ncertificate = 'a'\nkey = 'b'",
        "gateway.toml:2: transport.mqtt.tls.listen: ",
        "already the plain MQTT listener",
    ),
    (
        "[transport.mqtt.tls]\nlisten = '[::]:8883'\ncertificate = 'a'\nkey = ''",
        "gateway.toml:4: transport.mqtt.tls.key: the path is empty",
        "privkey.pem",
    ),
    (
        "[public.tls]\nlisten = '[::]:443'",
        "gateway.toml:1: public.url: does not say",
        "https://push.example.org",
    ),
    (
        "[public]\nurl = 'https://push.example.org'\n[public.tls]",
        "gateway.toml:3: public.tls.listen: is missing",
        "[::]:443",
    ),
    (
        "[public]\nurl = 'https://push.example.org'\n[public.tls]\nlisten = '127.0.0.1:8080'",
        "gateway.toml:4: public.tls.listen: ",
        "already the HTTP listener",
    ),
    (
        "[public]\nurl = 'https://push.example.org'\n[public.tls]\nlisten = '[::]:443'\n[public.tls.acme]",
        "gateway.toml:5: public.tls.acme.agree_to_terms: is not true",
        "agree_to_terms = true",
    ),
    (
        "[public]\nurl = 'https://push.example.org'\n[public.tls]\nlisten = '[::]:443'\nkey = 'a'\n[public.tls.acme]\nagree_to_terms = true",
        "gateway.toml:7: public.tls.acme.agree_to_terms: orders",
        "one of the two",
    ),
    (
        "[public]\nurl = 'https://10.0.0.1'\n[public.tls]\nlisten = '[::]:443'\n[public.tls.acme]\nagree_to_terms = true",
        "gateway.toml:2: public.url: names no domain",
        "https://push.example.org",
    ),
    (
        "[public]\nurl = 'https://push.example.org'\n[public.tls]\nlisten = '[::]:443'\n[public.tls.acme]\nagree_to_terms = true\ncontact = 'me'",
        "gateway.toml:7: public.tls.acme.contact: ",
        "you@example.org",
    ),
    (
        "[public]\nurl = 'https://push.example.org'\n[public.tls]\nlisten = '[::]:443'\n[public.tls.acme]\nagree_to_terms = true\ndirectory = 'http://ca'",
        "gateway.toml:7: public.tls.acme.directory: `http://ca`",
        "https://acme-v02",
    ),
];

/// The same for `[transport.xmpp]`: what is wrong in an otherwise right table.
#[cfg(feature = "xmpp")]
const WRONG_XMPP: &[(&str, &str, &str)] = &[
    ("server", "", "is missing; add server = \"127.0.0.1:5347\" to [transport.xmpp]"),
    ("server", "'prosody:5347'", "write ADDRESS:PORT with a number as address"),
    ("server", "'127.0.0.1:0'", "such as 127.0.0.1:5347"),
    ("server", "'203.0.113.1:5347'", "allow_public_plain = true"),
    ("component", "", "is missing; add component = \"push.home.example\""),
    ("component", "'me@home.example'", "write a name without user"),
    ("secret_file", "''", "the path is empty"),
    ("allowed_domains", "", "is missing; add allowed_domains = [\"home.example\"]"),
    ("allowed_domains", "[]", "is missing; add allowed_domains"),
    ("allowed_domains", "['home.example/phone']", "such as home.example"),
    ("max_registrations_per_account", "0", "write a number from 1 to 2000"),
];

#[cfg(feature = "xmpp")]
fn xmpp(change: (&str, &str)) -> String {
    let right = [
        ("server", "'127.0.0.1:5347'"),
        ("component", "'Push.Home.example'"),
        ("secret_file", "'secret'"),
        ("allowed_domains", "['home.example', 'Bücher.example']"),
    ];
    let others = right.iter().filter(|(key, _)| *key != change.0).chain([&change]);
    let lines =
        others.filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("{key} = {value}\n"));
    format!("[transport.xmpp]\n{}", lines.collect::<String>())
}

#[cfg(feature = "xmpp")]
#[test]
fn an_xmpp_room_needs_all_of_its_keys() {
    let config = load(&xmpp(("", ""))).unwrap().xmpp.unwrap();
    assert_eq!(config.component, "push.home.example");
    assert_eq!(config.allowed_domains, ["home.example", "bücher.example"]);
    let secret_file = config.secret_file.unwrap();
    assert!(secret_file.is_absolute() && secret_file.ends_with("secret"));
    let missing = load(&xmpp(("secret_file", ""))).unwrap().xmpp.unwrap().secret().unwrap_err().0;
    assert!(missing.contains("LoadCredential=xmpp-secret:FILE"), "{missing}");
    for &(key, value, remedy) in WRONG_XMPP {
        let text = xmpp((key, value));
        let Err(ConfigError(message)) = load(&text) else { panic!("accepted: {text}") };
        assert!(message.starts_with("gateway.toml:"), "{message}");
        assert!(message.contains(&format!("transport.xmpp.{key}: ")), "{text}\n  says  {message}");
        assert!(message.contains(remedy), "{text}\n  says  {message}\n  wants {remedy}");
    }
    assert!(load(&xmpp(("server", "'203.0.113.1:5347'\nallow_public_plain = true"))).is_ok());
}

#[cfg(feature = "xmpp")]
#[test]
fn a_secret_is_a_credential_unless_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    fs::write(&file, xmpp(("secret_file", ""))).unwrap();
    let credentials = dir.path().to_owned();
    let overrides = Overrides { config: Some(file), state_dir: Some("state".into()), ..Overrides::default() };
    let config = Config::load(&overrides, |name| {
        (name == "CREDENTIALS_DIRECTORY").then(|| credentials.clone().into())
    });
    let xmpp = config.unwrap().xmpp.unwrap();
    assert_eq!(xmpp.secret_file, Some(dir.path().join("xmpp-secret")));
    let ConfigError(message) = xmpp.secret().unwrap_err();
    assert!(message.contains("xmpp-secret: ") && message.contains("push.home.example"), "{message}");
    fs::write(dir.path().join("xmpp-secret"), " \n").unwrap();
    assert!(xmpp.secret().unwrap_err().0.contains("no secret in it"));
    fs::write(dir.path().join("xmpp-secret"), "s3cret\n").unwrap();
    assert_eq!(xmpp.secret().unwrap(), "s3cret");
}

#[cfg(not(feature = "xmpp"))]
#[test]
fn a_build_without_xmpp_says_so() {
    let ConfigError(message) = load("[transport.xmpp]").unwrap_err();
    assert!(
        message.starts_with("gateway.toml:1: transport.xmpp: this gateway was built without XMPP"),
        "{message}"
    );
}

#[test]
fn an_error_names_the_place_and_the_remedy() {
    for (text, place, remedy) in WRONG {
        let Err(ConfigError(message)) = load(text) else { panic!("accepted: {text}") };
        assert!(message.starts_with(place), "{text}\n  says  {message}\n  wants {place}");
        assert!(message.contains(remedy), "{text}\n  says  {message}\n  wants {remedy}");
        assert!(!message.contains('\n'), "one line: {message}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let overrides = Overrides { config: Some("/nonexistent/gateway.toml".into()), ..Overrides::default() };
    let ConfigError(message) = Config::load(&overrides, home).unwrap_err();
    assert!(message.starts_with("/nonexistent/gateway.toml: "), "{message}");
}

#[test]
fn an_error_about_the_command_line_names_the_option() {
    let overrides = Overrides { mqtt: Some("0.0.0.0:1883".parse().unwrap()), ..Overrides::default() };
    let ConfigError(message) = load_with("", overrides.clone()).unwrap_err();
    assert!(message.starts_with("--mqtt: 0.0.0.0:1883 "), "{message}");
    assert!(load_with("[transport.mqtt]\nallow_public_plain = true", overrides).is_ok());
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

/// `#key = value` becomes `key = value`; prose stays a comment, as it has a space after the mark.
fn uncommented() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase() || first == '[') => {
            rest.to_owned()
        }
        Some(_) | None => line.to_owned(),
    };
    EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_as_it_is_means_the_defaults() {
    assert_eq!(load(EXAMPLE).unwrap(), defaults());
}

#[test]
fn every_default_in_the_example_is_the_codes() {
    let mut shown = load(&uncommented()).unwrap();
    // These seven have no default that a file could hold; the example shows what one may look like.
    assert_eq!(shown.home.take().map(|home| home.port()), Some(8081));
    // It goes with that one.
    assert!(std::mem::take(&mut shown.announce));
    assert_eq!(shown.public.url.take().as_deref(), Some("https://push.example.org"));
    assert_eq!(shown.public.tls.take().map(|tls| tls.listen.port()), Some(443));
    assert_eq!(shown.mqtt.host.take().as_deref(), Some("push.example.org"));
    assert_eq!(shown.mqtt.tls.take().map(|tls| tls.listen.port()), Some(8883));
    let xmpp = shown.xmpp.take().expect("shown");
    assert_eq!((xmpp.server.port(), xmpp.max_registrations_per_account), (5347, 256));
    assert_eq!(shown.state_dir, Path::new("/var/lib/unifiedpush-gateway"));
    assert_eq!(Config { state_dir: defaults().state_dir, ..shown }, defaults());
    // Not part of the checked form, so compared by hand.
    assert!(uncommented().contains("\nallow_public = false\n"));
    assert!(uncommented().contains("\nallow_public_plain = false\n"));
}

/// Every table of the example with the names of its keys; the outermost is called "".
fn tables(name: &str, table: &toml::Table) -> Vec<(String, Vec<String>)> {
    let mut all = vec![(name.to_owned(), table.keys().cloned().collect())];
    for (key, value) in table {
        if let Some(inner) = value.as_table() {
            let inner_name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            all.extend(tables(&inner_name, inner));
        }
    }
    all
}

#[test]
fn every_key_is_in_the_example() {
    let example: toml::Table = toml::from_str(&uncommented()).unwrap();
    for (table, documented) in tables("", &example) {
        let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
        let ConfigError(message) = load(&format!("{header}nonsense = 1")).unwrap_err();
        // "unknown field `nonsense`, expected one of `a`, `b`": every second piece is a name.
        let mut known: Vec<_> =
            message.split('`').skip(1).step_by(2).filter(|name| *name != "nonsense").collect();
        known.sort_unstable();
        assert_eq!(known, documented, "[{table}]");
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
