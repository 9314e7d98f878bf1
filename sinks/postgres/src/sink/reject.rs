//! Finds the rows that the server refuses, by halving, so that they alone are set aside.

use postgres::Client;
use sink_api::SinkError;

use super::commit::{Buffers, copy, encoder};
use super::order::as_they_came;
use super::pulled::FlowRows;
use super::{Tables, session};
use crate::config::Config;
use crate::encode::{RowOf, Rows};
use crate::schema::Table;

/// Rows of one group that may be set aside one by one: with more, something is wrong with the table and not with the rows.
const REJECTED_ROWS_MAX: usize = 1000;

/// A row that is refused: number of its batch in the group, row, reason.
pub(super) type Rejected = (u32, u32, String);

/// Tries ever smaller parts of the group in transactions that are rolled back. After each refusal it connects anew: a failed
/// COPY leaves the connection unusable.
pub(super) fn find(config: &Config, tables: &Tables, flows: &[FlowRows]) -> Result<Vec<Rejected>, SinkError> {
    let table = &tables.flows;
    let (all, mut encoder) = (as_they_came(flows), encoder(flows, &tables.fields));
    let mut parts = vec![&all[..]];
    let mut client = None;
    let mut rejected = Vec::new();
    while let Some(part) = parts.pop() {
        let connected = match client.take() {
            Some(client) => client,
            None => session(config)?,
        };
        match (attempt(connected, table, &mut encoder, part), part) {
            (Ok(connected), _) => client = Some(connected),
            (Err(SinkError::Reject(reason)), [(batch, row)]) => rejected.push((*batch, *row, reason)),
            (Err(SinkError::Reject(_)), _) => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
            (Err(other), _) => return Err(other),
        }
        if rejected.len() > REJECTED_ROWS_MAX {
            let text = format!("{} refuses more than {REJECTED_ROWS_MAX} rows of one group", table.quoted);
            return Err(SinkError::Fatal(format!("{text}, such as: {}", rejected[0].2)));
        }
    }
    Ok(rejected)
}

/// Writes the rows and rolls back; gives the connection back when that went well.
fn attempt(mut client: Client, table: &Table, encoder: &mut Rows<'_>, rows: &[RowOf]) -> Result<Client, SinkError> {
    let failed = |error: postgres::Error| crate::connect::sink_error("rollback", &error);
    let mut tx = client.transaction().map_err(failed)?;
    copy(&mut tx, table, encoder, rows, None, &mut Buffers::default())?;
    tx.rollback().map_err(failed)?;
    Ok(client)
}
