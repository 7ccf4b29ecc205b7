//! The table.

use std::fmt::Write as _;

/// A figure and what it is held against.
#[derive(Debug)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    figure: f64,
    goal: Goal,
    mosquitto: Option<f64>,
    unit: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    pub(super) fn at_most(what: &str, figure: f64, goal: f64, unit: &'static str) -> Self {
        Self { what: what.to_owned(), figure, goal: Goal::AtMost(goal), mosquitto: None, unit }
    }

    pub(super) fn at_least(what: &str, figure: f64, goal: f64, unit: &'static str) -> Self {
        Self { goal: Goal::AtLeast(goal), ..Self::at_most(what, figure, goal, unit) }
    }

    /// What mosquitto made of the same.
    pub(super) fn beside(self, mosquitto: f64) -> Self {
        Self { mosquitto: Some(mosquitto), ..self }
    }

    /// The goal is not reached.
    pub(crate) fn is_missed(&self) -> bool {
        match self.goal {
            Goal::AtLeast(goal) => self.figure < goal,
            Goal::AtMost(goal) => self.figure > goal,
        }
    }
}

/// All of it as Markdown.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = "| | gateway | mosquitto | goal | |\n|---|---:|---:|---:|---|\n".to_owned();
    for row in rows {
        let Row { what, figure, goal, mosquitto, unit } = row;
        let verdict = if row.is_missed() { "**missed**" } else { "reached" };
        let peer = mosquitto.map(|value| format!("{value:.2} {unit}")).unwrap_or_default();
        let goal = match goal {
            Goal::AtLeast(goal) => format!("≥ {goal:.2} {unit}"),
            Goal::AtMost(goal) => format!("≤ {goal:.2} {unit}"),
        };
        let _infallible = writeln!(text, "| {what} | {figure:.2} {unit} | {peer} | {goal} | {verdict} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_goal_is_reached() {
        assert!(Row::at_most("x", 1.1, 1.0, "ms").is_missed());
        assert!(!Row::at_most("x", 1.0, 1.0, "ms").is_missed());
        assert!(Row::at_least("x", 0.9, 1.0, "/s").is_missed());
        let table = table(&[Row::at_least("rate", 2.0, 1.0, "/s").beside(1.0)]);
        assert!(table.contains("| rate | 2.00 /s | 1.00 /s | ≥ 1.00 /s | reached |"), "{table}");
    }
}
