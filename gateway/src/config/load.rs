//! Reads the file, if one was named, and puts command line, file and defaults together.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::{
    AutopushConfig, Config, ConfigError, Overrides, address, check::Checker, raw::RawConfig, source::Source,
};

/// The directory that is ours among other programs' state.
const NAME: &str = "unifiedpush-gateway";

impl Config {
    /// Reads and checks everything. `env` looks up an environment variable
    /// ([`std::env::var_os`], or a test's own).
    ///
    /// # Errors
    /// [`ConfigError`] for a file that cannot be read, a mistake in it, or a combination that
    /// cannot be used. Nothing has been created or bound then.
    pub fn load(overrides: &Overrides, env: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let Some(path) = &overrides.config else {
            let checker = Checker { base: Path::new(""), overrides, source: None };
            return assemble(&checker, &RawConfig::default(), env);
        };
        let text = fs::read_to_string(path).map_err(|error| {
            ConfigError(format!(
                "{}: {error}; write the path of a readable TOML file, or leave --config out for the defaults",
                path.display()
            ))
        })?;
        let (source, raw) = Source::parse(path, &text)?;
        let base = path.parent().unwrap_or(Path::new(""));
        assemble(&Checker { base, overrides, source: Some(&source) }, &raw, env)
    }
}

fn assemble(
    checker: &Checker<'_>,
    raw: &RawConfig,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Config, ConfigError> {
    let log = checker.log(raw.log.as_deref())?;
    let state_dir = state_dir(checker, raw.state_dir.as_deref(), &env)?;
    let public = checker.public(&raw.public, &state_dir)?;
    let mqtt = checker.mqtt(&raw.transport.mqtt, &public, &state_dir)?;
    let home = raw.home.as_ref().map(|raw| checker.home(raw, public.listen)).transpose()?;
    let said = raw.home.as_ref().and_then(|raw| raw.announce);
    Ok(Config {
        // Every address, or a public one, is for more than the home: there it has to be asked for.
        announce: home.is_some_and(|home| said.unwrap_or_else(|| address::is_lan(home.ip()))),
        limits: checker.limits(&raw.limits)?,
        autopush: AutopushConfig { enabled: raw.transport.autopush.enabled.unwrap_or(true) },
        home,
        log,
        mqtt,
        open_broker: checker.open_broker()?,
        ntfy: checker.ntfy(&raw.transport.ntfy)?,
        public,
        state_dir,
        trusted_proxies: checker.trusted_proxies(raw.trusted_proxies.as_deref())?,
        web: checker.web(&raw.transport.web)?,
        wake: checker.wake(&raw.wake)?,
        xmpp: raw.transport.xmpp.as_ref().map(|raw| checker.xmpp(raw, &env)).transpose()?,
    })
}

fn state_dir(
    checker: &Checker<'_>,
    raw: Option<&Path>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, ConfigError> {
    // What the file says is checked even where the command line overrules it.
    let written =
        raw.map(|path| checker.path("state_dir", path, "\"/var/lib/unifiedpush-gateway\"")).transpose()?;
    if let Some(said) = &checker.overrides.state_dir {
        return Ok(said.clone());
    }
    if let Some(written) = written {
        return Ok(written);
    }
    let variable = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd writes a colon-separated list, in the order of the unit's StateDirectory=.
    if let Some(list) = env("STATE_DIRECTORY") {
        if let Some(first) = std::env::split_paths(&list).find(|path| !path.as_os_str().is_empty()) {
            return Ok(first);
        }
    }
    // The XDG Base Directory Specification: a relative path is invalid and to be ignored.
    if let Some(home) = variable("XDG_STATE_HOME").filter(|path| path.is_absolute()) {
        return Ok(home.join(NAME));
    }
    if let Some(home) = variable("HOME") {
        return Ok(home.join(".local/state").join(NAME));
    }
    Err(ConfigError(
        "state_dir: there is no place for the state: neither $STATE_DIRECTORY, $XDG_STATE_HOME nor $HOME is set; \
         write --state-dir DIR, or state_dir = \"DIR\" in the file"
            .to_owned(),
    ))
}
