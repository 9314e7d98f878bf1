//! What is on disk of a replay: the numbers under which records are brought.

use std::io;

use serde::{Deserialize, Serialize};

use crate::deliver::quarantine::{PLAN, Quarantine, in_quarantine};
use crate::flow::{LogId, SinkError};

/// Positions of the records in flight: the first of `files` has `before` + 1. `None`: dealt with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub log: LogId,
    pub before: u64,
    pub files: Vec<Option<String>>,
    /// Files of rows of the records in flight, each with the index of its record in `files`.
    #[serde(default)]
    pub parts: Vec<(usize, String)>,
}

impl Plan {
    pub fn load(quarantine: &Quarantine) -> io::Result<Option<Self>> {
        Ok(quarantine.read_beside(PLAN)?.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
    }

    pub fn new() -> io::Result<Self> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Self { log: LogId(id), before: 0, files: Vec::new(), parts: Vec::new() })
    }

    pub fn save(&self, quarantine: &Quarantine) -> Result<(), SinkError> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other);
        bytes.and_then(|bytes| quarantine.write_beside(PLAN, &bytes)).map_err(in_quarantine)
    }
}
