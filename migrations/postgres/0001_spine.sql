-- The first schema. Its twin is migrations/sqlite/0001_spine.sql; both must describe the same tables.
-- Bodies are JSON text and not jsonb, because jsonb does not keep the order of keys; cast them to query: body::jsonb.

-- One row. `epoch` grows when the history of this database was replaced; `directory_version` grows with every change of
-- projects, environments and tokens.
create table cluster (
    id bigint primary key check (id = 1),
    epoch bigint not null,
    directory_version bigint not null
);
insert into cluster (id, epoch, directory_version) values (1, 1, 1);

create table project (
    key text primary key,
    name text not null,
    created_at timestamptz not null
);

-- `version` counts the changes of the environment without gaps; its row is locked first by every change.
create table environment (
    id bigint generated always as identity primary key,
    project_key text not null references project (key) on delete cascade,
    key text not null,
    name text not null,
    version bigint not null,
    created_at timestamptz not null,
    changed_at timestamptz not null,
    unique (project_key, key)
);

-- `deleted_at` keeps the key of a deleted flag from being given to another.
create table flag (
    project_key text not null references project (key) on delete cascade,
    key text not null,
    body text not null,
    created_at timestamptz not null,
    deleted_at timestamptz,
    primary key (project_key, key)
);

-- `version` is the environment's at which flag or configuration last changed; `killed` tells how to undo a kill.
create table flag_config (
    environment_id bigint not null references environment (id) on delete cascade,
    flag_key text not null,
    body text not null,
    killed text,
    version bigint not null,
    changed_at timestamptz not null,
    is_deleted boolean not null,
    primary key (environment_id, flag_key)
);
create index flag_config_by_version on flag_config (environment_id, version);

create table segment (
    environment_id bigint not null references environment (id) on delete cascade,
    key text not null,
    body text not null,
    version bigint not null,
    created_at timestamptz not null,
    changed_at timestamptz not null,
    is_deleted boolean not null,
    primary key (environment_id, key)
);
create index segment_by_version on segment (environment_id, version);

-- `digest` is the SHA-256 of the token; the token itself is stored nowhere.
create table token (
    id text primary key,
    digest bytea not null unique,
    kind text not null,
    role text,
    project_key text references project (key) on delete cascade,
    environment_id bigint references environment (id) on delete cascade,
    name text not null,
    hint text not null,
    created_at timestamptz not null,
    created_by text not null,
    revoked_at timestamptz
);

-- One row for each version of each environment.
create table change_log (
    environment_id bigint not null references environment (id) on delete cascade,
    version bigint not null,
    flags text not null,
    segments text not null,
    audit_id text not null,
    changed_at timestamptz not null,
    primary key (environment_id, version)
);

-- Ids are ordered by time. Rows outlive what they speak of.
create table audit (
    id text primary key,
    at timestamptz not null,
    actor text not null,
    project_key text,
    environment_key text,
    action text not null,
    subject text not null,
    version bigint,
    comment text,
    instructions text,
    changes text not null,
    request_id text not null
);
create index audit_by_environment on audit (project_key, environment_key, id);
