//! Answers to InfluxQL, read piece by piece.
//!
//! The server sends JSON documents of bounded size, one a line; each is read, visited and forgotten. An answer that ends
//! while the server still had more to say is an error, never a short answer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::time::Instant;

use serde::de::{Deserialize, Deserializer, Visitor};
use sink_api::SinkError;
use sink_api::rollup::Keep;
use sink_api::store::StoreError;

use crate::http::Client;

/// Bytes of one piece of an answer; the server is asked for 10,000 points in each.
const PIECE_BYTES_MAX: u64 = 256 << 20;

/// Bytes read from the connection at once.
const READ_BYTES: usize = 128 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub enum QueryError {
    /// The deadline passed.
    Deadline,
    /// The server cannot be reached, refuses the query, or stopped in the middle.
    Down(String),
    /// The visitor's own error.
    Visitor(StoreError),
}

impl From<QueryError> for SinkError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Deadline => SinkError::retry("a query of the sink took too long"),
            QueryError::Down(reason) => SinkError::retry(reason),
            QueryError::Visitor(error) => SinkError::retry(error),
        }
    }
}

/// One value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Absent.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Text.
    Text(Cow<'a, str>),
}

impl Cell<'_> {
    /// The whole number, if it is one.
    pub fn int(&self) -> Option<i64> {
        if let Cell::Int(n) = self { Some(*n) } else { None }
    }

    /// A sum or count: never negative, 0 when absent.
    pub fn sum(&self) -> u64 {
        self.int().and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
    }
}

/// Rows of one series of an answer. The first cell of each is the time.
#[derive(Debug, serde::Deserialize)]
pub struct Series<'a> {
    /// Tags of a grouped answer; an absent tag is the empty text.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The rows.
    #[serde(borrow, default)]
    pub values: Vec<Vec<Cell<'a>>>,
}

/// One of both is there.
#[derive(serde::Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    results: Option<Vec<Statement<'a>>>,
    error: Option<String>,
}

#[derive(serde::Deserialize)]
struct Statement<'a> {
    #[serde(borrow, default)]
    series: Vec<Series<'a>>,
    #[serde(default)]
    error: Option<String>,
    /// More follows in another document.
    #[serde(default)]
    partial: bool,
}

/// Runs a statement and visits its series; a series may come in several pieces. The visitor gives false to stop.
pub fn run(
    client: &Client,
    keep: Keep,
    statement: &str,
    deadline: Instant,
    visit: &mut dyn FnMut(&Series<'_>) -> Result<bool, StoreError>,
) -> Result<(), QueryError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(QueryError::Deadline);
    }
    let answer = client.query(keep, statement, left).map_err(|error| match error {
        ureq::Error::Timeout(_) => QueryError::Deadline,
        error => QueryError::Down(client.unreachable(&error).to_string()),
    })?;
    let status = answer.status();
    if !status.is_success() {
        // Not every error of a version 2 stands where those of a query do: it must not be read as an answer without rows.
        return Err(said(&crate::http::refusal(answer), deadline));
    }
    let reader = answer.into_body().into_with_config().limit(u64::MAX).reader();
    let mut pieces = Pieces { reader: BufReader::with_capacity(READ_BYTES, reader), bytes: Vec::new(), deadline };
    let mut more = true;
    while pieces.next()? {
        let documents = serde_json::Deserializer::from_slice(&pieces.bytes).into_iter::<Document<'_>>();
        for document in documents {
            let document = document.map_err(|e| pieces.unreadable(status.as_u16(), &e))?;
            let (results, error) = match (document.results, document.error) {
                (None, None) => (Vec::new(), Some("an answer without results".to_owned())),
                (results, error) => (results.unwrap_or_default(), error),
            };
            if let Some(error) = error.or_else(|| results.iter().find_map(|r| r.error.clone())) {
                return Err(said(&error, deadline));
            }
            more = results.last().is_some_and(|result| result.partial);
            for result in &results {
                for series in &result.series {
                    if !visit(series).map_err(QueryError::Visitor)? {
                        return Ok(());
                    }
                }
            }
        }
    }
    if more { Err(QueryError::Down("the server's answer ended too early".to_owned())) } else { Ok(()) }
}

/// An error that the server put into its answer.
fn said(error: &str, deadline: Instant) -> QueryError {
    let timed_out = error.contains("timeout") || error.contains("interrupted");
    if timed_out || Instant::now() >= deadline { QueryError::Deadline } else { QueryError::Down(error.to_owned()) }
}

/// Lines of an answer.
struct Pieces<R> {
    reader: R,
    bytes: Vec<u8>,
    deadline: Instant,
}

impl<R: BufRead> Pieces<R> {
    /// Reads the next line; false at the end.
    fn next(&mut self) -> Result<bool, QueryError> {
        self.bytes.clear();
        let read = (&mut self.reader).take(PIECE_BYTES_MAX).read_until(b'\n', &mut self.bytes);
        if Instant::now() >= self.deadline {
            return Err(QueryError::Deadline);
        }
        match read {
            Ok(n) if n as u64 == PIECE_BYTES_MAX => {
                Err(QueryError::Down(format!("a piece of the answer is longer than {PIECE_BYTES_MAX} bytes")))
            }
            Ok(n) => Ok(n > 0),
            Err(error) => Err(QueryError::Down(format!("the answer broke off: {error}"))),
        }
    }

    fn unreadable(&self, status: u16, error: &serde_json::Error) -> QueryError {
        let start = String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(200)]);
        QueryError::Down(format!("status {status}, an answer that cannot be read ({error}): {}", start.trim()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Cell<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CellVisitor)
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a text, a truth value or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Cell::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Cell::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Cell::Int(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Cell::Int(value as i64))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Cell::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Cell::Text(Cow::Owned(value.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_read_with_every_kind_of_value() {
        let text = r#"{"results":[{"statement_id":0,"series":[{"name":"x","tags":{"app":""},"columns":["time","a"],
            "values":[[1700000000000000000,9223372036854775807],[-5,null],[0,"say \"hi\"\t"],[1,true]],"partial":true}],"partial":true}]}"#;
        let document: Document<'_> = serde_json::from_str(text).unwrap();
        let result = &document.results.unwrap()[0];
        assert!(result.partial && result.error.is_none());
        let series = &result.series[0];
        assert_eq!(series.tags["app"], "");
        let cells: Vec<_> = series.values.iter().map(|row| row[1].clone()).collect();
        assert_eq!(cells, [Cell::Int(i64::MAX), Cell::Null, Cell::Text("say \"hi\"\t".into()), Cell::Bool(true)]);
        assert_eq!((cells[0].sum(), cells[1].sum(), series.values[1][0].int()), (i64::MAX as u64, 0, Some(-5)));
    }
}
