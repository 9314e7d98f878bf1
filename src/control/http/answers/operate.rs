//! `config` and `reload`: what the operator looks at and does.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::super::error::ApiError;
use super::super::route::Call;

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Parts of key names whose values are secret.
const SECRET_KEYS: &[&str] = &["password", "passwd", "secret", "token", "api_key", "sha256", "credential"];

/// The configuration in force, without secrets.
///
/// # Errors
/// None.
pub fn config(call: Call) -> Result<Response, ApiError> {
    let mut config = call.endpoint.collector.config();
    mask(&mut config);
    Ok(super::json(&config))
}

/// Reads the configuration again.
///
/// # Errors
/// 422 with every problem; then nothing was changed.
pub fn reload(call: Call) -> Result<Response, ApiError> {
    match call.endpoint.collector.reload() {
        Ok(reloaded) => Ok(super::json(&reloaded)),
        Err(problems) => {
            let text = "the configuration has problems; nothing was changed";
            let mut error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, text);
            error.body.problems = problems;
            Err(error)
        }
    }
}

/// Replaces the values of secret keys, and passwords within addresses, by [`MASK`].
pub fn mask(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.to_ascii_lowercase();
                // The name of a file that holds a secret is none, and a table of tokens is looked through.
                let is_secret = SECRET_KEYS.iter().any(|s| key.contains(s)) && !key.ends_with("_file");
                match value {
                    Value::String(text) if is_secret && !text.is_empty() => MASK.clone_into(text),
                    other => mask(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::String(text) => {
            if let Some(masked) = without_password(text) {
                *text = masked;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `scheme://user:password@host` with the password masked; `None` when there is none.
fn without_password(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let (user_info, _) = authority.rsplit_once('@')?;
    let (user, _) = user_info.split_once(':')?;
    let after = rest.get(user_info.len()..)?;
    Some(format!("{scheme}://{user}:{MASK}{after}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_masked_and_the_rest_stays() {
        let mut config = json!({
            "sink": [{"name": "db", "url": "postgres://rgz:pa@ss@rgz-db:5432/rgz?x=1", "password": "p", "token": ""}],
            "admin": {"token": [{"name": "x", "sha256": "aa", "role": "read"}], "token_file": "t"},
            "plain": "http://host/a@b", "n": 1,
        });
        mask(&mut config);
        let expected = json!({
            "sink": [{"name": "db", "url": format!("postgres://rgz:{MASK}@rgz-db:5432/rgz?x=1"), "password": MASK, "token": ""}],
            "admin": {"token": [{"name": "x", "sha256": MASK, "role": "read"}], "token_file": "t"},
            "plain": "http://host/a@b", "n": 1,
        });
        assert_eq!(config, expected);
    }
}
