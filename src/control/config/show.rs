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

/// What names a server, without its password, in each form that clients take: `postgres://user:secret@host`,
/// `postgres://host/db?password=secret`, `host=db password=secret`.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return without_parameter(text, char::is_whitespace) };
    // PostgreSQL's clients let a password hold what would end the host's part anywhere else.
    let is_postgres = scheme.starts_with("postgres");
    let from = if is_postgres { rest.find('@').unwrap_or(0) } else { 0 };
    let (place, parameters) = rest.split_at(rest[from..].find('?').map_or(rest.len(), |at| from + at));
    let place = match place.split_once(':') {
        Some((user, after)) if !user.contains(['/', '@']) => {
            let end = if is_postgres { None } else { after.find('/') };
            let at = after[..end.unwrap_or(after.len())].rfind('@');
            at.map_or_else(|| place.to_owned(), |at| format!("{user}:{MASK}{}", &after[at..]))
        }
        _ => place.to_owned(),
    };
    without_parameter(&format!("{scheme}://{place}{parameters}"), |c| c == '&')
}

/// Parameters `name=value` without the values of those that hold a password; a value in quotes ends with them.
fn without_parameter(text: &str, is_end: impl Fn(char) -> bool) -> String {
    let Some(at) = text.find("password") else { return text.to_owned() };
    let (before, name) = text.split_at(at + "password".len());
    let Some(value) = name.trim_start().strip_prefix('=').map(str::trim_start) else {
        return format!("{before}{}", without_parameter(name, is_end));
    };
    let length = match value.strip_prefix('\'') {
        Some(quoted) => quoted_length(quoted) + 1,
        None => value.find(&is_end).unwrap_or(value.len()),
    };
    format!("{before}={MASK}{}", without_parameter(&value[length..], is_end))
}

/// Bytes up to and with the closing quote, before which a backslash may stand.
fn quoted_length(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.find(|c| {
        let ends = c == '\'' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    end.map_or(text.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        for (url, shown) in [
            ("postgres://u:p@ss@h:5432/d?x=1", "postgres://u:***@h:5432/d?x=1"),
            ("postgresql://u:p/a@h/d", "postgresql://u:***@h/d"),
            ("postgres://u:p?w@h/d?x=1", "postgres://u:***@h/d?x=1"),
            ("postgres://h/d?password=a@b", "postgres://h/d?password=***"),
            ("postgres://u@h:5432/d", "postgres://u@h:5432/d"),
            ("postgres://u@h/d?x=1&password=s3&y=2", "postgres://u@h/d?x=1&password=***&y=2"),
            ("postgres://u:p@h?sslpassword=s3", "postgres://u:***@h?sslpassword=***"),
            ("host=db password=s3 user=u", "host=db password=*** user=u"),
            (r"password = 's3 \' = x' host=db password=", "password=*** host=db password=***"),
            ("http://u:p@h:8086/a", "http://u:***@h:8086/a"),
            ("http://h:8086/a@b", "http://h:8086/a@b"),
            ("http://h/a@b:c", "http://h/a@b:c"),
        ] {
            assert_eq!(without_password(url), shown);
        }
        assert_eq!(masked("admin.token[0].sha256", &"abc".into()), "\"***\"");
        assert_eq!(masked("sink[0].password", &"abc".into()), "\"***\"");
        assert_eq!(masked("sink[0].token", &"abc".into()), "\"***\"");
        assert_eq!(masked("sink[0].path", &"data".into()), "\"data\"");
    }
}
