-- Changes that are made later. Its twin is migrations/sqlite/0008_schedule.sql.

-- `due_us` is in microseconds since 1970, so that it is compared exactly. `fence` counts up whenever the entry is decided, so that
-- whoever looked at it before decides nothing.
create table schedule (
    id text primary key,
    environment_id bigint not null references environment (id) on delete cascade,
    state text not null,
    due_us bigint not null,
    fence bigint not null,
    plan text not null,
    author text not null,
    comment text,
    created_at timestamptz not null,
    outcome text,
    finished_at timestamptz
);
create index schedule_due on schedule (due_us) where state = 'pending';
create index schedule_pending on schedule (environment_id, due_us, id) where state = 'pending';
create index schedule_by_environment on schedule (environment_id, id);
create index schedule_by_age on schedule (finished_at);

-- What an entry changes.
create table schedule_target (
    schedule_id text not null references schedule (id) on delete cascade,
    kind text not null,
    key text not null,
    primary key (schedule_id, kind, key)
);
