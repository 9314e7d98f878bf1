//! Attribution worked out by hand, one row a case.

use std::path::Path;

use super::*;
use crate::enrich::Config;
use crate::enrich::leases::Lease;
use crate::flow::{SourceRun, Uuid, country};

const A: &str = "00000000-0000-0000-0000-00000000000a";
const B: &str = "00000000-0000-0000-0000-00000000000b";
const C: &str = "00000000-0000-0000-0000-00000000000c";
const D: &str = "00000000-0000-0000-0000-00000000000d";
const R1: &str = "00000000-0000-0000-0000-000000000001";
const R2: &str = "00000000-0000-0000-0000-000000000002";

/// 2026-01-01T12:00:00Z: 10.1.2.4 goes from B to C.
const NOON_MS: i64 = 1_767_268_800_000;

/// One flow and what is to be known of it.
#[derive(Clone, Copy, Default)]
struct Case {
    src: &'static str,
    dst: &'static str,
    exporter: &'static str,
    engine: u32,
    interfaces: (u32, u32),
    end_ms: i64,
    direction: &'static str,
    subscriber: &'static str,
    reseller: &'static str,
    nas: &'static str,
    site: &'static str,
    /// Subscriber, reseller and site of the destination of an internal flow.
    to: Option<(&'static str, &'static str, &'static str)>,
}

fn subscribers() -> String {
    format!(
        "prefix,subscriber_id,reseller_id,from,to,site,nas_id\n\
         10.1.2.3,{A},{R1},,,,\n\
         10.1.2.4/32,{B},{R1},,2026-01-01T12:00:00Z,,\n\
         10.1.2.4/32,{C},{R2},2026-01-01T12:00:00Z,,,\n\
         2001:db8:c:1::/64,{D},,,,hotel,nas9\n"
    )
}

fn sites() -> String {
    format!(
        "nas_id,site,reseller_id,exporter,interface,engine_id,customer_prefix\n\
         nas1,rest,{R1},192.0.2.1,,,\n\
         nas1,north,{R1},192.0.2.1,5,,\n\
         nas1,south,{R2},192.0.2.1,6,,\n\
         nas2,engine seven,,,,7,\n\
         nas3,market,{R2},,,,10.9.0.0/16\n\
         nas3,market at 2,{R2},192.0.2.2,,,10.9.0.0/16\n"
    )
}

fn open(folder: &Path) -> Arc<Enrichment> {
    let file = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).unwrap();
        Some(folder.join(name))
    };
    let config = Config {
        geoip: folder.into(),
        subscribers: file("subscribers.csv", subscribers()),
        sites: file("sites.csv", sites()),
        networks: file("networks.csv", "# ours\nprefix\n10.0.0.0/8\n2001:db8:c::/48\n".into()),
        ports: None,
        ..Config::default()
    };
    Arc::new(Enrichment::open(config).unwrap().0)
}

fn batch(cases: &[Case]) -> FlowBatch {
    let mut batch = FlowBatch::default();
    for case in cases {
        batch.time.push(Some(case.end_ms));
        batch.flow_start.push(Some(case.end_ms - 60_000));
        batch.exporter_ip.push(Some(&case.exporter.parse().unwrap()));
        batch.src_ip.push(Some(case.src.parse().unwrap()));
        batch.dst_ip.push(Some(case.dst.parse().unwrap()));
        batch.src_port.push(Some(50_000));
        batch.dst_port.push(Some(443));
        batch.protocol.push(Some(6));
        batch.input_if.push(Some(case.interfaces.0));
        batch.output_if.push(Some(case.interfaces.1));
        batch.netflow_version.push(Some(5));
        // The engine's type (high byte) does not matter.
        batch.sources.push(SourceRun { rows: 1, source_id: 0x300 | case.engine });
    }
    batch.fill_missing();
    batch
}

