-- The role that endpoints and workers use: it reads and writes rows, and changes no table.
-- Run this in each of Hookmirror's databases, before or after the first `hookmirror migrate`, as a user who may create
-- roles; a role that exists gets the given password:
--   psql --set=owner=hookmirror_owner --set=runner=hookmirror --set=runner_password=... --file=deploy/roles.sql
-- `owner` is the existing role that `hookmirror migrate` uses.

\set ON_ERROR_STOP on

-- A role belongs to the whole server, so it may be there already, for another of its databases.
SELECT format('CREATE ROLE %I', :'runner')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'runner') \gexec
ALTER ROLE :"runner" LOGIN PASSWORD :'runner_password';

-- Hookmirror's connections set these themselves, but a pooler in between may not pass them on.
ALTER ROLE :"runner" SET synchronous_commit = on;
ALTER ROLE :"runner" SET timezone = 'UTC';

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO :"owner";
GRANT USAGE ON SCHEMA public TO :"runner";

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :"runner";
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO :"runner";

-- For all tables that the owner makes later, such as those of a later release.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"runner";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO :"runner";
