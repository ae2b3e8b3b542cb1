#!/usr/bin/env bash
# installer.sh ECLI PUBLIC_KEY URL: prints the install.sh that installs this executable from URL and checks it by this key.
set -euo pipefail

ecli=$1 key=$2 url=$3
template=$(dirname "$0")/install.sh.in
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$(dirname "$0")/../../Cargo.toml" | head -n 1)
digest=$(sha256sum <"$ecli")
# The second line of a public key file is the key.
sed -e "s|@VERSION@|$version|g; s|@MACHINE@|$(uname -m)|g; s|@URL@|$url|g; s|@SHA256@|${digest%% *}|; s|@KEY@|$(sed -n 2p "$key")|" "$template"
