//! Wiring: the only place that sees everything.
