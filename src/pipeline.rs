//! The hot path on one screen.
