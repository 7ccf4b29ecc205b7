//! What was found, and how it is told.

use std::io::{self, Write};

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Good,
    /// Could not be looked at, and why.
    Skipped,
    /// Works, but not for everybody, or not for ever.
    Warning,
    /// Keeps pushes from arriving, or loses them.
    Problem,
}

/// One thing that was found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What to do about it; everything but what is good has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What was found.
    pub what: String,
}

impl Finding {
    /// It is as it should be.
    pub fn good(what: impl Into<String>) -> Self {
        Self { level: Level::Good, remedy: None, what: what.into() }
    }

    /// It was not looked at.
    pub fn skipped(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Skipped, remedy: Some(remedy.into()), what: what.into() }
    }

    /// It works, but.
    pub fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warning, remedy: Some(remedy.into()), what: what.into() }
    }

    /// It does not work.
    pub fn problem(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Problem, remedy: Some(remedy.into()), what: what.into() }
    }
}

/// A finding and whose it is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
struct Line {
    check: &'static str,
    #[serde(flatten)]
    finding: Finding,
}

/// All findings, in the order in which they were made.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Report {
    /// The settings cannot be used, so nothing that needs them was looked at.
    #[serde(skip)]
    pub broken_config: bool,
    findings: Vec<Line>,
}

impl Report {
    pub(super) fn add(&mut self, check: &'static str, findings: Vec<Finding>) {
        self.findings.extend(findings.into_iter().map(|finding| Line { check, finding }));
    }

    /// How many findings are this bad.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|line| line.finding.level == level).count()
    }

    /// For people: a line a finding, and below it what to do.
    ///
    /// # Errors
    /// Whatever `out` says.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        for Line { check, finding } in &self.findings {
            let mark = match finding.level {
                Level::Good => "good   ",
                Level::Skipped => "skipped",
                Level::Warning => "warning",
                Level::Problem => "PROBLEM",
            };
            writeln!(out, "{mark} {check:<13} {}", finding.what)?;
            if let Some(remedy) = &finding.remedy {
                writeln!(out, "{:21} → {remedy}", "")?;
            }
        }
        writeln!(out, "{} problems, {} warnings", self.count(Level::Problem), self.count(Level::Warning))
    }

    /// For programs: `{"problems":0,"warnings":1,"findings":[{"check","level","what","remedy"}]}`.
    ///
    /// # Errors
    /// Whatever `out` says.
    pub fn print_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let all = serde_json::json!({
            "findings": self.findings,
            "problems": self.count(Level::Problem),
            "warnings": self.count(Level::Warning),
        });
        writeln!(out, "{all}")
    }
}
