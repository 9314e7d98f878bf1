//! The stage `receive`.
