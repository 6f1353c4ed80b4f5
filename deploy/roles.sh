#!/bin/sh
# The postgres image runs this when it makes its database. The image's user owns the tables.
exec psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set=owner="$POSTGRES_USER" --set=runner=hookmirror --set=runner_password="$RUNNER_PASSWORD" \
    --file=/deploy/roles.sql
