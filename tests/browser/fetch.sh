#!/bin/sh
# Installs Chromium's headless shell and a font from Debian's packages. If that is not possible, it says what to run and
# exits with 0. The tests in a browser are skipped then, or fail with CI=true.
set -u
packages="chromium-headless-shell fonts-dejavu-core"
missing() { echo "browser: $1; tests in a browser are skipped unless Chromium is installed"; exit 0; }

for name in chromium-headless-shell chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && exit 0
done
command -v apt-get >/dev/null || missing "there is no apt-get: install Chromium in your system's way"
[ "$(id -u)" = 0 ] || missing "only root may use apt-get; run \`sudo make browser\` once"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
fetch() {
    DEBIAN_FRONTEND=noninteractive timeout 300 apt-get -qq install --yes --no-install-recommends \
        -o DPkg::Lock::Timeout=60 $packages
}
# The present package lists usually suffice.
{ fetch || { timeout 60 apt-get -qq update && fetch; }; } >"$log" 2>&1 || missing "apt-get: $(tail -n 1 "$log")"
