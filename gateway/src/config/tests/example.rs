//! The example file: what it shows is what the gateway takes for granted.

use super::*;

const EXAMPLE: &str = include_str!("../../../unifiedpush-gateway.example.toml");

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
