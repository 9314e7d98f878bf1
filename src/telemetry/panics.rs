//! Panics of threads: counted, and told in one line of the log with thread and place instead of a backtrace.
//!
//! A stage's thread that panics is gone, and nothing takes its place: the process has to save what it has and end, so that
//! whoever supervises it starts a whole one. Stages name their threads. Threads of the admin endpoint are replaced by its
//! runtime, which answers 500; threads without a name are helpers, and whoever waits for them panics as well.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, Once, PoisonError};

use super::Exposition;

/// Name of the admin endpoint's threads.
pub const ADMIN_THREADS: &str = "admin";
/// Name of the thread that started the process.
const MAIN_THREAD: &str = "main";

static STAGES: AtomicU64 = AtomicU64::new(0);
static OTHERS: AtomicU64 = AtomicU64::new(0);
/// The first panic of a stage's thread.
static FIRST: Mutex<Option<String>> = Mutex::new(None);
static WATCHED: Once = Once::new();

/// Begins to count. A second call changes nothing.
pub fn watch() {
    WATCHED.call_once(|| std::panic::set_hook(Box::new(note)));
}

/// The first panic of a stage's thread since the start: after it the process has to end.
pub fn of_a_stage() -> Option<String> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Adds the counts to a scrape.
pub fn expose(out: &mut Exposition) {
    for (threads, counter) in [("stages", &STAGES), ("others", &OTHERS)] {
        let help = "Threads that panicked; after one of a stage the process ends.";
        out.counter("netflow_thread_panics_total", help, &[("threads", threads)], counter.load(Relaxed));
    }
}

fn note(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name();
    let payload = info.payload();
    let words = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let place = info.location().map_or_else(String::new, |place| format!(" at {place}"));
    let text = format!("thread {} panicked{place}: {}", name.unwrap_or("without a name"), words.unwrap_or("no words"));
    tracing::error!("{text}");
    if is_of_a_stage(name) {
        STAGES.fetch_add(1, Relaxed);
        FIRST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    } else {
        OTHERS.fetch_add(1, Relaxed);
    }
}

fn is_of_a_stage(thread: Option<&str>) -> bool {
    thread.is_some_and(|name| !name.starts_with(ADMIN_THREADS) && name != MAIN_THREAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_the_stages_are_told_from_others() {
        for (name, is) in [
            (Some("worker-0"), true),
            (Some("sink-admin"), true),
            (Some("admin"), false),
            (Some("main"), false),
            (None, false),
        ] {
            assert_eq!(is_of_a_stage(name), is, "{name:?}");
        }
    }
}
