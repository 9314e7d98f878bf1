//! What `src/ARCHITECTURE.md` says of layers, held against the sources.

use std::path::Path;

/// Modules that everything may import.
const GROUND: [&str; 5] = ["flow", "telemetry", "threads", "prefetch", "wire"];
/// Modules above, each with what it may import besides the ground and itself.
const ABOVE: [(&str, &[&str]); 10] = [
    ("receive", &[]),
    ("decode", &["receive"]),
    ("enrich", &[]),
    ("log", &[]),
    ("aggregate", &["log"]),
    ("deliver", &["log"]),
    ("pipeline", &["receive", "decode", "enrich", "log", "aggregate", "deliver"]),
    ("control", &["receive", "decode", "enrich", "log", "aggregate", "deliver", "pipeline"]),
    ("app", &["receive", "decode", "enrich", "log", "aggregate", "deliver", "pipeline", "control"]),
    ("cli", &["receive", "decode", "enrich", "log", "aggregate", "deliver", "pipeline", "control", "app"]),
];

/// Modules of this crate that a source names: `crate::name`, and the names at the top of `crate::{…}`.
fn named(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    for rest in source.split("crate::").skip(1) {
        let word = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
        let Some(group) = rest.strip_prefix('{') else {
            names.push(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut part = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => names.push(word(std::mem::take(&mut part).trim())),
                _ if depth == 0 => part.push(c),
                _ => {}
            }
        }
        names.push(word(part.trim()));
    }
    names
}

fn sources(path: &Path, found: &mut Vec<(String, String)>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push((path.display().to_string(), std::fs::read_to_string(path).unwrap()));
    }
}

#[test]
fn modules_import_only_from_below() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut imports = 0;
    for (module, below) in ABOVE {
        let mut files = Vec::new();
        for path in [src.join(module), src.join(format!("{module}.rs"))] {
            if path.exists() {
                sources(&path, &mut files);
            }
        }
        assert!(!files.is_empty(), "{module} has no source");
        for (path, source) in files {
            for name in named(&source) {
                let known = name == module || GROUND.contains(&&*name);
                let above = ABOVE.iter().any(|(other, _)| *other == name) && !below.contains(&&*name);
                assert!(known || !above, "{path}: {module} imports {name}");
                imports += 1;
            }
        }
    }
    assert!(imports > 300, "{imports} imports found");
}

#[test]
fn imports_are_found_in_groups_and_alone() {
    let source =
        "use crate::flow::{A, b::C};\nuse crate::{log::{Log, X}, wire, control::state::Y};\nlet a = crate::app::run();";
    assert_eq!(named(source), ["flow", "log", "wire", "control", "app"]);
}
