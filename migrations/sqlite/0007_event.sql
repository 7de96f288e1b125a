-- Events of SDKs and usage of flags. Its twin is migrations/postgres/0007_event.sql.
-- Environments are named by their numbers and without foreign keys; what is left of deleted ones is removed later.

-- One row. `key` hashes the keys of contexts; `since` is from when on usage is counted.
create table event_setting (
    id integer primary key check (id = 1),
    key blob not null,
    since text not null
);
insert into event_setting (id, key, since)
    values (1, randomblob(32), strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));

-- Payloads that were written, so that one that is sent again counts once.
create table event_payload (
    environment_id integer not null,
    id text not null,
    expires_at text not null,
    primary key (environment_id, id)
) without rowid;
create index event_payload_by_expiry on event_payload (expires_at);

-- `variation` is -1 where there was no value; `flag_version` is 0 where it is not known.
create table flag_usage (
    environment_id integer not null,
    flag_key text not null,
    day text not null,
    variation integer not null,
    flag_version integer not null,
    count integer not null,
    primary key (environment_id, flag_key, day, variation, flag_version)
) without rowid;
create index flag_usage_by_day on flag_usage (day);

create table flag_last_evaluated (
    environment_id integer not null,
    flag_key text not null,
    at text not null,
    primary key (environment_id, flag_key)
) without rowid;

-- Flags that were asked for and that there were not.
create table unknown_flag (
    environment_id integer not null,
    flag_key text not null,
    count integer not null,
    first_at text not null,
    last_at text not null,
    primary key (environment_id, flag_key)
) without rowid;
create index unknown_flag_by_time on unknown_flag (last_at);

-- One row for each part of the context of each event; only ever appended to, and deleted by the day.
-- `unit` is a keyed hash of the context's key.
create table event (
    day text not null,
    at text not null,
    environment_id integer not null,
    kind text not null,
    key text not null,
    unit_kind text not null,
    unit blob not null,
    variation integer,
    flag_version integer,
    reason text,
    in_experiment boolean not null,
    value real,
    sampling_ratio integer not null
);
create index event_by_day on event (day);
create index event_by_key on event (environment_id, key, day);

-- The first time on a day that a unit was served a variation of a tracked flag, and how often that day.
create table exposure (
    day text not null,
    environment_id integer not null,
    flag_key text not null,
    unit_kind text not null,
    unit blob not null,
    variation integer not null,
    flag_version integer not null,
    reason text,
    in_experiment boolean not null,
    first_at text not null,
    count integer not null,
    primary key (day, environment_id, flag_key, unit_kind, unit, variation)
) without rowid;
