//! The stage `enrich`.
