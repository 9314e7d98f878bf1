//! `/metrics`: everything that is counted, for Prometheus.

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use crate::telemetry::{Exposition, Format};

use super::super::endpoint::Endpoint;
use super::super::error::ApiError;
use super::super::process;
use super::super::route::Call;

/// Answers in the text format 0.0.4, or in OpenMetrics where `Accept` asks for it.
///
/// # Errors
/// None.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    Ok(render(&call.endpoint, &call.headers))
}

/// The scrape, for either listener.
pub fn render(endpoint: &Endpoint, headers: &HeaderMap) -> Response {
    let mut out = Exposition::default();
    endpoint.collector.expose(&mut out);
    endpoint.expose(&mut out);
    process::expose(&mut out);
    let format = format(headers);
    ([(header::CONTENT_TYPE, format.content_type())], out.render(format)).into_response()
}

fn format(headers: &HeaderMap) -> Format {
    let accepted: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let weight = |name: &str| {
        let ranges = accepted.iter().flat_map(|v| v.split(','));
        let weights = ranges.filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            (parts.next()? == name).then(|| {
                let q = parts.find_map(|p| p.strip_prefix("q="));
                q.map_or(Some(1.0), |q| q.parse().ok())
            })?
        });
        weights.fold(0.0, f64::max)
    };
    let open = weight("application/openmetrics-text");
    if open > 0.0 && open >= weight("text/plain") { Format::OpenMetrics } else { Format::Prometheus }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_answered_only_where_it_is_preferred() {
        for (accept, expected) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain;version=0.0.4", Format::Prometheus),
            ("application/openmetrics-text; version=1.0.0", Format::OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.9", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(format(&headers), expected, "{accept}");
        }
    }
}
