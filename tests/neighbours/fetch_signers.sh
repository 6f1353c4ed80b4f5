#!/bin/sh
# Installs the vendors' own libraries for Node.js into the given folder, for the tests of signatures. It runs none of their
# scripts. If that is not possible, it says so and exits with 0, and these tests are skipped.
set -u
target=$1
libraries="@octokit/webhooks-methods@6.0.0 @sanity/webhook@4.0.4 standardwebhooks@1.1.1 stripe@23.1.0"
missing() { echo "neighbours: $1; tests of the vendors' own signers for Node.js are skipped"; exit 0; }

[ "$(cat "$target/fetched" 2>/dev/null)" = "$libraries" ] && exit 0
command -v node >/dev/null && command -v npm >/dev/null || missing "there is no Node.js with npm"

mkdir -p "$target"
timeout 30 npm install --prefix "$target" --ignore-scripts --no-audit --no-fund --no-update-notifier --no-package-lock \
    --fetch-retries=0 --loglevel=error $libraries >"$target/log" 2>&1 || missing "npm: $(head -n 1 "$target/log")"
echo "$libraries" >"$target/fetched"
