//! `backup` and `restore`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{CliError, account};
use crate::{
    clock::{Clock as _, SystemClock},
    config::Config,
    console::{self, AskError, Reply},
    store::{self, Contents, OpenError, Store},
};

/// A gateway that holds the store but does not answer is starting or stopping: it is asked again so often …
const ATTEMPTS: u32 = 100;
/// … with this pause.
const PAUSE: Duration = Duration::from_millis(100);

/// Writes the whole state to `file`: of the running gateway, or, if none runs, of the stopped one. The
/// file gets its name once it is whole and safe.
///
/// # Errors
/// [`CliError`]; there is no new file then.
pub(super) fn backup(file: &Path, force: bool, config: &Config, out: &mut dyn Write) -> Result<(), CliError> {
    refuse_existing(file, force)?;
    let part = part(file)?;
    let written = write(&part, config).and_then(|contents| {
        refuse_existing(file, force)?;
        let placed = fs::rename(&part, file).and_then(|()| File::open(directory(file))?.sync_all());
        placed.map_err(|error| failed(file, &error))?;
        Ok(contents)
    });
    if written.is_err() {
        fs::remove_file(&part).ok();
    }
    Ok(writeln!(out, "{}: {}", file.display(), said(&written?))?)
}

/// Makes the state what it was when the backup was made.
///
/// # Errors
/// [`CliError`]; nothing was changed then, unless the disk failed.
pub(super) fn restore(file: &Path, config: &Config, out: &mut dyn Write) -> Result<(), CliError> {
    if !file.is_file() {
        return Err(CliError::Failed(format!("there is no backup at {}", file.display())));
    }
    if let Ok(found) = fs::metadata(&config.state_dir) {
        account::own(&config.state_dir, found.uid())?;
    }
    let restored = store::restore(&config.state_dir, file);
    let contents = restored.map_err(|error| CliError::Failed(format!("{}: {error}", file.display())))?;
    Ok(writeln!(out, "{}: {}", config.state_dir.display(), said(&contents))?)
}

fn said(contents: &Contents) -> String {
    let Contents { devices, files, messages, registrations, records: _ } = contents;
    format!(
        "{devices} devices, {registrations} registrations, {messages} waiting messages, {files} other files"
    )
}

fn refuse_existing(file: &Path, force: bool) -> Result<(), CliError> {
    if force || fs::symlink_metadata(file).is_err() {
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "{} exists: name another file, or write `--force` to replace it",
        file.display()
    )))
}

fn directory(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Beside the file, so that it takes its place by a rename.
fn part(file: &Path) -> Result<PathBuf, CliError> {
    let name = file
        .file_name()
        .ok_or_else(|| CliError::Failed(format!("{} is no file: name one to write to", file.display())))?;
    let mut name = name.to_owned();
    name.push(format!(".{}.part", std::process::id()));
    Ok(file.with_file_name(name))
}

/// Writes the backup, and reads it back: what cannot be restored is not called a backup.
fn write(part: &Path, config: &Config) -> Result<Contents, CliError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part)
        .map_err(|error| failed(part, &error))?;
    fill(&mut file, config)?;
    file.sync_all().map_err(|error| failed(part, &error))?;
    let written = File::open(part).map_err(|error| failed(part, &error))?;
    store::verify(written).map_err(|error| CliError::Failed(error.to_string()))
}

fn fill(file: &mut File, config: &Config) -> Result<(), CliError> {
    let other = |error: &dyn std::fmt::Display| CliError::Failed(error.to_string());
    for _ in 0..ATTEMPTS {
        match console::fetch_backup(&config.state_dir, file) {
            Ok(Reply::Failed { message }) => return Err(CliError::Failed(message)),
            Ok(_) => return Ok(()),
            Err(AskError::NotRunning(_)) => {}
            Err(error @ (AskError::Broken(..) | AskError::Denied(_))) => return Err(other(&error)),
        }
        if !config.state_dir.join("db").exists() {
            return Err(CliError::Failed(format!(
                "there is no state in {}: nothing has been paired yet, or `--state-dir` is another one",
                config.state_dir.display()
            )));
        }
        let owner = fs::metadata(&config.state_dir).map_err(|error| other(&error))?.uid();
        account::own(&config.state_dir, owner)?;
        match Store::open(&config.state_dir, |_| SystemClock::default().moment()) {
            Ok(store) => return from_stopped(store, file).map_err(|error| other(&error)),
            Err(OpenError::InUse(_)) => std::thread::sleep(PAUSE),
            Err(error) => return Err(other(&error)),
        }
    }
    Err(other(&OpenError::InUse(config.state_dir.clone())))
}

fn from_stopped(store: Store, file: &mut File) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let written = store.archive.write(file);
    runtime.block_on(store.closer.close());
    written.map(drop)
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    CliError::Failed(format!("cannot write {}: {error}", path.display()))
}
