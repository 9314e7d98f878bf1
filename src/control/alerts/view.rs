//! An alert as answers and webhooks show it.

use serde::Serialize;
use utoipa::ToSchema;

use super::alert::Alert;
use super::kind::Severity;
use crate::flow::Uuid;
use crate::flow::time::rfc3339;

/// One alert. What does not apply to its type is null.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AlertItem {
    /// Its number, for acknowledging it.
    pub id: u64,
    /// When it began.
    pub timestamp: String,
    /// What it is about, such as `subscriber_24h`.
    pub alert_type: String,
    /// How urgent it is.
    pub severity: Severity,
    /// `firing` or `resolved`.
    pub state: String,
    /// The subscriber.
    #[schema(required, value_type = Option<String>, format = "uuid")]
    pub subscriber_id: Option<Uuid>,
    /// The reseller.
    #[schema(required, value_type = Option<String>, format = "uuid")]
    pub reseller_id: Option<Uuid>,
    /// The access server.
    #[schema(required)]
    pub nas_id: Option<String>,
    /// The site.
    #[schema(required)]
    pub site: Option<String>,
    /// The host's address.
    #[schema(required)]
    pub host: Option<String>,
    /// The exporter's address.
    #[schema(required)]
    pub exporter_ip: Option<String>,
    /// The sink, database, application or category.
    #[schema(required)]
    pub name: Option<String>,
    /// Bytes at the latest evaluation.
    #[schema(required)]
    pub bytes: Option<u64>,
    /// Connections at the latest evaluation.
    #[schema(required)]
    pub connections: Option<u64>,
    /// Different destinations of them, estimated.
    #[schema(required)]
    pub unique_destinations: Option<u64>,
    /// The latest value, in the unit of the type: bytes, percent, ms or a number.
    pub value: u64,
    /// The threshold, in the same unit.
    pub threshold: u64,
    /// When it ended.
    #[schema(required)]
    pub resolved_at: Option<String>,
    /// When somebody acknowledged it.
    #[schema(required)]
    pub acknowledged_at: Option<String>,
    /// Who did.
    #[schema(required)]
    pub acknowledged_by: Option<String>,
    /// One sentence.
    pub summary: String,
}

impl AlertItem {
    /// As it is shown.
    pub fn new(alert: &Alert) -> Self {
        let subject = alert.subject.clone();
        Self {
            id: alert.id,
            timestamp: rfc3339(alert.fired_ms),
            alert_type: alert.alert_type.name().to_owned(),
            severity: alert.severity,
            state: if alert.is_active() { "firing" } else { "resolved" }.to_owned(),
            subscriber_id: subject.subscriber_id,
            reseller_id: subject.reseller_id,
            nas_id: subject.nas_id,
            site: subject.site,
            host: subject.host,
            exporter_ip: subject.exporter,
            name: subject.name,
            bytes: alert.measured.bytes,
            connections: alert.measured.connections,
            unique_destinations: alert.measured.unique_destinations,
            value: alert.value,
            threshold: alert.threshold,
            resolved_at: alert.resolved_ms.map(rfc3339),
            acknowledged_at: alert.acknowledged.as_ref().map(|seen| rfc3339(seen.at_ms)),
            acknowledged_by: alert.acknowledged.as_ref().map(|seen| seen.by.clone()),
            summary: alert.summary.clone(),
        }
    }
}
