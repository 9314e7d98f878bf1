//! What `[alerts]` in the configuration says.

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Scope, Severity, Unit};
use super::receiver_config::ReceiverConfig;
use crate::flow::Uuid;
use crate::flow::sink::KeyError;
use crate::telemetry::units;

/// Shortest pause between evaluations, ms: an evaluation looks at every subscriber.
const INTERVAL_MS_MIN: u64 = 100;
/// Rules at most; a file with more wants another data model.
const RULES_MAX: usize = 10_000;

/// Configuration of alerts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether anything is watched for.
    pub enabled: bool,
    /// Pause between evaluations, ms.
    #[serde(rename = "interval", with = "units::duration_ms")]
    pub interval_ms: u64,
    /// How long a condition has to be over until its alert is resolved, ms.
    #[serde(rename = "hold_down", with = "units::duration_ms")]
    pub hold_down_ms: u64,
    /// Bytes of a subscriber in the last 24 hours, in, out and internal.
    #[serde(with = "units::bytes")]
    pub subscriber_24h_bytes: u64,
    /// Percent of a site's committed rate.
    pub site_cir_percent: u64,
    /// Applications and categories that are watched for.
    pub dpi_protocols: Vec<String>,
    /// Connections of a host in 5 minutes.
    pub host_connections: u64,
    /// Whose connections are counted.
    pub hosts: Hosts,
    /// Silence of an exporter, ms.
    #[serde(rename = "exporter_silent", with = "units::duration_ms")]
    pub exporter_silent_ms: u64,
    /// Percent of an exporter's flows that did not arrive or were dropped in 15 minutes.
    pub loss_percent: u64,
    /// Age of the oldest record that a sink has not stored, ms.
    #[serde(rename = "sink_lag", with = "units::duration_ms")]
    pub sink_lag_ms: u64,
    /// Age of a database of countries or AS numbers, ms.
    #[serde(rename = "database_age", with = "units::duration_ms")]
    pub database_age_ms: u64,
    /// Percent of the log's room.
    pub log_percent: u64,
    /// How long resolved alerts are remembered, ms.
    #[serde(rename = "history", with = "units::duration_ms")]
    pub history_ms: u64,
    /// Exceptions to the above.
    pub rule: Vec<RuleConfig>,
    /// Who is told.
    pub receiver: Vec<ReceiverConfig>,
}

/// Whose connections are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hosts {
    /// Sources in the customer networks.
    Customers,
    /// Every source.
    All,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_ms: 60_000,
            hold_down_ms: 300_000,
            subscriber_24h_bytes: 1 << 30,
            site_cir_percent: 80,
            dpi_protocols: Vec::new(),
            host_connections: 1000,
            hosts: Hosts::Customers,
            exporter_silent_ms: 20 * 60_000,
            loss_percent: 1,
            sink_lag_ms: 300_000,
            database_age_ms: 45 * 86_400_000,
            log_percent: 80,
            history_ms: 90 * 86_400_000,
            rule: Vec::new(),
            receiver: Vec::new(),
        }
    }
}

/// An exception for one kind of alert: for all of it, or for a reseller, a site or a subscriber.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Which kind.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Only for this reseller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reseller_id: Option<Uuid>,
    /// Only at this access server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nas_id: Option<String>,
    /// Only at this site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Only for this subscriber.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriber_id: Option<Uuid>,
    /// Whether it is watched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Another threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
    /// Another severity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// How long the condition has to hold before anybody is told.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub pending: Option<DurationMs>,
    /// Another hold-down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_down: Option<DurationMs>,
}

impl RuleConfig {
    /// A rule for everything of a kind that changes nothing.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            reseller_id: None,
            nas_id: None,
            site: None,
            subscriber_id: None,
            enabled: None,
            threshold: None,
            severity: None,
            pending: None,
            hold_down: None,
        }
    }

    /// Whether it is narrowed to anything.
    pub fn is_scoped(&self) -> bool {
        self.scopes().next().is_some()
    }

    /// By what it is narrowed.
    pub fn scopes(&self) -> impl Iterator<Item = (&'static str, Scope)> {
        let given = [
            ("reseller_id", Scope::Reseller, self.reseller_id.is_some()),
            ("nas_id", Scope::Site, self.nas_id.is_some()),
            ("site", Scope::Site, self.site.is_some()),
            ("subscriber_id", Scope::Subscriber, self.subscriber_id.is_some()),
        ];
        given.into_iter().filter(|(.., given)| *given).map(|(key, scope, _)| (key, scope))
    }

    fn problem(&self) -> Option<(&'static str, String)> {
        let name = self.kind.name();
        if let Some((key, _)) = self.scopes().find(|(_, scope)| !self.kind.scopes().contains(scope)) {
            return Some((key, format!("alerts of type {name} cannot be told apart by {key}")));
        }
        let threshold = self.threshold.as_ref()?;
        if self.kind.unit() == Unit::None {
            return Some(("threshold", format!("alerts of type {name} have no threshold")));
        }
        if !self.is_scoped() {
            let problem = format!("the threshold for all is alerts.{}; this one needs a scope", self.kind.key());
            return Some(("threshold", problem));
        }
        threshold.of(self.kind).err().map(|problem| ("threshold", problem))
    }
}

