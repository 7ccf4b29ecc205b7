//! Data flows one way: which room may import which. The table in gateway/ARCHITECTURE.md is the rule.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The handles that cannot reverse the flow: a room that may use one of them may not name another.
const HANDLES: [&str; 5] = ["Accounts", "Backlog", "Closer", "Intake", "Ledger"];

/// Each room and what it may import: `store`, or `store::Intake` where only that handle is allowed.
/// Rooms that know everything have no entry.
type Rules = BTreeMap<String, Vec<String>>;

/// Reads the table `| room | knows | may import |`.
fn rules(architecture: &str) -> Rules {
    let table = architecture.split_once("\n## Rooms\n").expect("there is a section Rooms").1;
    let table = table.split("\n## ").next().unwrap_or_default();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let mut rules = Rules::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [rooms, _, allowed] = cells[..] else { panic!("expected three columns: {row}") };
        if allowed == "everything" {
            continue;
        }
        let allowed: Vec<_> = allowed.split(", ").filter(|name| *name != "-").map(allowance).collect();
        for room in rooms.split(", ") {
            rules.insert(room.trim_matches('`').to_owned(), allowed.clone());
        }
    }
    rules
}

/// ``store (`Intake`)`` is `store::Intake`; any other remark in brackets is for the reader.
fn allowance(text: &str) -> String {
    let (room, remark) = text.split_once(' ').unwrap_or((text, ""));
    match remark.trim_matches(['(', ')']).strip_prefix('`') {
        Some(handle) => format!("{room}::{}", handle.trim_end_matches('`')),
        None => room.to_owned(),
    }
}

fn our_rules() -> Rules {
    let path = harness::workspace().join("gateway/ARCHITECTURE.md");
    rules(&fs::read_to_string(path).expect("the architecture is written down"))
}

