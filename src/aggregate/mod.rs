//! The stage `aggregate`.
