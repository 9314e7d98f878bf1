//! The subscribers of a profile as the CSV that `[enrich]` reads.

use std::io::{self, BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::Path;

use super::profile::Profile;

/// Writes `prefix,subscriber_id,reseller_id,nas_id,site`, one line a subscriber. `exporters` tells which exporter, named as
/// nas, each reseller's flows come from.
///
/// # Errors
/// The file cannot be made or written.
pub fn write_csv(profile: &Profile, exporters: u16, path: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    writeln!(out, "prefix,subscriber_id,reseller_id,nas_id,site")?;
    for index in 0..profile.subscribers() {
        let who = profile.subscriber(index);
        let nas = who.reseller % u32::from(exporters.max(1)) + 1;
        let address = Ipv4Addr::from(who.address);
        writeln!(out, "{address}/32,{},{},nas-{nas},{}", who.subscriber_id, who.reseller_id, who.site)?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subscriber_has_a_line_with_its_ids() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subscribers.csv");
        let profile = Profile::isp(1, 700);
        write_csv(&profile, 4, &path).unwrap();
        let mut reader = csv::Reader::from_path(&path).unwrap();
        assert_eq!(reader.headers().unwrap(), vec!["prefix", "subscriber_id", "reseller_id", "nas_id", "site"]);
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 700);
        let prefixes: std::collections::HashSet<&str> = rows.iter().map(|row| &row[0]).collect();
        assert_eq!(prefixes.len(), 700);
        let who = profile.subscriber(699);
        assert_eq!(rows[699][1], who.subscriber_id.to_string());
        assert_eq!(rows[699][2], who.reseller_id.to_string());
    }
}
