//! Environment variables: one row of [`VARIABLES`] each. Values may carry spaces, quotes and a trailing `  # comment`, as
//! container and systemd environment files pass them on. An empty value counts as not set.

mod file;
mod table;
mod values;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::document::{Document, Origin, Overlay, Path};
use super::read::Problem;
use table::{DATABASES, Target};
use values::clean;

pub use file::parse_file;
pub use table::{VARIABLES, Variable};

/// Variables with their values.
pub type Environment = BTreeMap<String, String>;

/// The process's environment. Variables that are not UTF-8 are left out: none of ours can be meant.
pub fn of_process() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The values of our variables as overlays over the document, which is asked for listeners and sinks. Appends every problem.
pub fn overlays(
    environment: &Environment,
    document: &Document<'_>,
    listen: &[SocketAddr],
    problems: &mut Vec<Problem>,
) -> Vec<Overlay> {
    let mut listen = listeners(document).unwrap_or_else(|| listen.to_vec());
    let mut overlays = Vec::new();
    for variable in VARIABLES {
        let Some(value) = environment.get(variable.name).map(|value| clean(value)).filter(|v| !v.is_empty()) else {
            continue;
        };
        let origin = Origin::Env(variable.name.to_owned());
        let literal = match (variable.literal)(value) {
            Ok(literal) => literal,
            Err(problem) => {
                problems.push(Problem { origin, key: String::new(), problem });
                continue;
            }
        };
        let mut set = |path: Path, literal: &str| {
            overlays.push(Overlay { path, literal: literal.to_owned(), origin: origin.clone() });
        };
        match variable.target {
            Target::Key(key) => set(Path::parse(key), &literal),
            Target::EverySink(key) => {
                for index in 0..sinks(document) {
                    set(Path::parse(&format!("sink[{index}].{key}")), &literal);
                }
            }
            Target::SinksOf(kinds, key) => {
                let places = sinks_of(document, kinds);
                places.iter().for_each(|index| set(Path::parse(&format!("sink[{index}].{key}")), &literal));
            }
            Target::ListenPort => match literal.parse() {
                Ok(port) => {
                    listen.iter_mut().for_each(|addr| addr.set_port(port));
                    set(Path::parse("receive.listen"), &listen_literal(&listen));
                }
                Err(_) => problems.push(Problem {
                    origin,
                    key: String::new(),
                    problem: format!("{literal} is no port; allowed are 1 to 65535"),
                }),
            },
            Target::ListenAddr => {
                // Several listeners would become one and the same; their ports stay apart.
                if let Ok(ip) = value.trim_matches(['[', ']']).parse::<IpAddr>() {
                    listen.iter_mut().for_each(|addr| addr.set_ip(ip));
                    listen.dedup();
                    set(Path::parse("receive.listen"), &listen_literal(&listen));
                }
            }
        }
    }
    overlays
}

/// The sink that `DB_HOST` or `DB_NAME` adds when the document has none for PostgreSQL, and without a file the choice of it
/// as the store.
pub fn database(environment: &Environment, document: &Document<'_>, has_file: bool) -> Vec<Overlay> {
    let set = |name: &&&str| environment.get(**name).is_some_and(|value| !clean(value).is_empty());
    let Some(variable) = ["DB_HOST", "DB_NAME"].iter().find(set) else { return Vec::new() };
    if !sinks_of(document, DATABASES).is_empty() {
        return Vec::new();
    }
    let overlay = |path: &str, literal: &str| Overlay {
        path: Path::parse(path),
        literal: literal.to_owned(),
        origin: Origin::Env((*variable).to_owned()),
    };
    let mut overlays =
        vec![overlay(&format!("sink[{}]", sinks(document)), "{ name = \"database\", kind = \"timescaledb\" }")];
    if !has_file {
        overlays.push(overlay("admin.store", "\"database\""));
    }
    overlays
}

fn sinks(document: &Document<'_>) -> usize {
    let list = document.get(&Path::parse("sink")).and_then(|sinks| sinks.get_ref().as_array());
    list.map_or(0, |list| list.len())
}

/// Which sinks are of one of these kinds.
fn sinks_of(document: &Document<'_>, kinds: &[&str]) -> Vec<usize> {
    let kind = |index: &usize| {
        let kind = document.get(&Path::parse(&format!("sink[{index}].kind")))?;
        Some(kinds.contains(&kind.get_ref().as_str()?))
    };
    (0..sinks(document)).filter(|index| kind(index).unwrap_or(false)).collect()
}

/// An overlay that puts another port into every listener, for `-p`.
pub fn listen_port(document: &Document<'_>, listen: &[SocketAddr], port: u16, origin: Origin) -> Overlay {
    let mut listen = listeners(document).unwrap_or_else(|| listen.to_vec());
    listen.iter_mut().for_each(|addr| addr.set_port(port));
    listen.dedup();
    Overlay { path: Path::parse("receive.listen"), literal: listen_literal(&listen), origin }
}

/// The file's listeners, when it has any that read.
fn listeners(document: &Document<'_>) -> Option<Vec<SocketAddr>> {
    let list = document.get(&Path::parse("receive.listen"))?.get_ref().as_array()?;
    list.iter().map(|item| item.get_ref().as_str()?.parse().ok()).collect()
}

fn listen_literal(listen: &[SocketAddr]) -> String {
    let mut out = String::from("[");
    for addr in listen {
        // Writing into a String cannot fail.
        let _ = write!(out, "\"{addr}\",");
    }
    out + "]"
}
