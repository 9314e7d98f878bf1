#!/bin/sh
# Start of the container: makes the token at the first start, links the configuration into the data folder (relative paths
# begin there), and becomes the collector.
set -eu

data="${NETFLOW_DATA:-/var/lib/rgz-netflow}"
config="${NETFLOW_CONFIG:-/etc/rgz-netflow/pipeline.toml}"
cd "$data"

if [ ! -s secrets/token ]; then
    mkdir -p secrets
    (umask 077 && od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' >secrets/token)
    echo "rgz-netflow: a token was made: $data/secrets/token" >&2
fi

# A file of the user's own in the data folder stays.
if [ ! -e pipeline.toml ] || [ -L pipeline.toml ]; then
    ln -sfn "$config" pipeline.toml
fi

exec rgz-netflow "$@"
