//! Makes what is missing at the server: two buckets (v2) or retention policies (v1), one for detail and short rollups, one
//! for long ones; on v2 the names under which InfluxQL finds them. A retention that differs from the configuration's is
//! changed.

use serde_json::{Value, json};
use sink_api::SinkError;
use sink_api::rollup::Keep;

use crate::config::{Api, Config};
use crate::http::Client;

const BOTH: [Keep; 2] = [Keep::Detail, Keep::Aggregate];

/// Makes or changes what differs.
///
/// # Errors
/// As for opening a sink.
pub fn prepare(client: &Client, config: &Config) -> Result<(), SinkError> {
    match config.api {
        Api::V1 => policies(client, config),
        Api::V2 => buckets(client, config),
    }
}

/// Looks whether the server answers and lets us in; says which version it is.
///
/// # Errors
/// As for opening a sink.
pub fn probe(client: &Client, config: &Config) -> Result<String, SinkError> {
    let version = client.ping()?;
    match config.api {
        Api::V1 => client.define("SHOW DATABASES").map(drop)?,
        Api::V2 => organisation(client, config).map(drop)?,
    }
    let database = client.database();
    Ok(format!("InfluxDB {version} at {} answers; points go to {database:?}", config.url))
}

fn policies(client: &Client, config: &Config) -> Result<(), SinkError> {
    let database = name(client.database());
    let show = format!("SHOW RETENTION POLICIES ON {database}");
    let found = match client.define(&show) {
        Err(SinkError::Retry { reason, .. }) if reason.contains("database not found") => {
            client.define(&format!("CREATE DATABASE {database}"))?;
            client.define(&show)?
        }
        other => other?,
    };
    for keep in BOTH {
        let policy = client.policy(keep);
        let hours = config.kept_days(keep) * 24;
        match duration(&found, &policy) {
            Some(duration) if duration == format!("{hours}h0m0s") => {}
            Some(_) => {
                client.define(&format!("ALTER RETENTION POLICY {} ON {database} DURATION {hours}h", name(&policy)))?;
            }
            None => {
                let default = if keep == Keep::Detail { " DEFAULT" } else { "" };
                let make = format!("CREATE RETENTION POLICY {} ON {database}", name(&policy));
                client.define(&format!("{make} DURATION {hours}h REPLICATION 1{default}"))?;
            }
        }
    }
    Ok(())
}

/// How long a policy of an answer keeps its points, as the server writes it.
fn duration(answer: &Value, policy: &str) -> Option<String> {
    let rows = answer["results"][0]["series"][0]["values"].as_array()?;
    let row = rows.iter().find(|row| row[0].as_str() == Some(policy))?;
    row[1].as_str().map(str::to_owned)
}

/// An InfluxQL identifier.
pub fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn buckets(client: &Client, config: &Config) -> Result<(), SinkError> {
    let org = organisation(client, config)?;
    for keep in BOTH {
        let id = bucket(client, config, &org, keep)?;
        mapping(client, &org, &id, keep)?;
    }
    Ok(())
}

/// The id of the organisation.
fn organisation(client: &Client, config: &Config) -> Result<String, SinkError> {
    let missing = || SinkError::Fatal(format!("the server has no organisation {:?}", config.org));
    let answer = match client.json("GET", &format!("/api/v2/orgs?org={}", encoded(&config.org)), None) {
        Err(SinkError::Retry { reason, .. }) if reason.contains("status 404") => return Err(missing()),
        other => other?,
    };
    answer["orgs"][0]["id"].as_str().map(str::to_owned).ok_or_else(missing)
}

/// The id of a bucket with the configured retention.
fn bucket(client: &Client, config: &Config, org: &str, keep: Keep) -> Result<String, SinkError> {
    let bucket = client.bucket(keep);
    let rules = json!([{ "type": "expire", "everySeconds": config.kept_days(keep) * 86_400 }]);
    let found = client.json("GET", &format!("/api/v2/buckets?orgID={org}&name={}", encoded(&bucket)), None);
    let found = match found {
        // Some versions say so where others give an empty list.
        Err(SinkError::Retry { reason, .. }) if reason.contains("status 404") => Value::Null,
        other => other?["buckets"][0].take(),
    };
    let id = |value: &Value| {
        let id = value["id"].as_str().map(str::to_owned);
        id.ok_or_else(|| SinkError::Fatal(format!("the server's answer about bucket {bucket:?} has no id")))
    };
    if found.is_null() {
        return id(&client.json(
            "POST",
            "/api/v2/buckets",
            Some(&json!({ "orgID": org, "name": bucket, "retentionRules": rules })),
        )?);
    }
    let id = id(&found)?;
    if found["retentionRules"][0]["everySeconds"] != rules[0]["everySeconds"] {
        client.json("PATCH", &format!("/api/v2/buckets/{id}"), Some(&json!({ "retentionRules": rules })))?;
    }
    Ok(id)
}

/// Has InfluxQL find a bucket as a retention policy of the database that is named like the short one.
fn mapping(client: &Client, org: &str, bucket: &str, keep: Keep) -> Result<(), SinkError> {
    let (database, policy) = (client.database(), client.policy(keep));
    let path = format!("/api/v2/dbrps?orgID={org}&db={}&rp={policy}", encoded(database));
    let found = client.json("GET", &path, None)?;
    let mine = |mapping: &Value| mapping["retention_policy"] == *policy && mapping["virtual"] != true;
    let Some(found) = found["content"].as_array().and_then(|all| all.iter().find(|m| mine(m)).cloned()) else {
        let mapping = json!({ "orgID": org, "bucketID": bucket, "database": database, "retention_policy": policy,
                              "default": keep == Keep::Detail });
        return client.json("POST", "/api/v2/dbrps", Some(&mapping)).map(drop);
    };
    if found["bucketID"] == *bucket {
        return Ok(());
    }
    Err(SinkError::Fatal(format!("database {database:?}, retention policy {policy:?} is mapped to another bucket")))
}

/// Percent-encoded for a query string.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_encoded() {
        assert_eq!(name("a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(encoded("a b/ä"), "a%20b%2F%C3%A4");
    }
}
