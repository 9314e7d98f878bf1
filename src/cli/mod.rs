//! The stage `cli`.
