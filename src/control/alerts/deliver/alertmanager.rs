//! Alertmanager, API v2: every active alert is sent again and again, with an end that lies ahead; a resolved one once, with
//! the end that it had. So an Alertmanager that was away, or a collector that dies, comes right by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

use super::super::alert::Alert;
use super::super::board::Event;
use super::{Notification, Sender, web};
use crate::flow::time::{MINUTE_MS, rfc3339};

/// How often active alerts are sent again.
const REMINDER: Duration = Duration::from_secs(60);
/// An active alert ends that much later unless it is sent again.
const ENDS_AFTER_MS: i64 = 5 * MINUTE_MS;
/// Alerts of one request.
const REQUEST_MAX: usize = 500;

pub(super) struct Alertmanager {
    agent: Agent,
    url: String,
}

impl Alertmanager {
    pub(super) fn new(url: &str) -> Self {
        Self { agent: web::agent(), url: format!("{}/api/v2/alerts", url.trim_end_matches('/')) }
    }
}

impl Sender for Alertmanager {
    fn send(&mut self, queue: &[Notification], active: &[Alert], now_ms: i64) -> Result<usize, String> {
        // The latest word about each alert.
        let mut latest: BTreeMap<u64, Value> = BTreeMap::new();
        for alert in active {
            latest.insert(alert.id, posted(alert, now_ms + ENDS_AFTER_MS));
        }
        for Notification { event, alert } in queue {
            let ends_ms = match (event, alert.resolved_ms) {
                (Event::Resolved, Some(resolved_ms)) => resolved_ms,
                (Event::Test, _) => now_ms + MINUTE_MS,
                _ => now_ms + ENDS_AFTER_MS,
            };
            latest.insert(alert.id, posted(alert, ends_ms));
        }
        let all: Vec<Value> = latest.into_values().collect();
        for part in all.chunks(REQUEST_MAX) {
            let body = serde_json::to_vec(part).map_err(|e| e.to_string())?;
            web::post(&self.agent, &self.url, &[], &body)?;
        }
        Ok(queue.len())
    }

    fn reminder(&self) -> Option<Duration> {
        Some(REMINDER)
    }
}

/// Labels tell alerts apart, so they hold nothing that changes while one lasts; values are annotations.
fn posted(alert: &Alert, ends_ms: i64) -> Value {
    let mut labels =
        json!({ "alertname": alert.alert_type.name(), "severity": alert.severity.name(), "job": "rgz-netflow" });
    for (name, value) in alert.subject.labels() {
        labels[name] = value.into();
    }
    let mut annotations = json!({
        "summary": alert.summary,
        "value": alert.value.to_string(),
        "threshold": alert.threshold.to_string(),
        "alert_id": alert.id.to_string(),
    });
    let measured = [
        ("bytes", alert.measured.bytes),
        ("connections", alert.measured.connections),
        ("unique_destinations", alert.measured.unique_destinations),
    ];
    for (name, value) in measured {
        if let Some(value) = value {
            annotations[name] = value.to_string().into();
        }
    }
    json!({
        "labels": labels,
        "annotations": annotations,
        "startsAt": rfc3339(alert.fired_ms),
        "endsAt": rfc3339(ends_ms),
    })
}
