//! Ending threads within a time.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Pause between two looks at threads that are to end: they end within ms, and waiting for them costs nothing else.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Waits until all threads have ended, up to the deadline. Gives whether they did, none by a panic; one that goes on is left
/// behind.
pub fn join(threads: impl IntoIterator<Item = JoinHandle<()>>, deadline: Instant) -> bool {
    let threads: Vec<_> = threads.into_iter().collect();
    while threads.iter().any(|thread| !thread.is_finished()) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    threads.into_iter().map(JoinHandle::join).all(|ended| ended.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn threads_that_end_are_waited_for_and_a_panic_is_told() {
        assert!(join([], Instant::now()));
        assert!(join([std::thread::spawn(|| {}), std::thread::spawn(|| {})], Instant::now() + LONG));
        assert!(!join([std::thread::spawn(|| panic!("expected by the test"))], Instant::now() + LONG));
    }

    #[test]
    fn a_thread_that_goes_on_is_left_behind_at_the_deadline() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || assert!(ended.recv().is_err(), "nothing is sent"));
        assert!(!join([thread], Instant::now()));
        drop(end);
    }
}
