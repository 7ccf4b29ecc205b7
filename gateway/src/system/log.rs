//! Where the log goes: to the journal when systemd reads our standard error, else to standard error.

use std::{
    fmt,
    io::{self, IsTerminal},
    str::FromStr,
};

use log::kv;
use systemd_journal_logger::{JournalLog, connected_to_journal};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::{ParseError, Targets, filter_fn},
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

/// The router logs each connection with its span.
const QUIET: &str = "rumqttd=warn";

/// Starts logging, once. `filter` is in the language of `tracing_subscriber::filter::Targets`: `EnvFilter` would
/// bring regular expressions with it, for what nobody asks of a gateway. In the journal each field of an event is
/// a field of its own, so that `journalctl DEVICE=…` finds it.
///
/// A log that cannot be started is no reason not to serve: the error is returned to be shown.
///
/// # Errors
/// The filter is not one, or a log was started before.
pub fn start_log(filter: &str) -> Result<(), String> {
    let parsed = parse(filter).map_err(|error| format!("log filter `{filter}`: {error}"))?;
    if connected_to_journal() {
        // Without a journal's socket, standard error still leads to it, as plain lines.
        if let Ok(journal) = JournalLog::new() {
            let journal = Journal(journal.with_syslog_identifier("unifiedpush-gateway".into()));
            return tracing_subscriber::registry()
                .with(parsed)
                .with(filter_fn(worth_its_cost))
                .with(journal)
                .try_init()
                .map_err(|error| error.to_string());
        }
    }
    tracing_subscriber::registry()
        .with(parsed)
        .with(filter_fn(worth_its_cost))
        .with(tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()))
        .try_init()
        .map_err(|error| error.to_string())
}

/// What the owner asks for stands behind what is quiet by itself, and wins.
fn parse(filter: &str) -> Result<Targets, ParseError> {
    Targets::from_str(&format!("{QUIET},{filter}"))
}

/// The router opens spans of level error around every packet, so that no filter by level keeps them from
/// being written out in text, whether anything is logged within or not. Its events pass.
fn worth_its_cost(metadata: &Metadata<'_>) -> bool {
    !(metadata.is_span() && metadata.target().starts_with("rumqttd"))
}

/// Hands events to the journal with their fields, which `tracing`'s own way to `log` makes text of.
struct Journal(JournalLog);

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut told = Told::default();
        event.record(&mut told);
        let metadata = event.metadata();
        let fields: Vec<(&str, &str)> =
            told.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let fields: &dyn kv::Source = &fields;
        // Nobody can be told that the log cannot be written.
        let _ = self.0.journal_send(
            &log::Record::builder()
                .level(level(*metadata.level()))
                .target(metadata.target())
                .module_path(metadata.module_path())
                .file(metadata.file())
                .line(metadata.line())
                .key_values(fields)
                .args(format_args!("{}", told.message))
                .build(),
        );
    }
}

/// What an event says.
#[derive(Debug, Default)]
struct Told {
    fields: Vec<(&'static str, String)>,
    message: String,
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.push((field.name(), value));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

fn level(level: Level) -> log::Level {
    match level {
        Level::ERROR => log::Level::Error,
        Level::WARN => log::Level::Warn,
        Level::INFO => log::Level::Info,
        Level::DEBUG => log::Level::Debug,
        Level::TRACE => log::Level::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_may_speak_but_not_wrap_every_packet_in_a_span() {
        let subscriber = tracing_subscriber::registry()
            .with(parse("info").expect("a filter"))
            .with(filter_fn(worth_its_cost));
        tracing::subscriber::with_default(subscriber, || {
            assert!(tracing::error_span!(target: "rumqttd::router::routing", "publish").is_disabled());
            assert!(!tracing::error_span!(target: "unifiedpush_gateway", "ours").is_disabled());
            assert!(tracing::enabled!(target: "rumqttd::router::routing", Level::WARN));
        });
    }

    #[test]
    fn what_the_owner_asks_of_the_router_wins() {
        let asked = parse("info,rumqttd=debug").expect("a filter");
        assert!(asked.would_enable("rumqttd::router::routing", &Level::DEBUG));
        assert!(!asked.would_enable("unifiedpush_gateway::store", &Level::DEBUG));
    }
}
