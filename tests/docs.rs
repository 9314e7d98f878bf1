//! The documents: what they list is what the program has, their links lead somewhere, and the commands of `docs/migrating.md` run.
//!
//! Lists that follow from the code stand between marks; a run with `UPDATE_GOLDEN=1` writes them anew.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rgz_netflow::control::config::VARIABLES;
use rgz_netflow::control::http;
use rgz_netflow::telemetry::ledger::Account;
use support::{Collector, PROGRAM, installed, wait_until};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Compares the text between two marks of a document with what it should be, or puts it there.
fn check_list(path: &str, mark: &str, list: &str) {
    let text = read(path);
    let (before, rest) =
        text.split_once(&format!("<!-- {mark}:")).unwrap_or_else(|| panic!("{path} has no mark {mark}"));
    let (head, rest) = rest.split_once("-->\n").unwrap();
    let end = format!("<!-- end of {mark} -->");
    let (shown, after) = rest.split_once(&end).unwrap();
    let list = format!("\n{}\n\n", list.trim());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = format!("{before}<!-- {mark}:{head}-->\n{list}{end}{after}");
        return std::fs::write(root().join(path), text).unwrap();
    }
    assert!(shown == list, "{path} is not what the program has: UPDATE_GOLDEN=1 cargo test --workspace --test docs");
}

/// A key of `pipeline.toml`: its default and why it is there.
struct Key {
    name: String,
    default: String,
    about: String,
}

/// Every key of `pipeline.toml` by table, those that are only shown in comments too.
fn keys(text: &str) -> Vec<(String, Vec<Key>)> {
    let mut tables: Vec<(String, Vec<Key>)> = Vec::new();
    let mut comment = String::new();
    for line in text.lines() {
        let plain = line.strip_prefix("# ").unwrap_or(line);
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.".contains(&b))
        };
        let key = plain.split_once(" = ").filter(|(name, _)| is_name(name.trim()));
        let head = plain.split(" #").next().unwrap_or_default().trim();
        let table = head.trim_start_matches('[').trim_end_matches(']');
        if head.starts_with('[') && head.ends_with(']') && is_name(table) {
            tables.push((table.to_owned(), Vec::new()));
        } else if let Some((name, rest)) = key {
            let (default, aside) = rest.split_once("  # ").or(rest.split_once(" # ")).unwrap_or((rest, ""));
            let about = if line.starts_with('#') { aside } else { comment.as_str() };
            let key = Key { name: name.trim().into(), default: default.trim().into(), about: about.trim().into() };
            if let Some((_, keys)) = tables.last_mut() {
                keys.push(key);
            }
        }
        match line.strip_prefix("# ").filter(|_| key.is_none()) {
            Some(more) => comment = format!("{comment} {}", more.trim()),
            None => comment.clear(),
        }
    }
    tables
}

#[test]
fn configuration_lists_every_key_and_every_variable() {
    let tables = keys(&read("pipeline.toml"));
    let mut list = String::new();
    for (table, keys) in &tables {
        list += &format!("### `[{table}]`\n\n| key | default or example | why |\n| --- | --- | --- |\n");
        for key in keys {
            let about = key.about.replace('|', "\\|");
            list += &format!("| `{}` | `{}` | {about} |\n", key.name, key.default);
        }
        list.push('\n');
    }
    check_list("docs/configuration.md", "keys", &list);
    // What the program reads from the file is what was listed.
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(PROGRAM).arg("config").current_dir(folder.path()).env_clear().output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    for line in shown.lines().filter(|line| !line.starts_with("sink[")) {
        let (table, key) = line.split(' ').next().and_then(|name| name.rsplit_once('.')).unwrap();
        let listed = tables.iter().any(|(name, keys)| {
            name == table && keys.iter().any(|k| k.name == key) || *name == format!("{table}.{key}")
        });
        assert!(listed, "{table}.{key} is not in pipeline.toml");
    }
    let rows = VARIABLES.iter().map(|v| format!("| `{}` | {} |\n", v.name, v.about)).collect::<String>();
    check_list("docs/configuration.md", "variables", &format!("| variable | what it sets |\n| --- | --- |\n{rows}"));
}

