//! Whatever breaks, the sums of every measurement are there exactly once at the end.

mod delivery;
#[path = "delivery/proxy.rs"]
mod proxy;
mod server;

use std::time::Duration;

use delivery::Log;
use proxy::{Cut, Proxy};
use serde_json::Value;
use server::Server;
use sink_api::conformance::DataSet;
use sink_api::{AlertRow, SinkConfig, SinkError};
use sink_influxdb::Config;

#[test]
fn connections_cut_anywhere_lose_and_double_nothing() {
    let Some(server) = Server::start() else { return };
    let log = Log::new(11_000);
    let proxy = Proxy::start(server.port);
    let config = server::config(&format!("http://127.0.0.1:{}", proxy.port));
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(1), "the first group makes the database");
    let mut random = 0x5eed_u64;
    let mut cuts = 0;
    while !deliverer.done() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bytes = 1 + (random >> 33) as usize % 60_000;
        proxy.set(if cuts % 3 == 2 { Cut::Answer(bytes) } else { Cut::Request(bytes) });
        // A cut far behind what one group sends hits a later one.
        while !deliverer.done() && !proxy.was_cut() {
            deliverer.step(1);
        }
        cuts += usize::from(proxy.was_cut());
        proxy.set(Cut::Never);
        if !deliverer.done() && cuts % 3 == 0 {
            deliverer.step(1);
        }
    }
    assert!(cuts >= 50 && deliverer.errors.len() >= 50, "{cuts} cuts, {} errors", deliverer.errors.len());
    log.assert_stored(&server);
}

#[test]
fn a_crash_in_the_middle_of_a_request_loses_and_doubles_nothing() {
    let Some(mut server) = Server::start() else { return };
    let log = Log::new(6_000);
    let proxy = Proxy::start(server.port);
    let config = server::config(&format!("http://127.0.0.1:{}", proxy.port));
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(1));
    for bytes in [3_000, 40_000, 90_000] {
        proxy.set(Cut::Kill(bytes, server.pid()));
        while !proxy.was_cut() {
            assert!(!deliverer.done(), "the log is too short");
            deliverer.step(3);
        }
        server.stop("KILL");
        server.run();
    }
    assert!(deliverer.errors.len() >= 3, "{:?}", deliverer.errors);
    deliverer.finish();
    log.assert_stored(&server);
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    let Some(mut server) = Server::start() else { return };
    let log = Log::new(3_000);
    let config = server.config();
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(4));
    server.stop("TERM");
    for _ in 0..5 {
        assert!(!deliverer.step(4), "a server that is stopped stores nothing");
    }
    server.run();
    deliverer.finish();
    log.assert_stored(&server);
}

#[test]
fn a_request_that_is_not_answered_in_time_is_given_up_and_repeated() {
    let Some(server) = Server::start() else { return };
    let log = Log::new(2_000);
    let config = Config { request_timeout: Duration::from_secs(1), ..server.config() };
    let mut deliverer = log.deliverer(&config);
    while !deliverer.step(1) {}
    let stored = deliverer.stored;
    server.signal("STOP");
    assert!(!deliverer.step(4), "a server that stands still answers nothing");
    assert!(deliverer.errors.last().unwrap().contains("timeout"), "{:?}", deliverer.errors);
    server.signal("CONT");
    // Nothing was taken back, and what the server did after it was given up counts once.
    let patient = server.config();
    let mut deliverer = log.deliverer(&patient);
    deliverer.finish();
    assert!(deliverer.stored > stored);
    log.assert_stored(&server);
}

#[test]
fn a_database_dropped_under_it_is_made_and_filled_again() {
    let Some(server) = Server::start() else { return };
    let log = Log::new(3_000);
    let config = server.config();
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(4));
    server.query("DROP DATABASE netflow");
    assert!(!deliverer.step(4), "a database that is not there takes nothing");
    deliverer.finish();
    assert!(deliverer.set_aside.is_empty());
    log.assert_stored(&server);
}

