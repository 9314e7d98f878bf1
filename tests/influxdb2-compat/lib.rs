//! Programs built on the crate `influxdb2` read what the sink wrote: see `tests/reads_back.rs`.
