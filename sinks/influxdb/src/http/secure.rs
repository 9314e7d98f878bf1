//! Whom we trust, and how we say who we are.

use std::path::Path;
use std::sync::Arc;

use sink_api::SinkError;
use ureq::tls::{PemItem, RootCerts, TlsConfig};

use crate::config::{Api, Config};

/// Certificates of authorities; the TLS provider is named because a process may have none by default.
pub(super) fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, SinkError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    let Some(path) = ca_file else { return Ok(builder.root_certs(RootCerts::WebPki).build()) };
    let wrong = |what: &dyn std::fmt::Display| SinkError::Fatal(format!("ca_file {}: {what}", path.display()));
    let pem = std::fs::read(path).map_err(|e| wrong(&e))?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| wrong(&e))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(wrong(&"no certificate in it"));
    }
    Ok(builder.root_certs(certificates.into()).build())
}

pub(super) fn authorization(config: &Config) -> Result<Option<String>, SinkError> {
    let from = |given: &Option<crate::Secret>, file: &Option<std::path::PathBuf>| -> Result<_, SinkError> {
        match file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|e| SinkError::Fatal(format!("{}: {e}", path.display())))?;
                Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            None => Ok(given.as_ref().map(|secret| secret.0.clone())),
        }
    };
    match config.api {
        Api::V2 => Ok(from(&config.token, &config.token_file)?.map(|token| format!("Token {token}"))),
        Api::V1 => {
            let password = from(&config.password, &config.password_file)?.unwrap_or_default();
            Ok(config.user.as_ref().map(|user| format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))))
        }
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(three.get(i).copied().unwrap_or(0)));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= three.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_authorization_is_base64() {
        let of = |text: &str| base64(text.as_bytes());
        assert_eq!((of(""), of("a"), of("ab"), of("abc"), of("rgz:pä"),), {
            let text = |t: &str| t.to_owned();
            (text(""), text("YQ=="), text("YWI="), text("YWJj"), text("cmd6OnDDpA=="))
        });
    }
}
