//! The binary: parses, dispatches, and is the only place that ends the process.

use std::{
    env,
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use unifiedpush_gateway::cli::{Cli, CliError, dispatch};

fn main() -> ExitCode {
    let cli = match Cli::read(env::args_os()) {
        Ok(cli) => cli,
        // Help is one of these too: it goes to standard output with 0, a mistake to standard error with 2.
        Err(usage) => {
            let _ = usage.print();
            return u8::try_from(usage.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    match dispatch(cli, &mut io::stdout(), |name| env::var_os(name)) {
        Ok(()) => ExitCode::SUCCESS,
        // `listen | head -1`: the reader has what it wanted.
        Err(CliError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed too, nobody is left to be told.
            let _ = writeln!(io::stderr(), "unifiedpush-gateway: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
