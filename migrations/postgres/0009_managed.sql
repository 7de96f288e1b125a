-- Which flags and segments are looked after from files, and by whom. Its twin is migrations/sqlite/0009_managed.sql.

create table managed_flag (
    project_key text not null references project (key) on delete cascade,
    flag_key text not null,
    owner text not null,
    primary key (project_key, flag_key)
);

create table managed_segment (
    environment_id bigint not null references environment (id) on delete cascade,
    segment_key text not null,
    owner text not null,
    primary key (environment_id, segment_key)
);