fn assert_case(batch: &FlowBatch, row: usize, case: &Case) {
    let text = |value: Option<&Arc<str>>| value.map_or(String::new(), |text| text.to_string());
    let uuid = |value: Option<&Uuid>| value.map_or(String::new(), |uuid| uuid.to_string());
    let direction = Direction::from_code(batch.direction.get(row).unwrap()).unwrap().name();
    let got = (
        direction,
        uuid(batch.subscriber_id.get(row)),
        uuid(batch.reseller_id.get(row)),
        text(batch.nas_id.get(row)),
        text(batch.site.get(row)),
    );
    let want = (case.direction, case.subscriber.into(), case.reseller.into(), case.nas.into(), case.site.into());
    assert_eq!(got, want, "row {row}: {} to {}", case.src, case.dst);
    let to = batch.internal.rows.iter().position(|at| *at as usize == row).map(|entry| {
        let internal = &batch.internal;
        (uuid(internal.subscriber_id.get(entry)), uuid(internal.reseller_id.get(entry)), text(internal.site.get(entry)))
    });
    assert_eq!(to, case.to.map(|to| (to.0.into(), to.1.into(), to.2.into())), "row {row}");
    assert_eq!(text(batch.app.get(row)), "HTTPS");
    assert_eq!((batch.service_port.get(row), text(batch.app_category.get(row))), (Some(443), "web".into()));
}

/// An exporter that no rule knows, and one with rules.
const PLAIN: &str = "192.0.2.9";
const GATEWAY: &str = "192.0.2.1";

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let base = Case { exporter: PLAIN, end_ms: NOON_MS - 1000, ..Case::default() };
    vec![
        // One of each direction.
        Case { src: "10.1.2.3", dst: "8.8.8.8", direction: "out", subscriber: A, reseller: R1, ..base },
        Case { src: "8.8.8.8", dst: "10.1.2.3", direction: "in", subscriber: A, reseller: R1, ..base },
        Case { src: "8.8.8.8", dst: "9.9.9.9", direction: "transit", ..base },
        Case { src: "10.1.2.3", dst: "10.1.2.4", direction: "internal", subscriber: A, reseller: R1, to: Some((B, R1, "")), ..base },
        Case { src: "10.1.2.3", dst: "10.1.2.99", direction: "internal", subscriber: A, reseller: R1, ..base },
        // A customer that nobody knows, and IPv6 with a place of its own.
        Case { src: "10.1.2.99", dst: "8.8.8.8", direction: "out", ..base },
        Case { src: "2001:db8:c:1::5", dst: "2001:4860::1", direction: "out", subscriber: D, nas: "nas9", site: "hotel", ..base },
        Case { src: "2001:db8:c:1::5", dst: "8.8.8.8", direction: "out", exporter: GATEWAY, interfaces: (5, 1), subscriber: D, reseller: R1, nas: "nas9", site: "hotel", ..base },
        // The address changes hands at noon; the flow's end decides, also of a flow that spans noon.
        Case { src: "10.1.2.4", dst: "8.8.8.8", direction: "out", end_ms: NOON_MS - 1, subscriber: B, reseller: R1, ..base },
        Case { src: "10.1.2.4", dst: "8.8.8.8", direction: "out", end_ms: NOON_MS, subscriber: C, reseller: R2, ..base },
        Case { src: "8.8.8.8", dst: "10.1.2.4", direction: "in", end_ms: NOON_MS + 1000, subscriber: C, reseller: R2, ..base },
        // Two sites of one gateway by interface: input for what leaves, output for what comes; the rest by exporter.
        Case { src: "10.1.2.3", dst: "8.8.8.8", exporter: GATEWAY, interfaces: (5, 1), direction: "out", subscriber: A, reseller: R1, nas: "nas1", site: "north", ..base },
        Case { src: "8.8.8.8", dst: "10.1.2.3", exporter: GATEWAY, interfaces: (1, 6), direction: "in", subscriber: A, reseller: R1, nas: "nas1", site: "south", ..base },
        Case { src: "10.1.2.99", dst: "8.8.8.8", exporter: GATEWAY, interfaces: (6, 5), direction: "out", reseller: R2, nas: "nas1", site: "south", ..base },
        Case { src: "10.1.2.99", dst: "8.8.8.8", exporter: GATEWAY, interfaces: (1, 2), direction: "out", reseller: R1, nas: "nas1", site: "rest", ..base },
        Case { src: "10.1.2.3", dst: "10.1.2.4", exporter: GATEWAY, interfaces: (5, 6), direction: "internal", subscriber: A, reseller: R1, nas: "nas1", site: "north", to: Some((B, R1, "south")), ..base },
        // Interface before engine, engine before customer prefix, customer prefix before exporter.
        Case { src: "10.9.0.1", dst: "8.8.8.8", exporter: GATEWAY, engine: 7, interfaces: (5, 1), direction: "out", reseller: R1, nas: "nas1", site: "north", ..base },
        Case { src: "10.9.0.1", dst: "8.8.8.8", exporter: GATEWAY, engine: 7, interfaces: (1, 2), direction: "out", nas: "nas2", site: "engine seven", ..base },
        Case { src: "10.9.0.1", dst: "8.8.8.8", exporter: GATEWAY, engine: 8, interfaces: (1, 2), direction: "out", reseller: R2, nas: "nas3", site: "market", ..base },
        Case { src: "8.8.8.8", dst: "10.9.0.1", exporter: "192.0.2.2", direction: "in", reseller: R2, nas: "nas3", site: "market at 2", ..base },
        Case { src: "8.8.8.8", dst: "9.9.9.9", exporter: GATEWAY, interfaces: (5, 1), direction: "transit", reseller: R1, nas: "nas1", site: "north", ..base },
    ]
}

