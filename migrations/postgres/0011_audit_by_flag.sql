-- Finds the entries about a flag among millions. Its twin is migrations/sqlite/0011_audit_by_flag.sql.

create index audit_by_subject on audit (subject, id);
-- Those of a change of several flags, which names each in a list.
create index change_log_by_flag on change_log using gin ((flags::jsonb) jsonb_path_ops);
