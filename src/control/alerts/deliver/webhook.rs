//! Webhooks: one POST a notification, signed with HMAC-SHA256 over time and body.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::Sha256;
use ureq::Agent;

use super::super::board::Event;
use super::super::view::AlertItem;
use super::{Notification, Sender, web};

/// Version of the body's form.
const VERSION: u32 = 1;

pub(super) struct Webhook {
    agent: Agent,
    url: String,
    secret: String,
}

#[derive(Serialize)]
struct Body<'a> {
    version: u32,
    event: Event,
    delivery: &'a str,
    alert: AlertItem,
}

impl Webhook {
    pub(super) fn new(url: &str, secret: String) -> Self {
        Self { agent: web::agent(), url: url.to_owned(), secret }
    }
}

impl Sender for Webhook {
    fn send(&mut self, queue: &[Notification], _: &[super::Alert], now_ms: i64) -> Result<usize, String> {
        let Some(first) = queue.first() else { return Ok(0) };
        let delivery = first.delivery_id();
        let body =
            Body { version: VERSION, event: first.event, delivery: &delivery, alert: AlertItem::new(&first.alert) };
        let body = serde_json::to_vec(&body).map_err(|e| e.to_string())?;
        let timestamp = (now_ms / 1000).to_string();
        let signature = signature(&self.secret, &timestamp, &body)?;
        let headers = [
            ("x-netflow-delivery", &*delivery),
            ("x-netflow-timestamp", &*timestamp),
            ("x-netflow-signature", &*signature),
        ];
        web::post(&self.agent, &self.url, &headers, &body).map(|()| 1)
    }
}

/// `sha256=` and the HMAC of `TIMESTAMP.BODY` in hexadecimal. The time is signed, so that a request cannot be repeated later.
fn signature(secret: &str, timestamp: &str, body: &[u8]) -> Result<String, String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|e| e.to_string())?;
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let mut out = String::from("sha256=");
    for byte in mac.finalize().into_bytes() {
        // Writing into a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_other_programs() {
        // printf %s '1700000000.{}' | openssl dgst -sha256 -hmac secret
        let expected = "sha256=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163";
        assert_eq!(signature("secret", "1700000000", b"{}").unwrap(), expected);
    }
}