#[test]
fn no_room_imports_what_it_must_not_know() {
    let sources = harness::workspace().join("gateway/src");
    let (rules, mut complaints) = (our_rules(), BTreeSet::new());
    for file in rust_files(&sources) {
        let relative = file.strip_prefix(&sources).expect("it is below");
        let text = fs::read_to_string(&file).expect("sources are text");
        for imported in imports(&text) {
            complaints.extend(complaint(&rules, relative, &imported));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_room_has_a_rule() {
    let rules = our_rules();
    for entry in fs::read_dir(harness::workspace().join("gateway/src")).expect("readable").flatten() {
        let name = room(Path::new(&entry.file_name()));
        let free = matches!(name.as_str(), "app" | "cli" | "lib" | "main");
        assert!(
            free || rules.contains_key(&name),
            "{name} is a new room: say in the table of gateway/ARCHITECTURE.md what it may import"
        );
    }
}

/// Everything but tests, which may build whole worlds.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("readable").flatten() {
        let path = entry.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && name != "tests" {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") && !is_test(&name) {
            files.push(path);
        }
    }
    files
}

fn is_test(stem: &str) -> bool {
    stem == "tests" || stem.ends_with("_tests") || stem == "battery"
}

/// The first component of a path below src: a directory or a file.
fn room(relative: &Path) -> String {
    let first = relative.components().next().expect("a file has a name");
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// A sentence, if the file must not import that.
fn complaint(rules: &Rules, file: &Path, imported: &[String]) -> Option<String> {
    let here = room(file);
    let (there, item) = (imported.first()?.as_str(), imported.get(1).map_or("", String::as_str));
    if there == here {
        return protocol_complaint(file, imported);
    }
    let allowed = rules.get(&here)?;
    // From outside, transport is a door, and `web` another one: types and traits, not the rooms behind.
    // ntfy's dialect has two halves: who takes a message in asks the room whose topic it is.
    let is_door = ["self", "web"].contains(&item) || (here == "ingress" && item == "ntfy");
    let behind_the_door = there == "transport" && item.starts_with(char::is_lowercase) && !is_door;
    let whole = allowed.iter().any(|rule| rule == there) && !behind_the_door;
    let part = allowed.iter().find_map(|rule| rule.strip_prefix(there)?.strip_prefix("::"));
    let other_handle = part.is_some_and(|own| HANDLES.contains(&item) && item != own || item == "*");
    if whole || part.is_some() && !other_handle {
        return None;
    }
    let path = imported.join("::");
    Some(format!("{} imports crate::{path}, but {here} may import only {allowed:?}", file.display()))
}

/// Within transport, one protocol must not know another.
fn protocol_complaint(file: &Path, imported: &[String]) -> Option<String> {
    let own = file.components().nth(1)?.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
    let other = imported.get(1)?;
    let rooms = ["autopush", "fake", "mqtt", "ntfy", "xmpp"];
    let crosses =
        imported[0] == "transport" && rooms.contains(&other.as_str()) && *other != own && own != "mod";
    crosses.then(|| format!("{}: the {own} room imports the {other} room", file.display()))
}

/// Every path that begins with `crate::`, flattened, outside comments and unit tests.
fn imports(text: &str) -> Vec<Vec<String>> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (place, _) in code.match_indices("crate::") {
        let named =
            code[..place].chars().next_back().is_some_and(|before| before.is_alphanumeric() || before == '_');
        if !named {
            flatten(&code[place + "crate::".len()..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads one tree of a `use`: `a::{b, c::d}` gives `a::b` and `a::c::d`. Returns what follows it.
fn flatten<'a>(text: &'a str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if rest.is_empty() {
                return rest;
            }
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let before = rest.len();
            rest = flatten(rest, prefix, found);
            if rest.len() == before {
                // Not a tree: a block of code after a path, such as `crate::X {`.
                return rest;
            }
        }
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return rest;
    }
    prefix.push(name.to_owned());
    let rest = if let Some(deeper) = rest.strip_prefix("::") {
        flatten(deeper, prefix, found)
    } else {
        found.push(prefix.clone());
        // `as other` belongs to it.
        rest.trim_start().strip_prefix("as ").map_or(rest, |alias| {
            let alias = alias.trim_start();
            let end = alias.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(alias.len());
            &alias[end..]
        })
    };
    prefix.pop();
    rest
}

#[test]
fn a_forbidden_import_is_noticed() {
    let source = "//! crate::wake\nuse crate::{\n    model::{self, Push},\n    store::{Intake, Ledger as L, NewPush},\n};\n";
    let paths: Vec<_> = imports(source).iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["model::self", "model::Push", "store::Intake", "store::Ledger", "store::NewPush"]);
    let rules = rules(concat!(
        "# A house\n\n## Rooms\n| room | knows | may import |\n|---|---|---|\n",
        "| `ingress` | HTTP | store (`Intake`), model |\n",
        "| `model` | nouns | - |\n",
        "| `transport` | a door | model, config (its own section) |\n",
        "| `wake` | when | store (`Backlog`), transport (the door's types) |\n",
        "| `app`, `cli` | all | everything |\n\n## Other\n| `x` | | model |\n",
    ));
    assert_eq!(rules.len(), 4, "{rules:?}");
    let complaints = |file: &str, source: &str| {
        imports(source).iter().filter_map(|path| complaint(&rules, Path::new(file), path)).count()
    };
    assert_eq!(complaints("ingress/mod.rs", source), 1, "the Ledger is not for the ingress");
    assert_eq!(complaints("model/id.rs", "fn f() { crate::clock::now(); }"), 1);
    assert_eq!(complaints("wake/driver.rs", "use crate::store::*;"), 1);
    assert_eq!(complaints("wake/driver.rs", "use crate::transport::{Report, mqtt::Room};"), 1);
    assert_eq!(complaints("transport/mqtt/io.rs", "use crate::transport::ntfy::Frame;"), 1);
    assert_eq!(complaints("transport/mqtt/io.rs", "use crate::transport::{Report, Transport};"), 0);
    assert_eq!(complaints("transport/mqtt/io.rs", "use crate::config::MqttConfig;"), 0);
    assert_eq!(complaints("app.rs", "use crate::store::Store;"), 0);
}
