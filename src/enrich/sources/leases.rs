use std::collections::BTreeMap;
use std::path::Path;

use super::SourceError;
use super::rows::{Row, RowError, Spec, optional, read_table, required};
use super::subscribers::time;
use crate::enrich::leases::parse_mac;
use crate::flow::{Addr, Text, Uuid};

const IP: usize = 0;
const SUBSCRIBER: usize = 1;
const RESELLER: usize = 2;
const NAS: usize = 3;
const SITE: usize = 4;
const MAC: usize = 5;
const FROM: usize = 6;
const TO: usize = 7;
const COLUMNS: &[Spec] = &[
    required("ip"),
    required("subscriber_id"),
    optional("reseller_id"),
    optional("nas_id"),
    optional("site"),
    optional("mac"),
    optional("from"),
    optional("to"),
];

/// A lease as a source states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// Whose.
    pub subscriber_id: Uuid,
    /// Whose subscriber that is.
    pub reseller_id: Option<Uuid>,
    /// The access server, when it is known by the lease.
    pub nas_id: Option<Text>,
    /// The site, when it is known by the lease.
    pub site: Option<Text>,
    /// MAC address of the customer's device; 0 = not stated.
    pub mac: u64,
    /// First ms; `None` = when the lease was seen first.
    pub from_ms: Option<i64>,
    /// First ms after it; `None` = open.
    pub to_ms: Option<i64>,
}

/// Who has which address now, one row an address.
///
/// # Errors
/// Everything that is wrong.
pub(in crate::enrich) fn read_leases(file: &Path) -> Result<BTreeMap<Addr, LeaseRow>, Vec<SourceError>> {
    let mut leases = BTreeMap::new();
    read_table(file, COLUMNS, |row, _| {
        let ip = row.parse(IP, "an IPv4 or IPv6 address", ip)?.unwrap_or_default();
        if leases.insert(ip, lease(row)?).is_some() {
            return Err(row.error(IP, format_args!("{ip} is there twice; an address has one row")));
        }
        Ok(())
    })?;
    Ok(leases)
}

fn lease(row: &Row<'_>) -> Result<LeaseRow, RowError> {
    let uuid = |column| row.parse(column, "a UUID", |text| Uuid::parse_str(text).ok());
    let text = |column| Some(row.text(column)).filter(|text| !text.is_empty()).map(Text::from);
    let (from_ms, to_ms) = (time(row, FROM)?, time(row, TO)?);
    if from_ms.zip(to_ms).is_some_and(|(from_ms, to_ms)| from_ms >= to_ms) {
        return Err(row.error(TO, "is not after from"));
    }
    Ok(LeaseRow {
        subscriber_id: uuid(SUBSCRIBER)?.unwrap_or_default(),
        reseller_id: uuid(RESELLER)?,
        nas_id: text(NAS),
        site: text(SITE),
        mac: row.parse(MAC, "a MAC address like aa:bb:cc:dd:ee:ff", parse_mac)?.unwrap_or_default(),
        from_ms,
        to_ms,
    })
}

/// An address; as PostgreSQL writes an inet, its full length may follow.
fn ip(text: &str) -> Option<Addr> {
    let text = match text.split_once('/') {
        Some((ip, "32")) if ip.contains('.') => ip,
        Some((ip, "128")) if ip.contains(':') => ip,
        Some(_) => return None,
        None => text,
    };
    text.parse::<std::net::IpAddr>().ok().map(|ip| ip.to_canonical().into())
}
