use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;
use crate::enrich::table::Prefix;
use crate::enrich::{Enricher, Enrichment};
use crate::flow::{Addr, FlowBatch, country};

/// The folder of MaxMind's test databases beside the repository, or where RGZ_GEOIP_TEST says; never copied.
fn databases() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/geoip-test");
    let folder = std::env::var_os("RGZ_GEOIP_TEST").map_or_else(beside, PathBuf::from);
    if !folder.join("expected.json").is_file() {
        println!("skipped: no test databases at {}", folder.display());
        return None;
    }
    Some(folder)
}

fn with_databases(from: &Path, names: &[&str]) -> (tempfile::TempDir, Enrichment) {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        std::os::unix::fs::symlink(from.join(name), folder.path().join(name)).unwrap();
    }
    let config = Config { geoip: folder.path().into(), ..Config::default() };
    let enrichment = Enrichment::open(config).unwrap().0;
    (folder, enrichment)
}

#[test]
fn test_databases_give_the_answers_worked_out_from_their_sources() {
    let Some(from) = databases() else { return };
    let expected = std::fs::read(from.join("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    let cases = expected["cases"].as_array().unwrap();
    assert!(cases.len() >= 16);
    let files = [
        (["GeoLite2-Country-Test.mmdb", "GeoLite2-ASN-Test.mmdb"], "country_db"),
        (["GeoLite2-City-Test.mmdb", "GeoLite2-ASN-Test.mmdb"], "city_db"),
    ];
    for (names, kind) in files {
        let (_folder, enrichment) = with_databases(&from, &names);
        let table = enrichment.table();
        for case in cases {
            let addr: Addr = case["ip"].as_str().unwrap().parse().unwrap();
            let record = table.record(table.find(addr));
            let want = case[kind]["country"].as_str().and_then(country::code).unwrap_or(0);
            assert_eq!(record.country, want, "{addr} in {kind}");
            assert_eq!(u64::from(record.asn), case["asn_db"]["asn"].as_u64().unwrap_or(0), "{addr}");
            let name = table.as_name(record.asn).map(|name| name.to_string());
            if let Some(want) = case["asn_db"]["org"].as_str() {
                assert_eq!(name.as_deref(), Some(want));
            }
        }
    }
}

#[test]
fn the_table_answers_as_the_reader_of_the_databases_does() {
    let Some(from) = databases() else { return };
    let names = ["GeoIP2-Country-Test.mmdb", "GeoLite2-ASN-Test.mmdb"];
    let (_folder, enrichment) = with_databases(&from, &names);
    let table = enrichment.table();
    let [countries, systems] = names.map(|name| maxminddb::Reader::open_readfile(from.join(name)).unwrap());
    // The ends of every network of both, and their neighbours.
    let mut checked = 0;
    for reader in [&countries, &systems] {
        for result in reader.networks(Default::default()).unwrap() {
            let network = result.unwrap().network().unwrap();
            let ends = [Addr::from(network.ip()), Addr::from(network.broadcast())];
            for addr in ends.into_iter().flat_map(|end| [end, Addr(end.0.wrapping_add(1)), Addr(end.0.wrapping_sub(1))])
            {
                let (country, system) =
                    (countries.lookup(addr.to_ip()).unwrap(), systems.lookup(addr.to_ip()).unwrap());
                let code: Option<String> = country.decode_path(&maxminddb::path!["country", "iso_code"]).unwrap();
                let asn: Option<u32> = system.decode_path(&maxminddb::path!["autonomous_system_number"]).unwrap();
                let record = table.record(table.find(addr));
                assert_eq!(record.country, code.and_then(|code| country::code(&code)).unwrap_or(0), "{addr}");
                assert_eq!(record.asn, asn.unwrap_or(0), "{addr}");
                checked += 1;
            }
        }
    }
    assert!(checked > 3000, "{checked}");
}

/// A large database from `geoip/` (see `geoip/update.sh`) or the folder that RGZ_GEOIP names.
#[test]
fn a_real_database_gives_what_its_reader_gives_for_a_million_random_addresses() {
    const ADDRESSES: u64 = 1_000_000;
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("geoip");
    let folder = std::env::var_os("RGZ_GEOIP").map_or_else(own, PathBuf::from);
    let Some(file) = mmdb_files(&folder).unwrap_or_default().into_iter().next() else {
        println!("skipped: no database in {}", folder.display());
        return;
    };
    let names = [file.file_name().and_then(|name| name.to_str()).unwrap()];
    let (_folder, enrichment) = with_databases(&folder, &names);
    let table = enrichment.table();
    let reader = maxminddb::Reader::open_readfile(&file).unwrap();
    let aliases: [Prefix; 2] = ["2002::/16", "2001::/32"].map(|text| text.parse().unwrap());
    let (mut random, mut known) = (1u64, 0);
    for i in 0..ADDRESSES {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = u128::from(random) << 64 | u128::from(random.rotate_left(17));
        // A quarter IPv6, in 2000::/3, where addresses are given.
        let addr = if i % 4 == 0 { Addr(bits >> 3 | 1 << 125) } else { Addr::v4((random >> 32) as u32) };
        if aliases.iter().any(|prefix| prefix.contains(addr)) {
            continue;
        }
        let found = reader.lookup(addr.to_ip()).unwrap();
        let nested: Option<String> = found.decode_path(&maxminddb::path!["country", "iso_code"]).unwrap();
        let flat: Option<String> = found.decode_path(&maxminddb::path!["country_code"]).unwrap();
        let asn: Option<u32> = found.decode_path(&maxminddb::path!["autonomous_system_number"]).unwrap();
        let record = table.record(table.find(addr));
        assert_eq!(record.country, nested.or(flat).and_then(|code| country::code(&code)).unwrap_or(0), "{addr}");
        assert_eq!(record.asn, asn.unwrap_or(0), "{addr}");
        known += u64::from(record.country != 0 || record.asn != 0);
    }
    assert!(known > ADDRESSES / 3, "{known}");
}

#[test]
fn damaged_databases_are_errors_that_name_the_file_and_keep_the_table() {
    let Some(from) = databases() else { return };
    let (folder, enrichment) = with_databases(&from, &["GeoLite2-ASN-Test.mmdb"]);
    let bad = folder.path().join("bad.mmdb");
    for entry in std::fs::read_dir(from.join("bad")).unwrap() {
        let file = entry.unwrap().path();
        std::fs::write(&bad, std::fs::read(&file).unwrap()).unwrap();
        let error = enrichment.reload().expect_err(&file.display().to_string());
        assert!(error.to_string().contains("bad.mmdb"), "{error}");
        assert_eq!(enrichment.table().generation(), 1);
        // The check for databases without a description takes none of them for good that has a broken tree or record.
        if let Ok(reader) = maxminddb::Reader::open_readfile(&bad) {
            let unusual = ["MaxMind-DB-test-decoder.mmdb", "MaxMind-DB-no-ipv4-search-tree.mmdb"];
            let sound = unusual.iter().any(|name| file.ends_with(name));
            assert_eq!(mmdb::verify_tree_and_records(&reader).is_ok(), sound, "{}", file.display());
        }
    }
}

/// 200 damaged versions of good files: cut, flipped, shuffled. Right or an error, never a crash, never half a table.
#[test]
fn broken_files_of_every_kind_keep_the_old_answers() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let uuid = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
    let mut goods: Vec<(&str, Vec<u8>)> = vec![
        ("subscribers.csv", format!("prefix,subscriber_id\n10.0.0.1,{uuid}\n10.0.0.2,{uuid}\n").into()),
        ("sites.csv", format!("nas_id,site,cir_bps,reseller_id,exporter\nn,s,1000,{uuid},192.0.2.1\n").into()),
        ("networks.csv", b"prefix\n10.0.0.0/8\n".to_vec()),
        ("ports.csv", b"protocol,port,app,category\ntcp,7000-7009,Ours,web\n".to_vec()),
    ];
    if let Some(from) = databases() {
        goods.push(("country.mmdb", std::fs::read(from.join("GeoLite2-Country-Test.mmdb")).unwrap()));
    }
    goods.iter().for_each(|(name, bytes)| std::fs::write(file(name), bytes).unwrap());
    let config = Config {
        geoip: folder.path().into(),
        subscribers: Some(file("subscribers.csv")),
        sites: Some(file("sites.csv")),
        networks: Some(file("networks.csv")),
        ports: Some(file("ports.csv")),
        ..Config::default()
    };
    let enrichment = Enrichment::open(config).unwrap().0;
    let (mut refused, mut generation, mut random) = (0, 1, 0x9e37_79b9_7f4a_7c15u64);
    for i in 0..200 {
        let (name, good) = &goods[i % goods.len()];
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = (random >> 33) as usize % good.len();
        let mut bytes = good.clone();
        match i / goods.len() % 5 {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << (random >> 60 & 7),
            2 => bytes[at..].reverse(),
            3 => bytes.truncate(0),
            _ => drop(bytes.splice(at..at, [0, 0xff, b'"', b'\n'])),
        }
        std::fs::write(file(name), bytes).unwrap();
        match enrichment.reload() {
            Ok(report) => generation = report.generation,
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains(name), "{error}");
            }
        }
        assert_eq!(enrichment.table().generation(), generation);
        std::fs::write(file(name), good).unwrap();
    }
    assert!(refused > 100, "{refused}");
    let table = enrichment.table();
    assert!(table.record(table.find("10.0.0.1".parse().unwrap())).customer);
}

