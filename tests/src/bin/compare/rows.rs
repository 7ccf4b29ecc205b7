//! The table.

use std::fmt::Write as _;

use crate::measures::Side;

/// A figure and what it is held against.
#[derive(Debug)]
pub(crate) struct Row {
    /// What was measured.
    what: String,
    figure: f64,
    goal: Goal,
    peer: Option<f64>,
    unit: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    pub(crate) fn at_most(what: &str, figure: f64, goal: f64, unit: &'static str) -> Self {
        Self { what: what.to_owned(), figure, goal: Goal::AtMost(goal), peer: None, unit }
    }

    pub(crate) fn at_least(what: &str, figure: f64, goal: f64, unit: &'static str) -> Self {
        Self { goal: Goal::AtLeast(goal), ..Self::at_most(what, figure, goal, unit) }
    }

    /// What the peer made of the same.
    pub(crate) fn beside(self, peer: f64) -> Self {
        Self { peer: Some(peer), ..self }
    }

    /// The goal is not reached.
    fn is_missed(&self) -> bool {
        match self.goal {
            Goal::AtLeast(goal) => self.figure < goal,
            Goal::AtMost(goal) => self.figure > goal,
        }
    }
}

/// Prints all of it, in the order in which it was measured. True when no goal is missed.
pub(crate) fn print(rows: &[Row], peer: Side, machine: &str) -> bool {
    println!("Machine: {machine}.\n\n{}", table(rows, peer));
    let missed: Vec<_> = rows.iter().filter(|row| row.is_missed()).collect();
    for row in &missed {
        eprintln!("compare: missed: {}", row.what);
    }
    missed.is_empty()
}

/// All of it as Markdown.
fn table(rows: &[Row], peer: Side) -> String {
    let mut text = format!("| | gateway | {} | goal | |\n|---|---:|---:|---:|---|\n", peer.name());
    for row in rows {
        let Row { what, figure, goal, peer, unit } = row;
        let verdict = if row.is_missed() { "**missed**" } else { "reached" };
        let peer = peer.map(|value| format!("{value:.2} {unit}")).unwrap_or_default();
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
        let table = table(&[Row::at_least("rate", 2.0, 1.0, "/s").beside(1.0)], Side::Ntfy);
        assert!(table.starts_with("| | gateway | ntfy | goal | |\n"), "{table}");
        assert!(table.contains("| rate | 2.00 /s | 1.00 /s | ≥ 1.00 /s | reached |"), "{table}");
    }
}
