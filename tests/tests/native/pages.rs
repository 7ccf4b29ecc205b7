//! What a page of gateway/docs calls shown is shown by tests, and files, that there are.
//!
//! A page that answers for something has a section `Sentence by sentence` with a table of two columns: what
//! holds, and what shows it, which are names of tests or paths from the root of the repository in backquotes. A
//! path may be followed by arguments.

use std::{
    fs,
    path::{Path, PathBuf},
};

const SECTION: &str = "\n## Sentence by sentence\n";

/// Everything below these that ends in `rs`.
fn code() -> String {
    fn read_all(directory: &Path, into: &mut String) {
        for entry in fs::read_dir(directory).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                read_all(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push_str(&fs::read_to_string(&path).expect("sources are text"));
            }
        }
    }
    let mut code = String::new();
    for directory in ["gateway/src", "tests/src", "tests/tests"] {
        read_all(&harness::workspace().join(directory), &mut code);
    }
    code
}

fn pages() -> Vec<(PathBuf, String)> {
    let docs = harness::workspace().join("gateway/docs");
    let files = fs::read_dir(docs).expect("readable").flatten().map(|entry| entry.path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.clone(), fs::read_to_string(path).expect("pages are text")))
        .filter(|(_, text)| text.contains(SECTION))
        .collect()
}

/// What is wrong with a page; `exists` is asked for each name.
fn complaints(page: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let (_, section) = page.split_once(SECTION).expect("the section is there");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let mut complaints = Vec::new();
    if rows.is_empty() {
        complaints.push("the table has no rows".to_owned());
    }
    for row in rows {
        let shown = row.trim_end_matches(" |").rsplit_once(" | ").map_or("", |(_, shown)| shown);
        let names: Vec<_> = shown.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            complaints.push(format!("nothing is named that shows: {row}"));
        }
        for name in names.into_iter().filter(|name| !exists(name)) {
            complaints.push(format!("there is no `{name}`, which is to show: {row}"));
        }
    }
    complaints
}

#[test]
fn what_a_page_calls_shown_exists() {
    let code = code();
    let exists = |name: &str| {
        let path = name.split(' ').next().unwrap_or_default();
        if path.contains('/') {
            return harness::workspace().join(path).exists();
        }
        // Tests that every room passes are functions over the room, those of properties over what they try.
        code.contains(&format!("fn {name}(")) || code.contains(&format!("fn {name}<"))
    };
    let pages = pages();
    assert!(pages.iter().any(|(path, _)| path.ends_with("mqtt-conformance.md")), "{}", pages.len());
    for (path, text) in pages {
        let complaints = complaints(&text, exists);
        assert!(complaints.is_empty(), "{}:\n{}", path.display(), complaints.join("\n"));
    }
}

#[test]
fn a_name_that_shows_nothing_is_noticed() {
    let page = format!(
        "# Page\n{SECTION}Text.\n\n| what holds | shown by |\n|---|---|\n\
         | one | `a`, `b/c --quick` |\n| two \\| three | a |\n| four | `d` |\n\n## Other\n| x | `e` |\n"
    );
    let complaints = complaints(&page, |name| name == "a" || name.starts_with("b/c"));
    assert_eq!(
        complaints,
        [
            "nothing is named that shows: | two \\| three | a |",
            "there is no `d`, which is to show: | four | `d` |"
        ]
    );
}
