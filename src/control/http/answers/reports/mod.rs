//! Reports: what monthly jobs and capacity planners read. Every figure comes from questions that any store answers: hours by place
//! and direction (rollup `usage`), 5-minute sums on wish (`traffic`), and subscribers by place.
//!
//! Days, months and hours of the day are those of the offset from UTC that the request names. Only whole hours count: a report
//! ends with the last one that is over.

mod calendar;
mod figures;
pub mod monthly;
pub mod peak_hours;
mod places;
mod trend;

pub use calendar::{Month, OFFSET_ALLOWED, parse_offset_ms};
pub use figures::MonthlyReport;
