//! What holds for one subject: the values of `[alerts]`, then every rule that fits, the narrower ones last.

use super::alert::Subject;
use super::config::{Config, RuleConfig};
use super::kind::{Kind, Severity};

/// What holds for one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether it is watched for.
    pub enabled: bool,
    /// In the unit of the kind.
    pub threshold: u64,
    /// How urgent it is.
    pub severity: Severity,
    /// How long the condition has to hold, ms.
    pub pending_ms: i64,
    /// How long it has to be over, ms.
    pub hold_down_ms: i64,
}

/// All rules, ready for looking up.
#[derive(Clone, Debug)]
pub struct Policy {
    /// By kind, in the order of [`Kind::ALL`].
    kinds: Vec<OfKind>,
}

#[derive(Clone, Debug)]
struct OfKind {
    terms: Terms,
    /// From the widest to the narrowest, those of one width in the order of the file.
    rules: Vec<RuleConfig>,
}

impl Policy {
    /// The rules of a configuration. Thresholds that do not read change nothing: the configuration was checked.
    pub fn new(config: &Config) -> Self {
        let of_kind = |kind: Kind| {
            let mut rules: Vec<_> = config.rule.iter().filter(|rule| rule.kind == kind).cloned().collect();
            rules.sort_by_key(width);
            let terms = Terms {
                enabled: config.enabled,
                threshold: config.threshold(kind),
                severity: kind.severity(),
                pending_ms: 0,
                hold_down_ms: config.hold_down_ms as i64,
            };
            OfKind { terms, rules }
        };
        Self { kinds: Kind::ALL.into_iter().map(of_kind).collect() }
    }

    /// What holds for a subject.
    pub fn terms(&self, kind: Kind, subject: &Subject) -> Terms {
        let of_kind = &self.kinds[kind as usize];
        let fitting = of_kind.rules.iter().filter(|rule| fits(rule, subject));
        fitting.fold(of_kind.terms, |terms, rule| Terms {
            enabled: config_enabled(of_kind) && rule.enabled.unwrap_or(terms.enabled),
            threshold: rule.threshold.as_ref().and_then(|t| t.of(kind).ok()).unwrap_or(terms.threshold),
            severity: rule.severity.unwrap_or(terms.severity),
            pending_ms: rule.pending.map_or(terms.pending_ms, |ms| ms.0 as i64),
            hold_down_ms: rule.hold_down.map_or(terms.hold_down_ms, |ms| ms.0 as i64),
        })
    }

    /// The lowest threshold that holds for anybody: below it nobody needs looking up.
    pub fn lowest(&self, kind: Kind) -> u64 {
        let of_kind = &self.kinds[kind as usize];
        let own = of_kind.rules.iter().filter_map(|rule| rule.threshold.as_ref()?.of(kind).ok());
        own.fold(of_kind.terms.threshold, u64::min)
    }
}

/// `[alerts] enabled = false` is stronger than any rule.
fn config_enabled(of_kind: &OfKind) -> bool {
    of_kind.terms.enabled
}

/// 0 for rules that fit everything; a subscriber is narrower than a site, a site than a reseller.
fn width(rule: &RuleConfig) -> u32 {
    u32::from(rule.reseller_id.is_some())
        + 2 * u32::from(rule.nas_id.is_some())
        + 4 * u32::from(rule.site.is_some())
        + 8 * u32::from(rule.subscriber_id.is_some())
}

fn fits(rule: &RuleConfig, subject: &Subject) -> bool {
    (rule.reseller_id.is_none() || rule.reseller_id == subject.reseller_id)
        && (rule.nas_id.is_none() || rule.nas_id == subject.nas_id)
        && (rule.site.is_none() || rule.site == subject.site)
        && (rule.subscriber_id.is_none() || rule.subscriber_id == subject.subscriber_id)
}

#[cfg(test)]
mod tests {
    use super::super::config::{DurationMs, Threshold};
    use super::*;
    use crate::flow::Uuid;

    #[test]
    fn the_narrowest_rule_wins_and_the_others_fill_in() {
        let (reseller, subscriber) = (Uuid::from_u128(7), Uuid::from_u128(8));
        let rule = RuleConfig::new(Kind::Subscriber24h);
        let config = Config {
            rule: vec![
                RuleConfig { subscriber_id: Some(subscriber), threshold: Some(Threshold::Number(10)), ..rule.clone() },
                RuleConfig { severity: Some(Severity::Low), pending: Some(DurationMs(5)), ..rule.clone() },
                RuleConfig {
                    reseller_id: Some(reseller),
                    threshold: Some(Threshold::Text("20B".into())),
                    ..rule.clone()
                },
                RuleConfig { reseller_id: Some(reseller), severity: Some(Severity::High), ..rule },
                RuleConfig { enabled: Some(false), ..RuleConfig::new(Kind::SinkLag) },
            ],
            ..Config::default()
        };
        let policy = Policy::new(&config);
        let terms = |subscriber_id, reseller_id| {
            let terms =
                policy.terms(Kind::Subscriber24h, &Subject { subscriber_id, reseller_id, ..Subject::default() });
            (terms.threshold, terms.severity, terms.pending_ms)
        };
        assert_eq!(terms(None, None), (1 << 30, Severity::Low, 5));
        assert_eq!(terms(None, Some(reseller)), (20, Severity::High, 5));
        assert_eq!(terms(Some(subscriber), Some(reseller)), (10, Severity::High, 5));
        assert_eq!(policy.lowest(Kind::Subscriber24h), 10);
        assert!(!policy.terms(Kind::SinkLag, &Subject::default()).enabled);
        assert!(policy.terms(Kind::LogFilling, &Subject::default()).enabled);
        let off = Policy::new(&Config { enabled: false, ..config });
        assert!(!off.terms(Kind::Subscriber24h, &Subject::default()).enabled);
    }
}
