//! `leases`: who has an address now, as the gateway says it.

use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::control::leases::{LeaseBook, LeaseQuery, LeaseState, parse_mac};
use crate::control::state::StateError;
use crate::flow::time::rfc3339;
use crate::flow::{Addr, Text, Uuid};

use super::super::error::ApiError;
use super::super::route::Call;
use super::super::times;

/// Which leases are listed, for the parameter `which`.
pub const WHICH: &[&str] = &["current", "all"];

/// Longest name of an access server or a site, bytes.
const NAME_BYTES_MAX: usize = 255;

/// Rejected rows that an answer describes; the others are only counted.
const REJECTED_MAX: usize = 100;

/// What is stated of an address.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseRow {
    /// The address. In a request with the address in its path it may be left out.
    pub ip: Option<String>,
    /// `put` (when not given) or `delete`.
    pub op: Op,
    /// Whose the address is. Needed unless `op` is `delete`.
    #[schema(value_type = Option<String>)]
    pub subscriber_id: Option<Uuid>,
    /// The subscriber's reseller.
    #[schema(value_type = Option<String>)]
    pub reseller_id: Option<Uuid>,
    /// The access server, when it is known by the lease.
    pub nas_id: Option<String>,
    /// The site, when it is known by the lease.
    pub site: Option<String>,
    /// MAC address of the customer's device, `aa:bb:cc:dd:ee:ff`.
    pub mac: Option<String>,
    /// Since when: RFC 3339 or seconds since 1970; now when not given.
    #[schema(value_type = Option<String>)]
    #[serde(deserialize_with = "time")]
    pub from: Option<i64>,
    /// Until when; open when not given. With `delete`: from when on nobody has the address; now when not given.
    #[schema(value_type = Option<String>)]
    #[serde(deserialize_with = "time")]
    pub to: Option<i64>,
}

/// What is done with an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// It is someone's.
    #[default]
    Put,
    /// It is nobody's.
    Delete,
}

/// A lease.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeaseItem {
    /// The address.
    pub ip: String,
    /// Whose.
    pub subscriber_id: String,
    /// The subscriber's reseller.
    #[schema(required)]
    pub reseller_id: Option<String>,
    /// The access server, when it is known by the lease.
    #[schema(required)]
    pub nas_id: Option<String>,
    /// The site, when it is known by the lease.
    #[schema(required)]
    pub site: Option<String>,
    /// MAC address of the customer's device.
    #[schema(required)]
    pub mac: Option<String>,
    /// Vendor of the device, where the list of vendors (`[enrich] oui`) names one.
    #[schema(required)]
    pub vendor: Option<String>,
    /// Since when.
    pub from: String,
    /// Until when; null = open.
    #[schema(required)]
    pub to: Option<String>,
}

/// Answer of `GET leases`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Leases {
    /// By address, then newest first.
    pub items: Vec<LeaseItem>,
    /// Addresses that match, in all pages.
    pub total: u64,
    /// The parameter `after` of the next page; null when this is the last.
    #[schema(required)]
    pub next: Option<String>,
}

/// Answer of `PUT` and `DELETE leases/{ip}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeaseChanged {
    /// The address.
    pub ip: String,
    /// Whether anything was changed: false when there was no lease to end.
    pub changed: bool,
}

/// Answer of `POST leases`.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct LeasesTaken {
    /// Rows in force and on disk.
    pub accepted: u64,
    /// Rows that changed nothing.
    pub rejected_total: u64,
    /// The first of them.
    pub rejected: Vec<LeaseRejected>,
}

/// A row that changed nothing.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeaseRejected {
    /// Its number from 1: element of the array, or line (blank ones do not count).
    pub row: u64,
    /// Why, and what is allowed.
    pub reason: String,
}