#[test]
fn rows_that_the_server_refuses_are_set_aside_singly() {
    let Some(server) = Server::start() else { return };
    let log = Log::new(300);
    let config = server.config();
    let mut deliverer = log.deliverer(&config);
    assert!(deliverer.step(0), "opening makes the database");
    // Another program's points, in whose days the field has another type.
    let day_ns = |day: i64| (sink_api::conformance::START_MS + day * sink_api::time::DAY_MS) * 1_000_000;
    let line = format!("flows,app=web vlan_id=\"four\" {}", day_ns(1));
    let write = format!("{}/write?db=netflow&rp=netflow", server.url());
    ureq::post(&write).send(line).unwrap();
    // Rows that cannot be kept keep the cursor where it is.
    deliverer.keeps = false;
    while deliverer.step(4) {}
    let stored = deliverer.stored;
    assert!(!deliverer.step(4), "refused again");
    assert_eq!((deliverer.stored, deliverer.set_aside.len()), (stored, 0));
    deliverer.keeps = true;
    deliverer.errors.clear();
    deliverer.finish();
    assert!(deliverer.errors.is_empty(), "{:?}", deliverer.errors);
    let refused = &deliverer.set_aside;
    assert!(!refused.is_empty() && refused.iter().all(|(.., reason)| reason.contains("vlan_id")), "{refused:?}");
    let stored = server.numbers("SELECT count(bytes) FROM netflow.flows")[0];
    assert_eq!(stored + refused.len() as u64, log.totals()["flows"][2], "all others are there");
}

#[test]
fn what_is_too_old_is_counted_and_not_stored() {
    let Some(server) = Server::start() else { return };
    let log = Log::new(2_000);
    let mut config = server.config();
    // The server's clock decides: all of the data set is years old for it.
    config.retention.detail_days = 2;
    let mut deliverer = log.deliverer(&config);
    deliverer.finish();
    assert!(deliverer.set_aside.is_empty());
    let stored = server.numbers("SELECT count(bytes) FROM netflow.flows").first().copied().unwrap_or(0);
    let all = log.totals()["flows"][2];
    assert_eq!(stored + deliverer.counters().expired_flows, all);
    assert!(deliverer.counters().expired_flows > 0);
}

#[test]
fn a_retention_that_changes_is_changed_at_the_server() {
    let Some(server) = Server::start() else { return };
    let log = Log::new(10);
    let policies = || {
        let answer = server.query("SHOW RETENTION POLICIES ON netflow");
        let rows = answer["results"][0]["series"][0]["values"].as_array().unwrap().clone();
        let of = |name: &str| rows.iter().find(|row| row[0] == name).map(|row| row[1].as_str().unwrap().to_owned());
        (of("netflow"), of("netflow_long"))
    };
    let text = |t: &str| Some(t.to_owned());
    let mut config = Config { retention: sink_api::sink::Retention::default(), ..server.config() };
    config.open(&log.context).map(drop).unwrap();
    assert_eq!(policies(), (text("720h0m0s"), text("8784h0m0s")));
    config.retention.detail_days = 7;
    config.open(&log.context).map(drop).unwrap();
    assert_eq!(policies(), (text("168h0m0s"), text("8784h0m0s")));
    // Years have shards of a week, which a policy of two days cannot have.
    for days in [3650, 2, 1, 400] {
        config.retention.detail_days = days;
        config.open(&log.context).map(drop).unwrap();
        assert_eq!(policies().0, Some(format!("{}h0m0s", days * 24)));
    }
}

