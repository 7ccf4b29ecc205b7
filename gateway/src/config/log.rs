//! `log`: what is logged.

use tracing_subscriber::filter::LevelFilter;

use super::{
    ConfigError,
    check::{Checker, default},
};

impl Checker<'_> {
    /// The `log` filter.
    pub(super) fn log(&self, raw: Option<&str>) -> Result<String, ConfigError> {
        let Some(text) = raw else { return Ok(default::LOG.to_owned()) };
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if !parts.iter().all(|part| is_directive(part)) {
            return Err(self.error("log", &format!("`{text}` is not a log filter; write off, error, warn, info, debug or trace, or a list such as info,unifiedpush_gateway::wake=debug")));
        }
        Ok(parts.join(","))
    }
}

/// Whether it is a level, a module, or a module with its level. The filter itself would take any text for the name of
/// a module: `inof` would mean silence.
fn is_directive(text: &str) -> bool {
    let is_level = |text: &str| !text.is_empty() && text.parse::<LevelFilter>().is_ok();
    let is_module = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
    };
    match text.split_once('=') {
        Some((module, level)) => is_module(module) && is_level(level),
        None => is_level(text) || (text.contains(':') && is_module(text)),
    }
}