/// A threshold in the unit of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Threshold {
    /// In the unit itself: bytes, percent, ms, a number.
    Number(u64),
    /// With a unit: "5GiB", "20m".
    Text(String),
}

impl Threshold {
    /// The number for a kind.
    ///
    /// # Errors
    /// A text that is none of the kind's unit, and what is allowed.
    pub fn of(&self, kind: Kind) -> Result<u64, String> {
        let text = match self {
            Self::Number(number) => return Ok(*number),
            Self::Text(text) => text,
        };
        match kind.unit() {
            Unit::Bytes => units::parse_bytes(text).map_err(|e| e.to_string()),
            Unit::Time => units::parse_duration_ms(text).map_err(|e| e.to_string()),
            _ => text.trim_end_matches(['%', ' ']).parse().map_err(|_| format!("{text:?} is no whole number")),
        }
    }
}

/// A duration in ms, written with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationMs(#[serde(with = "units::duration_ms")] pub u64);

impl Config {
    /// What is wrong with the values, by key within `[alerts]`.
    pub fn problems(&self) -> Vec<KeyError> {
        let mut problems = Vec::new();
        let mut say = |key: String, problem: String| problems.push(KeyError { key, problem });
        if self.interval_ms < INTERVAL_MS_MIN {
            say("interval".into(), format!("must be at least {INTERVAL_MS_MIN}ms"));
        }
        for (key, percent) in [("loss_percent", self.loss_percent), ("log_percent", self.log_percent)] {
            if percent > 100 {
                say(key.into(), format!("{percent} % can never be passed; allowed are 0 to 100"));
            }
        }
        if self.rule.len() > RULES_MAX {
            say("rule".into(), format!("{} rules are too many; at most {RULES_MAX}", self.rule.len()));
        }
        for (index, rule) in self.rule.iter().enumerate() {
            if let Some((key, problem)) = rule.problem() {
                say(format!("rule[{index}].{key}"), problem);
            }
        }
        for (index, receiver) in self.receiver.iter().enumerate() {
            if let Some((key, problem)) = receiver.problem() {
                say(format!("receiver[{index}].{key}"), problem);
            }
            if self.receiver[..index].iter().any(|other| other.name == receiver.name) {
                say(format!("receiver[{index}].name"), format!("there are two receivers named {:?}", receiver.name));
            }
        }
        problems
    }

    /// The threshold of a kind where no rule says otherwise, in the unit of the kind.
    pub fn threshold(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Subscriber24h => self.subscriber_24h_bytes,
            Kind::SiteCir => self.site_cir_percent,
            Kind::DpiSeen => 0,
            Kind::HostConnections => self.host_connections,
            Kind::ExporterSilent => self.exporter_silent_ms,
            Kind::ExporterLoss => self.loss_percent,
            Kind::SinkLag => self.sink_lag_ms,
            Kind::DatabaseStale => self.database_age_ms,
            Kind::LogFilling => self.log_percent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_by_key() {
        let reseller = "reseller_id = \"0e02b2c3-58cc-4372-a567-0e02b2c3d479\"\n";
        let text = format!(
            "interval = \"1ms\"\n[[rule]]\ntype = \"sink_lag\"\nsite = \"x\"\n\
             [[rule]]\ntype = \"subscriber_24h\"\nthreshold = \"5GiB\"\n\
             [[rule]]\ntype = \"subscriber_24h\"\n{reseller}threshold = \"5 parsec\"\n\
             [[rule]]\ntype = \"dpi_seen\"\n{reseller}threshold = 3\n\
             [[receiver]]\nname = \"a\"\nkind = \"webhook\"\n[[receiver]]\nname = \"a\"\nkind = \"mail\"\n"
        );
        let config: Config = toml::from_str(&text).unwrap();
        let keys: Vec<_> = config.problems().into_iter().map(|problem| problem.key).collect();
        let expected = [
            "interval",
            "rule[0].site",
            "rule[1].threshold",
            "rule[2].threshold",
            "rule[3].threshold",
            "receiver[0].url",
            "receiver[1].server",
            "receiver[1].name",
        ];
        assert_eq!(keys, expected);
        assert_eq!(Config::default().problems(), []);
    }

    #[test]
    fn the_configuration_reads_back_as_it_was_written() {
        let text = "subscriber_24h_bytes = \"5GiB\"\n[[rule]]\ntype = \"subscriber_24h\"\nthreshold = \"1TiB\"\nfor = \"5m\"\n\
                    subscriber_id = \"6f1e2c4a-0b1d-4e8f-9a3b-5c6d7e8f9a0b\"\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(toml::from_str::<Config>(&toml::to_string(&config).unwrap()).unwrap(), config);
        assert_eq!(config.rule[0].threshold.as_ref().unwrap().of(Kind::Subscriber24h), Ok(1 << 40));
        assert_eq!(config.rule[0].pending, Some(DurationMs(300_000)));
    }
}
