//! Where the log goes: to the journal when systemd reads our standard error, else to standard error.

use std::{io::IsTerminal, str::FromStr};

use systemd_journal_logger::{JournalLog, connected_to_journal};
use tracing_subscriber::EnvFilter;

/// The router logs each connection with its span; what the owner asks for stands behind it and wins.
const QUIET: &str = "rumqttd=warn";

/// Starts logging, once. `filter` is in the language of `tracing_subscriber::EnvFilter`; the journal
/// takes its first plain level only and filters the rest itself.
///
/// A log that cannot be started is no reason not to serve: the error is returned to be shown.
///
/// # Errors
/// A sentence, when the filter cannot be read or a log was started already.
pub fn start_log(filter: &str) -> Result<(), String> {
    let parsed = EnvFilter::from_str(&format!("{QUIET},{filter}"))
        .map_err(|error| format!("log filter `{filter}`: {error}"))?;
    if connected_to_journal() {
        // Without a tracing subscriber, tracing hands its events to `log`, which the journal takes.
        let journal = JournalLog::new().map_err(|error| format!("journal: {error}"))?;
        journal
            .with_syslog_identifier("unifiedpush-gateway".into())
            .install()
            .map_err(|error| error.to_string())?;
        let mut levels = filter.split(',').filter_map(|part| log::LevelFilter::from_str(part).ok());
        log::set_max_level(levels.next_back().unwrap_or(log::LevelFilter::Info));
        return Ok(());
    }
    tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|error| error.to_string())
}
