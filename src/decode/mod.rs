//! The stage `decode`.
