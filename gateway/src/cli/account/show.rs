//! Answers, as people and as scripts read them.

use std::io::{self, Write};

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use serde::Serialize;

use crate::{
    console::{DeviceRow, DeviceShown, GroupRow, HappenedRow, Pairing, RegistrationRow},
    simulate::trace,
};

/// Black on white, whatever the terminal's own colours are: a scanner wants dark modules on light.
const BLACK_ON_WHITE: &str = "\u{1b}[38;5;16;48;5;231m";
const RESET: &str = "\u{1b}[0m";

/// `group add --json`
#[derive(Serialize)]
pub(super) struct Grouped<'a> {
    pub(super) group: &'a str,
}

/// `registration add --json`
#[derive(Serialize)]
pub(super) struct Registered<'a> {
    device: &'a str,
    app: &'a str,
    channel: &'a str,
    endpoint: &'a str,
}

impl<'a> From<&'a RegistrationRow> for Registered<'a> {
    fn from(row: &'a RegistrationRow) -> Self {
        Self { device: &row.device, app: &row.app, channel: &row.channel, endpoint: &row.endpoint }
    }
}

/// One line of JSON.
pub(super) fn json(value: &impl Serialize, mut out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)
}

pub(super) fn pairing(pairing: &Pairing, out: &mut dyn Write, terminal: bool) -> io::Result<()> {
    writeln!(out, "device   {}", pairing.device)?;
    writeln!(out, "secret   {}", pairing.secret)?;
    writeln!(out, "pairing  {}", pairing.uri)?;
    if terminal {
        writeln!(out)?;
        qr_code(&pairing.uri, out)?;
        writeln!(out, "\nThe secret is shown this once: enter it or scan the code now.")?;
    }
    Ok(())
}

fn qr_code(text: &str, out: &mut dyn Write) -> io::Result<()> {
    // The lowest level of correction: a screen is not scratched, and fewer modules fit more terminals.
    let code = QrCode::with_error_correction_level(text, EcLevel::L).map_err(io::Error::other)?;
    for line in code.render::<Dense1x2>().build().lines() {
        writeln!(out, "{BLACK_ON_WHITE}{line}{RESET}")?;
    }
    Ok(())
}

pub(super) fn devices(rows: &[DeviceRow], out: &mut dyn Write) -> io::Result<()> {
    let cells = |row: &DeviceRow| {
        let (id, registrations) = (row.device.clone(), row.registrations.to_string());
        [id, row.transport.clone(), day(row.created), registrations, row.name.clone()]
    };
    table(["DEVICE", "TRANSPORT", "PAIRED", "REGISTRATIONS", "NAME"], rows.iter().map(cells), out)
}

/// A trace for `simulate`: times and urgencies only.
pub(super) fn history(rows: &[HappenedRow], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", trace::HEADER)?;
    for HappenedRow { at_ms, kind, urgency } in rows {
        let (seconds, tenth) = (at_ms / 1000, at_ms % 1000 / 100);
        writeln!(out, "{seconds}.{tenth},{kind},{},,", urgency.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

pub(super) fn groups(rows: &[GroupRow], out: &mut dyn Write) -> io::Result<()> {
    let cells = |row: &GroupRow| {
        let registrations = row.registrations.to_string();
        let members = if row.members.is_empty() { "-".to_owned() } else { row.members.join(",") };
        [row.group.clone(), day(row.created), registrations, members, row.name.clone()]
    };
    table(["GROUP", "SINCE", "REGISTRATIONS", "MEMBERS", "NAME"], rows.iter().map(cells), out)
}

pub(super) fn registrations(rows: &[RegistrationRow], out: &mut dyn Write) -> io::Result<()> {
    let cells = |row: &RegistrationRow| {
        let vapid = if row.vapid.is_some() { "yes" } else { "no" };
        let (waiting, crowded_out) = (row.waiting.to_string(), row.crowded_out.to_string());
        let (device, since, endpoint) = (row.device.clone(), day(row.created), row.endpoint.clone());
        [device, since, vapid.to_owned(), waiting, crowded_out, endpoint, row.app.clone()]
    };
    let head = ["DEVICE", "SINCE", "VAPID", "WAITING", "CROWDED-OUT", "ENDPOINT", "APP"];
    table(head, rows.iter().map(cells), out)
}

pub(super) fn device(shown: &DeviceShown, out: &mut dyn Write) -> io::Result<()> {
    let profile = shown.profile.as_deref().unwrap_or("as configured");
    writeln!(out, "{} ({}), profile {profile}", shown.name, shown.device)?;
    writeln!(
        out,
        "{} messages wait; {} expired early since the start, because too many waited",
        shown.waiting, shown.crowded_out
    )?;
    let Some(today) = shown.days.first() else { return writeln!(out, "nothing was counted yet") };
    writeln!(out, "{} wakes today; delivering at once would have cost {}", today.total, today.at_once)?;
    writeln!(out)?;
    let days = shown.days.iter().map(|row| {
        let date = if row.day == 0 { "unknown".to_owned() } else { day(row.day) };
        let counts = [row.push, row.keep_alive, row.reconnect, row.waste, row.total, row.client, row.at_once];
        let [push, keep_alive, reconnect, waste, total, client, at_once] =
            counts.map(|count| count.to_string());
        [date, push, keep_alive, reconnect, waste, total, client, at_once]
    });
    let head = ["DAY", "PUSH", "KEEP-ALIVE", "RECONNECT", "WASTE", "WAKES", "BY-ITSELF", "AT-ONCE"];
    table(head, days, out)?;
    writeln!(out)?;
    let delays = ["high", "normal", "low", "very-low"].into_iter().filter_map(|urgency| {
        let delay = shown.delay_ms.get(urgency)?;
        let times = [delay.p50, delay.p95, delay.max].map(|ms| format!("{} s", f64::from(ms) / 1000.0));
        let [p50, p95, max] = times;
        Some([urgency.to_owned(), delay.count.to_string(), p50, p95, max])
    });
    table(["URGENCY", "MESSAGES", "P50", "P95", "MAX"], delays, out)?;
    writeln!(out, "\nmissed deadlines: {}", shown.missed)?;
    for network in &shown.networks {
        let how = if network.settled { "settled" } else { "being tried" };
        writeln!(out, "keep-alive in {}: {} s, {how}", network.network, network.keep_alive_s)?;
    }
    Ok(())
}

/// Columns as wide as their widest cell. The last one is free text and is not padded.
fn table<const N: usize>(
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let (last, others) = row.split_last().unwrap_or((&row[0], &[]));
        for (cell, width) in others.iter().zip(widths) {
            write!(out, "{cell:width$}  ")?;
        }
        writeln!(out, "{last}")?;
    }
    Ok(())
}

/// The date (UTC) of a Unix time: "days to civil" in the proleptic Gregorian calendar, counted in eras
/// of 400 years that begin on 1 March, so that the leap day is the last of its year.
fn day(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_793_491_199, "2026-10-31"),
            (1_793_491_200, "2026-11-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn columns_line_up() {
        let mut out = Vec::new();
        let rows = [["é1".to_owned(), "x".to_owned()], ["long one".to_owned(), "y".to_owned()]];
        table(["A", "B"], rows.into_iter(), &mut out).expect("a Vec takes all");
        assert_eq!(String::from_utf8(out).expect("text"), "A         B\né1        x\nlong one  y\n");
    }
}