#[test]
fn every_kind_of_flow_is_attributed_as_worked_out_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let mut enricher = Enricher::new(open(folder.path()));
    let cases = cases();
    let mut flows = batch(&cases);
    // Twice: enriching again, and in reused memory, changes nothing.
    for _ in 0..2 {
        enricher.enrich(&mut flows);
        assert_eq!(flows.ragged_column(), None);
        assert!(flows.internal.is_sound(flows.len()));
        cases.iter().enumerate().for_each(|(row, case)| assert_case(&flows, row, case));
    }
    let reversed: Vec<_> = cases.into_iter().rev().collect();
    let mut flows = batch(&reversed);
    enricher.enrich(&mut flows);
    reversed.iter().enumerate().for_each(|(row, case)| assert_case(&flows, row, case));
}

#[test]
fn sites_are_listed_and_missing_sources_hinted_at() {
    let folder = tempfile::tempdir().unwrap();
    let enrichment = open(folder.path());
    let sites = enrichment.sites();
    assert_eq!(sites.len(), 6);
    assert_eq!((&*sites[2].nas_id, &*sites[2].site, sites[2].cir_bps), ("nas1", "south", 0));
    assert_eq!(sites[2].reseller_id.map(|id| id.to_string()).as_deref(), Some(R2));
    let hints = enrichment.reload().unwrap().hints;
    assert!(hints.len() == 2 && hints[0].contains("geoip/update.sh"), "{hints:?}");
}

