#!/bin/sh
# Unpacks nginx and PgBouncer from Debian's packages into the given folder, for the tests that run beside them. It installs
# nothing and starts no service. If that is not possible, it says so and exits with 0, and these tests are skipped.
set -u
target=$1
packages="nginx-light pgbouncer"
missing() { echo "neighbours: $1; tests beside nginx and PgBouncer are skipped unless they are installed"; exit 0; }

PATH=$PATH:/usr/sbin
[ -e "$target/fetched" ] && exit 0
command -v nginx >/dev/null && command -v pgbouncer >/dev/null && exit 0
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || missing "there is no apt-get"
[ "$(id -u)" = 0 ] || missing "only root may use apt-get; run \`sudo make neighbours\` once"

downloads=$(mktemp -d)
trap 'rm -rf "$downloads"' EXIT
mkdir "$downloads/partial"
fetch() {
    timeout 45 apt-get -qq install --yes --no-install-recommends --download-only \
        -o Dir::Cache::archives="$downloads" -o APT::Sandbox::User=root -o DPkg::Lock::Timeout=20 $packages
}
# The present package lists usually suffice, and renewing them takes longer than everything else.
{ fetch || { timeout 45 apt-get -qq update && fetch; }; } >"$downloads/log" 2>&1 || missing "apt-get: $(tail -n 1 "$downloads/log")"
for package in "$downloads"/*.deb; do
    dpkg-deb --extract "$package" "$target" || missing "$package cannot be unpacked"
done
touch "$target/fetched"
