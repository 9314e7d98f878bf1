use std::fmt;
use std::hash::BuildHasher;

/// A password or token of a sink's configuration: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    /// Changes with the secret, so that a reload sees a new one, but does not show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({:08x})", foldhash::fast::FixedState::default().hash_one(&self.0) as u32)
    }
}
