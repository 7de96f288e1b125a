-- Which server-side SDKs evaluate an environment's flags by themselves: `none` or `launchdarkly`. It decides how rollouts hash.
-- Its twin is migrations/postgres/0002_server_sdk.sql.
alter table environment add column server_sdk text not null default 'none';