#[test]
fn shards_that_are_configured_are_changed_at_the_server() {
    let Some(server) = Server::start() else { return };
    let log = Log::new(10);
    let mut config = Config { retention: sink_api::sink::Retention::default(), ..server.config() };
    for (shard_days, hours) in [(None, [24, 168]), (Some(7), [168, 168]), (Some(60), [720, 1440]), (Some(1), [24, 24])]
    {
        config.shard_days = shard_days;
        config.open(&log.context).map(drop).unwrap();
        let answer = server.query("SHOW RETENTION POLICIES ON netflow");
        let rows = answer["results"][0]["series"][0]["values"].as_array().unwrap().clone();
        let shown = ["netflow", "netflow_long"]
            .map(|name| rows.iter().find(|row| row[0] == name).and_then(|row| row[2].as_str().map(str::to_owned)));
        assert_eq!(shown, hours.map(|hours| Some(format!("{hours}h0m0s"))), "{shard_days:?}");
    }
}

#[test]
fn subscribers_with_a_tag_stay_bounded_when_the_sink_opens_again() {
    let Some(server) = Server::start() else { return };
    let log = Log::new(1_000);
    let config = Config { tags_max: 3, detail: false, ..server.config() };
    let mut deliverer = log.deliverer(&config);
    while !deliverer.done() {
        assert!(deliverer.step(8));
        deliverer.reopen();
    }
    let answer = server.query("SHOW TAG VALUES FROM \"usage\" WITH KEY = \"subscriber_id\"");
    let values = answer["results"][0]["series"][0]["values"].as_array().unwrap().clone();
    let tags: Vec<&str> = values.iter().filter_map(|row| row[1].as_str()).filter(|tag| *tag != "other").collect();
    assert_eq!((tags.len(), values.len()), (3, 4), "{values:?}");
}

#[test]
fn a_wrong_password_waits_for_a_person() {
    let Some(server) = Server::with_settings("auth-enabled = true") else { return };
    server.query("CREATE USER rgz WITH PASSWORD 'right' WITH ALL PRIVILEGES");
    let with = |password: &str| Config {
        user: Some("rgz".to_owned()),
        password: Some(sink_influxdb::Secret(password.to_owned())),
        ..server.config()
    };
    let log = Log::new(100);
    let wrong = with("wrong").open(&log.context).err().unwrap();
    assert!(matches!(wrong, SinkError::Fatal(_)), "{wrong:?}");
    let config = with("right");
    let mut deliverer = log.deliverer(&config);
    deliverer.finish();
    assert!(deliverer.errors.is_empty(), "{:?}", deliverer.errors);
}

#[test]
fn alerts_are_points_with_everything_that_the_collector_said() {
    let Some(server) = Server::start() else { return };
    let log = Log::new(3_000);
    log.deliverer(&server.config()).finish();
    for row in DataSet::alerts(&log.set.entries) {
        let statement = format!(
            "SELECT * FROM netflow_long.alerts WHERE alert_id = {} AND event = '{}'",
            row.alert_id,
            row.event.name()
        );
        let answer = server.query(&statement);
        let series = &answer["results"][0]["series"][0];
        let (names, values) = (series["columns"].as_array().unwrap(), series["values"].as_array().unwrap());
        assert_eq!(values.len(), 1, "{statement}: {answer}");
        let cell = |name: &str| names.iter().position(|n| n == name).map_or(&Value::Null, |at| &values[0][at]);
        assert_eq!(cell("time").as_i64().unwrap().div_euclid(1_000_000), row.time_ms);
        assert_eq!(cell("collector"), &log.context.log_id.to_string());
        for (column, value) in AlertRow::COLUMNS.iter().zip(row.values()) {
            let expected = match value {
                sink_api::Value::Null => Value::Null,
                sink_api::Value::Number(n) => n.min(i64::MAX as u64).into(),
                sink_api::Value::TimeMs(ms) => ms.into(),
                // Tags hold no backslash and no control character.
                other => match (column.few, other.to_string().as_str()) {
                    (true, text) => text.replace('\\', "%5C").replace('\t', "%09").into(),
                    (false, text) => text.into(),
                },
            };
            assert_eq!(cell(column.name), &expected, "{}", column.name);
        }
    }
}
