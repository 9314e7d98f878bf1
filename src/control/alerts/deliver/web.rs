//! POST to receivers that speak HTTP.

use ureq::Agent;

use super::SEND_TIME_MAX;

/// Bytes of an answer that are read: only its status counts, the rest is for the error.
const ANSWER_BYTES_MAX: u64 = 4096;
/// Letters of an answer that an error shows.
const SHOWN_MAX: usize = 200;

/// An agent that follows no redirects: an address that was checked must not lead to another one.
pub(super) fn agent() -> Agent {
    let config = Agent::config_builder()
        .timeout_global(Some(SEND_TIME_MAX))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("rgz-netflow/", env!("CARGO_PKG_VERSION")));
    config.build().into()
}

/// Posts JSON. Any status of 2xx will do.
///
/// # Errors
/// It did not arrive, or another status.
pub(super) fn post(agent: &Agent, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<(), String> {
    let request = agent.post(url).header("content-type", "application/json");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let mut answer = request.send(body).map_err(|e| e.to_string())?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().unwrap_or_default();
    let shown: String = text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    Err(format!("answered {status}: {shown}"))
}
