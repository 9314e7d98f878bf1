//! Alerts as sinks store them: a row each time that one begins or ends.
//!
//! Rows come through the log as flows and sums do, so a sink stores them under the same promise as everything else.

use serde::{Deserialize, Serialize};

use crate::value::{Kind, Value};
use crate::{Addr, Text, Uuid};

/// Name of the table or measurement.
pub const ALERTS: &str = "alerts";

/// What happened to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertEvent {
    /// It began.
    Firing,
    /// It ended.
    Resolved,
}

impl AlertEvent {
    /// Its name in tables and points.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// One beginning or end of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRow {
    /// When it happened, ms since the Unix epoch.
    pub time_ms: i64,
    /// What happened.
    pub event: AlertEvent,
    /// The alert's number in its collector: the same at its beginning and its end.
    pub alert_id: u64,
    /// What it is about.
    pub alert_type: String,
    /// How urgent it is.
    pub severity: String,
    /// The subscriber.
    pub subscriber_id: Option<Uuid>,
    /// The reseller.
    pub reseller_id: Option<Uuid>,
    /// The access server.
    pub nas_id: Option<String>,
    /// The site.
    pub site: Option<String>,
    /// The host.
    pub host: Option<Addr>,
    /// The exporter.
    pub exporter_ip: Option<Addr>,
    /// The sink, database, application or category.
    pub name: Option<String>,
    /// The value then, in the unit of the type.
    pub value: u64,
    /// The threshold then.
    pub threshold: u64,
    /// Bytes, of types that count them.
    pub bytes: Option<u64>,
    /// Connections, of types that count them.
    pub connections: Option<u64>,
    /// Different destinations of them.
    pub unique_destinations: Option<u64>,
    /// One sentence.
    pub summary: String,
    /// When the alert began, ms since the Unix epoch.
    pub fired_at_ms: i64,
    /// When it ended, ms since the Unix epoch.
    pub resolved_at_ms: Option<i64>,
}

/// A column of [`AlertRow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertColumn {
    /// Its name in tables and points.
    pub name: &'static str,
    /// What its values mean.
    pub kind: Kind,
    /// Whether every row has a value.
    pub required: bool,
    /// Whether it has few values, so that stores may group by it cheaply.
    pub few: bool,
}

const fn column(name: &'static str, kind: Kind, required: bool, few: bool) -> AlertColumn {
    AlertColumn { name, kind, required, few }
}

impl AlertRow {
    /// Every column but the time, in the order of [`AlertRow::values`].
    pub const COLUMNS: [AlertColumn; 19] = [
        column("event", Kind::Text, true, true),
        column("alert_id", Kind::Number, true, false),
        column("alert_type", Kind::Text, true, true),
        column("severity", Kind::Text, true, true),
        column("subscriber_id", Kind::Uuid, false, false),
        column("reseller_id", Kind::Uuid, false, true),
        column("nas_id", Kind::Text, false, true),
        column("site", Kind::Text, false, true),
        column("host", Kind::Ip, false, false),
        column("exporter_ip", Kind::Ip, false, false),
        column("name", Kind::Text, false, false),
        column("value", Kind::Number, true, false),
        column("threshold", Kind::Number, true, false),
        column("bytes", Kind::Number, false, false),
        column("connections", Kind::Number, false, false),
        column("unique_destinations", Kind::Number, false, false),
        column("summary", Kind::Text, true, false),
        column("fired_at", Kind::TimeMs, true, false),
        column("resolved_at", Kind::TimeMs, false, false),
    ];

    /// What the columns hold.
    pub fn values(&self) -> [Value; Self::COLUMNS.len()] {
        let text = |text: &str| Value::Text(Text::from(text));
        let texts = |value: &Option<String>| value.as_deref().map_or(Value::Null, text);
        let uuid = |id: Option<Uuid>| id.map_or(Value::Null, Value::Uuid);
        let ip = |addr: Option<Addr>| addr.map_or(Value::Null, Value::Ip);
        let number = |n: Option<u64>| n.map_or(Value::Null, Value::Number);
        [
            text(self.event.name()),
            Value::Number(self.alert_id),
            text(&self.alert_type),
            text(&self.severity),
            uuid(self.subscriber_id),
            uuid(self.reseller_id),
            texts(&self.nas_id),
            texts(&self.site),
            ip(self.host),
            ip(self.exporter_ip),
            texts(&self.name),
            Value::Number(self.value),
            Value::Number(self.threshold),
            number(self.bytes),
            number(self.connections),
            number(self.unique_destinations),
            text(&self.summary),
            Value::TimeMs(self.fired_at_ms),
            self.resolved_at_ms.map_or(Value::Null, Value::TimeMs),
        ]
    }
}
