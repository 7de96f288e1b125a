-- Which history of the database this is, and which replicas follow it. Its twin is migrations/postgres/0003_history.sql.

-- `identity` is the system identifier and the timeline under which the epoch began; another one begins the next epoch.
-- `accepted_epoch` is the epoch from which replicas take what is here even if they have seen more.
-- `regression` says what is missing here that replicas have seen; while it does, nothing can be changed.
-- `cache_key` authenticates what replicas leave in Redis.
alter table cluster add column identity text not null default '';
alter table cluster add column accepted_epoch bigint not null default 0;
alter table cluster add column regression text;
alter table cluster add column cache_key blob;

-- How many seconds evaluations go on without confirmation; null is for ever.
alter table environment add column fail_closed_after_secs bigint;

-- One row for each process that follows; `positions` maps the numbers of environments to the positions that it serves.
create table replica (
    id text primary key,
    name text not null,
    positions text not null,
    seen_at text not null
);
