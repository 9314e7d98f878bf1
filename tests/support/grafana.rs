//! The dashboards: their panels' queries, and the macros in them as Grafana would expand them.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The query of a panel.
#[derive(Clone, Debug)]
pub struct Query {
    /// Dashboard and panel, for messages.
    pub name: String,
    /// The uid of its data source.
    pub source: String,
    /// As it stands in the file.
    pub text: String,
}

/// Values of the macros that a query may use.
pub struct Macros {
    /// `$__interval`, such as `1h`.
    pub interval: &'static str,
    /// `$__timeFrom()`, and `$__timeTo()`, as they are written into a query.
    pub from: String,
    pub to: String,
    /// What `$timeFilter` becomes; InfluxQL's name for `$__timeFilter`.
    pub time_filter: String,
}

impl Macros {
    /// The query with every macro replaced. Any other variable is refused: a panel must work wherever it is put.
    pub fn expand(&self, query: &Query) -> String {
        let mut text = query.text.clone();
        while let Some((before, rest)) = text.clone().split_once("$__timeFilter(") {
            let (column, after) = rest.split_once(')').unwrap();
            text = format!("{before}{column} BETWEEN {} AND {}{after}", self.from, self.to);
        }
        for (macro_name, value) in [
            ("$__timeFrom()", &*self.from),
            ("$__timeTo()", &*self.to),
            ("$__interval", self.interval),
            ("$timeFilter", &*self.time_filter),
        ] {
            text = text.replace(macro_name, value);
        }
        assert!(!text.contains('$') && !text.contains("[["), "{}: a variable that is not allowed: {text}", query.name);
        text
    }
}

/// The folder of Grafana's files, seen from a crate of the workspace.
pub fn folder(to_root: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(to_root).join("docker/grafana")
}

/// Every dashboard by its file's name.
pub fn dashboards(folder: &Path) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder.join("dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        all.push((name, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Every query to a data source.
pub fn queries(folder: &Path, source: &str) -> Vec<Query> {
    let mut all = Vec::new();
    for (name, dashboard) in dashboards(folder) {
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let text = ["rawSql", "query", "expr"].iter().find_map(|key| target[*key].as_str());
                all.push(Query {
                    name: format!("{name}: {}", panel["title"].as_str().unwrap()),
                    source: target["datasource"]["uid"].as_str().unwrap().to_owned(),
                    text: text.unwrap().to_owned(),
                });
            }
        }
    }
    all.retain(|query| query.source == source);
    assert!(!all.is_empty(), "no panel asks {source}");
    all
}
