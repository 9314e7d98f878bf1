//! The crate `influxdb2` reads back what the sink wrote to an InfluxDB 2 server.
//!
//! `INFLUXDB_V2_URL`, `INFLUXDB_V2_ORG` and `INFLUXDB_V2_TOKEN` name the server; without them the test says that it was
//! skipped.

use std::collections::BTreeMap;
use std::sync::Arc;

use influxdb2::models::Query;
use influxdb2_structmap::value::Value;
use sink_api::conformance::{DataSet, Deliverer, Options, context};
use sink_api::{Record, RollupDef};
use sink_influxdb::{Api, Config, Secret};

/// Bytes of `usage` by direction.
fn usage(set: &DataSet) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for entry in &set.entries {
        let Record::Sums(emission) = &entry.record else { continue };
        for rows in emission.rows.iter().filter(|rows| &*rows.rollup == "usage") {
            let (key, column) = rows.keys.iter().find(|(key, _)| key.name() == "direction").unwrap();
            for row in 0..rows.len() {
                *sums.entry(column.value(key.kind(), row).to_string()).or_default() += rows.bytes[row] as i64;
            }
        }
    }
    sums
}

#[tokio::test]
async fn sums_by_tag_are_those_that_were_written() {
    let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(url), Some(org), Some(token)) = (of("INFLUXDB_V2_URL"), of("INFLUXDB_V2_ORG"), of("INFLUXDB_V2_TOKEN"))
    else {
        println!("skipped: INFLUXDB_V2_URL, INFLUXDB_V2_ORG and INFLUXDB_V2_TOKEN name no InfluxDB 2");
        return;
    };
    let rollups = Arc::new(RollupDef::defaults());
    let set = DataSet::new(&Options { flows: 3000, days: 6, detail: true }, &rollups);
    let bucket = format!("compat-{}", std::process::id());
    let mut config = Config {
        url: url.clone(),
        api: Api::V2,
        org: org.clone(),
        bucket: bucket.clone(),
        token: Some(Secret(token.clone())),
        ..Config::default()
    };
    config.retention.detail_days = 36_500;
    config.retention.aggregate_months = 1_200;
    let context = context(rollups, set.now_ms);
    let mut deliverer = Deliverer::new(&config, &context, &set.entries);
    deliverer.finish();
    assert!(deliverer.errors.is_empty() && deliverer.set_aside.is_empty(), "{deliverer:?}");

    let client = influxdb2::Client::new(url, org, token);
    let flux = format!(
        "from(bucket: \"{bucket}_long\") |> range(start: 2020-01-01T00:00:00Z) \
         |> filter(fn: (r) => r._measurement == \"usage\" and r._field == \"bytes\") \
         |> group(columns: [\"direction\"]) |> sum()"
    );
    let records = client.query_raw(Some(Query::new(flux))).await.unwrap();
    let mut found = BTreeMap::new();
    for record in records {
        let (Some(Value::String(direction)), Some(Value::Long(bytes))) =
            (record.values.get("direction"), record.values.get("_value"))
        else {
            panic!("{:?}", record.values.keys());
        };
        found.insert(direction.clone(), *bytes);
    }
    assert_eq!(found, usage(&set));
}
