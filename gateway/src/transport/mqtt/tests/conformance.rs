//! What the conformance page calls shown is shown by tests that there are.

use std::{fs, path::Path};

const PAGE: &str = include_str!("../../../../docs/mqtt-conformance.md");

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

#[test]
fn every_test_on_the_page_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for dir in ["src", "../tests/tests"] {
        read_all(&root.join(dir), &mut code);
    }
    let (_, table) = PAGE.split_once("## Sentence by sentence").expect("the table");
    let (table, _) = table.split_once("\n## ").unwrap_or((table, ""));
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 30, "{} rows", rows.len());
    for row in rows {
        let (_, shown) = row.trim_end_matches(" |").rsplit_once(" | ").expect("two columns");
        let names: Vec<_> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row}");
        for name in names {
            assert!(code.contains(&format!("fn {name}()")), "no test `{name}`, which is to show: {row}");
        }
    }
}
