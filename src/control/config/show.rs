//! Every value with its origin, secrets masked: what `rgz-netflow config` prints.

use toml::Value;

use super::Stages;
use super::document::{Document, Origin, Path};
use super::sinks::SinkSettings;

/// What stands in place of a secret.
const MASK: &str = "***";
/// Parts of key names that mark a secret.
const SECRETS: &[&str] = &["password", "secret", "sha256", "token_value", "api_key"];

/// Names of keys that hold a secret.
const SECRET_NAMES: &[&str] = &["token"];

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its key, `receive.listen`.
    pub key: String,
    /// Its value as TOML, masked when it is a secret.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Every value of the stages and sinks, in the order of the tables' names.
pub fn show(stages: &Stages, sinks: &[SinkSettings], document: &Document<'_>) -> Vec<Shown> {
    let mut shown = Vec::new();
    // Plain data of integers and texts; an integer beyond 63 bits is the only thing TOML cannot hold.
    if let Ok(Value::Table(table)) = Value::try_from(stages) {
        walk(&Path::default(), &Value::Table(table), document, &mut shown);
    }
    for (index, sink) in sinks.iter().enumerate() {
        let path = Path::parse(&format!("sink[{index}]"));
        let mut table = common(sink);
        if let Some(own) = document.get(&path).and_then(|table| table.get_ref().as_table()) {
            for (key, value) in own {
                if let Some(value) = super::sinks::plain(value.get_ref()) {
                    table.entry(key.get_ref().as_ref()).or_insert(value);
                }
            }
        }
        walk(&path, &Value::Table(table), document, &mut shown);
    }
    shown
}

fn common(sink: &SinkSettings) -> toml::Table {
    toml::Table::try_from(&sink.common).unwrap_or_default()
}

fn walk(path: &Path, value: &Value, document: &Document<'_>, shown: &mut Vec<Shown>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                walk(&path.then(key), value, document, shown);
            }
        }
        Value::Array(array) if array.iter().any(Value::is_table) => {
            for (index, value) in array.iter().enumerate() {
                walk(&Path::parse(&format!("{path}[{index}]")), value, document, shown);
            }
        }
        value => {
            let key = path.to_string();
            let value = masked(&key, value);
            shown.push(Shown { value, origin: document.origin(path), key });
        }
    }
}

fn masked(key: &str, value: &Value) -> String {
    let name = key.rsplit('.').next().unwrap_or(key);
    let secret = SECRET_NAMES.contains(&name) || SECRETS.iter().any(|secret| name.contains(secret));
    match value {
        Value::String(text) if !text.is_empty() && secret => {
            format!("{MASK:?}")
        }
        Value::String(text) => Value::from(without_password(text)).to_string(),
        value => value.to_string(),
    }
}

/// A URL without its password: `postgres://user:secret@host` becomes `postgres://user:***@host`.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else { return text.to_owned() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{MASK}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        assert_eq!(without_password("postgres://u:p@ss@h:5432/d?x=1"), "postgres://u:***@h:5432/d?x=1");
        assert_eq!(without_password("http://h/a@b:c"), "http://h/a@b:c");
        assert_eq!(masked("admin.token[0].sha256", &"abc".into()), "\"***\"");
        assert_eq!(masked("sink[0].password", &"abc".into()), "\"***\"");
        assert_eq!(masked("sink[0].token", &"abc".into()), "\"***\"");
        assert_eq!(masked("sink[0].path", &"data".into()), "\"data\"");
    }
}
