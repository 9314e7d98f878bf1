//! The metrics of the alerts.

use std::sync::PoisonError;

use super::engine::Alerts;
use crate::telemetry::Exposition;

impl Alerts {
    /// Adds everything to a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        self.expose_alerts(out);
        self.deliveries.expose(out);
        self.expose_counters(out);
    }

    fn expose_alerts(&self, out: &mut Exposition) {
        let counts = self.board.counts();
        for ((kind, severity), number) in counts.firing {
            let labels = [("alert_type", kind.name()), ("severity", severity.name())];
            out.gauge("netflow_alerts_firing", "Alerts that last.", &labels, number as f64);
        }
        for (kind, number) in counts.fired {
            let labels = [("alert_type", kind.name())];
            out.counter("netflow_alerts_fired_total", "Alerts that began.", &labels, number);
        }
        for (kind, number) in counts.resolved {
            let labels = [("alert_type", kind.name())];
            out.counter("netflow_alerts_resolved_total", "Alerts that ended.", &labels, number);
        }
        let help = "Alerts that had no room.";
        out.counter("netflow_alerts_suppressed_total", help, &[], counts.suppressed);
        out.counter("netflow_alerts_evaluations_total", "Evaluations.", &[], self.evaluations.get());
        let help = "Times that the state of the alerts could not be saved.";
        out.counter("netflow_alerts_save_failures_total", help, &[], self.save_failures.get());
    }

    fn expose_counters(&self, out: &mut Exposition) {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for usage in &shown.subscribers {
            let (subscriber, reseller) = (usage.subscriber_id.to_string(), usage.reseller_id);
            let reseller = reseller.map_or_else(String::new, |id| id.to_string());
            let labels = [("subscriber_id", &*subscriber), ("reseller_id", &*reseller)];
            let help = "Bytes of the last 24 hours of subscribers at or above half their threshold.";
            out.gauge("netflow_subscriber_bytes_24h", help, &labels, usage.bytes as f64);
        }
        for (site, share) in &shown.sites {
            let labels = [("nas_id", &*site.nas_id), ("site", &*site.site)];
            let help = "Share of its committed rate that a site used in the window by which it is judged.";
            out.gauge("netflow_site_cir_ratio", help, &labels, *share);
        }
        for host in &shown.hosts {
            let labels = [("host", host.subject.host.as_deref().unwrap_or_default())];
            let help = "Connections in 5 minutes of hosts above half the threshold.";
            out.gauge("netflow_host_connections_5m", help, &labels, host.connections as f64);
        }
        for (name, number) in &shown.seen {
            let help = "Subscribers who use what is watched for.";
            out.gauge("netflow_dpi_seen", help, &[("name", &**name)], *number as f64);
        }
        let mut gauge = |name, help, value: f64| out.gauge(name, help, &[], value);
        gauge("netflow_alerts_evaluation_seconds", "Time of the latest evaluation.", shown.took_s);
        gauge("netflow_alerts_memory_bytes", "Bytes of the alerts' counters.", shown.memory_bytes as f64);
        let counted = shown.subscribers_counted as f64;
        gauge("netflow_alerts_subscribers", "Subscribers whose last 24 hours are counted.", counted);
        let untracked = shown.untracked;
        for (what, number) in [
            ("subscriber_bytes", untracked.subscriber_bytes),
            ("site_bytes", untracked.site_bytes),
            ("connections", untracked.connections),
        ] {
            let help = "What the alerts' counters had no room for.";
            out.counter("netflow_alerts_untracked_total", help, &[("what", what)], number);
        }
    }
}
