-- Which flags each kill turned off, and secret URLs that kill or restore. Its twin is
-- migrations/sqlite/0005_kills_and_triggers.sql.

-- One row for each kill that has turned off a flag; `flags` and `tags` are lists as JSON. `version` is the environment's that it
-- made. `restored_at` is set when it was undone as a whole.
create table kill (
    id text primary key,
    environment_id bigint not null references environment (id) on delete cascade,
    version bigint not null,
    flags text not null,
    tags text not null,
    at timestamptz not null,
    restored_at timestamptz
);
create index kill_by_environment on kill (environment_id, version);

-- `digest` is the SHA-256 of the secret in the URL, which itself is stored nowhere. `action` is `kill` or `restore`; a trigger that
-- kills may restore when the alert is over.
create table trigger_url (
    id text primary key,
    digest bytea not null unique,
    environment_id bigint not null references environment (id) on delete cascade,
    flag_key text not null,
    action text not null,
    restores_when_resolved boolean not null,
    name text not null,
    hint text not null,
    created_at timestamptz not null,
    created_by text not null,
    revoked_at timestamptz
);
create index trigger_url_by_flag on trigger_url (environment_id, flag_key);
