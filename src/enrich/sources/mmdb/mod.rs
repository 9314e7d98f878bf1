//! MMDB files (MaxMind's format): countries and AS numbers, in MaxMind's nested layout (`country.iso_code`) and in the flat
//! layout of ip-location-db (`country_code`). Files are read into memory and verified, so a file rewritten in place cannot
//! hurt; then flattened into the prefix table.
//!
//! The aliases of IPv4 in IPv6 databases (6to4, Teredo) are left out: their networks are not customers' nor remotes' today.

mod verify;

use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use maxminddb::{Reader, WithinOptions};

#[cfg(test)]
pub(super) use verify::verify_tree_and_records;

use super::{Reading, SourceError, read_file};
use crate::enrich::table::Prefix;
use crate::flow::country;

/// MMDB files in the folder at most.
const FILES_MAX: usize = 32;

/// What a record of either layout may hold of interest.
#[derive(Debug, Default, serde::Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    country: Option<Country<'a>>,
    country_code: Option<&'a str>,
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<&'a str>,
}

#[derive(Debug, serde::Deserialize)]
struct Country<'a> {
    #[serde(borrow)]
    iso_code: Option<&'a str>,
}

/// What is taken of a record; 0 = nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    country: u16,
    asn: u32,
}

/// The MMDB files of a folder, in the order of their names.
pub(in crate::enrich) fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mmdb")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads every MMDB file of the folder. A folder that is not there is no error: the collector runs without.
pub(super) fn read_folder(reading: &mut Reading<'_>, folder: &Path) {
    if folder.as_os_str().is_empty() {
        return;
    }
    let files = match files(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => return reading.errors.push(SourceError::about(folder, error)),
    };
    if files.len() > FILES_MAX {
        let problem = format!("holds {} MMDB files, more than {FILES_MAX}", files.len());
        return reading.errors.push(SourceError::about(folder, problem));
    }
    for file in files {
        if let Err(error) = read(reading, &file) {
            reading.errors.push(error);
        }
    }
}

fn read(reading: &mut Reading<'_>, file: &Path) -> Result<(), SourceError> {
    let broken = |error: maxminddb::MaxMindDbError| SourceError::about(file, error);
    let reader = Reader::from_source(read_file(file)?).map_err(broken)?;
    verify::verify(&reader).map_err(broken)?;
    // Few records serve many networks: each is decoded once.
    let mut decoded: HashMap<usize, Found, foldhash::fast::RandomState> = HashMap::default();
    let mut networks = 0;
    for result in reader.networks(WithinOptions::default()).map_err(broken)? {
        let result = result.map_err(broken)?;
        let Some(offset) = result.offset() else { continue };
        let found = match decoded.get(&offset) {
            Some(found) => *found,
            None => {
                let entry: Option<Entry<'_>> = result.decode().map_err(broken)?;
                let found = take(reading, &entry.unwrap_or_default());
                decoded.insert(offset, found);
                found
            }
        };
        let network = result.network().map_err(broken)?;
        let Some(prefix) = Prefix::new(network.ip(), network.prefix()) else { continue };
        if found.country != 0 {
            reading.builder.country(prefix, found.country);
        }
        reading.builder.asn(prefix, found.asn);
        networks += usize::from(found.country != 0 || found.asn != 0);
    }
    if networks == 0 {
        let kind = &reader.metadata().database_type;
        let problem = format!("database of type \"{kind}\" holds neither countries nor AS numbers");
        return Err(SourceError::about(file, problem));
    }
    let built_ms = i64::try_from(reader.metadata().build_epoch).unwrap_or(0).saturating_mul(1000);
    reading.done("geoip", file, networks, built_ms);
    Ok(())
}

fn take(reading: &mut Reading<'_>, entry: &Entry<'_>) -> Found {
    let code = entry.country.as_ref().and_then(|country| country.iso_code).or(entry.country_code);
    let asn = entry.autonomous_system_number.unwrap_or(0);
    if let (Some(name), true) = (entry.autonomous_system_organization, asn != 0) {
        reading.builder.as_name(asn, name);
    }
    Found { country: code.and_then(country::code).unwrap_or(0), asn }
}
