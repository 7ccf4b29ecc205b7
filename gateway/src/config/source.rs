//! The text of a configuration file, and where in it a mistake is.

use std::{ops::Range, path::Path};

use toml::de::{DeTable, DeValue};

use super::{ConfigError, raw::RawConfig};

/// Names a place in the file, so that every error begins the same way: `FILE:LINE: KEY: `.
#[derive(Debug)]
pub(super) struct Source<'a> {
    name: String,
    table: DeTable<'a>,
    text: &'a str,
}

impl<'a> Source<'a> {
    /// Parses `text`, which came from `path`.
    pub(super) fn parse(path: &Path, text: &'a str) -> Result<(Self, RawConfig), ConfigError> {
        let name = path.display().to_string();
        let (table, mistakes) = DeTable::parse_recoverable(text);
        let source = Self { name, table: table.into_inner(), text };
        if let Some(mistake) = mistakes.first() {
            return Err(source.parser_error(mistake));
        }
        let raw = toml::from_str(text).map_err(|mistake| source.parser_error(&mistake))?;
        Ok((source, raw))
    }

    /// What is wrong with the value of `key` (dotted), and what would be right.
    pub(super) fn error(&self, key: &str, what: &str) -> ConfigError {
        let mut line = String::new();
        if let Some(span) = find(&self.table, key) {
            line = format!(":{}", self.line(span.start));
        }
        ConfigError(format!("{}{line}: {key}: {what}", self.name))
    }

    fn parser_error(&self, mistake: &toml::de::Error) -> ConfigError {
        let message = mistake.message();
        let Some(span) = mistake.span() else {
            return ConfigError(format!("{}: {message}", self.name));
        };
        let line = self.line(span.start);
        match key_at(&self.table, &span) {
            Some(key) => ConfigError(format!("{}:{line}: {key}: {message}", self.name)),
            None => ConfigError(format!("{}:{line}: {message}", self.name)),
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
    }
}

/// The span of the value that the dotted `key` names; of its table, if the key itself is missing.
fn find(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let (_, value) = table.iter().find(|(name, _)| name.get_ref() == first)?;
    match (rest, value.get_ref()) {
        (Some(rest), DeValue::Table(inner)) => find(inner, rest).or(Some(value.span())),
        (Some(_) | None, _) => Some(value.span()),
    }
}

/// The dotted path of the innermost key whose name or value covers `span`. Tables are searched
/// whatever their own span is: that of `[table]` covers its header only.
fn key_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let covers = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    table.iter().find_map(|(name, value)| {
        if let DeValue::Table(inner) = value.get_ref() {
            if let Some(rest) = key_at(inner, span) {
                return Some(format!("{}.{rest}", name.get_ref()));
            }
        }
        (covers(name.span()) || covers(value.span())).then(|| name.get_ref().to_string())
    })
}
