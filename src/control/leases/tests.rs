use super::*;
use crate::enrich::Config;

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);
const NOW_MS: i64 = 1_769_860_800_000;

fn open(folder: &std::path::Path) -> LeaseBook {
    let enrichment = Arc::new(Enrichment::builtin(Config::default()).unwrap());
    LeaseBook::open(enrichment, Arc::new(State::open(&folder.join("state.redb")).unwrap())).unwrap()
}

fn lease(subscriber_id: Uuid, from_ms: i64, to_ms: i64) -> LeaseState {
    let (nas_id, site) = (Some("nas1".into()), None);
    LeaseState { subscriber_id, reseller_id: Some(B), nas_id, site, mac: 0xaabb_ccdd_eeff, from_ms, to_ms }
}

fn addr(last: u32) -> Addr {
    Addr::v4(0x0a00_0000 + last)
}

#[test]
fn what_was_saved_is_there_after_a_restart_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    {
        let book = open(folder.path());
        book.put(addr(1), &lease(A, NOW_MS, i64::MAX)).unwrap();
        book.put(addr(1), &lease(B, NOW_MS + 1000, i64::MAX)).unwrap();
        book.put(addr(2), &lease(A, NOW_MS, NOW_MS + 5)).unwrap();
        book.put(addr(3), &lease(A, NOW_MS, i64::MAX)).unwrap();
        book.save().unwrap();
        assert!(book.end(addr(3), NOW_MS));
        assert!(!book.end(addr(3), NOW_MS));
        book.save().unwrap();
        book.put(addr(4), &lease(A, NOW_MS, i64::MAX)).unwrap();
        // Dropped without a save of address 4: as if killed.
    }
    let book = open(folder.path());
    let all = book.page(&LeaseQuery { limit: 10, ..LeaseQuery::default() });
    let want = [
        (addr(1), lease(B, NOW_MS + 1000, i64::MAX)),
        (addr(1), lease(A, NOW_MS, NOW_MS + 1000)),
        (addr(2), lease(A, NOW_MS, NOW_MS + 5)),
    ];
    assert_eq!((all.items, all.total, all.next), (want.to_vec(), 2, None));
}

#[test]
fn ended_intervals_are_forgotten_in_memory_and_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    book.put(addr(1), &lease(A, NOW_MS - 10, NOW_MS)).unwrap();
    book.put(addr(2), &lease(A, NOW_MS - 10, NOW_MS)).unwrap();
    book.put(addr(2), &lease(B, NOW_MS, i64::MAX)).unwrap();
    book.tidy(NOW_MS + KEPT_AFTER_END_MS).unwrap();
    assert_eq!((book.of(addr(1)).len(), book.of(addr(2)).len()), (1, 2));
    // Once a minute is enough.
    book.tidy(NOW_MS + KEPT_AFTER_END_MS + 1).unwrap();
    assert_eq!(book.of(addr(1)).len(), 1);
    book.tidy(NOW_MS + KEPT_AFTER_END_MS + TIDY_EVERY_MS).unwrap();
    for book in [&book, &{
        let state = book.state.clone();
        LeaseBook::open(Arc::new(Enrichment::builtin(Config::default()).unwrap()), state).unwrap()
    }] {
        assert_eq!((book.of(addr(1)), book.of(addr(2))), (vec![], vec![lease(B, NOW_MS, i64::MAX)]));
    }
}

#[test]
fn lists_are_limited_to_what_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    for i in 0..100 {
        let subscriber_id = if i % 10 == 0 { B } else { A };
        let reseller_id = (i % 2 == 0).then_some(B);
        let site = (i == 7).then(|| "tent".into());
        let to_ms = if i == 9 { NOW_MS } else { i64::MAX };
        book.put(addr(i), &LeaseState { subscriber_id, reseller_id, site, ..lease(A, NOW_MS - 10, to_ms) }).unwrap();
    }
    let all = LeaseQuery { limit: 1000, ..LeaseQuery::default() };
    let count = |query: LeaseQuery| book.page(&query).items.len();
    assert_eq!(count(all.clone()), 100);
    assert_eq!(count(LeaseQuery { subscriber_id: Some(B), ..all.clone() }), 10);
    assert_eq!(count(LeaseQuery { reseller_id: Some(B), ..all.clone() }), 50);
    assert_eq!(count(LeaseQuery { reseller_id: Some(Uuid::from_u128(99)), ..all.clone() }), 0);
    assert_eq!(count(LeaseQuery { site: Some("tent".into()), ..all.clone() }), 1);
    assert_eq!(count(LeaseQuery { nas_id: Some("nas2".into()), ..all.clone() }), 0);
    assert_eq!(count(LeaseQuery { at_ms: Some(NOW_MS), ..all.clone() }), 99);
    assert_eq!(count(LeaseQuery { ip: Some(addr(9)), ..all.clone() }), 1);
    assert_eq!(count(LeaseQuery { ip: Some(addr(9)), at_ms: Some(NOW_MS), ..all.clone() }), 0);
    let page = book.page(&LeaseQuery { limit: 30, after: Some(addr(49)), ..all });
    assert_eq!((page.items.len(), page.items[0].0, page.total, page.next), (30, addr(50), 100, Some(addr(79))));
}

#[test]
fn saves_at_the_same_time_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    {
        let book = open(folder.path());
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let book = &book;
                scope.spawn(move || {
                    for i in 0..20 {
                        book.put(addr(thread * 1000 + i), &lease(A, NOW_MS, i64::MAX)).unwrap();
                        book.save().unwrap();
                    }
                });
            }
        });
    }
    assert_eq!(open(folder.path()).page(&LeaseQuery { limit: 1000, ..LeaseQuery::default() }).total, 160);
}
