//! The cursor: how far a log is stored at a place, in the same transaction as what it speaks of.

use postgres::{Client, Transaction};
use sink_api::{SinkContext, SinkError, Uuid};

use crate::config::Config;
use crate::connect::sink_error;

/// What a transaction says about positions.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    /// Everything up to here is stored.
    UpTo(u64),
    /// These, both included, are stored.
    Range(u64, u64),
}

/// Which log's cursor of which place.
pub(super) struct Place {
    pub target: String,
    pub log_id: String,
}

impl Place {
    pub fn of(config: &Config, context: &SinkContext) -> Self {
        Self { target: config.target(), log_id: Uuid::from_bytes(context.log_id.0).to_string() }
    }

    /// Ends what earlier connections of this log have under way here, so that what is read next is all there will be: a
    /// COMMIT that reached the server before its connection was lost may still be done after we are connected again.
    pub fn fence(&self, client: &mut Client) -> Result<(), SinkError> {
        let failed = |e: postgres::Error| sink_error("fence", &e);
        let ours = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 \
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                    AND (classid::bigint << 32) | objid::bigint = hashtextextended($1, 0) AND pid <> pg_backend_pid()";
        client.query(ours, &[&self.lock_name()]).map_err(failed)?;
        let mut tx = client.transaction().map_err(failed)?;
        tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&self.lock_name()]).map_err(failed)?;
        tx.commit().map_err(failed)
    }

    /// Held, shared, by every transaction that writes.
    pub fn hold(&self, tx: &mut Transaction<'_>) -> Result<(), SinkError> {
        let sql = "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))";
        tx.execute(sql, &[&self.lock_name()]).map(drop).map_err(|e| sink_error("fence", &e))
    }

    fn lock_name(&self) -> String {
        format!("rgz-netflow {} {}", self.target, self.log_id)
    }

    pub fn mark(&self, tx: &mut Transaction<'_>, mark: Mark) -> Result<(), SinkError> {
        let failed = |e: postgres::Error| sink_error("cursor", &e);
        match mark {
            Mark::UpTo(last) => {
                let upsert = "INSERT INTO netflow.cursors (target, log_id, position) VALUES ($1, $2::text::uuid, $3) \
                              ON CONFLICT (target, log_id) DO UPDATE SET position = excluded.position, updated_at = now()";
                tx.execute(upsert, &[&self.target, &self.log_id, &(last as i64)]).map_err(failed)?;
                let done =
                    "DELETE FROM netflow.cursor_ranges WHERE target = $1 AND log_id = $2::text::uuid AND last <= $3";
                tx.execute(done, &[&self.target, &self.log_id, &(last as i64)]).map_err(failed)?;
            }
            Mark::Range(first, last) => {
                let insert = "INSERT INTO netflow.cursor_ranges (target, log_id, first, last) \
                              VALUES ($1, $2::text::uuid, $3, $4)";
                tx.execute(insert, &[&self.target, &self.log_id, &(first as i64), &(last as i64)]).map_err(failed)?;
            }
        }
        Ok(())
    }
}
