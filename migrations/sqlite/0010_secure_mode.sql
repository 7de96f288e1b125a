-- Contexts of browsers that an application's backend vouches for. Its twin is migrations/postgres/0010_secure_mode.sql.
-- `signing` is the state of an HMAC keyed with a server token: it proves what that token has signed, and does not give it away.
alter table environment add column secure_mode boolean not null default false;
alter table token add column signing blob;
alter table token add column previous_signing blob;
