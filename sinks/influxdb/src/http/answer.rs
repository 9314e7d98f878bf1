//! What answers mean to the deliverer.

use std::io::Read;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sink_api::SinkError;
use ureq::Body;
use ureq::http::Response;

/// Bytes of an error's text that are read.
const ERROR_BYTES_MAX: u64 = 16 * 1024;

/// Why a request to store points was not taken.
#[derive(Debug)]
pub enum WriteError {
    /// The server refuses points of this request and will again.
    Refused(String),
    /// Everything was stored but for this many points, which are older than the server keeps.
    TooOld(u64),
    /// As the sink's contract says.
    Sink(SinkError),
}

/// The sentence in an answer that is an error.
pub(super) fn text(answer: Response<Body>) -> String {
    let mut body = String::new();
    // What cannot be read is left out of the sentence.
    let _ = answer.into_body().into_with_config().limit(ERROR_BYTES_MAX).reader().read_to_string(&mut body);
    let json: Value = serde_json::from_str(&body).unwrap_or_default();
    let sentence = json["message"].as_str().or_else(|| json["error"].as_str()).unwrap_or(body.trim());
    sentence.to_owned()
}

/// An answer that is an error, in words: its status and its sentence.
pub fn refusal(answer: Response<Body>) -> String {
    format!("status {}: {}", answer.status().as_u16(), text(answer))
}

/// JSON of an answer, or what its error means.
pub(super) fn checked(answer: Response<Body>) -> Result<Value, SinkError> {
    let status = answer.status().as_u16();
    if !(200..300).contains(&status) {
        let after = retry_after(&answer);
        return Err(match write_error(status, &text(answer), after) {
            WriteError::Sink(error) => error,
            WriteError::Refused(reason) => SinkError::Fatal(reason),
            WriteError::TooOld(_) => SinkError::retry(format!("status {status}")),
        });
    }
    let mut answer = answer;
    let value: Value = answer.body_mut().read_json().map_err(SinkError::retry)?;
    let error = value["results"][0]["error"].as_str().or_else(|| value["error"].as_str());
    match error {
        Some(error) if error.contains("authoriz") => Err(SinkError::Fatal(error.to_owned())),
        Some(error) => Err(SinkError::retry(error)),
        None => Ok(value),
    }
}

/// What the server asks for: seconds, or a date.
pub(super) fn retry_after(answer: &Response<Body>) -> Option<Duration> {
    let value = answer.headers().get("retry-after")?.to_str().ok()?.trim();
    after(value, SystemTime::now())
}

fn after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    SystemTime::from(date.timestamp()).duration_since(now).ok()
}

/// Sentences that mean a bound of the server, which no halving helps against.
const SERVER_BOUNDS: [&str; 3] = ["max-series-per-database", "max-values-per-tag", "max series"];

/// What an answer to a write that is no success means.
pub(super) fn write_error(status: u16, reason: &str, after: Option<Duration>) -> WriteError {
    let said = format!("status {status}: {reason}");
    let sink = WriteError::Sink;
    match status {
        400 | 422 | 500 if reason.contains("pending deletion") => sink(SinkError::retry(said)),
        400 | 413 | 422 if SERVER_BOUNDS.iter().any(|bound| reason.contains(bound)) => sink(SinkError::Fatal(said)),
        400 | 422 if only_too_old(reason) => WriteError::TooOld(dropped(reason)),
        400 | 413 | 422 => WriteError::Refused(said),
        401 | 403 => sink(SinkError::Fatal(said)),
        429 | 503 => sink(SinkError::Retry { reason: said, after }),
        _ => sink(SinkError::retry(said)),
    }
}

/// Whether a partial write left out nothing but what is older than the server keeps: versions up to 2.7.11 say `points beyond
/// retention policy`, later ones `dropped 3 points outside retention policy of duration`.
fn only_too_old(reason: &str) -> bool {
    let old = ["points beyond retention policy", "points outside retention policy"];
    reason.matches("partial write").count() == 1 && old.iter().any(|words| reason.contains(words))
}

/// The count in `... dropped=3`.
fn dropped(reason: &str) -> u64 {
    let digits = reason.rsplit("dropped=").next().unwrap_or_default();
    digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_means_follows_from_its_status() {
        let of = |status, reason: &str| write_error(status, reason, Some(Duration::from_secs(7)));
        let conflict = "partial write: field type conflict: input field \"x\" is type float dropped=1";
        for (status, reason) in [(400, conflict), (400, "unable to parse"), (413, "too large"), (422, "unprocessable")]
        {
            assert!(matches!(of(status, reason), WriteError::Refused(_)), "{status} {reason}");
        }
        let old = "partial write: points beyond retention policy dropped=12";
        assert!(matches!(of(400, old), WriteError::TooOld(12)));
        assert!(matches!(of(422, &format!("failure writing points to database: {old}")), WriteError::TooOld(12)));
        // As 2.7.12 says it.
        let newer = "failure writing points to database: partial write: dropped 7 points outside retention policy of \
                     duration 48h0m0s - oldest usage,collector=x at 2020-01-01T00:00:00Z dropped because it violates a \
                     Retention Policy Lower Bound, newest y dropped=7 for database: 0a1 for retention policy: autogen";
        assert!(matches!(of(422, newer), WriteError::TooOld(7)));
        let going = "partial write: shard 12 is pending deletion dropped=3";
        assert!(matches!(of(422, going), WriteError::Sink(SinkError::Retry { .. })));
        assert!(matches!(of(429, ""), WriteError::Sink(SinkError::Retry { after: Some(_), .. })));
        assert!(matches!(of(503, ""), WriteError::Sink(SinkError::Retry { after: Some(_), .. })));
        assert!(matches!(of(404, "database not found"), WriteError::Sink(SinkError::Retry { after: None, .. })));
        assert!(matches!(of(500, "timeout"), WriteError::Sink(SinkError::Retry { .. })));
        for status in [401, 403] {
            assert!(matches!(of(status, ""), WriteError::Sink(SinkError::Fatal(_))));
        }
        let bound = "partial write: max-series-per-database limit exceeded: (1000000) dropped=3";
        assert!(matches!(of(400, bound), WriteError::Sink(SinkError::Fatal(_))));
    }

    #[test]
    fn the_pause_a_server_asks_for_is_read_as_seconds_or_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_470);
        assert_eq!(after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(after("soon", now), None);
    }
}
