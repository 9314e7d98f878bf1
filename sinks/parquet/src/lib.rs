//! The embedded store: columnar files on local disk by day, scanned in-process.