#[test]
fn a_lease_goes_before_a_static_subscriber_while_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let enrichment = open(folder.path());
    let subscriber = enrichment.names().uuids.number(&C.parse().unwrap()).unwrap();
    let site = enrichment.names().texts.number(&"tent".into()).unwrap();
    let holder = Holder { from_ms: NOON_MS, to_ms: NOON_MS + 3_600_000, subscriber, reseller: 0, nas: 0, site };
    let lease = Lease { holder, mac: 0 };
    for addr in ["10.1.2.3", "9.9.9.9"] {
        enrichment.leases().put(addr.parse().unwrap(), lease).unwrap();
    }
    let base = Case { src: "10.1.2.3", dst: "8.8.8.8", exporter: PLAIN, direction: "out", ..Case::default() };
    let hour = [
        Case { end_ms: NOON_MS - 1, subscriber: A, reseller: R1, ..base },
        Case { end_ms: NOON_MS, subscriber: C, site: "tent", ..base },
        Case {
            src: "10.1.2.99",
            dst: "10.1.2.3",
            end_ms: NOON_MS,
            direction: "internal",
            to: Some((C, "", "tent")),
            ..base
        },
        Case { end_ms: NOON_MS + 3_600_000, subscriber: A, reseller: R1, ..base },
        // Leases are asked for customers only.
        Case { src: "9.9.9.9", end_ms: NOON_MS, direction: "transit", ..base },
    ];
    // More than are looked up at a time, and than one lock is held for.
    let mut cases = hour.repeat(ROWS_PER_LEASE_LOCK / hour.len() + LOOKED_UP_TOGETHER);
    let mut enricher = Enricher::new(enrichment);
    for _ in 0..2 {
        let mut flows = batch(&cases);
        enricher.enrich(&mut flows);
        cases.iter().enumerate().for_each(|(row, case)| assert_case(&flows, row, case));
        // The second time not all addresses are IPv4.
        let ipv6 =
            Case { src: "2001:db8:c:1::5", dst: "2001:4860::1", subscriber: D, nas: "nas9", site: "hotel", ..base };
        cases.push(ipv6);
    }
}

#[test]
fn unconfigured_columns_stay_null_and_the_exporters_as_stays() {
    let enrichment = Enrichment::builtin(Config::default()).unwrap();
    let base = Case { src: "10.0.0.1", dst: "8.8.8.8", exporter: PLAIN, ..Case::default() };
    let mut flows = batch(&[base, base]);
    flows.src_as.set(0, Some(64_500));
    flows.src_as.set(1, Some(0));
    flows.dst_as.set(0, Some(0));
    flows.dst_as.set(1, Some(0));
    flows.protocol.set(1, Some(1));
    Enricher::new(Arc::new(enrichment)).enrich(&mut flows);
    assert_eq!(flows.ragged_column(), None);
    assert_eq!((flows.src_as.get(0), flows.src_as.get(1)), (Some(64_500), None));
    assert!(flows.dst_as.all_null() && flows.src_country.all_null() && flows.dst_country.all_null());
    assert!(flows.nas_id.all_null() && flows.site.all_null() && flows.reseller_id.all_null());
    assert!(flows.subscriber_id.all_null() && flows.internal.rows.is_empty());
    assert_eq!((flows.direction.get(0), flows.service_port.get(0)), (Some(Direction::Out as u8), Some(443)));
    assert_eq!((flows.service_port.get(1), flows.app.get(1).map(|app| &**app)), (None, Some("ICMP")));
}

#[test]
fn the_database_gives_country_and_as_where_the_exporter_does_not() {
    let enrichment = Arc::new(Enrichment::builtin(Config::default()).unwrap());
    let mut builder = crate::enrich::table::Builder::default();
    builder.country("8.0.0.0/8".parse().unwrap(), country::code("US").unwrap());
    builder.asn("8.8.8.0/24".parse().unwrap(), 15_169);
    builder.asn("2001:4860::/32".parse().unwrap(), 15_169);
    enrichment.publish(builder);
    let base = Case { src: "10.0.0.1", dst: "8.8.8.8", exporter: PLAIN, ..Case::default() };
    let mut flows = batch(&[base, Case { src: "2001:4860::1", dst: "10.0.0.1", ..base }, base]);
    flows.dst_as.set(2, Some(3356));
    Enricher::new(enrichment).enrich(&mut flows);
    let row =
        |row| (flows.src_country.get(row), flows.dst_country.get(row), flows.src_as.get(row), flows.dst_as.get(row));
    let us = country::code("US");
    assert_eq!(row(0), (None, us, None, Some(15_169)));
    assert_eq!(row(1), (None, None, Some(15_169), None));
    assert_eq!(row(2), (None, us, None, Some(3356)));
}

