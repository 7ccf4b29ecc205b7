//! The gateway and programs that know nothing of it: browsers, MQTT clients and senders of other projects,
//! and strace and faketime at work on the gateway. What is missing is skipped aloud; `tests/run` installs
//! and requires all of it.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod announce;
mod clock;
mod firefox;
mod mosquitto;
mod ntfy;
mod proxies;
mod senders;
mod strace;
mod wire;

use std::fmt::Write as _;

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
