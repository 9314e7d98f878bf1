use std::path::Path;

use hashbrown::HashMap;

use super::Reading;
use super::rows::{Row, RowError, Spec, optional, read_rows, required};
use super::subscribers::uuid;
use crate::enrich::sites::{Match, Site};
use crate::enrich::table::{Prefix, SiteRule};
use crate::flow::Addr;

const NAS: usize = 0;
const SITE: usize = 1;
const CIR: usize = 2;
const RESELLER: usize = 3;
const EXPORTER: usize = 4;
const INTERFACE: usize = 5;
const ENGINE: usize = 6;
const PREFIX: usize = 7;
const COLUMNS: &[Spec] = &[
    required("nas_id"),
    required("site"),
    optional("cir_bps"),
    optional("reseller_id"),
    optional("exporter"),
    optional("interface"),
    optional("engine_id"),
    optional("customer_prefix"),
];

/// How the match columns of a row may be filled together.
const COMBINATIONS: &str = "a site goes by exporter, by exporter and interface, by engine_id (with or without exporter) or by \
                            customer_prefix (with or without exporter)";

/// Sites. A site that goes by several things has several rows.
pub(super) fn read(reading: &mut Reading<'_>, file: &Path) {
    let mut by_prefix: HashMap<Prefix, Vec<SiteRule>, foldhash::fast::RandomState> = HashMap::default();
    read_rows(reading, "sites", file, COLUMNS, |reading, row, _| {
        let name = |column| reading.text(row.text(column)).map_err(|error| row.error(column, error));
        let site = Site {
            nas: name(NAS)?,
            site: name(SITE)?,
            reseller: uuid(reading, row, RESELLER)?,
            cir_bps: row.parse(CIR, "a number of bit/s", |text| text.parse().ok())?.unwrap_or(0),
        };
        let site = reading.sites.add(site);
        let exporter = row.parse(EXPORTER, "an address", |text| text.parse::<Addr>().ok())?;
        let interface = row.parse(INTERFACE, "an SNMP index", |text| text.parse().ok())?;
        let engine = row.parse(ENGINE, "an engine, source or domain number", |text| text.parse().ok())?;
        let by = match (exporter, interface, engine, row.text(PREFIX)) {
            (None, None, None, "") => return Ok(()),
            (Some(exporter), Some(interface), None, "") => Match::Interface(exporter, interface),
            (exporter, None, Some(engine), "") => Match::Engine(exporter, engine),
            (Some(exporter), None, None, "") => Match::Exporter(exporter),
            (exporter, None, None, _) => {
                let prefix: Prefix = row.text(PREFIX).parse().map_err(|error: String| row.error(PREFIX, error))?;
                reading.sites.count_prefix_rule();
                return prefix_rule(by_prefix.entry(prefix).or_default(), SiteRule { exporter, site }, row);
            }
            _ => return Err((None, COMBINATIONS.to_owned())),
        };
        let column = match by {
            Match::Interface(..) => INTERFACE,
            Match::Engine(..) => ENGINE,
            Match::Exporter(_) => EXPORTER,
        };
        reading.sites.rule(by, site).then_some(()).ok_or_else(|| row.error(column, "goes to another site already"))
    });
    by_prefix.into_iter().for_each(|(prefix, rules)| reading.builder.site_rules(prefix, rules));
}

/// Rules for one exporter stand before the rule for any.
fn prefix_rule(rules: &mut Vec<SiteRule>, rule: SiteRule, row: &Row<'_>) -> Result<(), RowError> {
    if rules.iter().any(|known| known.exporter == rule.exporter && known.site != rule.site) {
        return Err(row.error(PREFIX, "goes to another site already"));
    }
    rules.push(rule);
    rules.sort_by_key(|rule| rule.exporter.is_none());
    Ok(())
}
