-- What is slow among many rows. Its twin is migrations/sqlite/0011_scale.sql.

-- Finds the entries about a flag among millions.
create index audit_by_subject on audit (subject, id);
-- Those of a change of several flags, which names each in a list.
create index change_log_by_flag on change_log using gin ((flags::jsonb) jsonb_path_ops);

-- As in 0006, but which version is too old is found once for each flag: planned as one join, it is found once for each version,
-- and a kill of hundreds of flags that have all their versions takes longer than a transaction may.
create or replace function keep_changed_flag_versions() returns trigger language plpgsql as $$
begin
    insert into flag_version (environment_id, flag_key, version, body)
        select n.environment_id, n.flag_key, n.version, n.body
        from new_rows n join old_rows o
            on o.environment_id = n.environment_id and o.flag_key = n.flag_key
        where o.body <> n.body
        on conflict (environment_id, flag_key, version) do update set body = excluded.body;
    with too_old as materialized (select n.environment_id, n.flag_key, k.version
            from new_rows n cross join lateral (select f.version from flag_version f
                where f.environment_id = n.environment_id and f.flag_key = n.flag_key
                order by f.version desc limit 1 offset 200) k)
        delete from flag_version v using too_old
        where v.environment_id = too_old.environment_id and v.flag_key = too_old.flag_key
            and v.version <= too_old.version;
    return null;
end $$;