/// Lists.
///
/// # Errors
/// 400 for a parameter that is not understood, 403 for another reseller than the token's.
pub fn list(call: Call) -> Result<Response, ApiError> {
    let params = &call.params;
    let text = |name: &str| params.text(name).map(Text::from);
    let mut reseller_id = params.uuid("reseller_id")?;
    if let Some(own) = call.access.reseller {
        if reseller_id.is_some_and(|asked| asked != own) {
            return Err(ApiError::forbidden("the token is limited to another reseller"));
        }
        reseller_id = Some(own);
    }
    let current = params.word("which")? != Some("all");
    let query = LeaseQuery {
        after: params.ip("after")?.map(|ip| Addr::from(ip.to_canonical())),
        ip: params.ip("ip")?.map(|ip| Addr::from(ip.to_canonical())),
        subscriber_id: params.uuid("subscriber_id")?,
        reseller_id,
        nas_id: text("nas_id"),
        site: text("site"),
        at_ms: current.then(|| call.endpoint.collector.now_ms()),
        limit: params.whole("limit")?.unwrap_or_default() as usize,
    };
    let book = book(&call)?;
    let page = book.page(&query);
    let items = page.items.into_iter().map(|(ip, lease)| LeaseItem::new(ip, book.vendor(lease.mac), lease)).collect();
    let next = page.next.map(|addr| addr.to_string());
    Ok(super::json(&Leases { items, total: page.total as u64, next }))
}

impl LeaseItem {
    fn new(ip: Addr, vendor: Option<Text>, lease: LeaseState) -> Self {
        let mac = (lease.mac != 0).then(|| crate::flow::Value::Mac(lease.mac).to_string());
        Self {
            ip: ip.to_string(),
            subscriber_id: lease.subscriber_id.to_string(),
            reseller_id: lease.reseller_id.map(|uuid| uuid.to_string()),
            nas_id: lease.nas_id.map(|text| text.to_string()),
            site: lease.site.map(|text| text.to_string()),
            mac,
            vendor: vendor.map(|text| text.to_string()),
            from: rfc3339(lease.from_ms),
            to: (lease.to_ms != i64::MAX).then(|| rfc3339(lease.to_ms)),
        }
    }
}

/// States who has an address.
///
/// # Errors
/// 400 for a bad address, 422 for a lease that cannot be, 503 when it is in force but not on disk.
pub fn put(call: Call) -> Result<Response, ApiError> {
    let ip = path_ip(&call)?;
    let row: LeaseRow = serde_json::from_slice(&call.body).map_err(|e| unprocessable(format!("the body: {e}")))?;
    if row.ip.as_ref().is_some_and(|given| parse_ip(given) != Some(ip)) {
        return Err(unprocessable("ip is another address than the path's".to_owned()));
    }
    if row.op == Op::Delete {
        return Err(unprocessable("op: to end a lease, send DELETE".to_owned()));
    }
    let lease = lease(&row, call.endpoint.collector.now_ms()).map_err(unprocessable)?;
    let book = book(&call)?;
    book.put(ip, &lease).map_err(|e| unprocessable(e.to_string()))?;
    book.save().map_err(not_saved)?;
    Ok(super::json(&LeaseChanged { ip: ip.to_string(), changed: true }))
}

/// Ends the lease of an address.
///
/// # Errors
/// As [`put`].
pub fn delete(call: Call) -> Result<Response, ApiError> {
    let ip = path_ip(&call)?;
    let to_ms = call.params.get("to", times::parse_time_ms)?.unwrap_or_else(|| call.endpoint.collector.now_ms());
    let book = book(&call)?;
    let changed = book.end(ip, to_ms);
    book.save().map_err(not_saved)?;
    Ok(super::json(&LeaseChanged { ip: ip.to_string(), changed }))
}

