-- Who did what, provably, and what keeps writes safe. Its twin is migrations/postgres/0006_accountability.sql.

-- `seq` counts without gaps; `hash` is the SHA-256 of the entry before's hash and of this entry. The entries that are there
-- already are chained by the program that applies this migration. `address` is where the request came from.
alter table audit add column seq integer;
alter table audit add column hash text;
alter table audit add column address text;
create unique index audit_by_seq on audit (seq);

-- One row, locked last by every change: the end of the chain.
create table audit_head (
    id integer primary key check (id = 1),
    seq integer not null,
    hash text not null
);
insert into audit_head (id, seq, hash)
    values (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

create trigger audit_not_updated before update on audit when old.seq is not null
begin
    select raise(abort, 'the audit log is only appended to');
end;
create trigger audit_not_deleted before delete on audit
begin
    select raise(abort, 'the audit log is only appended to');
end;

-- Answers to requests with a key, so that a request that is repeated changes nothing twice. `request` is the digest of what
-- was asked, `claim` names whoever works on it, `audit_id` is set together with the change, and `answer` is encrypted with a key
-- that is made of the caller's token.
create table idempotency (
    token_id text not null,
    key text not null,
    request text not null,
    claim text not null,
    claimed_at text not null,
    audit_id text,
    answer blob,
    primary key (token_id, key)
);
create index idempotency_by_age on idempotency (claimed_at);

alter table environment add column protected boolean not null default false;
alter table environment add column require_comment boolean not null default false;
alter table environment add column require_if_match boolean not null default false;

-- `previous_digest` is the secret before a rotation, which works until `previous_expires_at`.
alter table token add column holder text;
alter table token add column expires_at text;
alter table token add column last_used_at text;
alter table token add column previous_digest blob;
alter table token add column previous_expires_at text;
alter table token add column previous_last_used_at text;

-- The latest configurations of each flag in each environment, kept by triggers, whoever writes.
create table flag_version (
    environment_id integer not null references environment (id) on delete cascade,
    flag_key text not null,
    version integer not null,
    body text not null,
    primary key (environment_id, flag_key, version)
);
insert into flag_version (environment_id, flag_key, version, body)
    select environment_id, flag_key, version, body from flag_config where not is_deleted;

create trigger flag_config_inserted after insert on flag_config
begin
    insert into flag_version (environment_id, flag_key, version, body)
        values (new.environment_id, new.flag_key, new.version, new.body)
        on conflict (environment_id, flag_key, version) do update set body = excluded.body;
end;
create trigger flag_config_updated after update of body on flag_config
    when old.body is not new.body
begin
    insert into flag_version (environment_id, flag_key, version, body)
        values (new.environment_id, new.flag_key, new.version, new.body)
        on conflict (environment_id, flag_key, version) do update set body = excluded.body;
    delete from flag_version
        where environment_id = new.environment_id and flag_key = new.flag_key
            and version <= (select v.version from flag_version v
                where v.environment_id = new.environment_id and v.flag_key = new.flag_key
                order by v.version desc limit 1 offset 200);
end;

-- Finds the entries about a flag that were made by a change of several.
create index change_log_by_audit on change_log (audit_id);
