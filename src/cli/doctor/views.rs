//! Double counting: an exporter with ingress and egress accounting on reports a flow twice, equal in everything but, mostly, its
//! interfaces. The rule that mends it names the interfaces whose records count.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Columns of a flow record that two views of it share, and after them the interfaces.
pub const COLUMNS: &[&str] = &[
    "src_ip",
    "dst_ip",
    "src_port",
    "dst_port",
    "protocol",
    "flow_start",
    "time",
    "bytes",
    "packets",
    "input_if",
    "output_if",
];
/// How many of them tell a flow apart.
const KEY_COLUMNS: usize = 9;
/// Share of the records with a twin from which it is no chance: equal 5-tuple, times in ms, bytes and packets.
const SHARE_MIN: f64 = 0.01;
/// Share of the twins that a rule must take apart to be worth it.
const MENDED_MIN: f64 = 0.99;

/// The interfaces of one record; 0 when it carries none.
type Interfaces = (u32, u32);

/// Which interfaces count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Input interfaces whose records count.
    pub input_if: Vec<u32>,
    /// Output interfaces whose records count.
    pub output_if: Vec<u32>,
}

/// What the records of an exporter tell about second views.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// Records that were looked at.
    pub records: u64,
    /// Records beyond the first of each flow.
    pub doubled: u64,
    /// The rule that takes the views apart and loses no other record; `None` when interfaces cannot do that.
    pub rule: Option<Rule>,
}

impl Views {
    /// Of records with [`COLUMNS`].
    pub fn of<'a>(records: impl Iterator<Item = Vec<&'a str>>) -> Self {
        let mut flows: HashMap<String, Vec<Interfaces>> = HashMap::new();
        let mut views = Self::default();
        for record in records.filter(|record| record.len() == COLUMNS.len()) {
            let interface = |index: usize| record[index].parse().unwrap_or(0);
            let interfaces = (interface(KEY_COLUMNS), interface(KEY_COLUMNS + 1));
            flows.entry(record[..KEY_COLUMNS].join(",")).or_default().push(interfaces);
            views.records += 1;
        }
        views.doubled = views.records - flows.len() as u64;
        if views.is_doubled() {
            let flows: Vec<_> = flows.into_values().collect();
            let inputs = keep(&flows, |interfaces| interfaces.0);
            let outputs = || keep(&flows, |interfaces| interfaces.1);
            views.rule = match inputs {
                Some(input_if) => Some(Rule { input_if, output_if: Vec::new() }),
                None => outputs().map(|output_if| Rule { input_if: Vec::new(), output_if }),
            };
        }
        views
    }

    /// Whether flows are reported twice, beyond chance.
    pub fn is_doubled(&self) -> bool {
        self.doubled as f64 > self.records as f64 * SHARE_MIN
    }
}

/// The interfaces of one side to keep, so that of two views one stays and records without a twin all do. Pairs of interfaces that
/// share flows are taken the heaviest first; of two the one stays that more records need.
fn keep(flows: &[Vec<Interfaces>], side: fn(&Interfaces) -> u32) -> Option<Vec<u32>> {
    let mut needed: BTreeMap<u32, u64> = BTreeMap::new();
    let mut pairs: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for views in flows {
        if let [one, other] = views[..] {
            let (a, b) = (side(&one), side(&other));
            *pairs.entry((a.min(b), a.max(b))).or_default() += 1;
        } else {
            views.iter().for_each(|view| *needed.entry(side(view)).or_default() += 1);
        }
    }
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_by_key(|((a, b), count)| (std::cmp::Reverse(*count), *a, *b));
    let mut kept: BTreeMap<u32, bool> = BTreeMap::new();
    for ((a, b), _) in &pairs {
        match (kept.get(a).copied(), kept.get(b).copied()) {
            (None, None) => {
                let need = |interface: &u32| needed.get(interface).copied().unwrap_or(0);
                let first = need(a) >= need(b);
                kept.insert(*a, first);
                // Both views on one interface: it stays as first decided.
                kept.entry(*b).or_insert(!first);
            }
            (Some(one), None) => drop(kept.insert(*b, !one)),
            (None, Some(other)) => drop(kept.insert(*a, !other)),
            (Some(_), Some(_)) => {}
        }
    }
    let stays: BTreeSet<u32> = flows.iter().flatten().map(side).filter(|i| kept.get(i) != Some(&false)).collect();
    mends(flows, |interfaces| stays.contains(&side(interfaces))).then(|| stays.into_iter().collect())
}

/// Whether a rule leaves one view of nearly every flow that has two, and loses no flow.
fn mends(flows: &[Vec<Interfaces>], counts: impl Fn(&Interfaces) -> bool) -> bool {
    let (mut doubled, mut mended) = (0_u64, 0_u64);
    for views in flows {
        let left = views.iter().filter(|view| counts(view)).count();
        if left == 0 {
            return false;
        }
        if views.len() > 1 {
            doubled += 1;
            mended += u64::from(left == 1);
        }
    }
    mended as f64 >= doubled as f64 * MENDED_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flows by number, each with the interfaces of its views.
    fn views(flows: &[&[Interfaces]]) -> Views {
        let mut rows = Vec::new();
        for (number, interfaces) in flows.iter().enumerate() {
            for (input, output) in *interfaces {
                let mut row: Vec<String> = (0..KEY_COLUMNS).map(|_| number.to_string()).collect();
                row.extend([input.to_string(), output.to_string()]);
                rows.push(row);
            }
        }
        Views::of(rows.iter().map(|row| row.iter().map(String::as_str).collect()))
    }

    #[test]
    fn two_views_on_different_inputs_are_told_apart_by_input() {
        // Seen on the bridge (9) and on the customers' (1) or the uplink's (2) interface; 2 has flows that 9 does not see.
        let found = views(&[&[(1, 2), (9, 2)], &[(2, 1), (9, 1)], &[(2, 0)]]);
        assert_eq!((found.records, found.doubled), (5, 2));
        assert_eq!(found.rule, Some(Rule { input_if: vec![1, 2], output_if: vec![] }));
    }

    #[test]
    fn views_that_share_their_input_are_told_apart_by_output() {
        let found = views(&[&[(1, 0), (1, 2)], &[(2, 0), (2, 1)], &[(1, 0)]]);
        assert_eq!(found.rule, Some(Rule { input_if: vec![], output_if: vec![0] }));
    }

    #[test]
    fn no_rule_is_suggested_that_would_lose_flows() {
        // Equal in all.
        assert_eq!(views(&[&[(1, 2), (1, 2)], &[(2, 1), (2, 1)]]).rule, None);
        // Either interface alone has flows of its own.
        let found = views(&[&[(1, 5), (2, 5)], &[(1, 5)], &[(2, 5)]]);
        assert!(found.is_doubled());
        assert_eq!(found.rule, None);
        // Three views.
        assert_eq!(views(&[&[(1, 0), (1, 0), (1, 0)]]).rule, None);
    }

    #[test]
    fn a_chance_twin_is_no_double_counting() {
        let mut flows: Vec<&[Interfaces]> = vec![&[(1, 2)]; 500];
        flows.push(&[(1, 2), (2, 1)]);
        let found = views(&flows);
        assert!(!found.is_doubled() && found.doubled == 1 && found.rule.is_none());
        assert_eq!(Views::of(std::iter::once(vec!["too", "short"])), Views::default());
    }
}