/// 10.1.2.4 goes from B to C at noon; 10.1.2.3 is leased to C from 12:10, A's by the table before.
///
/// | flow | whose | all of it falls on |
/// | --- | --- | --- |
/// | 10.1.2.4 out, 11:45 to 12:15 | C's | 12:00 to 12:15 |
/// | 10.1.2.4 in, 11:45 to 12:00 | C's (its end is the first ms that is C's) | 12:00 |
/// | 10.1.2.4 out, 11:45 to a ms before 12:00 | B's | its own span |
/// | 10.1.2.4 out, 12:00 to 12:15 | C's | its own span |
/// | 10.1.2.4 to 10.1.2.3, 11:45 to 12:15 | C's, and to C | 12:10 to 12:15, where both were whose they are |
/// | 10.1.2.3 out, 11:45 to 12:09 | A's | its own span |
/// | transit, 11:45 to 12:15 | nobody's | its own span |
#[test]
fn a_flow_over_a_change_of_hands_is_spread_over_its_new_holders_part_only() {
    const MINUTE: i64 = 60_000;
    let folder = tempfile::tempdir().unwrap();
    let enrichment = open(folder.path());
    let subscriber = enrichment.names().uuids.number(&C.parse().unwrap()).unwrap();
    let holder = Holder { from_ms: NOON_MS + 10 * MINUTE, to_ms: i64::MAX, subscriber, reseller: 0, nas: 0, site: 0 };
    enrichment.leases().put("10.1.2.3".parse().unwrap(), Lease { holder, mac: 0 }).unwrap();
    let quarter = NOON_MS - 15 * MINUTE;
    let base = Case { src: "10.1.2.4", dst: "8.8.8.8", exporter: PLAIN, direction: "out", ..Case::default() };
    let c = Case { subscriber: C, reseller: R2, ..base };
    #[rustfmt::skip]
    let flows = [
        (Case { end_ms: NOON_MS + 15 * MINUTE, ..c }, quarter, Some(NOON_MS)),
        (Case { src: "8.8.8.8", dst: "10.1.2.4", direction: "in", end_ms: NOON_MS, ..c }, quarter, Some(NOON_MS)),
        (Case { end_ms: NOON_MS - 1, subscriber: B, reseller: R1, ..base }, quarter, None),
        (Case { end_ms: NOON_MS + 15 * MINUTE, ..c }, NOON_MS, None),
        (Case { dst: "10.1.2.3", direction: "internal", end_ms: NOON_MS + 15 * MINUTE, to: Some((C, "", "")), ..c }, quarter, Some(NOON_MS + 10 * MINUTE)),
        (Case { src: "10.1.2.3", end_ms: NOON_MS + 9 * MINUTE, subscriber: A, reseller: R1, ..base }, quarter, None),
        (Case { src: "9.9.9.9", direction: "transit", end_ms: NOON_MS + 15 * MINUTE, ..base }, quarter, None),
    ];
    let cases: Vec<Case> = flows.iter().map(|flow| flow.0).collect();
    let mut batch = batch(&cases);
    flows.iter().enumerate().for_each(|(row, flow)| batch.flow_start.set(row, Some(flow.1)));
    let mut enricher = Enricher::new(enrichment);
    for _ in 0..2 {
        enricher.enrich(&mut batch);
        cases.iter().enumerate().for_each(|(row, case)| assert_case(&batch, row, case));
        assert!(CutSpan::are_sound(&batch.cut_spans, batch.len()));
        for (row, (_, start_ms, cut_ms)) in flows.iter().enumerate() {
            assert_eq!(batch.span_start_ms(row), cut_ms.unwrap_or(*start_ms), "row {row}");
            assert_eq!(batch.flow_start.get(row), Some(*start_ms), "as exported");
        }
        assert_eq!(batch.cut_spans.len(), 3);
    }
}
