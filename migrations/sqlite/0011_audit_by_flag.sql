-- Finds the entries about a flag among millions. Its twin is migrations/postgres/0011_audit_by_flag.sql; the lists of flags that
-- a change of several names have no index here and are read once for each question.

create index audit_by_subject on audit (subject, id);
