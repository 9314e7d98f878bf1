//! The kinds of alerts: one row each, and everything loops over it.

use serde::{Deserialize, Serialize};

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A subscriber's bytes of the last 24 hours.
    #[serde(rename = "subscriber_24h")]
    Subscriber24h,
    /// A site's rate against its committed one.
    SiteCir,
    /// An application or category that is watched for.
    DpiSeen,
    /// A host that opens many connections.
    HostConnections,
    /// An exporter that sends nothing any more.
    ExporterSilent,
    /// An exporter whose flows do not all arrive.
    ExporterLoss,
    /// A sink that is behind.
    SinkLag,
    /// A database of countries or AS numbers that is old.
    DatabaseStale,
    /// The log's room on disk runs out.
    LogFilling,
}

/// In what a kind's threshold is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes; texts such as "5GiB" are read.
    Bytes,
    /// Percent.
    Percent,
    /// A number of things.
    Count,
    /// Time, ms; texts such as "20m" are read.
    Time,
    /// There is no threshold.
    None,
}

/// How urgent an alert is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Look at it today.
    #[default]
    Medium,
    /// Look at it now.
    High,
}

impl Severity {
    /// Names, as parameters and configuration have them.
    pub const NAMES: &'static [&'static str] = &["low", "medium", "high"];

    /// Its name.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The severity of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Low, Self::Medium, Self::High].into_iter().find(|severity| severity.name() == name)
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Subscriber24h,
        Self::SiteCir,
        Self::DpiSeen,
        Self::HostConnections,
        Self::ExporterSilent,
        Self::ExporterLoss,
        Self::SinkLag,
        Self::DatabaseStale,
        Self::LogFilling,
    ];

    /// Its name: `alert_type` in answers, `type` in rules.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subscriber24h => "subscriber_24h",
            Self::SiteCir => "site_cir",
            Self::DpiSeen => "dpi_seen",
            Self::HostConnections => "host_connections",
            Self::ExporterSilent => "exporter_silent",
            Self::ExporterLoss => "exporter_loss",
            Self::SinkLag => "sink_lag",
            Self::DatabaseStale => "database_stale",
            Self::LogFilling => "log_filling",
        }
    }

    /// In what its threshold is given.
    pub const fn unit(self) -> Unit {
        match self {
            Self::Subscriber24h => Unit::Bytes,
            Self::SiteCir | Self::ExporterLoss | Self::LogFilling => Unit::Percent,
            Self::HostConnections => Unit::Count,
            Self::ExporterSilent | Self::SinkLag | Self::DatabaseStale => Unit::Time,
            Self::DpiSeen => Unit::None,
        }
    }

    /// The key of `[alerts]` with its threshold for all.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Subscriber24h => "subscriber_24h_bytes",
            Self::SiteCir => "site_cir_percent",
            Self::DpiSeen => "dpi_protocols",
            Self::HostConnections => "host_connections",
            Self::ExporterSilent => "exporter_silent",
            Self::ExporterLoss => "loss_percent",
            Self::SinkLag => "sink_lag",
            Self::DatabaseStale => "database_age",
            Self::LogFilling => "log_percent",
        }
    }

    /// How urgent it is unless a rule says otherwise.
    pub const fn severity(self) -> Severity {
        match self {
            Self::Subscriber24h | Self::SiteCir => Severity::High,
            _ => Severity::Medium,
        }
    }

    /// Whether it rests on the flows of the log, so that it cannot be judged while many of them have not been read.
    pub const fn counts_flows(self) -> bool {
        matches!(self, Self::Subscriber24h | Self::SiteCir | Self::DpiSeen | Self::HostConnections)
    }

    /// Which parts of a rule can narrow it: what its subjects have.
    pub const fn scopes(self) -> &'static [Scope] {
        match self {
            Self::Subscriber24h | Self::DpiSeen => &[Scope::Reseller, Scope::Subscriber],
            Self::SiteCir => &[Scope::Reseller, Scope::Site],
            Self::HostConnections => &[Scope::Reseller, Scope::Site, Scope::Subscriber],
            _ => &[],
        }
    }
}

/// By what a rule can be narrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `reseller_id`.
    Reseller,
    /// `site`, and `nas_id` if wished.
    Site,
    /// `subscriber_id`.
    Subscriber,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_configuration() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        for name in Severity::NAMES {
            let severity = Severity::from_name(name).unwrap();
            assert_eq!((severity.name(), serde_json::to_value(severity).unwrap()), (*name, (*name).into()));
        }
    }
}
