//! Reading typed values out of a [`Document`], with every problem at once.
//!
//! serde stops at the first error. So each error's key is taken out of a copy of the tree and the tree is read again, until
//! it reads: known keys and types stand in the stages' structs alone, and no list of them is kept here.

use std::fmt;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::ValueDeserializer;

use super::document::{Document, Origin, Path};
use crate::flow::nearest;

/// Problems reported at most; a file with more is not a configuration.
const PROBLEMS_MAX: usize = 100;

/// Something wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub origin: Origin,
    /// The key, empty for a problem of the whole.
    pub key: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

/// Reads the document as `T`, which gets its own defaults for what is wrong, and appends every problem.
pub fn read<T: DeserializeOwned + Default>(mut document: Document<'_>, problems: &mut Vec<Problem>) -> T {
    let mut removed: Vec<Path> = Vec::new();
    for _ in 0..PROBLEMS_MAX {
        let value = ValueDeserializer::from(Spanned::new(0..0, document.root().clone()));
        let error = match T::deserialize(value) {
            Ok(value) => return value,
            Err(error) => error,
        };
        let path = error.span().and_then(|span| document.path_at(&span)).unwrap_or_default();
        // A key that is missing only because its bad value was taken away was reported already.
        let echo = missing_field(error.message()).is_some_and(|field| removed.contains(&path.then(field)));
        if !echo {
            let origin = error.span().map_or(Origin::Default, |span| document.origin_at(&span));
            problems.push(Problem { origin, key: path.to_string(), problem: explain(error.message(), &path) });
        }
        if document.remove(&path).is_none() {
            return T::default();
        }
        removed.push(path);
    }
    T::default()
}

/// The sentence for the user: the nearest known name first, then what is allowed.
fn explain(message: &str, path: &Path) -> String {
    let message = message.lines().next().unwrap_or_default();
    // serde's own words: "unknown field `x`, expected one of `a`, `b`".
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (what, kind) = match () {
        () if message.starts_with("unknown field") => ("unknown key", "key"),
        () if message.starts_with("unknown variant") => ("unknown value", "value"),
        () => return message.replace("missing field", "missing key"),
    };
    let Some((name, known)) = quoted.split_first() else { return message.to_owned() };
    let place = match path.0.len() {
        0 | 1 if kind == "key" => " at the top",
        _ => "",
    };
    describe_unknown(what, name, known, &format!("{kind}s{place}"))
}

/// "unknown key "lisen"; did you mean "listen"? Known keys: ...".
pub fn describe_unknown(what: &str, name: &str, known: &[&str], kinds: &str) -> String {
    let all = known.join(", ");
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("{what} {name:?}, the nearest known one is {near:?} (known {kinds}: {all})"),
        None => format!("{what} {name:?} (known {kinds}: {all})"),
    }
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}
