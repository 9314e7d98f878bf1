use std::path::Path;

use super::Reading;
use super::rows::{Spec, read_rows, required};
use crate::enrich::table::Prefix;

const PREFIX: usize = 0;
const COLUMNS: &[Spec] = &[required("prefix")];

/// Customers when nothing is configured: RFC 1918, RFC 6598 (carrier-grade NAT), RFC 4193 (unique local).
pub(super) const DEFAULT: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

/// The customers' networks.
pub(super) fn read(reading: &mut Reading<'_>, file: Option<&Path>) {
    let Some(file) = file else {
        DEFAULT.iter().flat_map(|text| text.parse()).for_each(|prefix| reading.builder.customer(prefix));
        return;
    };
    read_rows(reading, "networks", file, COLUMNS, |reading, row, _| {
        let prefix: Prefix = row.text(PREFIX).parse().map_err(|error: String| row.error(PREFIX, error))?;
        reading.builder.customer(prefix);
        Ok(())
    });
}
