-- What is slow among many rows. Its twin is migrations/postgres/0011_scale.sql; the lists of flags of a change of several have no
-- index here and are read once for each question.

create index audit_by_subject on audit (subject, id);
