//! `flows.csv`: flow records, streamed.
//!
//! A thread reads the store and hands over one piece of text after another; the client's pace holds it back. What goes wrong before the
//! first piece is answered as an error; after it the connection is cut, so that half an export never looks whole.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::flow::filter::Filter;
use crate::flow::store::{FlowsQuestion, OrderBy, Question, StoreError, TierChoice, TimeRange};
use crate::flow::{Field, FlowBatch, FlowStore};

use super::super::error::ApiError;
use super::super::listener::Working;
use super::super::route::{Call, Work};
use super::basis::held_from;

/// Bytes of one piece: large enough that handing it over costs nothing beside making it.
const PIECE_BYTES: usize = 64 * 1024;
/// Header that says what a reader must know of the export, such as that detail has expired.
const NOTE: HeaderName = HeaderName::from_static("x-netflow-note");
/// Pieces that wait for the client.
const PIECES_MAX: usize = 4;

type Piece = Result<Bytes, StoreError>;

/// Answers.
///
/// # Errors
/// Bad parameters, and what the store says before the first row.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    let range = call.range()?;
    let filter = call.filter()?;
    let mut columns = call.params.list("columns", |name| Field::ALL.iter().copied().find(|f| f.name() == name))?;
    if columns.is_empty() {
        columns = Field::ALL.to_vec();
    }
    let limit = call.params.whole("limit")?;
    let store = call.store()?;
    let note = expiry_note(&call, &*store, range);
    let deadline = call.deadline(Work::Export);
    let question = FlowsQuestion { range, filter, deadline };
    let (sender, mut receiver) = channel(PIECES_MAX);
    let (turn, working) = (call.turn, call.working);
    tokio::task::spawn_blocking(move || {
        let mut export = Export::new(columns, limit, sender);
        let end = store.flows(&question, &mut |batch, rows| export.add(batch, rows));
        export.finish(end.err());
        drop(turn);
    });
    let first = match receiver.blocking_recv() {
        Some(Ok(piece)) => piece,
        Some(Err(error)) => return Err(error.into()),
        None => return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the export failed inside; see the log")),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"flows.csv\""),
    ];
    let body = Body::from_stream(Pieces { first: Some(first), receiver, _working: working });
    let mut response = (headers, body).into_response();
    if let Some(note) = note.and_then(|note| HeaderValue::from_str(&note).ok()) {
        response.headers_mut().insert(NOTE, note);
    }
    Ok(response)
}

/// Whether detail at the range's start has expired: asked about its first moment alone, which reads next to nothing. A store
/// that cannot say leaves the note out; its error, if it has one, comes with the export itself.
fn expiry_note(call: &Call, store: &dyn FlowStore, range: TimeRange) -> Option<String> {
    let question = Question {
        range: TimeRange { from: range.from, to: range.from + 1 },
        filter: Filter::Any,
        by: Vec::new(),
        interval_ms: None,
        order: OrderBy::Bytes,
        limit: None,
        tier: TierChoice::Detail,
        deadline: call.deadline(Work::Question),
    };
    held_from(&store.ask(&question).ok()?, &call.endpoint.collector.rollups())
}

/// Turns rows into pieces of CSV.
struct Export {
    columns: Vec<Field>,
    rows_left: u64,
    text: csv::Writer<Vec<u8>>,
    cell: String,
    sender: Sender<Piece>,
    gone: bool,
}

impl Export {
    fn new(columns: Vec<Field>, limit: Option<u64>, sender: Sender<Piece>) -> Self {
        let mut this = Self {
            columns,
            rows_left: limit.unwrap_or(u64::MAX),
            text: csv::Writer::from_writer(Vec::with_capacity(PIECE_BYTES)),
            cell: String::new(),
            sender,
            gone: false,
        };
        // Writing into memory cannot fail; here and below.
        let _ = this.text.write_record(this.columns.iter().map(|f| f.name()));
        this
    }

    /// Adds rows of a batch; false when no more are wanted.
    fn add(&mut self, batch: &FlowBatch, rows: &[u32]) -> bool {
        use std::fmt::Write;
        for row in rows {
            if self.rows_left == 0 {
                return false;
            }
            self.rows_left -= 1;
            for field in &self.columns {
                self.cell.clear();
                let _ = write!(self.cell, "{}", batch.value(*field, *row as usize));
                let _ = self.text.write_field(&self.cell);
            }
            let _ = self.text.write_record(None::<&[u8]>);
            if self.text.get_ref().len() >= PIECE_BYTES && !self.hand_over() {
                return false;
            }
        }
        self.rows_left > 0
    }

    fn hand_over(&mut self) -> bool {
        let text = std::mem::replace(&mut self.text, csv::Writer::from_writer(Vec::with_capacity(PIECE_BYTES)));
        let Ok(bytes) = text.into_inner() else { return false };
        self.gone = self.sender.blocking_send(Ok(bytes.into())).is_err();
        !self.gone
    }

    fn finish(mut self, error: Option<StoreError>) {
        if self.gone {
            return;
        }
        match error {
            Some(error) => {
                // An error means that nobody listens any more.
                let _ = self.sender.blocking_send(Err(error));
            }
            None => {
                self.hand_over();
            }
        }
    }
}

/// The pieces as a stream of the body.
struct Pieces {
    first: Option<Bytes>,
    receiver: Receiver<Piece>,
    /// Until the last piece.
    _working: Working,
}

impl futures_core::Stream for Pieces {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None => self.receiver.poll_recv(context),
        }
    }
}
