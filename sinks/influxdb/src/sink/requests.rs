//! Requests of bounded size, sent when they are full; what the server refuses is found by halving.

use sink_api::SinkError;
use sink_api::rollup::Keep;

use super::{FLOWS_REQUEST, Refused};
use crate::http::{Client, WriteError};

/// Points in one request: the server's own advice is 5,000 to 10,000.
const LINES_MAX: usize = 10_000;

/// Bytes in one request before compression: far below the 25 MB that a server accepts by default.
const BYTES_MAX: usize = 4 << 20;

/// Rows of one group that may be set aside one by one: with more, something is wrong with the place and not with the rows.
const REFUSED_ROWS_MAX: usize = 1000;

/// The requests of one group.
pub struct Requests<'a> {
    client: &'a Client,
    compressed: &'a mut Vec<u8>,
    open: [Request; 3],
    sent: Sent,
}

/// What became of the points.
#[derive(Debug, Default)]
pub struct Sent {
    /// Rows that the server refuses.
    pub refused: Vec<Refused>,
    /// Flows that the server found too old.
    pub expired_flows: u64,
}

/// Points that go together.
#[derive(Debug)]
struct Request {
    keep: Keep,
    bytes: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
    /// Where each line comes from: entry in the group, row in the record.
    origins: Vec<(u32, u32)>,
}

impl Request {
    fn new(keep: Keep) -> Self {
        Self { keep, bytes: Vec::new(), ends: Vec::new(), origins: Vec::new() }
    }

    fn lines(&self, range: &std::ops::Range<usize>) -> &[u8] {
        let start = range.start.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[range.end - 1]]
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.origins.clear();
    }
}

impl<'a> Requests<'a> {
    /// No points yet.
    pub fn new(client: &'a Client, compressed: &'a mut Vec<u8>) -> Self {
        let open = [Keep::Detail, Keep::Detail, Keep::Aggregate].map(Request::new);
        Self { client, compressed, open, sent: Sent::default() }
    }

    /// Adds a point to one of the requests, and sends that when it is full.
    pub fn add(&mut self, which: usize, origin: (u32, u32), write: impl FnOnce(&mut Vec<u8>)) -> Result<(), SinkError> {
        let request = &mut self.open[which];
        write(&mut request.bytes);
        request.ends.push(request.bytes.len());
        request.origins.push(origin);
        if request.ends.len() >= LINES_MAX || request.bytes.len() >= BYTES_MAX { self.send(which) } else { Ok(()) }
    }

    /// Sends what is left.
    pub fn finish(mut self) -> Result<Sent, SinkError> {
        for which in 0..self.open.len() {
            self.send(which)?;
        }
        Ok(self.sent)
    }

    /// Sends a request in ever smaller parts until only lines that are refused alone are left. A part that was stored in
    /// part is sent again: its points replace themselves.
    fn send(&mut self, which: usize) -> Result<(), SinkError> {
        let request = &mut self.open[which];
        let mut parts = Vec::new();
        if !request.ends.is_empty() {
            parts.push(0..request.ends.len());
        }
        while let Some(part) = parts.pop() {
            match self.client.write(request.keep, request.lines(&part), self.compressed) {
                Ok(()) => {}
                Err(WriteError::TooOld(points)) if which == FLOWS_REQUEST => self.sent.expired_flows += points,
                Err(WriteError::TooOld(_)) => {}
                Err(WriteError::Refused(reason)) if part.len() == 1 => {
                    let (entry, row) = request.origins[part.start];
                    self.sent.refused.push(Refused { entry, row, reason });
                    if self.sent.refused.len() > REFUSED_ROWS_MAX {
                        let what = format!("the server refuses more than {REFUSED_ROWS_MAX} rows of one group");
                        return Err(SinkError::Fatal(format!("{what}, such as: {}", self.sent.refused[0].reason)));
                    }
                }
                Err(WriteError::Refused(_)) => {
                    let middle = part.start + part.len() / 2;
                    parts.extend([middle..part.end, part.start..middle]);
                }
                Err(WriteError::Sink(error)) => return Err(error),
            }
        }
        request.clear();
        Ok(())
    }
}
