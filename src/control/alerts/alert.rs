//! One alert, and what it is about.

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Severity};
use crate::flow::Uuid;

/// What an alert is about. Together with the kind it is the alert's identity: none of it changes while the alert lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// The subscriber.
    pub subscriber_id: Option<Uuid>,
    /// Its reseller.
    pub reseller_id: Option<Uuid>,
    /// The access server.
    pub nas_id: Option<String>,
    /// The site.
    pub site: Option<String>,
    /// The host's address.
    pub host: Option<String>,
    /// The exporter's address.
    pub exporter: Option<String>,
    /// The sink, database, application or category.
    pub name: Option<String>,
}

impl Subject {
    /// Every part that is known, with its name.
    pub fn labels(&self) -> Vec<(&'static str, String)> {
        let uuid = |id: Option<Uuid>| id.map(|id| id.to_string());
        let parts = [
            ("subscriber_id", uuid(self.subscriber_id)),
            ("reseller_id", uuid(self.reseller_id)),
            ("nas_id", self.nas_id.clone()),
            ("site", self.site.clone()),
            ("host", self.host.clone()),
            ("exporter", self.exporter.clone()),
            ("name", self.name.clone()),
        ];
        parts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// What tells alerts apart. The reseller is left out: a subscriber who changes it keeps the alert.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AlertKey {
    /// What the alert is about.
    pub kind: Kind,
    /// And whom or what it concerns.
    pub subject: Subject,
}

impl AlertKey {
    /// The key of a subject.
    pub fn new(kind: Kind, subject: &Subject) -> Self {
        let subject = match kind {
            // Who has a host's address may change.
            Kind::HostConnections => Subject { host: subject.host.clone(), ..Subject::default() },
            _ => Subject { reseller_id: None, ..subject.clone() },
        };
        Self { kind, subject }
    }
}

/// Measures that only some kinds have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// Bytes.
    pub bytes: Option<u64>,
    /// Connections.
    pub connections: Option<u64>,
    /// Different destinations of them, estimated.
    pub unique_destinations: Option<u64>,
}

/// One alert, from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its number; grows.
    pub id: u64,
    /// What it is about.
    pub alert_type: Kind,
    /// How urgent it is.
    pub severity: Severity,
    /// Whom or what it concerns.
    pub subject: Subject,
    /// The latest value, in the unit of the kind.
    pub value: u64,
    /// The threshold that it passed.
    pub threshold: u64,
    /// Further measures at the latest evaluation.
    #[serde(default)]
    pub measured: Measured,
    /// One sentence for people, with the latest values.
    pub summary: String,
    /// When it began, ms since the Unix epoch.
    pub fired_ms: i64,
    /// When its condition held the last time, ms since the Unix epoch.
    pub held_ms: i64,
    /// How long its condition has to be over until it is resolved, ms.
    pub hold_down_ms: i64,
    /// When it ended, ms since the Unix epoch.
    #[serde(default)]
    pub resolved_ms: Option<i64>,
    /// Who has seen it.
    #[serde(default)]
    pub acknowledged: Option<Acknowledged>,
}

impl Alert {
    /// What tells it apart.
    pub fn key(&self) -> AlertKey {
        AlertKey::new(self.alert_type, &self.subject)
    }

    /// Whether it lasts.
    pub fn is_active(&self) -> bool {
        self.resolved_ms.is_none()
    }
}

/// Somebody has seen an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Who: the name of the token.
    pub by: String,
    /// When, ms since the Unix epoch.
    pub at_ms: i64,
}
