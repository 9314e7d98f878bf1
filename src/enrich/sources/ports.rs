use std::ops::RangeInclusive;
use std::path::Path;

use super::Reading;
use super::rows::{Row, RowError, Spec, optional, read_rows, required};
use crate::enrich::app::{Transport, protocol};

const PROTOCOL: usize = 0;
const PORT: usize = 1;
const APP: usize = 2;
const CATEGORY: usize = 3;
const COLUMNS: &[Spec] = &[required("protocol"), optional("port"), required("app"), optional("category")];

/// The operator's names of ports and protocols. A later row wins over an earlier one.
pub(super) fn read(reading: &mut Reading<'_>, file: &Path) {
    read_rows(reading, "ports", file, COLUMNS, |reading, row, _| {
        let protocol =
            row.parse(PROTOCOL, "a protocol's name or number (tcp, udp, sctp, dccp, gre, 47)", protocol::number)?;
        let app = (row.text(APP), row.text(CATEGORY));
        let transport = match protocol {
            Some(6) => Transport::Tcp,
            Some(17 | 136) => Transport::Udp,
            Some(132) => Transport::Sctp,
            Some(33) => Transport::Dccp,
            other => {
                if !row.text(PORT).is_empty() {
                    return Err(row.error(PORT, "only tcp, udp, sctp and dccp have ports; leave it empty"));
                }
                let named = reading.apps.name_protocol(reading.names, other.unwrap_or_default(), app);
                return named.map_err(|error| row.error(APP, error));
            }
        };
        let ports = ports(row)?;
        reading.apps.name_ports(reading.names, transport, ports, app).map_err(|error| row.error(APP, error))
    });
}

fn ports(row: &Row<'_>) -> Result<RangeInclusive<u16>, RowError> {
    let allowed = "a port from 1 to 65535 or a range like 6881-6889";
    let parse = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range: RangeInclusive<u16> = first.trim().parse().ok()?..=last.trim().parse().ok()?;
        (*range.start() > 0 && !range.is_empty()).then_some(range)
    };
    row.parse(PORT, allowed, parse)?.ok_or_else(|| row.error(PORT, format_args!("is empty; it is {allowed}")))
}
