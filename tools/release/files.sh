#!/usr/bin/env bash
# files.sh TAG [KEY]: collects the files of a release in target/release-files, with checksums and signatures. KEY is the file
# of the secret key; without it the variable RELEASE_KEY contains the key. The public key is tools/release/release.pub.
set -euo pipefail
cd "$(dirname "$0")/../.."

tag=$1 key=${2:-}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
machine=$(uname -m)
public=${PUBLIC_KEY:-tools/release/release.pub}
url=https://github.com/eunomia-bpf/libeunomia/releases/download/v$version
out=target/release-files
fail() {
    echo "release: $*" >&2
    exit 1
}

[ "$tag" = "v$version" ] || fail "the tag is $tag, but Cargo.toml has version $version"
grep -q "^## \[$version\]" CHANGELOG.md || fail "CHANGELOG.md has no section [$version]"
[ -e "$public" ] || fail "$public not found; docs/RELEASING.md describes how to make the keys"
if [ -z "$key" ]; then
    [ -n "${RELEASE_KEY:-}" ] || fail "no secret key; give KEY=FILE or the variable RELEASE_KEY"
    key=$(mktemp)
    trap 'rm -f "$key"' EXIT
    printf '%s\n' "$RELEASE_KEY" >"$key"
fi

rm -rf "$out"
mkdir -p "$out"
cp "target/dist/eunomia-$version-$machine-linux-gnu.tar.gz" target/dist/*_"$version"_*.deb target/dist/eunomia-"$version"-py3-*.whl "$out"
ecli=$out/ecli-$version-$machine-linux-gnu
tar -xzf "target/dist/eunomia-$version-$machine-linux-gnu.tar.gz" -O "eunomia-$version-$machine-linux-gnu/bin/ecli" >"$ecli"
chmod 755 "$ecli"
tools/release/installer.sh "$ecli" "$public" "$url" >"$out/install.sh"
image=target/ecc-$version-$machine-oci.tar
[ ! -e "$image" ] || gzip -9nc "$image" >"$out/${image##*/}.gz"
(cd "$out" && sha256sum -- * >SHA256SUMS)
for file in "$out"/*; do
    "$ecli" sign --secret "$key" "$file" >/dev/null
    "$ecli" verify --key "$public" "$file" >/dev/null || fail "$public does not belong to the secret key"
done
ls -l "$out"
