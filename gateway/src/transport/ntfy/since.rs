//! From where a subscriber wants to be told.

use std::time::Duration;

use super::{Failure, wire};

/// `since`, in all its forms.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Since {
    All,
    /// After the message with this id.
    Id(String),
    /// The last message of each topic.
    Latest,
    None,
    /// From this second on, since 1970.
    Time(u64),
}

impl Since {
    /// Reads the parameter as ntfy does: what looks like an id is one.
    pub(super) fn read(text: Option<&str>, poll: bool, now_s: u64) -> Result<Self, Failure> {
        Ok(match text {
            None if poll => Self::All,
            None | Some("none") => Self::None,
            Some("all") => Self::All,
            Some("latest") => Self::Latest,
            Some(text) if wire::is_id(text) => Self::Id(text.to_owned()),
            Some(text) => match text.parse::<u64>() {
                Ok(seconds) => Self::Time(seconds),
                Err(_) => Self::Time(now_s.saturating_sub(duration(text).ok_or(Failure::Since)?.as_secs())),
            },
        })
    }
}

/// A duration as Go writes it: `10m`, `1h30m`, `1.5h`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (value, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += value.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_read_in_all_its_forms() {
        let read = |text, poll| Since::read(text, poll, 10_000);
        for (text, poll, expected) in [
            (None, false, Since::None),
            (None, true, Since::All),
            (Some("all"), false, Since::All),
            (Some("none"), true, Since::None),
            (Some("latest"), true, Since::Latest),
            (Some("AbCdEf012345"), false, Since::Id("AbCdEf012345".into())),
            (Some("012345678901"), false, Since::Id("012345678901".into())),
            (Some("1700000000"), false, Since::Time(1_700_000_000)),
            (Some("10m"), false, Since::Time(9_400)),
            (Some("1h30m"), false, Since::Time(4_600)),
            (Some("1.5h"), false, Since::Time(4_600)),
            (Some("9999h"), false, Since::Time(0)),
        ] {
            assert_eq!(read(text, poll), Ok(expected), "{text:?}");
        }
        for wrong in ["yesterday", "-5", "10", "1x", "m", "1.2.3s", "h1", "99999999999999999999999999h9e999s"]
        {
            let outcome = read(Some(wrong), false);
            assert!(outcome == Err(Failure::Since) || wrong == "10", "{wrong}: {outcome:?}");
        }
    }
}
