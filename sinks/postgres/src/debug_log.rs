//! Table `netflow.netflow_debug_log`: the latest malformed datagrams, for a person who looks for the exporter that sends them.
//! Off unless `debug_log_rows` says how many each collector keeps there. No part of the accounts, and no part of what is
//! delivered exactly once.

use postgres::Client;
use sink_api::malformed::Malformed;
use sink_api::{SinkContext, SinkError, Uuid};

use crate::connect::sink_error;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS netflow.netflow_debug_log (
    log_id      uuid NOT NULL,
    id          bigint NOT NULL,
    received_at timestamptz NOT NULL,
    exporter_ip inet NOT NULL,
    reason      text NOT NULL,
    length      bigint NOT NULL,
    datagram    bytea NOT NULL,
    PRIMARY KEY (log_id, id))";

/// Datagrams of one millisecond that have ids of their own: more than are kept.
const NUMBERS_A_MS: i64 = 1_000_000;

/// What this sink wrote there.
pub struct DebugLog {
    rows_max: u32,
    log_id: String,
    /// The number of the first datagram that was not looked at.
    next: u64,
}

impl DebugLog {
    /// Makes the table, if it is wanted.
    ///
    /// # Errors
    /// Of the connection, or of the role's rights.
    pub fn open(client: &mut Client, rows_max: u32, context: &SinkContext) -> Result<Self, SinkError> {
        if rows_max > 0 {
            context.malformed.want();
            client.batch_execute(TABLE).map_err(failed)?;
        }
        Ok(Self { rows_max, log_id: Uuid::from_bytes(context.log_id.0).to_string(), next: 0 })
    }

    /// Writes what is new and drops what is too much.
    ///
    /// # Errors
    /// Of the connection.
    pub fn write(&mut self, client: &mut Client, context: &SinkContext) -> Result<(), SinkError> {
        if self.rows_max == 0 {
            return Ok(());
        }
        let found = context.malformed.since(self.next);
        let Some((last, _)) = found.last() else { return Ok(()) };
        let next = last + 1;
        // Numbers begin anew with each start of the collector; time goes on.
        let id = |number: u64, ms: i64| ms.saturating_mul(NUMBERS_A_MS).saturating_add(number as i64 % NUMBERS_A_MS);
        let ids: Vec<i64> = found.iter().map(|(number, datagram)| id(*number, datagram.received_at_ms)).collect();
        let of = |get: fn(&Malformed) -> String| found.iter().map(|(_, datagram)| get(datagram)).collect::<Vec<_>>();
        let times = of(|datagram| sink_api::time::rfc3339(datagram.received_at_ms));
        let exporters = of(|datagram| datagram.exporter.to_string());
        let reasons = of(|datagram| datagram.reason.replace('\0', ""));
        let lengths: Vec<i64> = found.iter().map(|(_, datagram)| datagram.length.into()).collect();
        let bytes: Vec<&[u8]> = found.iter().map(|(_, datagram)| &*datagram.bytes).collect();
        let insert = "INSERT INTO netflow.netflow_debug_log \
                      SELECT $1::text::uuid, id, received_at::timestamptz, exporter_ip::inet, reason, length, datagram \
                      FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bytea[]) \
                      AS new(id, received_at, exporter_ip, reason, length, datagram) ON CONFLICT DO NOTHING";
        client
            .execute(insert, &[&self.log_id, &ids, &times, &exporters, &reasons, &lengths, &bytes])
            .map_err(failed)?;
        let delete = "DELETE FROM netflow.netflow_debug_log WHERE log_id = $1::text::uuid AND id < (SELECT id FROM \
                      netflow.netflow_debug_log WHERE log_id = $1::text::uuid ORDER BY id DESC OFFSET $2 LIMIT 1)";
        client.execute(delete, &[&self.log_id, &i64::from(self.rows_max - 1)]).map_err(failed)?;
        self.next = next;
        Ok(())
    }
}

fn failed(error: postgres::Error) -> SinkError {
    sink_error("netflow_debug_log", &error)
}
