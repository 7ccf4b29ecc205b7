//! `doctor`: runs it, prints what it found, and gives the exit code.

use std::{io::Write, path::Path, sync::Arc};

use super::{CliError, DoctorArgs};
use crate::{
    clock::SystemClock,
    config::{Config, ConfigError},
    doctor::{Level, Options, examine},
    system::Termination,
};

/// Executes `doctor`.
///
/// # Errors
/// [`CliError`] when there is a problem, after everything was printed.
pub(super) fn doctor(
    args: DoctorArgs,
    config: Result<Config, ConfigError>,
    file: Option<&Path>,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = Options { idle_s: args.idle };
    let report = runtime.block_on(async {
        let mut termination = Termination::catch()?;
        tokio::select! {
            report = examine(config, file, options, Arc::new(SystemClock::default())) => Ok(report),
            // What was made for a check goes with it.
            () = termination.come() => Err(CliError::Failed("stopped".to_owned())),
        }
    })?;
    if args.json {
        report.print_json(out)?;
    } else {
        report.print(out)?;
    }
    out.flush()?;
    match report.count(Level::Problem) {
        0 => Ok(()),
        _ if report.broken_config => Err(CliError::Config("the configuration cannot be used".to_owned())),
        1 => Err(CliError::Failed("there is a problem".to_owned())),
        more => Err(CliError::Failed(format!("there are {more} problems"))),
    }
}
