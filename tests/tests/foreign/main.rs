//! The gateway and programs that know nothing of it: browsers, MQTT clients and senders of other projects,
//! and strace and faketime at work on the gateway. What is missing is skipped aloud; `tests/run` installs
//! and requires all of it.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod acme;
mod announce;
mod clock;
mod firefox;
mod mosquitto;
mod ntfy;
mod proxies;
mod senders;
mod strace;
mod wire;
mod xmpp;

use std::{fmt::Write as _, fs, path::Path};

use harness::run;

/// Bytes as lower-case hexadecimal, the only form in which all these programs agree.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .trim()
        .chars()
        .map(|digit| u8::try_from(digit.to_digit(16).expect("hexadecimal")).expect("below 16"))
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The files of a certificate for `localhost` and of its key. It is its own authority.
async fn certificate(dir: &Path) -> (String, String) {
    let request = "[req]\ndistinguished_name=dn\nx509_extensions=v3\nprompt=no\n[dn]\nCN=localhost\n\
        [v3]\nsubjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\n";
    let path = |name: &str| dir.join(name).display().to_string();
    let (key, certificate, config) = (path("key.pem"), path("chain.pem"), path("request"));
    fs::write(&config, request).unwrap();
    let how = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30";
    let files = ["-config", &config, "-keyout", &key, "-out", &certificate];
    let made = run("openssl", how.split(' ').chain(files)).await;
    assert_eq!(made.code, Some(0), "openssl makes a certificate: {}", made.stderr);
    (certificate, key)
}
