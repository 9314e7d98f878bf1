//! Ctrl-C and SIGTERM as a flag that loops look at. The only place that installs signal handlers for commands; `run` has its
//! own way to stop.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the user asked to stop.
#[derive(Clone, Copy, Debug)]
pub struct Interrupt(());

impl Interrupt {
    /// True from the first Ctrl-C or SIGTERM on.
    pub fn is_set(self) -> bool {
        INTERRUPTED.load(Relaxed)
    }
}

/// Installs the handler (again is harmless) and gives the flag.
pub fn flag() -> Interrupt {
    extern "C" fn handle(_: libc::c_int) {
        INTERRUPTED.store(true, Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler = handle as extern "C" fn(libc::c_int);
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe, and lives as long as the process.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    Interrupt(())
}