#[test]
fn api_lists_every_route() {
    let document = http::document();
    let mut list = "| route | answer | token |\n| --- | --- | --- |\n".to_owned();
    for route in http::ROUTES {
        let (method, path) = (route.method.name(), route.path);
        let description = document["paths"][path][method.to_lowercase()]["description"].as_str().unwrap();
        let (_, needs) = description.rsplit_once("Needs ").unwrap();
        list += &format!("| `{method} {path}` | {} | {} |\n", route.summary, needs.trim_end_matches('.'));
    }
    check_list("docs/api.md", "routes", &list);
}

#[test]
fn operating_tells_every_counter_of_the_ledger() {
    let text = read("docs/operating.md");
    for (name, _) in Account::default().counters() {
        assert!(text.contains(&format!("`{name}`")), "docs/operating.md does not tell {name}");
    }
}

#[test]
fn metrics_that_the_documents_name_are_exposed() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    collector.generate(&["--count", "30", "--rate", "0"]);
    collector.wait_delivered();
    let metrics = collector.get_text("/metrics");
    for path in ["docs/operating.md", "docs/migrating.md"] {
        let text = read(path);
        for name in text.split('`').filter(|word| word.starts_with("netflow_") && !word.starts_with("netflow_flows.")) {
            let is_metric = name.ends_with("_total") || name.ends_with("_seconds") || name.ends_with("_degraded");
            assert!(!is_metric || metrics.contains(&format!("\n{name}")), "{path} names {name}, which is not exposed");
        }
    }
    collector.stop();
}

/// Every document, by its path from the root.
fn documents() -> Vec<String> {
    let mut all: Vec<String> =
        ["README.md", "docker/README.md", "sinks/README.md", "geoip/README.md"].map(String::from).into();
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        all.push(format!("docs/{}", entry.unwrap().file_name().to_string_lossy()));
    }
    all
}

#[test]
fn links_between_documents_lead_somewhere_and_the_readme_links_each() {
    for document in documents() {
        let text = read(&document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let target = root().join(&document).parent().unwrap().join(path);
            assert!(target.exists(), "{document} links {link}, which is not there");
        }
    }
    let readme = read("README.md");
    for document in documents().iter().filter(|path| path.starts_with("docs/")) {
        assert!(readme.contains(document), "README.md does not link {document}");
    }
}

/// The lines of the `sh` blocks of a document.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines)
}

#[test]
fn the_commands_for_those_who_migrate_run() {
    if !installed("curl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    let program = Path::new(PROGRAM).parent().unwrap().to_owned();
    let path = std::env::join_paths(
        std::iter::once(program).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let path = path.unwrap();
    let mut run = BTreeMap::new();
    let text = read("docs/migrating.md");
    for line in commands(&text) {
        // The test's collector has ports of its own.
        let mut line = line.replace("127.0.0.1:2055", &format!("127.0.0.1:{}", collector.port));
        line = line.replace("127.0.0.1:9100", &format!("127.0.0.1:{}", collector.admin));
        let asks = ["top", "query", "export", "alerts"]
            .iter()
            .any(|command| line.starts_with(&format!("rgz-netflow {command} ")));
        if asks {
            line = format!("{line} --url {}", collector.url(""));
        }
        let line = line.replace("curl -s", "curl -sf");
        let output =
            Command::new("sh").args(["-ec", &line]).env("PATH", &path).current_dir(folder.path()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !out.is_empty(), "{line}: {}\n{out}\n{err}", output.status);
        if line.starts_with("rgz-netflow generate ") {
            wait_until("they are logged", Duration::from_secs(60), || collector.ledger("flows/logged") == 30);
        }
        run.insert(line, out.into_owned());
    }
    assert!(run.len() > 12, "{}", run.len());
    let latest = run.iter().find(|(line, _)| line.contains("limit=20")).unwrap();
    assert_eq!(latest.1.lines().count(), 21, "{latest:?}");
    let csv = std::fs::read_to_string(folder.path().join("flows.csv")).unwrap();
    assert_eq!(csv.lines().count(), 31);
    collector.stop();
}
