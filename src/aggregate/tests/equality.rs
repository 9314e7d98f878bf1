use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn every_rollup_equals_the_sums_of_its_flows(
        batches in prop::collection::vec(prop::collection::vec(any_flow(), 0..60), 1..6),
        steps in prop::collection::vec(0i64..400_000, 6),
    ) {
        let defs = with_ports();
        let (mut aggregator, _) = aggregator(defs.clone(), Config::default());
        let (mut want, mut got, mut now) = (Sums::new(), Sums::new(), T0);
        for (index, flows) in batches.iter().enumerate() {
            let batch = batch(flows);
            expected(&defs, &batch, &mut want);
            aggregator.add(index as u64 + 1, &batch, now);
            now += steps[index];
            while let Some(sums) = aggregator.emit(now) {
                prop_assert_eq!(sums.upto, index as u64 + 1);
                collect(&sums, &mut got);
            }
        }
        for sums in flushed(&mut aggregator, now) {
            prop_assert_eq!((sums.open.len(), sums.replay_from), (0, sums.upto + 1));
            collect(&sums, &mut got);
        }
        prop_assert_eq!(got, want);
    }

    #[test]
    fn rollups_by_any_columns_equal_the_sums_of_their_flows(
        flows in prop::collection::vec(any_flow(), 0..60),
        keys in prop::sample::subsequence(Field::ALL[3..].to_vec(), 0..7),
        bucket_ms in prop::sample::select(vec![60_000i64, 600_000, HOUR_MS]),
    ) {
        let mut by: Vec<_> = keys.into_iter().map(Key::Field).collect();
        by.retain(|key| RollupRowsOf(key).is_key());
        let def = own("own", bucket_ms, by);
        prop_assume!(Aggregator::new(Arc::new(vec![def.clone()]), Config::default(), Arc::default()).is_ok());
        let (mut aggregator, _) = aggregator(vec![def.clone()], Config::default());
        let batch = batch(&flows);
        aggregator.add(1, &batch, T0);
        let (mut want, mut got) = (Sums::new(), Sums::new());
        expected(&[def], &batch, &mut want);
        flushed(&mut aggregator, T0).iter().for_each(|sums| collect(sums, &mut got));
        prop_assert_eq!(got, want);
    }
}

proptest! {
    #[test]
    fn rollups_of_the_same_owners_equal_the_sums_of_their_flows(
        batches in prop::collection::vec(prop::collection::vec(any_flow(), 0..40), 1..4),
        rollups in prop::collection::vec((
            prop::sample::subsequence(vec![Field::Protocol, Field::App, Field::ServicePort, Field::Direction], 0..4),
            prop::sample::select(vec![300_000i64, HOUR_MS, 2 * HOUR_MS, 24 * HOUR_MS]),
        ), 1..5),
    ) {
        let def = |(index, (keys, bucket_ms)): (usize, (Vec<Field>, i64))| {
            let by = [Field::ResellerId].into_iter().chain(keys).map(Key::Field).collect();
            own(&format!("own{index}"), bucket_ms, by)
        };
        let defs: Vec<_> = rollups.into_iter().enumerate().map(def).collect();
        let (mut aggregator, _) = aggregator(defs.clone(), Config::default());
        let (mut want, mut got) = (Sums::new(), Sums::new());
        for (position, flows) in (1..).zip(&batches) {
            let batch = batch(flows);
            expected(&defs, &batch, &mut want);
            aggregator.add(position, &batch, T0);
        }
        flushed(&mut aggregator, T0).iter().for_each(|sums| collect(sums, &mut got));
        prop_assert_eq!(got, want);
    }
}

fn own(name: &str, bucket_ms: i64, by: Vec<Key>) -> RollupDef {
    let keep = crate::flow::rollup::Keep::Detail;
    RollupDef { name: name.into(), bucket_ms, keep, by, shape: Shape::Plain, while_open: true, since_ms: i64::MIN }
}

/// Says whether a column can be a key.
struct RollupRowsOf<'a>(&'a Key);

impl RollupRowsOf<'_> {
    fn is_key(&self) -> bool {
        crate::flow::rollup::KeyColumn::for_key(*self.0).is_some()
    }
}

#[test]
fn an_internal_flow_is_booked_for_both_subscribers_and_totals_can_leave_the_second_out() {
    let mut flow = Flow::plain(T0 + 5000, 1000, 700);
    (flow.direction, flow.subscriber, flow.internal) = (Direction::Internal, Some(1), Some(2));
    let mut unknown = flow.clone();
    unknown.internal = None;
    let (mut aggregator, _) = aggregator(RollupDef::defaults(), Config::default());
    aggregator.add(1, &batch(&[flow, unknown]), T0);
    let mut got = Sums::new();
    flushed(&mut aggregator, T0).iter().for_each(|sums| collect(sums, &mut got));
    let by_direction = |direction: Direction, subscriber: Value| {
        let rows = got.iter().filter(|((rollup, _, key), _)| {
            rollup == "usage" && key[4] == Value::Direction(direction) && key[3] == subscriber
        });
        rows.map(|(_, m)| m.bytes).sum::<u64>()
    };
    assert_eq!(by_direction(Direction::Internal, Value::Uuid(uuid(101))), 1400);
    assert_eq!(by_direction(Direction::InternalIn, Value::Uuid(uuid(102))), 700);
    assert_eq!(by_direction(Direction::InternalIn, Value::Null), 700);
    let other_rollups = got.iter().filter(|((rollup, ..), _)| !rollup.starts_with("usage") && rollup != "talkers");
    assert_eq!(other_rollups.map(|(_, m)| m.bytes).sum::<u64>(), 2 * 1400);
}

#[test]
fn a_changed_set_of_rollups_loses_nothing() {
    let (mut aggregator, _) = aggregator(RollupDef::defaults(), Config::default());
    aggregator.add(1, &batch(&[Flow::plain(T0, 0, 5)]), T0);
    let keep =
        |names: &[&str]| RollupDef::defaults().into_iter().filter(|d| names.contains(&&*d.name)).collect::<Vec<_>>();
    aggregator.redefine(Arc::new(keep(&["geo"]))).unwrap();
    aggregator.add(2, &batch(&[Flow::plain(T0, 0, 7)]), T0);
    let mut got = Sums::new();
    flushed(&mut aggregator, T0).iter().for_each(|sums| collect(sums, &mut got));
    let bytes = |name: &str| got.iter().filter(|((n, ..), _)| n == name).map(|(_, m)| m.bytes).sum::<u64>();
    assert_eq!((bytes("geo"), bytes("traffic"), bytes("talkers")), (12, 5, 10));
}