#[test]
fn errors_name_file_line_and_column_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        Some(folder.path().join(name))
    };
    let uuid = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
    let subscribers = format!(
        "# made by hand\nprefix,subscriber_id,from,to\n10.0.0.1/8,{uuid},,\n10.0.0.2,nobody,,\n10.0.0.3,{uuid},today,\n\
         10.0.0.4,{uuid},2026-01-02,2026-01-01\n10.0.0.5,{uuid},,\n,{uuid},,\n10.0.0.5,{uuid},2026-01-01,\n10.0.0.6\n"
    );
    let config = Config {
        geoip: PathBuf::new(),
        subscribers: file("subscribers.csv", &subscribers),
        sites: file("sites.csv", "nas_id,site,interface\nn,s,4\n"),
        networks: file("networks.csv", "network\n10.0.0.0/8\n"),
        ports: file("ports.csv", "protocol,port,app\ntcp,0,x\nicmp,3,x\nxyz,1,x\nudp,9-8,x\n"),
        ..Config::default()
    };
    let error = Enrichment::open(config).unwrap_err().to_string();
    for want in [
        "subscribers.csv:3: column prefix: \"10.0.0.1/8\" has bits set after its prefix length; write 10.0.0.0/8",
        "subscribers.csv:4: column subscriber_id: \"nobody\" is not a UUID",
        "subscribers.csv:5: column from: \"today\" is not a time",
        "subscribers.csv:6: column to: is not after from",
        "subscribers.csv:8: column prefix: is empty",
        "subscribers.csv:9: column prefix: 10.0.0.5/32 belongs to another row at the same time: line 7",
        "subscribers.csv:10: has 1 fields instead of 4",
        "sites.csv:2: a site goes by exporter,",
        "networks.csv:1: unknown column \"network\"; known are prefix",
        "ports.csv:2: column port: \"0\" is not a port",
        "ports.csv:3: column port: only tcp",
        "ports.csv:4: column protocol: \"xyz\" is not a protocol's name",
        "ports.csv:5: column port: \"9-8\" is not a port",
    ] {
        assert!(error.contains(want), "{want}\nis not in\n{error}");
    }
}

