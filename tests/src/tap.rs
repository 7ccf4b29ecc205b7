//! A program in a terminal: its lines are read as they come.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::wait::within;

/// A running program whose output is read line by line; killed when it goes out of scope.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

impl Terminal {
    /// Starts it. Its complaints go to the test's own standard error.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let output = child.stdout.take().expect("its output is piped");
        Self { child, lines: BufReader::new(output).lines(), seen: Vec::new() }
    }

    /// Its exit status, when it has ended by itself.
    pub async fn end(&mut self) -> Option<i32> {
        within("the program ends", self.child.wait()).await.expect("it can be waited for").code()
    }

    /// The next line that `wanted` gives a value for.
    pub async fn line<T>(&mut self, what: &str, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let found = within(what, async {
            while let Some(line) = self.lines.next_line().await.expect("its output is text") {
                let value = wanted(&line);
                self.seen.push(line);
                if value.is_some() {
                    return value;
                }
            }
            None
        })
        .await;
        found.unwrap_or_else(|| panic!("expected {what}; the program ended after printing {:#?}", self.seen))
    }
}
