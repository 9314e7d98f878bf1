//! Makes what is missing at the server: two buckets (v2) or retention policies (v1), one for detail and short rollups, one
//! for long ones; on v2 the names under which InfluxQL finds them. A retention that differs from the configuration's is
//! changed. Several collectors may do so at once.

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
        let shards = config.shard_hours(keep);
        let same = |shown: &str, hours: i64| shown == format!("{hours}h0m0s");
        match durations(&found, &policy) {
            Some([kept, shard]) if same(&kept, hours) && shards.is_none_or(|hours| same(&shard, hours)) => {}
            Some(_) => {
                let alter = format!("ALTER RETENTION POLICY {} ON {database} DURATION {hours}h", name(&policy));
                let shards = shards.unwrap_or_else(|| shard_hours(config.kept_days(keep)));
                client.define(&format!("{alter} SHARD DURATION {shards}h"))?;
            }
            None => {
                let default = if keep == Keep::Detail { " DEFAULT" } else { "" };
                let make = format!("CREATE RETENTION POLICY {} ON {database}", name(&policy));
                let shards = shards.map_or_else(String::new, |hours| format!(" SHARD DURATION {hours}h"));
                client.define(&format!("{make} DURATION {hours}h REPLICATION 1{shards}{default}"))?;
            }
        }
    }
    Ok(())
}

/// Width of the shards of points that are kept so long, as servers choose it for new buckets and policies. A change of the
/// retention names it too: servers refuse one that is shorter than the shards are wide.
fn shard_hours(kept_days: i64) -> i64 {
    match kept_days {
        ..2 => 1,
        2..180 => 24,
        180.. => 7 * 24,
    }
}

/// How long a policy of an answer keeps its points, and how wide its shards are, as the server writes it.
fn durations(answer: &Value, policy: &str) -> Option<[String; 2]> {
    let rows = answer["results"][0]["series"][0]["values"].as_array()?;
    let row = rows.iter().find(|row| row[0].as_str() == Some(policy))?;
    Some([row[1].as_str()?.to_owned(), row[2].as_str()?.to_owned()])
}

/// An InfluxQL identifier.
pub fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn buckets(client: &Client, config: &Config) -> Result<(), SinkError> {
    let org = organisation(client, config)?;
    for keep in BOTH {
        let id = bucket(client, config, &org, keep)?;
        let own = Mapping { database: &client.bucket(keep), policy: &client.policy(keep), default: true };
        own.ensure(client, &org, &id)?;
        if keep == Keep::Aggregate {
            let long = Mapping { database: client.database(), policy: &client.policy(keep), default: false };
            long.ensure(client, &org, &id)?;
        }
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
    let days = config.kept_days(keep);
    let path = format!("/api/v2/buckets?orgID={org}&name={}", encoded(&bucket));
    let find = || match client.json("GET", &path, None) {
        // Some versions say so where others give an empty list.
        Err(SinkError::Retry { reason, .. }) if reason.contains("status 404") => Ok(None),
        other => Ok(other?["buckets"].get(0).cloned()),
    };
    let shards = config.shard_hours(keep);
    let rule = |shards: Option<i64>| match shards {
        None => json!({ "type": "expire", "everySeconds": days * 86_400 }),
        Some(hours) => {
            json!({ "type": "expire", "everySeconds": days * 86_400, "shardGroupDurationSeconds": hours * 3600 })
        }
    };
    let make = || {
        let body = json!({ "orgID": org, "name": bucket, "retentionRules": [rule(shards)] });
        client.json("POST", "/api/v2/buckets", Some(&body))
    };
    let found = find_or_make(find, make)?;
    let id = found["id"].as_str().map(str::to_owned);
    let id = id.ok_or_else(|| SinkError::Fatal(format!("the server's answer about bucket {bucket:?} has no id")))?;
    let there = &found["retentionRules"][0];
    let shards_differ = shards.is_some_and(|hours| there["shardGroupDurationSeconds"] != json!(hours * 3600));
    if there["everySeconds"] != json!(days * 86_400) || shards_differ {
        let rule = rule(Some(shards.unwrap_or_else(|| shard_hours(days))));
        client.json("PATCH", &format!("/api/v2/buckets/{id}"), Some(&json!({ "retentionRules": [rule] })))?;
    }
    Ok(id)
}

/// What is there, or what is made. What another collector made in between is found the second time.
fn find_or_make(
    find: impl Fn() -> Result<Option<Value>, SinkError>,
    make: impl FnOnce() -> Result<Value, SinkError>,
) -> Result<Value, SinkError> {
    if let Some(found) = find()? {
        return Ok(found);
    }
    make().or_else(|refused| find()?.ok_or(refused))
}

/// Under which names InfluxQL finds a bucket. Both buckets are retention policies of one database; the long one is a
/// database of its own besides, because statements about tags look at the default policy of a database alone.
struct Mapping<'a> {
    database: &'a str,
    policy: &'a str,
    default: bool,
}

impl Mapping<'_> {
    fn ensure(&self, client: &Client, org: &str, bucket: &str) -> Result<(), SinkError> {
        let Self { database, policy, default } = *self;
        let path = format!("/api/v2/dbrps?orgID={org}&db={}&rp={}", encoded(database), encoded(policy));
        let mine = |mapping: &&Value| mapping["retention_policy"] == *policy && mapping["virtual"] != true;
        let find = || {
            let found = client.json("GET", &path, None)?;
            Ok(found["content"].as_array().and_then(|all| all.iter().find(mine)).cloned())
        };
        let make = || {
            let mapping = json!({ "orgID": org, "bucketID": bucket, "database": database, "retention_policy": policy,
                                  "default": default });
            client.json("POST", "/api/v2/dbrps", Some(&mapping)).map(|_| mapping)
        };
        if find_or_make(find, make)?["bucketID"] == *bucket {
            return Ok(());
        }
        Err(SinkError::Fatal(format!("database {database:?}, retention policy {policy:?} is mapped to another bucket")))
    }
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
