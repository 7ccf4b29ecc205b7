//! What is wrong, and what its error says.

use super::*;

/// Wrong text, and what its error must say: the place first, then what would be right.
const WRONG: &[(&str, &str, &str)] = &[
    ("pubic = 1", "gateway.toml:1: pubic: unknown field `pubic`, expected one of", "`public`"),
    ("[public]\n\nlisten_ = '127.0.0.1:80'", "gateway.toml:3: public.listen_: unknown field", "`listen`"),
    ("[transport.smtp]", "gateway.toml:1: transport.smtp: unknown field", "`mqtt`"),
    ("[public\n", "gateway.toml:1: ", "]"),
    ("log = 3", "gateway.toml:1: log: invalid type: integer `3`", "expected a string"),
    ("log = 'inof'", "gateway.toml:1: log: `inof` is not a log filter", "info"),
    ("log = 'info,a[b]=debug'", "gateway.toml:1: log: `info,a[b]=debug`", "or a list such as"),
    ("log = 'info,'", "gateway.toml:1: log: `info,` is not a log filter", "info"),
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
