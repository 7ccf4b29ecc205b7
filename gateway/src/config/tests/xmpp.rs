//! The table of the XMPP room.

use super::*;

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
