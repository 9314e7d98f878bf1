//! Guards an endpoint without tokens against web pages: a browser on this machine must not be a way in.
//!
//! A page of another site can make a browser send requests to 127.0.0.1 (then `Origin` or `Sec-Fetch-Site` tells), or can have its own
//! name resolve to 127.0.0.1 (then `Host` tells).

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

use super::config::{Config, is_loopback};
use super::error::ApiError;

/// Checks the headers of a request to an endpoint without tokens.
///
/// # Errors
/// 403 for a request that another site's page makes.
pub fn check(config: &Config, headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    let host = text(header::HOST.as_str()).unwrap_or("");
    let only_here = config.listen_addr().is_ok_and(|addr| is_loopback(addr.ip()));
    if only_here && !host.is_empty() && !names_this_machine(host) {
        return Err(ApiError::forbidden(format!(
            "the header Host must name this machine (127.0.0.1, [::1], localhost), not {host:?}, while there are no tokens"
        )));
    }
    let other_site = text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let other_origin = text(header::ORIGIN.as_str())
        .is_some_and(|origin| origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) != Some(host));
    if other_site || other_origin {
        return Err(ApiError::forbidden("pages of other sites may not ask while there are no tokens"));
    }
    Ok(())
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(listen: &str, headers: &[(&'static str, &str)]) -> bool {
        let config = Config { listen: listen.into(), ..Config::default() };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        check(&config, &map).is_ok()
    }

    #[test]
    fn requests_of_other_sites_are_told_by_their_headers() {
        let here = "127.0.0.1:9100";
        for host in ["127.0.0.1:9100", "localhost:9100", "LOCALHOST", "[::1]:9100", "127.9.9.9"] {
            assert!(allowed(here, &[("host", host)]), "{host}");
        }
        for host in ["evil.example:9100", "192.0.2.1", "127.0.0.1.evil.example", "localhost.evil.example"] {
            assert!(!allowed(here, &[("host", host)]), "{host}");
        }
        assert!(allowed("0.0.0.0:9100", &[("host", "collector.example")]));
        assert!(allowed(
            here,
            &[("host", here), ("origin", "http://127.0.0.1:9100"), ("sec-fetch-site", "same-origin")]
        ));
        assert!(!allowed(here, &[("host", here), ("origin", "http://evil.example")]));
        assert!(!allowed(here, &[("host", here), ("origin", "null")]));
        assert!(!allowed(here, &[("host", here), ("sec-fetch-site", "cross-site")]));
    }
}
