-- Who did what, provably, and what keeps writes safe. Its twin is migrations/sqlite/0006_accountability.sql.

-- `seq` counts without gaps; `hash` is the SHA-256 of the entry before's hash and of this entry. The entries that are there
-- already are chained by the program that applies this migration. `address` is where the request came from.
alter table audit add column seq bigint;
alter table audit add column hash text;
alter table audit add column address text;
create unique index audit_by_seq on audit (seq);

-- One row, locked last by every change: the end of the chain.
create table audit_head (
    id bigint primary key check (id = 1),
    seq bigint not null,
    hash text not null
);
insert into audit_head (id, seq, hash) values (1, 0, repeat('0', 64));

create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    raise exception 'the audit log is only appended to';
end $$;
create trigger audit_not_updated before update on audit
    for each row when (old.seq is not null) execute function refuse_audit_change();
create trigger audit_not_deleted before delete on audit
    for each row execute function refuse_audit_change();
create trigger audit_not_truncated before truncate on audit
    for each statement execute function refuse_audit_change();

-- Answers to requests with a key, so that a request that is repeated changes nothing twice. `request` is the digest of what
-- was asked, `claim` names whoever works on it, `audit_id` is set together with the change, and `answer` is encrypted with a key
-- that is made of the caller's token.
create table idempotency (
    token_id text not null,
    key text not null,
    request text not null,
    claim text not null,
    claimed_at timestamptz not null,
    audit_id text,
    answer bytea,
    primary key (token_id, key)
);
create index idempotency_by_age on idempotency (claimed_at);

alter table environment add column protected boolean not null default false;
alter table environment add column require_comment boolean not null default false;
alter table environment add column require_if_match boolean not null default false;

-- `previous_digest` is the secret before a rotation, which works until `previous_expires_at`.
alter table token add column holder text;
alter table token add column expires_at timestamptz;
alter table token add column last_used_at timestamptz;
alter table token add column previous_digest bytea;
alter table token add column previous_expires_at timestamptz;
alter table token add column previous_last_used_at timestamptz;

-- The latest configurations of each flag in each environment, kept by triggers, whoever writes.
create table flag_version (
    environment_id bigint not null references environment (id) on delete cascade,
    flag_key text not null,
    version bigint not null,
    body text not null,
    primary key (environment_id, flag_key, version)
);
insert into flag_version (environment_id, flag_key, version, body)
    select environment_id, flag_key, version, body from flag_config where not is_deleted;

-- Once for each statement, because an import writes many rows with one.
create function keep_new_flag_versions() returns trigger language plpgsql as $$
begin
    insert into flag_version (environment_id, flag_key, version, body)
        select n.environment_id, n.flag_key, n.version, n.body from new_rows n
        on conflict (environment_id, flag_key, version) do update set body = excluded.body;
    return null;
end $$;
create trigger flag_config_inserted after insert on flag_config
    referencing new table as new_rows
    for each statement execute function keep_new_flag_versions();

create function keep_changed_flag_versions() returns trigger language plpgsql as $$
begin
    insert into flag_version (environment_id, flag_key, version, body)
        select n.environment_id, n.flag_key, n.version, n.body
        from new_rows n join old_rows o
            on o.environment_id = n.environment_id and o.flag_key = n.flag_key
        where o.body <> n.body
        on conflict (environment_id, flag_key, version) do update set body = excluded.body;
    delete from flag_version v
        using (select n.environment_id, n.flag_key, k.version
            from new_rows n cross join lateral (select f.version from flag_version f
                where f.environment_id = n.environment_id and f.flag_key = n.flag_key
                order by f.version desc limit 1 offset 200) k) too_old
        where v.environment_id = too_old.environment_id and v.flag_key = too_old.flag_key
            and v.version <= too_old.version;
    return null;
end $$;
create trigger flag_config_updated after update on flag_config
    referencing old table as old_rows new table as new_rows
    for each statement execute function keep_changed_flag_versions();

-- Finds the entries about a flag that were made by a change of several.
create index change_log_by_audit on change_log (audit_id);
