//! The stage `log`.
