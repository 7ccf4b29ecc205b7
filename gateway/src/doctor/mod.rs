//! `doctor`: looks at everything that has to be right for a push to arrive, and says what to do where it
//! is not.
//!
//! A list of small checks, each of which knows one thing and nothing of the others. They read a [`Case`],
//! which is gathered once, and answer with [`Finding`]s. Only [`checks::push`] changes anything: it pairs
//! a temporary device, and removes it however the check ends.

mod case;
mod checks;
mod dial;
mod finding;
mod temporary;

#[cfg(test)]
mod tests;

use std::{future::Future, path::Path, pin::Pin, sync::Arc};

pub use self::finding::{Finding, Level, Report};
use self::{case::Case, dial::Dialer};
use crate::{
    clock::SharedClock,
    config::{Config, ConfigError},
};

/// A check.
type Check = for<'c> fn(&'c Case) -> Pin<Box<dyn Future<Output = Vec<Finding>> + 'c>>;

/// All of them, from what everything rests on to what rests on everything. A name stands in the report.
const CHECKS: [(&str, Check); 9] = [
    ("clock", |case| Box::pin(async { checks::clock::check(case) })),
    ("state", |case| Box::pin(async { checks::state::check(case) })),
    ("ports", |case| Box::pin(checks::ports::check(case))),
    ("tls", |case| Box::pin(checks::tls::check(case))),
    ("name", |case| Box::pin(checks::name::check(case))),
    ("public", |case| Box::pin(checks::public::check(case))),
    ("matrix", |case| Box::pin(checks::matrix::check(case))),
    ("push", |case| Box::pin(checks::push::check(case))),
    ("proxy", |case| Box::pin(checks::proxy::check(case))),
];

/// How to look.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// For how many seconds a WebSocket is left idle, to see what the proxy does about it; 0: not at all.
    pub idle_s: u16,
}

/// Looks at everything. `config` is what the settings came to, `file` where they were read.
pub async fn examine(
    config: Result<Config, ConfigError>,
    file: Option<&Path>,
    options: Options,
    clock: SharedClock,
) -> Report {
    let mut report = Report::default();
    // Of the machine rather than of the settings, so told with broken ones too.
    report.add("package", checks::package::check());
    report.add("board", checks::board::check());
    let config = match config {
        Ok(config) => config,
        Err(ConfigError(what)) => {
            report.broken_config = true;
            report.add("configuration", vec![checks::configuration::broken(what)]);
            return report;
        }
    };
    report.add("configuration", checks::configuration::check(&config, file));
    let case = Case::gather(config, options, Dialer::new(Arc::clone(&clock)), clock).await;
    for (name, check) in CHECKS {
        report.add(name, check(&case).await);
    }
    report
}