/// Each table gives every address one and the same site; a batch with two sites would have seen two tables.
#[test]
fn a_hundred_swaps_under_load_leave_every_batch_consistent() {
    const SWAPS: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let sites = folder.path().join("sites.csv");
    let write = |i: usize| {
        let text = format!("nas_id,site,exporter,customer_prefix\nn,site {i},192.0.2.1,\nn,site {i},,10.0.0.0/8\n");
        std::fs::write(&sites, text).unwrap();
    };
    write(0);
    let config = Config { geoip: PathBuf::new(), sites: Some(sites.clone()), ..Config::default() };
    let enrichment = Arc::new(Enrichment::open(config).unwrap().0);
    let done = AtomicBool::new(false);
    let batches = std::thread::scope(|scope| {
        let worker = |exporter: &'static str| {
            let (enrichment, done) = (enrichment.clone(), &done);
            move || {
                let (mut enricher, mut batches, mut last) = (Enricher::new(enrichment), 0u64, 0);
                while !done.load(Relaxed) || batches == 0 {
                    let mut batch = FlowBatch::default();
                    for i in 0..500u32 {
                        batch.time.push(Some(i.into()));
                        batch.exporter_ip.push(Some(&exporter.parse().unwrap()));
                        batch.src_ip.push(Some(Addr::v4(0x0a00_0000 + i * 7919)));
                        batch.dst_ip.push(Some(Addr::v4(0x0808_0808 + i)));
                        batch.protocol.push(Some(6));
                    }
                    batch.fill_missing();
                    enricher.enrich(&mut batch);
                    assert_eq!((batch.ragged_column(), batch.site.values().len()), (None, 1));
                    assert!(batch.site.codes().iter().all(|code| *code == 1));
                    let now: usize = batch.site.values()[0].strip_prefix("site ").unwrap().parse().unwrap();
                    assert!(now >= last, "an older table came back");
                    (last, batches) = (now, batches + 1);
                }
                (batches, last)
            }
        };
        let workers = ["192.0.2.1", "192.0.2.2"].map(|exporter| scope.spawn(worker(exporter)));
        for i in 1..=SWAPS {
            write(i);
            enrichment.reload().unwrap();
        }
        done.store(true, Relaxed);
        workers.map(|worker| worker.join().unwrap())
    });
    assert!(batches.iter().all(|(batches, _)| *batches > 0), "{batches:?}");
    assert_eq!(enrichment.table().generation(), SWAPS as u64 + 1);
    let mut text = crate::telemetry::Exposition::default();
    enrichment.expose(&mut text);
    let text = text.render(crate::telemetry::Format::Prometheus);
    assert!(text.contains("netflow_enrichment_reload_failed_total 0") && text.contains("source_rows{source=\"sites\""));
}
