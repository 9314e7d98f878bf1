//! What `[[alerts.receiver]]` says: who is told, how, and of what.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::alert::Alert;
use super::kind::{Kind, Severity};
use crate::flow::Uuid;

/// How a receiver is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiverKind {
    /// Prometheus's Alertmanager, API v2.
    Alertmanager,
    /// JSON by POST, signed.
    Webhook,
    /// SMTP.
    Mail,
}

/// How a mail server is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Plain at first, then TLS; no mail without it.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// None: for a server on the same machine.
    None,
}

/// One receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverConfig {
    /// Its name: of its queue, in metrics and for `alerts test`.
    pub name: String,
    /// How it is told.
    pub kind: ReceiverKind,
    /// Where: the Alertmanager's address, or the webhook's whole URL.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Webhook: what requests are signed with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub secret: String,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// Mail: server and port.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server: String,
    /// Mail: how the server is spoken to.
    #[serde(default)]
    pub tls: Tls,
    /// Mail: PEM file of the authority that signed the server's certificate; the public ones when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Mail: user at the server.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Mail: password at the server.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Mail: sender.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// Mail: recipients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// Only alerts of these severities; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub severities: Vec<Severity>,
    /// Only alerts of these types; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<Kind>,
    /// Only this reseller's alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reseller_id: Option<Uuid>,
}

impl ReceiverConfig {
    /// A receiver of a kind with nothing but a name.
    pub fn new(name: &str, kind: ReceiverKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            url: String::new(),
            secret: String::new(),
            secret_file: None,
            server: String::new(),
            tls: Tls::default(),
            ca_file: None,
            username: String::new(),
            password: String::new(),
            password_file: None,
            from: String::new(),
            to: Vec::new(),
            severities: Vec::new(),
            types: Vec::new(),
            reseller_id: None,
        }
    }

    /// Whether an alert is for it.
    pub fn wants(&self, alert: &Alert) -> bool {
        (self.severities.is_empty() || self.severities.contains(&alert.severity))
            && (self.types.is_empty() || self.types.contains(&alert.alert_type))
            && (self.reseller_id.is_none() || self.reseller_id == alert.subject.reseller_id)
    }

    /// The first thing wrong with it.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let name_is_good = |name: &str| {
            !name.is_empty()
                && name.len() <= 64
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !name_is_good(&self.name) {
            return Some(("name", "needs 1 to 64 letters, digits, '-', '_' or '.'".to_owned()));
        }
        let web = self.url.starts_with("http://") || self.url.starts_with("https://");
        match self.kind {
            ReceiverKind::Alertmanager | ReceiverKind::Webhook if !web => {
                Some(("url", "needs an address that begins with http:// or https://".to_owned()))
            }
            ReceiverKind::Webhook if self.secret.is_empty() && self.secret_file.is_none() => {
                Some(("secret", "a webhook needs a secret or secret_file: its requests are signed".to_owned()))
            }
            ReceiverKind::Mail => self.mail_problem(),
            _ => None,
        }
    }

    fn mail_problem(&self) -> Option<(&'static str, String)> {
        if self.server_and_port().is_none() {
            return Some(("server", "needs a host and port, such as smtp.example.net:587".to_owned()));
        }
        let parses = |address: &str| address.parse::<lettre::message::Mailbox>().is_ok();
        if !parses(&self.from) {
            return Some(("from", format!("{:?} is no mail address", self.from)));
        }
        match self.to.iter().find(|address| !parses(address)) {
            Some(address) => Some(("to", format!("{address:?} is no mail address"))),
            None if self.to.is_empty() => Some(("to", "needs at least one mail address".to_owned())),
            None => None,
        }
    }

    /// The mail server.
    pub fn server_and_port(&self) -> Option<(&str, u16)> {
        let (host, port) = self.server.rsplit_once(':')?;
        let host = host.trim_matches(['[', ']']);
        Some((host, port.parse().ok()?)).filter(|(host, port)| !host.is_empty() && *port != 0)
    }

    /// The secret or password: from its file when one is named.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_secret(&self, base: &Path) -> Result<String, String> {
        let (text, file) = match self.kind {
            ReceiverKind::Mail => (&self.password, &self.password_file),
            _ => (&self.secret, &self.secret_file),
        };
        let Some(file) = file else { return Ok(text.clone()) };
        let path = base.join(file);
        let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}
