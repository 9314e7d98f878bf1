//! Asking the database: every query's answer as a CSV file.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use postgres::{Client, IsolationLevel, Transaction};
use postgres_connect::{chain, connect};

use super::{SqlConfig, new_file, query};
use crate::enrich::SourceError;
use crate::enrich::sources::FILE_BYTES_MAX;

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Writes the answers of the named queries beside the saved ones. Each file is whole or an error is told.
///
/// # Errors
/// What is wrong, named by its query; then no file counts.
pub(super) fn fetch(config: &SqlConfig, names: &[&'static str], folder: &Path) -> Result<(), Vec<SourceError>> {
    let about = |name: &str, problem: String| {
        let name = if name.is_empty() { "[enrich.sql]".to_owned() } else { format!("[enrich.sql] {name}") };
        vec![SourceError::about(Path::new(&name), problem)]
    };
    let mut client = open(config).map_err(|problem| about("", problem))?;
    let mut transaction = client
        .build_transaction()
        .read_only(true)
        .isolation_level(IsolationLevel::RepeatableRead)
        .start()
        .map_err(|error| about("", chain(&error)))?;
    for name in names {
        copy(&mut transaction, query(config, name), &new_file(folder, name)).map_err(|problem| about(name, problem))?;
    }
    Ok(())
}

fn open(config: &SqlConfig) -> Result<Client, String> {
    let mut options: postgres::Config = config.url.parse().map_err(|error: postgres::Error| chain(&error))?;
    if let Some(path) = &config.password_file {
        let password = std::fs::read_to_string(path).map_err(|e| format!("password_file {}: {e}", path.display()))?;
        options.password(password.trim_end_matches(['\r', '\n']));
    }
    let mut client = connect(&options, config.sslmode, config.sslrootcert.as_deref())
        .map_err(|error| format!("connect: {error}"))?;
    // Times are written as the readers understand them, whatever the server's settings.
    let settings =
        format!("SET statement_timeout = {}; SET datestyle = 'ISO'; SET timezone = 'UTC'", config.statement_timeout_ms);
    client.batch_execute(&settings).map_err(|error| chain(&error))?;
    Ok(client)
}

fn copy(transaction: &mut Transaction<'_>, query: &str, file: &Path) -> Result<(), String> {
    let query = query.trim().trim_end_matches(';');
    let copy = format!("COPY ({query}) TO STDOUT WITH (FORMAT csv, HEADER, ENCODING 'UTF8')");
    let mut answer = transaction.copy_out(&copy).map_err(|error| chain(&error))?;
    let kept = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut out = File::create(file).map_err(kept)?;
    let (mut chunk, mut bytes) = (vec![0; CHUNK_BYTES], 0u64);
    loop {
        let n = answer.read(&mut chunk).map_err(|error| chain(&error))?;
        if n == 0 {
            break;
        }
        bytes += n as u64;
        if bytes > FILE_BYTES_MAX {
            return Err(format!("the answer is larger than {FILE_BYTES_MAX} bytes"));
        }
        out.write_all(&chunk[..n]).map_err(kept)?;
    }
    out.sync_all().map_err(kept)
}
