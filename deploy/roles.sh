#!/bin/sh
# Run by the postgres image when it makes its database; the owner of the tables is the image's own user.
exec psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set=owner="$POSTGRES_USER" --set=runner=hookmirror --set=runner_password="$RUNNER_PASSWORD" \
    --file=/deploy/roles.sql
