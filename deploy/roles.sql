-- The role that endpoints and workers use: it reads and writes rows, and changes no table.
-- To be run once in Hookmirror's database, before or after the first `hookmirror migrate`, by whoever may create roles:
--   psql --set=owner=hookmirror_owner --set=runner=hookmirror --set=runner_password=... --file=deploy/roles.sql
-- `owner` is the role, existing already, that `hookmirror migrate` uses.

\set ON_ERROR_STOP on

CREATE ROLE :"runner" LOGIN PASSWORD :'runner_password';

-- Every connection of ours asks for these by itself; a pooler in between may not pass that on.
ALTER ROLE :"runner" SET synchronous_commit = on;
ALTER ROLE :"runner" SET timezone = 'UTC';

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO :"owner";
GRANT USAGE ON SCHEMA public TO :"runner";

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :"runner";
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO :"runner";

-- For all tables that the owner will ever make: those of a later release need no word here.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"runner";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO :"runner";
