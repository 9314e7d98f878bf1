//! Another configuration while alerts last and notifications wait.

use super::delivery::web::WebServer;
use super::delivery::{wait_until, webhook};
use super::*;

fn config(receiver: Vec<ReceiverConfig>) -> Config {
    Config { subscriber_24h_bytes: 1000, dpi_protocols: vec!["Tor".into()], receiver, ..Config::default() }
}

/// One subscriber goes over its threshold, and uses what is watched for.
fn fire(bench: &mut Bench) {
    bench.engine.add(1, &flow(T0, 2000, Direction::In), T0);
    bench.evaluate(T0);
    assert_eq!(bench.firing(), [("dpi_seen", 1), ("subscriber_24h", 2000)]);
}

#[test]
fn alerts_of_other_terms_end_at_once_and_those_that_still_hold_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), config(vec![]));
    fire(&mut bench);
    let first = bench.alerts.board.active();

    // Another threshold that is passed as well: the same alert.
    assert_eq!(bench.reconfigure(Config { subscriber_24h_bytes: 1500, ..config(vec![]) }), Vec::<String>::new());
    bench.evaluate(T0 + 1);
    let still = bench.alerts.board.active();
    assert_eq!(still.iter().map(|a| a.id).collect::<Vec<_>>(), first.iter().map(|a| a.id).collect::<Vec<_>>());
    assert!(still.iter().all(|alert| alert.hold_down_ms == 300_000), "{still:?}");
    assert!(still.iter().any(|alert| alert.threshold == 1500));

    // One that is not: the end, without a hold-down; what is no longer watched for ends, too.
    bench.reconfigure(Config { subscriber_24h_bytes: 3000, dpi_protocols: vec![], ..config(vec![]) });
    bench.evaluate(T0 + 2);
    assert_eq!(bench.firing(), []);

    // A rule that switches a kind off, and its being taken out again.
    let off = RuleConfig { enabled: Some(false), ..RuleConfig::new(Kind::Subscriber24h) };
    for (rule, expected) in
        [(vec![], vec![("subscriber_24h", 2000)]), (vec![off], vec![]), (vec![], vec![("subscriber_24h", 2000)])]
    {
        bench.reconfigure(Config { rule, dpi_protocols: vec![], ..config(vec![]) });
        bench.evaluate(T0 + 3);
        assert_eq!(bench.firing(), expected);
    }
}

#[test]
fn alerts_of_other_terms_end_at_once_also_when_judged_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), config(vec![]));
    bench.engine.add(1, &flow(T0, 2000, Direction::In), T0);
    let Bench { engine, alerts, facts, .. } = &mut bench;
    let alerts = &*alerts;
    let is_firing = || alerts.board.active().iter().any(|alert| alert.alert_type == Kind::Subscriber24h);
    let reconfigure =
        |config: Config| alerts.reconfigure(config.clone(), alerts.plan(&config, Path::new(".")).unwrap());
    let goes_on_after = || {
        (0..300).find(|_| {
            reconfigure(config(vec![]));
            wait_until("it fires", is_firing);
            reconfigure(Config { subscriber_24h_bytes: 3000, ..config(vec![]) });
            let judged = alerts.evaluations.get();
            wait_until("it is judged twice", || alerts.evaluations.get() > judged + 1);
            is_firing()
        })
    };
    std::thread::scope(|scope| {
        let changes = scope.spawn(goes_on_after);
        while !changes.is_finished() {
            engine.evaluate(facts, T0, false).unwrap();
        }
        assert_eq!(changes.join().unwrap(), None);
    });
}

#[test]
fn a_condition_that_is_over_waits_for_its_hold_down_unless_its_own_terms_changed() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), config(vec![]));
    bench.facts.sinks = vec![SinkFact { name: "local".into(), lag_ms: 400_000 }];
    bench.evaluate(T0);
    bench.facts.sinks[0].lag_ms = 0;
    bench.reconfigure(Config { host_connections: 5, ..config(vec![]) });
    bench.evaluate(T0 + 1);
    assert_eq!(bench.firing(), [("sink_lag", 400_000)]);
    bench.reconfigure(Config { sink_lag_ms: 500_000, ..config(vec![]) });
    bench.evaluate(T0 + 2);
    assert_eq!(bench.firing(), []);
}

#[test]
fn a_receiver_that_changed_gets_what_waits_and_one_that_is_gone_loses_it() {
    let (refusing, taking) = (WebServer::start(vec![503; 10_000]), WebServer::start(vec![200; 100]));
    let folder = tempfile::tempdir().unwrap();
    let before = vec![webhook("moved", &refusing.url("/moved")), webhook("gone", &refusing.url("/gone"))];
    let mut bench = Bench::open(folder.path(), config(before));
    fire(&mut bench);
    let tried = |path: &str| refusing.requests().iter().any(|request| request.line.contains(path));
    wait_until("both were tried", || tried("/moved") && tried("/gone"));

    let after = vec![webhook("new", &taking.url("/new")), webhook("moved", &taking.url("/there"))];
    let notes = bench.reconfigure(config(after.clone()));
    assert_eq!(notes, ["alerts: 2 notifications for the receiver gone, which is gone are dropped"]);
    wait_until("the moved one has both", || taking.requests().len() == 2);
    assert!(taking.requests().iter().all(|request| request.line == "POST /there HTTP/1.1"));

    // The new one hears what happens from now on.
    bench.reconfigure(Config { subscriber_24h_bytes: 5000, dpi_protocols: vec![], ..config(after.clone()) });
    bench.evaluate(T0 + 1);
    wait_until("both hear of the ends", || taking.requests().len() == 6);
    drop(bench);

    // Nothing comes back with the name.
    let again = [after, vec![webhook("gone", &taking.url("/gone"))]].concat();
    let bench = Bench::open(folder.path(), config(again));
    assert_eq!(bench.alerts.deliveries.waiting("gone"), Some(0));
}

#[test]
fn what_a_receiver_wants_no_longer_is_not_brought() {
    let (refusing, taking) = (WebServer::start(vec![503; 10_000]), WebServer::start(vec![200; 100]));
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), config(vec![webhook("hook", &refusing.url("/"))]));
    fire(&mut bench);
    wait_until("it was tried", || !refusing.requests().is_empty());
    let only_dpi = ReceiverConfig { types: vec![Kind::DpiSeen], ..webhook("hook", &taking.url("/")) };
    let notes = bench.reconfigure(config(vec![only_dpi]));
    assert_eq!(notes, ["alerts: 1 notifications no longer wanted by the receiver hook are dropped"]);
    wait_until("the rest is taken", || bench.alerts.deliveries.waiting("hook") == Some(0));
    assert_eq!(taking.requests().len(), 1);
    assert!(String::from_utf8_lossy(&taking.requests()[0].body).contains("dpi_seen"));
}

#[test]
fn a_receiver_that_cannot_be_changes_nothing() {
    let taking = WebServer::start(vec![200; 100]);
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(folder.path(), config(vec![webhook("hook", &taking.url("/"))]));
    let no_secret = ReceiverConfig { secret_file: Some("nowhere".into()), ..webhook("more", &taking.url("/")) };
    let problem = bench.alerts.plan(&config(vec![no_secret]), Path::new("/nowhere")).unwrap_err();
    assert!(problem.starts_with("receiver more: cannot read /nowhere/nowhere"), "{problem}");
    fire(&mut bench);
    wait_until("the one in force is told", || taking.requests().len() == 2);
}
