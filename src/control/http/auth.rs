//! Who may ask what: bearer tokens, their roles and their scope.
//!
//! Only SHA-256 sums of tokens are held. A token is compared with every one that is known, in constant time, so that the
//! time of an answer tells nothing about them.

use std::path::Path;

use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::flow::Uuid;
use crate::flow::sink::KeyError;

use super::config::{Config, Role, TokenConfig, decode_sha256};
use super::error::ApiError;

/// Fewest characters of a token in a file: shorter ones can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

/// What a route asks of whoever calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// No token.
    Nothing,
    /// Role read or admin.
    Read,
    /// Role ingest or admin.
    Ingest,
    /// Role admin.
    Admin,
}

impl Needs {
    /// As the description says it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Nothing => "no token",
            Self::Read => "role read",
            Self::Ingest => "role ingest",
            Self::Admin => "role admin",
        }
    }

    fn allows(self, role: Role) -> bool {
        match self {
            Self::Nothing => true,
            Self::Read => role != Role::Ingest,
            Self::Ingest => role != Role::Read,
            Self::Admin => role == Role::Admin,
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Name of the token, for the log.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Only flows of this reseller.
    pub reseller: Option<Uuid>,
    /// SHA-256 of the token; `None` where none is needed.
    pub sum: Option<[u8; 32]>,
}

/// The tokens that are known.
#[derive(Debug, Default)]
pub struct Tokens {
    tokens: Vec<([u8; 32], Access)>,
}

impl Tokens {
    /// Tokens of a configuration; files are read, relative paths taken from `base`.
    ///
    /// # Errors
    /// Every token that cannot be used, with its key.
    pub fn load(config: &Config, base: &Path) -> Result<Self, Vec<KeyError>> {
        let mut problems = Vec::new();
        let mut tokens = Vec::new();
        for (index, token) in config.token.iter().enumerate() {
            let sum = match &token.file {
                Some(file) => hash_of_file(&base.join(file)),
                None => decode_sha256(&token.sha256).ok_or_else(|| "is no SHA-256".to_owned()),
            };
            match sum {
                Ok(sum) => tokens.push((sum, access_of(token, sum))),
                Err(problem) => {
                    let key = if token.file.is_some() { "file" } else { "sha256" };
                    problems.push(KeyError { key: format!("token[{index}].{key}"), problem });
                }
            }
        }
        if problems.is_empty() { Ok(Self { tokens }) } else { Err(problems) }
    }

    /// Whether there is none: everyone may do everything.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Who asks, when it may.
    ///
    /// # Errors
    /// 401 without a token that is known, 403 when its role does not suffice.
    pub fn access(&self, needs: Needs, headers: &HeaderMap) -> Result<Access, ApiError> {
        if self.tokens.is_empty() || needs == Needs::Nothing {
            return Ok(Access { name: "anyone".into(), role: Role::Admin, reseller: None, sum: None });
        }
        let unauthorized = |why: &str| ApiError::new(StatusCode::UNAUTHORIZED, why);
        let header = headers
            .get(header::AUTHORIZATION)
            .ok_or_else(|| unauthorized("a token is needed: send the header Authorization: Bearer TOKEN"))?;
        let token =
            bearer(header.as_bytes()).ok_or_else(|| unauthorized("the header Authorization must be: Bearer TOKEN"))?;
        let access = self.find(token).ok_or_else(|| unauthorized("the token is not known"))?;
        if !needs.allows(access.role) {
            return Err(ApiError::forbidden(format!(
                "this needs {}; the token's role is {}",
                needs.text(),
                access.role.name()
            )));
        }
        Ok(access.clone())
    }

    fn find(&self, token: &[u8]) -> Option<&Access> {
        let sum = hash(token);
        let mut found = None;
        for (known, access) in &self.tokens {
            if equal(known, &sum) {
                found = Some(access);
            }
        }
        found
    }
}

fn access_of(token: &TokenConfig, sum: [u8; 32]) -> Access {
    Access { name: token.name.clone(), role: token.role, reseller: token.reseller_id, sum: Some(sum) }
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked("Bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.trim_ascii().is_empty()).then(|| token.trim_ascii())
}

fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Compares without an early end.
fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y));
    std::hint::black_box(difference) == 0
}

fn hash_of_file(path: &Path) -> Result<[u8; 32], String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let token = text.trim();
    if token.len() < TOKEN_CHARS_MIN || token.chars().any(char::is_whitespace) {
        return Err(format!("{} must hold one token of at least {TOKEN_CHARS_MIN} characters", path.display()));
    }
    Ok(hash(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    fn tokens(roles: &[(&str, Role)]) -> Tokens {
        let hex = |token: &str| hash(token.as_bytes()).iter().map(|b| format!("{b:02x}")).collect::<String>();
        let token =
            |(token, role): &(&str, Role)| TokenConfig { sha256: hex(token), role: *role, ..Default::default() };
        let config = Config { token: roles.iter().map(token).collect(), ..Config::default() };
        Tokens::load(&config, Path::new(".")).unwrap()
    }

    #[test]
    fn a_role_allows_what_its_name_says_and_no_more() {
        let tokens = tokens(&[("r", Role::Read), ("i", Role::Ingest), ("a", Role::Admin)]);
        let allowed = |needs| ["r", "i", "a"].map(|t| tokens.access(needs, &headers(&format!("Bearer {t}"))).is_ok());
        assert_eq!(allowed(Needs::Read), [true, false, true]);
        assert_eq!(allowed(Needs::Ingest), [false, true, true]);
        assert_eq!(allowed(Needs::Admin), [false, false, true]);
        assert_eq!(allowed(Needs::Nothing), [true, true, true]);
    }

    #[test]
    fn headers_that_are_no_known_token_are_unauthorized() {
        let tokens = tokens(&[("right", Role::Admin)]);
        for value in ["", "Bearer", "Bearer ", "Bearer wrong", "Basic right", "right", "Bearer righ", "Bearer rightx"] {
            assert_eq!(tokens.access(Needs::Read, &headers(value)).unwrap_err().status, 401, "{value}");
        }
        assert_eq!(tokens.access(Needs::Read, &HeaderMap::new()).unwrap_err().status, 401);
        assert!(tokens.access(Needs::Read, &headers("bearer right")).is_ok());
    }

    #[test]
    fn a_token_file_that_is_missing_or_too_short_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("short"), "abc\n").unwrap();
        std::fs::write(folder.path().join("good"), "0123456789abcdef\n").unwrap();
        let file = |name: &str| TokenConfig { file: Some(name.into()), ..Default::default() };
        let config = Config { token: vec![file("none"), file("short"), file("good")], ..Config::default() };
        let keys: Vec<_> = Tokens::load(&config, folder.path()).unwrap_err().into_iter().map(|p| p.key).collect();
        assert_eq!(keys, ["token[0].file", "token[1].file"]);
        let config = Config { token: vec![file("good")], ..Config::default() };
        let tokens = Tokens::load(&config, folder.path()).unwrap();
        assert!(tokens.access(Needs::Read, &headers("Bearer 0123456789abcdef")).is_ok());
    }
}
