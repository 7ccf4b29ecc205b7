//! From the command line to what it asks for.

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _, Write},
};

use clap::CommandFactory as _;

use super::{Cli, CliError, Command, account, backup, check, doctor, listen, man, simulate};
use crate::{
    app,
    config::{Config, ConfigError, Overrides},
};

impl From<ConfigError> for CliError {
    fn from(ConfigError(message): ConfigError) -> Self {
        Self::Config(message)
    }
}

/// Does what the command line asks. `out` is standard output, `env` looks up environment variables.
///
/// # Errors
/// [`CliError`], whose kind decides the exit code.
pub fn dispatch(
    cli: Cli,
    out: &mut dyn Write,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<(), CliError> {
    let overrides = Overrides {
        config: cli.global.config,
        mqtt: cli.run.mqtt,
        open_broker: cli.run.open_broker,
        public: cli.run.public,
        state_dir: cli.global.state_dir,
    };
    let config = || Config::load(&overrides, &env);
    let terminal = io::stdout().is_terminal();
    match cli.command {
        None | Some(Command::Run(_)) => {
            let config = config()?;
            check::files(&config, &overrides)?;
            app::run_blocking(config).map_err(|error| {
                let text = error.to_string();
                // Starting again mends no unit.
                if matches!(error, app::RunError::Sockets(_)) {
                    CliError::Config(text)
                } else {
                    CliError::Failed(text)
                }
            })
        }
        Some(Command::Device(command)) => account::device(&command, &config()?, out, terminal),
        Some(Command::Group(command)) => account::group(&command, &config()?, out),
        Some(Command::Registration(command)) => account::registration(&command, &config()?, out, terminal),
        Some(Command::Metrics) => account::metrics(&config()?, out),
        Some(Command::Listen(args)) => listen::listen(&args, &config()?, out),
        Some(Command::Simulate(args)) => match &args.export {
            Some(device) => account::export(device, &config()?, out),
            None => simulate::simulate(&args, out),
        },
        Some(Command::Backup { file, force }) => backup::backup(&file, force, &config()?, out),
        Some(Command::Restore { file }) => backup::restore(&file, &config()?, out),
        Some(Command::Ca { fingerprint }) => account::ca(fingerprint, &config()?, out),
        Some(Command::Check) => {
            check::files(&config()?, &overrides)?;
            Ok(writeln!(out, "ok")?)
        }
        Some(Command::Doctor(args)) => {
            let config = config().and_then(|config| {
                check::files(&config, &overrides)?;
                Ok(config)
            });
            doctor::doctor(args, config, overrides.config.as_deref(), out)
        }
        Some(Command::Man) => Ok(out.write_all(&man::page()?)?),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), man::NAME, &mut script);
            Ok(out.write_all(&script)?)
        }
    }
}
