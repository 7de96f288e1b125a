-- Events of SDKs and usage of flags. Its twin is migrations/sqlite/0007_event.sql.
-- Environments are named by their numbers and without foreign keys, so that nothing waits for a row of an environment while
-- events are written; what is left of deleted ones is removed later.

-- One row. `key` hashes the keys of contexts; `since` is from when on usage is counted.
create table event_setting (
    id bigint primary key check (id = 1),
    key bytea not null,
    since timestamptz not null
);
insert into event_setting (id, key, since)
    values (1, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), date_trunc('second', now()));

-- Payloads that were written, so that one that is sent again counts once.
create table event_payload (
    environment_id bigint not null,
    id text not null,
    expires_at timestamptz not null,
    primary key (environment_id, id)
);
create index event_payload_by_expiry on event_payload (expires_at);

-- `variation` is -1 where there was no value; `flag_version` is 0 where it is not known.
create table flag_usage (
    environment_id bigint not null,
    flag_key text not null,
    day date not null,
    variation bigint not null,
    flag_version bigint not null,
    count bigint not null,
    primary key (environment_id, flag_key, day, variation, flag_version)
);
create index flag_usage_by_day on flag_usage (day);

create table flag_last_evaluated (
    environment_id bigint not null,
    flag_key text not null,
    at timestamptz not null,
    primary key (environment_id, flag_key)
);

-- Flags that were asked for and that there were not.
create table unknown_flag (
    environment_id bigint not null,
    flag_key text not null,
    count bigint not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    primary key (environment_id, flag_key)
);
create index unknown_flag_by_time on unknown_flag (last_at);

-- One row for each part of the context of each event; only ever appended to, and dropped by the day.
-- `unit` is a keyed hash of the context's key. Partitions are made by the program, and there is no default one.
create table event (
    day date not null,
    at timestamptz not null,
    environment_id bigint not null,
    kind text not null,
    key text not null,
    unit_kind text not null,
    unit bytea not null,
    variation bigint,
    flag_version bigint,
    reason text,
    in_experiment boolean not null,
    value double precision,
    sampling_ratio bigint not null
) partition by range (day);
create index event_by_time on event using brin (at) with (pages_per_range = 32);
create index event_by_key on event (environment_id, key, day);

-- The first time on a day that a unit was served a variation of a tracked flag, and how often that day.
create table exposure (
    day date not null,
    environment_id bigint not null,
    flag_key text not null,
    unit_kind text not null,
    unit bytea not null,
    variation bigint not null,
    flag_version bigint not null,
    reason text,
    in_experiment boolean not null,
    first_at timestamptz not null,
    count bigint not null,
    primary key (day, environment_id, flag_key, unit_kind, unit, variation)
) partition by range (day);
