//! `v5-ingest`: datagrams by HTTP instead of UDP.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::collector::IngestError;
use super::super::error::ApiError;
use super::super::route::Call;

/// Bytes of a v5 header.
const HEADER_BYTES: usize = 24;
/// Bytes of a v5 record.
const RECORD_BYTES: usize = 48;

/// Answer of `v5-ingest`. Everything accepted is in the log.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Ingested {
    /// Datagrams that were taken.
    pub accepted_datagrams: u64,
    /// Flows in them.
    pub accepted_flows: u64,
    /// Datagrams that were not.
    pub rejected: Vec<Rejected>,
}

/// A datagram that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rejected {
    /// Where it begins in the body, bytes.
    pub offset: u64,
    /// Why not. What follows a datagram whose end cannot be found is rejected with it.
    pub reason: String,
}

/// Answers.
///
/// # Errors
/// 503 when the queue is full or the log refuses; 400 for a bad address.
pub fn answer(call: Call) -> Result<Response, ApiError> {
    let exporter = call.params.ip("exporter")?.unwrap_or(call.peer.ip()).to_canonical();
    if call.body.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "the body is empty; it must hold NetFlow v5 datagrams back to back",
        ));
    }
    let (datagrams, broken) = split(&call.body);
    let mut answer = Ingested::default();
    if !datagrams.is_empty() {
        let bytes: Vec<&[u8]> = datagrams.iter().map(|(_, datagram)| *datagram).collect();
        let results = call.endpoint.collector.ingest(exporter, &bytes).map_err(|error| match error {
            IngestError::Busy { retry_after_s } => {
                ApiError::busy("the queue is full; nothing was taken", retry_after_s)
            }
            IngestError::Failed(reason) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason),
        })?;
        for ((offset, _), result) in datagrams.iter().zip(results) {
            match result {
                Ok(flows) => {
                    answer.accepted_datagrams += 1;
                    answer.accepted_flows += u64::from(flows);
                }
                Err(reason) => answer.rejected.push(Rejected { offset: *offset as u64, reason }),
            }
        }
    }
    if let Some(broken) = broken {
        // Counted like a datagram that came by UDP, so that the ledger closes over what was sent.
        let account = call.endpoint.collector.ledger().account(exporter);
        account.datagrams.add(1);
        account.datagram_bytes.add(call.body.len() as u64 - broken.offset);
        account.malformed.add(1);
        answer.rejected.push(broken);
    }
    Ok(super::json(&answer))
}

/// The datagrams with their offsets, and where and why they end early.
fn split(body: &[u8]) -> (Vec<(usize, &[u8])>, Option<Rejected>) {
    let mut datagrams = Vec::new();
    let mut offset = 0;
    while offset < body.len() {
        let rest = &body[offset..];
        let broken = |reason: String| Some(Rejected { offset: offset as u64, reason });
        let Some(([v0, v1, c0, c1], _)) = rest.split_first_chunk().filter(|_| rest.len() >= HEADER_BYTES) else {
            let reason = format!("{} bytes are left, a header has {HEADER_BYTES}", rest.len());
            return (datagrams, broken(reason));
        };
        let version = u16::from_be_bytes([*v0, *v1]);
        if version != 5 {
            return (datagrams, broken(format!("version {version}, where version 5 is taken")));
        }
        let count = usize::from(u16::from_be_bytes([*c0, *c1]));
        let length = HEADER_BYTES + RECORD_BYTES * count;
        let Some(datagram) = rest.get(..length) else {
            let reason = format!("{count} records need {length} bytes, {} are left", rest.len());
            return (datagrams, broken(reason));
        };
        datagrams.push((offset, datagram));
        offset += length;
    }
    (datagrams, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn datagram(records: u16) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES + RECORD_BYTES * usize::from(records)];
        bytes[..2].copy_from_slice(&5u16.to_be_bytes());
        bytes[2..4].copy_from_slice(&records.to_be_bytes());
        bytes
    }

    #[test]
    fn datagrams_back_to_back_are_split_by_their_counts() {
        let body = [datagram(2), datagram(0), datagram(30)].concat();
        let (datagrams, broken) = split(&body);
        let places: Vec<_> = datagrams.iter().map(|(offset, d)| (*offset, d.len())).collect();
        assert_eq!(places, [(0, 120), (120, 24), (144, 1464)]);
        assert_eq!(broken, None);
    }

    #[test]
    fn a_torn_end_and_another_version_are_told_with_their_offset() {
        let mut body = [datagram(1), datagram(2)].concat();
        body.pop();
        let (datagrams, broken) = split(&body);
        assert_eq!((datagrams.len(), broken.unwrap().offset), (1, 72));
        let mut body = [datagram(1), datagram(2)].concat();
        body[73] = 9;
        let (datagrams, broken) = split(&body);
        assert_eq!((datagrams.len(), broken.unwrap().offset), (1, 72));
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_without_panic_and_nothing_is_left_over(body in proptest::collection::vec(0u8..6, 0..400)) {
            let (datagrams, broken) = split(&body);
            let taken: usize = datagrams.iter().map(|(_, d)| d.len()).sum();
            prop_assert_eq!(taken, broken.map_or(body.len(), |b| b.offset as usize));
        }
    }
}
