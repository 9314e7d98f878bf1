//! The stage `control`.
