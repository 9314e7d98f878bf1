use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Threads that one question uses at the most.
const THREADS_MAX: usize = 8;

/// Does `work` for every item on all cores, each thread with a state of its own made by `start`; gives the states.
///
/// # Errors
/// The first error; the other threads then stop after the item they are at.
pub(super) fn for_each<T: Sync, S: Send, E: Send>(
    items: &[T],
    start: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> Result<(), E> + Sync,
) -> Result<Vec<S>, E> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = cores.min(THREADS_MAX).min(items.len()).max(1);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failed: Mutex<Option<E>> = Mutex::new(None);
    let run = || {
        let mut state = start();
        while !stop.load(Ordering::Relaxed)
            && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
        {
            if let Err(error) = work(&mut state, item) {
                stop.store(true, Ordering::Relaxed);
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
        state
    };
    let states = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut states = vec![run()];
        for other in others {
            match other.join() {
                Ok(state) => states.push(state),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        states
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(states),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_and_the_first_error_ends_it() {
        let items: Vec<u64> = (0..1000).collect();
        let sums = for_each(
            &items,
            || 0,
            |sum, item| {
                *sum += item;
                Ok::<_, ()>(())
            },
        )
        .unwrap();
        assert_eq!(sums.iter().sum::<u64>(), 499_500);
        let error = for_each(&items, || (), |(), item| if *item == 500 { Err("five hundred") } else { Ok(()) });
        assert_eq!(error, Err("five hundred"));
    }
}
