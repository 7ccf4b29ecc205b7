//! Traces: what happened to one phone, as CSV.
//!
//! The first line is the header `at,kind,urgency,ttl,topic`. `at` is in seconds from 0, fractions
//! allowed, never less than the line before. `kind` is `push`, `contact` (the phone spoke by itself) or
//! `state` (`urgency` is its new floor). An empty urgency of a push is `normal`, an empty `ttl` one day;
//! the topic may be empty.

use crate::model::{Topic, Ttl, Urgency};

/// The first line.
pub const HEADER: &str = "at,kind,urgency,ttl,topic";
/// The latest `at`, in seconds: ten years.
const LATEST_S: u64 = 10 * 366 * 86_400;
/// The most lines.
const LINES_MAX: usize = 5_000_000;

/// Something that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Happening {
    /// When, in microseconds from the start.
    pub at_us: u64,
    /// What.
    pub kind: Kind,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The phone spoke by itself.
    Contact,
    /// A push message arrived.
    Push {
        /// Its name, if a later one may replace it.
        topic: Option<Topic>,
        /// How long it may wait.
        ttl: Ttl,
        /// How much it matters.
        urgency: Urgency,
    },
    /// The phone says the lowest urgency that it wants from now on.
    State(Urgency),
}

/// Why a trace cannot be read. Names the line; the header is line 1.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadTrace {
    /// Which line.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Reads a trace.
///
/// # Errors
/// [`BadTrace`]: the first line that is wrong.
pub fn read(text: &str) -> Result<Vec<Happening>, BadTrace> {
    let mut lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    let bad = |line: usize, what: String| Err(BadTrace { line, what });
    match lines.next() {
        Some(header) if header.trim_end() == HEADER => {}
        Some(header) => return bad(1, format!("the header is `{}`; expected `{HEADER}`", shown(header))),
        None => return bad(1, format!("the trace is empty; expected the header `{HEADER}`")),
    }
    let mut happenings: Vec<Happening> = Vec::new();
    for (number, line) in (2..).zip(lines) {
        if line.trim().is_empty() {
            continue;
        }
        if happenings.len() >= LINES_MAX {
            return bad(number, format!("a trace has at most {LINES_MAX} events"));
        }
        let happening = happening(line).map_err(|what| BadTrace { line: number, what })?;
        if let Some(last) = happenings.last().filter(|last| last.at_us > happening.at_us) {
            return bad(
                number,
                format!(
                    "at {} s comes after {} s; sort the lines by time",
                    seconds(happening.at_us),
                    seconds(last.at_us)
                ),
            );
        }
        happenings.push(happening);
    }
    Ok(happenings)
}

fn happening(line: &str) -> Result<Happening, String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [at, kind, urgency, ttl, topic] = fields[..] else {
        return Err(format!("{} fields; expected the five of `{HEADER}`", fields.len()));
    };
    let at_us = microseconds(at)
        .ok_or_else(|| format!("at `{}`; expected seconds from 0 to {LATEST_S}, such as 12.5", shown(at)))?;
    let parsed = || urgency.parse::<Urgency>().map_err(|bad| format!("urgency `{}`; {bad}", shown(urgency)));
    let kind = match kind {
        "contact" => Kind::Contact,
        "push" => Kind::Push {
            topic: match topic {
                "" => None,
                topic => Some(topic.parse().map_err(|bad| format!("topic `{}`; {bad}", shown(topic)))?),
            },
            ttl: match ttl {
                "" => Ttl::DEFAULT,
                ttl => {
                    let whole = ttl.parse().map(Ttl::from_secs);
                    whole.map_err(|_| format!("ttl `{}`; expected whole seconds, or nothing", shown(ttl)))?
                }
            },
            urgency: if urgency.is_empty() { Urgency::default() } else { parsed()? },
        },
        "state" => Kind::State(parsed()?),
        kind => return Err(format!("kind `{}`; expected one of push, contact, state", shown(kind))),
    };
    Ok(Happening { at_us, kind })
}

/// Decimal seconds, digit by digit: a float would move some deadlines by a microsecond. What is finer
/// than that is cut off.
fn microseconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u64 = whole.parse().ok().filter(|whole| *whole <= LATEST_S)?;
    let fraction: u64 = format!("{:0<6.6}", fraction).parse().ok()?;
    Some(whole * 1_000_000 + fraction)
}

fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Of a field only its beginning is shown.
fn shown(field: &str) -> String {
    field.chars().filter(|char| !char.is_control()).take(40).collect()
}

/// One line of a trace, without its end.
#[must_use]
pub fn line(happening: &Happening) -> String {
    let at = seconds(happening.at_us);
    match &happening.kind {
        Kind::Contact => format!("{at},contact,,,"),
        Kind::Push { topic, ttl, urgency } => {
            format!("{at},push,{urgency},{ttl},{}", topic.as_ref().map_or("", Topic::as_str))
        }
        Kind::State(floor) => format!("{at},state,{floor},,"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> String {
        [&[HEADER], lines].concat().join("\n")
    }

    #[test]
    fn a_trace_is_read_and_written() {
        let text =
            lines(&["0.5,push,high,60,news", "0.5,contact,,,", "7,state,low,,", "8.25,push,normal,86400,"]);
        let happenings = read(&text).unwrap();
        assert_eq!(happenings.len(), 4);
        assert_eq!(happenings[0].at_us, 500_000);
        let again: Vec<_> = happenings.iter().map(line).collect();
        assert_eq!(lines(&again.iter().map(String::as_str).collect::<Vec<_>>()), text);
        let short = read(&lines(&["1,push,,,"])).unwrap();
        let kind = Kind::Push { topic: None, ttl: Ttl::DEFAULT, urgency: Urgency::Normal };
        assert_eq!(short, [Happening { at_us: 1_000_000, kind }]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (wrong, line, what) in [
            ("at,kind", 1, "the header"),
            ("", 1, "empty"),
            (&*lines(&["1,push,high,,", "0.5,push,high,,"]), 3, "sort the lines"),
            (&*lines(&["-1,push,high,,"]), 2, "at `-1`"),
            (&*lines(&["NaN,push,high,,"]), 2, "at `NaN`"),
            (&*lines(&["inf,push,high,,"]), 2, "at `inf`"),
            (&*lines(&["1e300,push,high,,"]), 2, "at `1e300`"),
            (&*lines(&["99999999999999999999,push,high,,"]), 2, "at `9"),
            (&*lines(&["400000000,push,high,,"]), 2, "at `4"),
            (&*lines(&["1,pull,high,,"]), 2, "one of push, contact, state"),
            (&*lines(&["1,push,urgent,,"]), 2, "one of very-low, low, normal, high"),
            (&*lines(&["1,state,,,"]), 2, "urgency ``"),
            (&*lines(&["1,push,high,-5,"]), 2, "ttl `-5`"),
            (&*lines(&["1,push,high,,a b"]), 2, "topic `a b`"),
            (&*lines(&["1,push,high"]), 2, "3 fields"),
        ] {
            let bad = read(wrong).unwrap_err();
            assert_eq!(bad.line, line, "{wrong}: {bad}");
            assert!(bad.what.contains(what), "{wrong}: {bad}");
        }
    }
}