/// Many at once. Rows that can be taken are, in order; the others are told.
///
/// # Errors
/// 422 when the body is neither an array nor lines of JSON, 503 when not everything is on disk.
pub fn bulk(call: Call) -> Result<Response, ApiError> {
    let (book, now_ms) = (book(&call)?, call.endpoint.collector.now_ms());
    let mut taken = LeasesTaken::default();
    for (index, row) in rows(&call.body)?.into_iter().enumerate() {
        let done = row.and_then(|row| {
            let ip = row.ip.as_deref().and_then(parse_ip).ok_or("ip: must be an IPv4 or IPv6 address")?;
            match row.op {
                Op::Put => book.put(ip, &lease(&row, now_ms)?).map_err(|e| e.to_string())?,
                Op::Delete => drop(book.end(ip, row.to.unwrap_or(now_ms))),
            }
            Ok(())
        });
        match done {
            Ok(()) => taken.accepted += 1,
            Err(reason) => {
                taken.rejected_total += 1;
                if taken.rejected.len() < REJECTED_MAX {
                    taken.rejected.push(LeaseRejected { row: index as u64 + 1, reason });
                }
            }
        }
    }
    book.save().map_err(not_saved)?;
    Ok(super::json(&taken))
}

fn book(call: &Call) -> Result<&LeaseBook, ApiError> {
    let none = || ApiError::new(StatusCode::NOT_IMPLEMENTED, "no leases here: ask a running collector");
    call.endpoint.collector.leases().ok_or_else(none)
}

/// The rows of an array, or the lines that are not blank.
fn rows(body: &[u8]) -> Result<Vec<Result<LeaseRow, String>>, ApiError> {
    let read = |value: Result<Value, serde_json::Error>| {
        value.and_then(serde_json::from_value::<LeaseRow>).map_err(|error| error.to_string())
    };
    if body.trim_ascii_start().starts_with(b"[") {
        let values: Vec<Value> =
            serde_json::from_slice(body).map_err(|e| unprocessable(format!("the body is no JSON array: {e}")))?;
        return Ok(values.into_iter().map(|value| read(Ok(value))).collect());
    }
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let rows: Vec<_> = lines.map(|line| read(serde_json::from_slice(line))).collect();
    if rows.is_empty() {
        return Err(unprocessable("the body is empty; it must be a JSON array, or one JSON object a line".to_owned()));
    }
    Ok(rows)
}

fn lease(row: &LeaseRow, now_ms: i64) -> Result<LeaseState, String> {
    let name = |field: &str, text: &Option<String>| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) if text.len() > NAME_BYTES_MAX => Err(format!("{field}: longer than {NAME_BYTES_MAX} bytes")),
        Some(text) => Ok(Some(Text::from(text))),
    };
    let (from_ms, to_ms) = (row.from.unwrap_or(now_ms), row.to.unwrap_or(i64::MAX));
    if from_ms >= to_ms {
        return Err("to: must be after from (now when not given)".to_owned());
    }
    let mac = row.mac.as_deref().filter(|mac| !mac.is_empty());
    Ok(LeaseState {
        subscriber_id: row.subscriber_id.ok_or("subscriber_id: must be given, a UUID")?,
        reseller_id: row.reseller_id,
        nas_id: name("nas_id", &row.nas_id)?,
        site: name("site", &row.site)?,
        mac: mac.map_or(Some(0), parse_mac).ok_or("mac: must be like aa:bb:cc:dd:ee:ff")?,
        from_ms,
        to_ms,
    })
}

fn parse_ip(text: &str) -> Option<Addr> {
    text.parse::<std::net::IpAddr>().ok().map(|ip| ip.to_canonical().into())
}

fn path_ip(call: &Call) -> Result<Addr, ApiError> {
    let ip = call.params.ip("ip")?;
    ip.map(|ip| ip.to_canonical().into()).ok_or_else(|| call.params.wrong("ip", ""))
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let text = match Value::deserialize(from)? {
        Value::Null => return Ok(None),
        Value::String(text) => text,
        other => other.to_string(),
    };
    let wrong = || serde::de::Error::custom(format!("{text:?} is no time: {}", times::TIME_ALLOWED));
    times::parse_time_ms(&text).map(Some).ok_or_else(wrong)
}

fn unprocessable(problem: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, problem)
}

// The signature that `map_err` asks for.
#[allow(clippy::needless_pass_by_value)]
fn not_saved(error: StateError) -> ApiError {
    let text = format!("in force, but not on disk; sending it again does no harm: {error}");
    ApiError::busy(text, super::super::error::RETRY_AFTER_S)
}
