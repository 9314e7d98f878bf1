//! Mail by SMTP: one mail for everything that waits.

use std::fmt::Write as _;
use std::path::Path;

use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls as SmtpTls, TlsParameters};
use lettre::{Message, SmtpTransport, Transport as _};

use super::super::board::Event;
use super::super::receiver_config::{ReceiverConfig, Tls};
use super::{Alert, Notification, SEND_TIME_MAX, Sender};
use crate::flow::time::rfc3339;

/// Letters of a subject: longer ones are cut.
const SUBJECT_MAX: usize = 150;

pub(super) struct Mail {
    transport: SmtpTransport,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mail {
    pub(super) fn new(config: &ReceiverConfig, base: &Path, password: String) -> Result<Self, String> {
        let mailbox = |address: &String| address.parse::<Mailbox>().map_err(|e| format!("{address:?}: {e}"));
        let (host, port) = config.server_and_port().ok_or("server: needs a host and port")?;
        let mut builder = SmtpTransport::builder_dangerous(host)
            .port(port)
            .timeout(Some(SEND_TIME_MAX))
            .tls(tls(config, base, host)?);
        if !config.username.is_empty() {
            builder = builder.credentials(Credentials::new(config.username.clone(), password));
        }
        let to = config.to.iter().map(mailbox).collect::<Result<_, _>>()?;
        Ok(Self { transport: builder.build(), from: mailbox(&config.from)?, to })
    }
}

fn tls(config: &ReceiverConfig, base: &Path, host: &str) -> Result<SmtpTls, String> {
    if config.tls == Tls::None {
        return Ok(SmtpTls::None);
    }
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(file) = &config.ca_file {
        let path = base.join(file);
        let failed = |e: &dyn std::fmt::Display| format!("cannot read {}: {e}", path.display());
        let pem = std::fs::read(&path).map_err(|e| failed(&e))?;
        let authority = Certificate::from_pem(&pem).map_err(|e| failed(&e))?;
        parameters = parameters.certificate_store(CertificateStore::None).add_root_certificate(authority);
    }
    let parameters = parameters.build().map_err(|e| e.to_string())?;
    Ok(if config.tls == Tls::Tls { SmtpTls::Wrapper(parameters) } else { SmtpTls::Required(parameters) })
}

impl Sender for Mail {
    fn send(&mut self, queue: &[Notification], _: &[Alert], _: i64) -> Result<usize, String> {
        if queue.is_empty() {
            return Ok(0);
        }
        let mut message = Message::builder().from(self.from.clone()).subject(subject(queue));
        for to in &self.to {
            message = message.to(to.clone());
        }
        let message = message.header(ContentType::TEXT_PLAIN).body(body(queue)).map_err(|e| e.to_string())?;
        self.transport.send(&message).map_err(|e| with_causes(&e))?;
        Ok(queue.len())
    }
}

/// One line without control characters: values from outside must not become headers.
fn subject(queue: &[Notification]) -> String {
    let text = match queue {
        [one] => format!("[{}] {}", event(one.event), one.alert.summary),
        many => {
            let firing = many.iter().filter(|one| one.event == Event::Firing).count();
            format!("[netflow] {firing} alerts began, {} ended", many.len() - firing)
        }
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SUBJECT_MAX).collect()
}

fn body(queue: &[Notification]) -> String {
    let mut out = String::new();
    for Notification { event: what, alert } in queue {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{}: {}", event(*what), alert.summary);
        let _ =
            writeln!(out, "  type {}, severity {}, alert {}", alert.alert_type.name(), alert.severity.name(), alert.id);
        let _ = writeln!(out, "  since {}", rfc3339(alert.fired_ms));
        if let Some(resolved_ms) = alert.resolved_ms {
            let _ = writeln!(out, "  until {}", rfc3339(resolved_ms));
        }
        for (name, value) in alert.subject.labels() {
            let _ = writeln!(out, "  {name} {value}");
        }
        out.push('\n');
    }
    out
}

fn event(event: Event) -> &'static str {
    match event {
        Event::Firing => "firing",
        Event::Resolved => "resolved",
        Event::Test => "test",
    }
}

/// The error and what caused it: lettre's own line names neither host nor reason.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
