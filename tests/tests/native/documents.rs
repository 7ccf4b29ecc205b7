//! What a page calls shown is shown by tests that there are.

use std::{fs, path::Path};

/// The pages with a table, and its least length.
const PAGES: [(&str, usize); 1] = [("durability.md", 30)];

fn read_all(dir: &Path, into: &mut String) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_all(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).expect("UTF-8"));
        }
    }
}

/// What is wrong with the table of a page: rows that name nothing, and names that are no test's.
fn complaints(page: &str, code: &str, least: usize) -> Vec<String> {
    let (_, table) = page.split_once("## Sentence by sentence").expect("the table");
    let (table, _) = table.split_once("\n## ").unwrap_or((table, ""));
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let mut complaints = Vec::new();
    if rows.len() < least {
        complaints.push(format!("{} rows", rows.len()));
    }
    for row in rows {
        let (_, shown) = row.trim_end_matches(" |").rsplit_once(" | ").expect("two columns");
        let names: Vec<_> = shown.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            complaints.push(format!("nothing shows: {row}"));
        }
        for name in names {
            // A command with its script, or a test.
            let is_script = name.starts_with("tests/")
                && harness::workspace().join(name.split(' ').next().unwrap_or_default()).is_file();
            if !is_script && !code.contains(&format!("fn {name}(")) {
                complaints.push(format!("no test `{name}`, which is to show: {row}"));
            }
        }
    }
    complaints
}

#[test]
fn every_test_on_the_pages_exists() {
    let root = harness::workspace();
    let mut code = String::new();
    for dir in ["gateway/src", "tests/src", "tests/tests"] {
        read_all(&root.join(dir), &mut code);
    }
    for (page, least) in PAGES {
        let text = fs::read_to_string(root.join("gateway/docs").join(page)).expect("the page");
        assert_eq!(complaints(&text, &code, least), [""; 0], "{page}");
    }
}

#[test]
fn what_is_not_there_is_found() {
    let code = "fn it_is()";
    let page = "## Sentence by sentence\n| what | shown by |\n|---|---|\n";
    for (row, wrong) in [
        ("| a | `it_is` |", 0),
        ("| a | `tests/crash --long` |", 0),
        ("| a | `it_is`, `it_is_not` |", 1),
        ("| a | by hand |", 1),
        ("| a | `tests/no-such-script` |", 1),
    ] {
        let found = complaints(&format!("{page}{row}\n\n## Next\n| b | c |\n"), code, 1);
        assert_eq!(found.len(), wrong, "{row}: {found:?}");
    }
}
