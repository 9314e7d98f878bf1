//! Questions that a store answers, as plain data: never SQL text.

mod answer;
mod codes;
pub mod group;
mod groups;
pub mod memory;
pub mod plan;
mod question;
mod read;
mod same;
#[cfg(test)]
mod tests;

pub use answer::{Answer, AnswerRow, Basis, FlowsSummary, Tier};
pub use question::{FlowsQuestion, Order, OrderBy, Question, TierChoice, TimeRange};
pub use same::number_rows;

use crate::FlowBatch;

/// A store that answers questions. Shared by all request threads.
pub trait FlowStore: Send + Sync {
    /// The sink's name in the configuration.
    fn name(&self) -> &str;

    /// Sums by key and interval.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn ask(&self, question: &Question) -> Result<Answer, StoreError>;

    /// Flow records one by one, oldest file first (no order within). `visit` gets a batch and the rows of it that match, and
    /// gives false to stop.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn flows(
        &self,
        question: &FlowsQuestion,
        visit: &mut dyn FnMut(&FlowBatch, &[u32]) -> bool,
    ) -> Result<FlowsSummary, StoreError>;
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// This store cannot answer it: HTTP 501.
    #[error("store {store}: {reason}; {remedy}")]
    Unsupported {
        /// The sink's name.
        store: String,
        /// Why not.
        reason: String,
        /// What the operator can do.
        remedy: String,
    },
    /// The deadline passed: HTTP 504.
    #[error("store {store}: the query passed its deadline")]
    Deadline {
        /// The sink's name.
        store: String,
    },
    /// The store cannot be reached or its files cannot be read: HTTP 503.
    #[error("store {store} is down: {reason}")]
    Down {
        /// The sink's name.
        store: String,
        /// What happened.
        reason: String,
    },
}
