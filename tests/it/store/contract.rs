//! What both databases must do alike. Output shows each test once per store.

use crate::harness::Backend;
use crate::harness::Database;
use crate::harness::Folder;
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::json;
use vexil::clock::Clock;
use vexil::clock::Ids;
use vexil::model::change::Actor;
use vexil::model::change::AuditEntry;
use vexil::model::change::Kill;
use vexil::model::environment::ServerSdk;
use vexil::model::flag::FlagDefinition;
use vexil::model::key::EnvKey;
use vexil::model::key::FlagKey;
use vexil::model::key::ProjectKey;
use vexil::model::key::SegmentKey;
use vexil::model::rule::FlagConfig;
use vexil::model::segment::Segment;
use vexil::model::token::Grant;
use vexil::model::token::Holder;
use vexil::model::token::Role;
use vexil::model::token::Scope;
use vexil::model::token::TokenKind;
use vexil::store::AuditFilter;
use vexil::store::Claim;
use vexil::store::Damaged;
use vexil::store::NewToken;
use vexil::store::Store;
use vexil::store::StoreError;
use vexil::store::TokenRecord;

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&super::Fixture::new(super::Backend::Sqlite).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&super::Fixture::new(super::Backend::Postgres).await).await;
            })*
        }
    };
}

contract!(
    migrating_again_changes_nothing,
    keys_are_unique,
    flags_come_back_as_they_were_stored,
    texts_and_times_come_back_exactly,
    a_rolled_back_change_leaves_no_trace,
    versions_are_dense_under_concurrent_writers,
    what_changed_since_a_version_is_told,
    a_deleted_flag_keeps_its_key,
    a_reader_sees_one_state,
    tokens_are_stored_listed_and_revoked,
    the_audit_log_is_paged_newest_first,
    a_claim_that_was_taken_over_marks_nothing,
    the_latest_versions_of_a_flag_are_kept,
    deleting_a_project_takes_everything_with_it,
    prerequisites_and_segments_in_use_are_found,
    what_an_environment_is_made_for_is_kept,
    many_rows_are_written_at_once,
    a_newer_schema_is_refused,
);

struct Fixture {
    store: Store,
    project: ProjectKey,
    env: EnvKey,
    now: Timestamp,
    _folder: Folder,
}

impl Fixture {
    async fn new(backend: Backend) -> Self {
        let folder = Folder::new();
        let store = match backend {
            Backend::Sqlite => Store::sqlite(folder.path()).await.unwrap(),
            Backend::Postgres => {
                let database = Database::create().await;
                Store::postgres(&SecretString::from(database.url)).unwrap()
            }
        };
        store.migrate().await.unwrap();
        let (project, env) = (ProjectKey::stored("shop"), EnvKey::stored("live"));
        let now = Clock.now();
        let mut tx = store.write().await.unwrap();
        tx.bump_directory().await.unwrap();
        assert!(tx.insert_project(&project, "Shop", now).await.unwrap());
        tx.insert_environment(&project, &env, "Live", ServerSdk::None, now).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        Self { store, project, env, now, _folder: folder }
    }

    async fn env_id(&self) -> i64 {
        let environments = self.store.read().await.unwrap().environments().await.unwrap();
        environments[0].id
    }

    /// Stores a flag at the next version, which is returned.
    async fn put(&self, definition: &FlagDefinition, config: &FlagConfig) -> i64 {
        let mut tx = self.store.write().await.unwrap();
        let bumped = tx.bump_environment(&self.project, &self.env, self.now).await.unwrap();
        let (env, version) = bumped.unwrap();
        if tx.definition(&self.project, &definition.key).await.unwrap().is_none() {
            tx.insert_definition(&self.project, definition, self.now).await.unwrap();
        }
        let key = &definition.key;
        tx.put_config(env, key, config, None, version, self.now).await.unwrap();
        tx.log_change(env, version, &[key.as_str()], &[], "audit", self.now).await.unwrap();
        tx.commit().await.unwrap();
        version
    }
}

fn definition(key: &str) -> FlagDefinition {
    let body = json!({
        "key": key,
        "kind": "json",
        "name": "Grüße 👋 \"quoted\" \\ 'single'",
        "variations": [
            {"key": "a", "value": {"z": 1, "a": 1.0, "list": [10, 10.0, 1e3, -0.5]}},
            {"key": "b", "value": []},
        ],
    });
    FlagDefinition::decode(body).unwrap()
}

fn config() -> FlagConfig {
    serde_json::from_value(json!({
        "on": true,
        "targets": [{"values": ["ünï", "o'hara", "%_"], "variation": 1}],
        "rules": [{"id": "r1", "clauses": [{"contextKind": "user", "attribute": "/a/b", "op": "in",
            "values": ["x", 1, 1.5, true, null, {"k": []}], "negate": true}], "variation": 0}],
        "fallthrough": {"rollout": {"contextKind": "user", "variations": [
            {"variation": 0, "weight": 25_000}, {"variation": 1, "weight": 75_000}]}},
        "offVariation": 1,
        "salt": "shop.live",
    }))
    .unwrap()
}

async fn migrating_again_changes_nothing(fixture: &Fixture) {
    assert!(fixture.store.migrate().await.unwrap().is_empty());
    assert_eq!(fixture.store.read().await.unwrap().projects().await.unwrap().len(), 1);
}

async fn keys_are_unique(fixture: &Fixture) {
    let (project, env, now) = (&fixture.project, &fixture.env, fixture.now);
    let mut tx = fixture.store.write().await.unwrap();
    assert!(!tx.insert_project(project, "again", now).await.unwrap());
    assert!(
        tx.insert_environment(project, env, "again", ServerSdk::None, now).await.unwrap().is_none()
    );
    let other = ProjectKey::stored("Shop");
    assert!(tx.insert_project(&other, "keys differ by case", now).await.unwrap());
    assert!(!tx.lock_project(&ProjectKey::stored("none")).await.unwrap());
    assert!(tx.bump_environment(&other, env, now).await.unwrap().is_none());
}

async fn flags_come_back_as_they_were_stored(fixture: &Fixture) {
    let (definition, config) = (definition("f"), config());
    let version = fixture.put(&definition, &config).await;
    let env = fixture.env_id().await;
    let mut tx = fixture.store.read().await.unwrap();
    let flag = tx.flag(&fixture.project, env, &definition.key).await.unwrap().unwrap();
    assert_eq!((&flag.definition, &flag.config), (&definition, &config));
    assert_eq!((flag.version, flag.killed), (version, None));
    // Numbers and the order of keys are kept as they were written.
    let value = flag.definition.variations[0].value.to_string();
    assert_eq!(value, r#"{"z":1,"a":1.0,"list":[10,10.0,1000.0,-0.5]}"#);
    assert!(tx.flag(&fixture.project, env, &FlagKey::stored("none")).await.unwrap().is_none());
    let all = tx.flags(&fixture.project, env).await.unwrap();
    assert_eq!(all.len(), 1);
}

async fn texts_and_times_come_back_exactly(fixture: &Fixture) {
    let now: Timestamp = "2026-11-23T10:04:20.123456Z".parse().unwrap();
    let env = fixture.env_id().await;
    fixture.put(&definition("f"), &config()).await;
    let kill = Kill {
        id: "k".to_owned(),
        at: now,
        by: "Zoë \u{1F525}".to_owned(),
        version: 7,
        was_on: true,
    };
    let key = FlagKey::stored("f");
    let mut tx = fixture.store.write().await.unwrap();
    tx.put_config(env, &key, &config(), Some(&kill), 7, now).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = fixture.store.read().await.unwrap();
    let flag = tx.flag(&fixture.project, env, &key).await.unwrap().unwrap();
    assert_eq!((flag.killed, flag.changed_at), (Some(kill), now));
    assert_eq!(flag.created_at, fixture.now, "what the clock gives is kept to the last digit");
}

async fn a_rolled_back_change_leaves_no_trace(fixture: &Fixture) {
    let env = fixture.env_id().await;
    let mut tx = fixture.store.write().await.unwrap();
    tx.bump_directory().await.unwrap();
    let (_, version) =
        tx.bump_environment(&fixture.project, &fixture.env, fixture.now).await.unwrap().unwrap();
    tx.insert_definition(&fixture.project, &definition("f"), fixture.now).await.unwrap();
    drop(tx);
    let next = fixture.put(&definition("g"), &config()).await;
    assert_eq!(next, version, "the version was given back");
    let mut tx = fixture.store.read().await.unwrap();
    let keys: Vec<_> = tx.definitions(&fixture.project).await.unwrap();
    assert_eq!(keys.len(), 1);
    let positions = tx.positions().await.unwrap();
    let at: Vec<_> = positions.environments.iter().map(|each| (each.id, each.version)).collect();
    assert_eq!(at, [(env, next)]);
}

async fn versions_are_dense_under_concurrent_writers(fixture: &Fixture) {
    const WRITERS: i64 = 50;
    fixture.put(&definition("f"), &config()).await;
    let write = |_| {
        let (store, project, env) =
            (fixture.store.clone(), fixture.project.clone(), fixture.env.clone());
        let now = fixture.now;
        tokio::spawn(async move {
            let mut tx = store.write().await.unwrap();
            let (env, version) = tx.bump_environment(&project, &env, now).await.unwrap().unwrap();
            tx.put_config(env, &FlagKey::stored("f"), &config(), None, version, now).await.unwrap();
            tx.log_change(env, version, &["f"], &[], "audit", now).await.unwrap();
            tx.commit().await.unwrap();
            version
        })
    };
    let mut versions = Vec::new();
    for writer in (0..WRITERS).map(write).collect::<Vec<_>>() {
        versions.push(writer.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (2..2 + WRITERS).collect::<Vec<_>>());
}

async fn what_changed_since_a_version_is_told(fixture: &Fixture) {
    let env = fixture.env_id().await;
    let first = fixture.put(&definition("a"), &config()).await;
    let second = fixture.put(&definition("b"), &config()).await;
    let third = fixture.put(&definition("a"), &config()).await;
    let mut tx = fixture.store.read().await.unwrap();
    let mut changed = async |since| {
        let flags = tx.changed_flags(&fixture.project, env, since).await.unwrap();
        let mut keys: Vec<_> =
            flags.iter().map(|flag| (flag.key.to_string(), flag.version)).collect();
        keys.sort();
        keys
    };
    let (a, b) = (("a".to_owned(), third), ("b".to_owned(), second));
    assert_eq!(changed(0).await, [a.clone(), b.clone()]);
    assert_eq!(changed(first).await, [a.clone(), b]);
    assert_eq!(changed(second).await, [a]);
    assert_eq!(changed(third).await, []);
}

async fn a_deleted_flag_keeps_its_key(fixture: &Fixture) {
    let env = fixture.env_id().await;
    let definition = definition("f");
    let before = fixture.put(&definition, &config()).await;
    let mut tx = fixture.store.write().await.unwrap();
    let (_, version) =
        tx.bump_environment(&fixture.project, &fixture.env, fixture.now).await.unwrap().unwrap();
    let key = &definition.key;
    assert!(tx.delete_definition(&fixture.project, key, fixture.now).await.unwrap());
    assert!(!tx.delete_definition(&fixture.project, key, fixture.now).await.unwrap());
    tx.delete_config(env, key, version, fixture.now).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = fixture.store.read().await.unwrap();
    let (_, is_deleted) = tx.definition(&fixture.project, key).await.unwrap().unwrap();
    assert!(is_deleted);
    assert!(tx.flag(&fixture.project, env, key).await.unwrap().is_none());
    assert!(tx.flags(&fixture.project, env).await.unwrap().is_empty());
    assert_eq!(tx.count_definitions(&fixture.project).await.unwrap(), 1);
    let changed = tx.changed_flags(&fixture.project, env, before).await.unwrap();
    assert!(matches!(changed.as_slice(), [only] if only.text.is_none()));
}

async fn a_reader_sees_one_state(fixture: &Fixture) {
    let env = fixture.env_id().await;
    fixture.put(&definition("a"), &config()).await;
    let mut reader = fixture.store.read().await.unwrap();
    let before = reader.positions().await.unwrap();
    fixture.put(&definition("b"), &config()).await;
    assert_eq!(reader.positions().await.unwrap(), before);
    assert_eq!(reader.flags(&fixture.project, env).await.unwrap().len(), 1);
    drop(reader);
    let mut later = fixture.store.read().await.unwrap();
    assert_eq!(later.flags(&fixture.project, env).await.unwrap().len(), 2);
}

fn readable(tokens: Vec<Result<TokenRecord, StoreError>>) -> Vec<TokenRecord> {
    tokens.into_iter().map(Result::unwrap).collect()
}

async fn tokens_are_stored_listed_and_revoked(fixture: &Fixture) {
    let env = fixture.env_id().await;
    let (project, env_key) = (fixture.project.clone(), fixture.env.clone());
    let record = |digest: u8, kind, role, scope| TokenRecord {
        digest: [digest; 32],
        grant: Grant {
            id: Ids.next(),
            name: "ünï".to_owned(),
            kind,
            role,
            scope,
            holder: role.map(|_| Holder::Service),
            expires_at: role.map(|_| fixture.now),
            signing: None,
        },
        hint: "abcd".to_owned(),
        created_at: fixture.now,
        created_by: "test".to_owned(),
        last_used_at: None,
        previous: None,
    };
    let records = [
        record(1, TokenKind::Admin, Some(Role::Administrator), Scope::All),
        record(2, TokenKind::Admin, Some(Role::Viewer), Scope::Project(project.clone())),
        record(3, TokenKind::Server, None, Scope::Environment(project, env_key)),
    ];
    let mut tx = fixture.store.write().await.unwrap();
    tx.bump_directory().await.unwrap();
    for (record, env) in records.iter().zip([None, None, Some(env)]) {
        assert!(tx.insert_token(&NewToken { record, env }).await.unwrap());
        assert!(!tx.insert_token(&NewToken { record, env }).await.unwrap(), "digests are unique");
    }
    assert_eq!(readable(tx.tokens().await.unwrap()), records);
    assert_eq!(tx.count_tokens().await.unwrap(), 3);
    assert!(tx.revoke_token(&records[1].grant.id, fixture.now).await.unwrap());
    assert!(!tx.revoke_token(&records[1].grant.id, fixture.now).await.unwrap());
    assert!(!tx.revoke_token("none", fixture.now).await.unwrap());
    tx.commit().await.unwrap();
    let left = fixture.store.read().await.unwrap().tokens().await.unwrap();
    assert_eq!(readable(left), [records[0].clone(), records[2].clone()]);
}

async fn the_audit_log_is_paged_newest_first(fixture: &Fixture) {
    let entry = |i: i64| AuditEntry {
        id: format!("id-{i}"),
        at: fixture.now,
        actor: Actor { id: "a".to_owned(), name: "Zoë".to_owned(), holder: None },
        project: (i > 0).then(|| fixture.project.clone()),
        env: (i > 1).then(|| fixture.env.clone()),
        action: "flag.change".to_owned(),
        subject: "f".to_owned(),
        version: (i > 1).then_some(i),
        comment: (i > 2).then(|| "because: \"x\"".to_owned()),
        instructions: (i > 2).then(|| r#"[{"kind":"turnFlagOn"}]"#.to_owned()),
        changes: vec!["turned the flag on".to_owned()],
        request_id: "r".to_owned(),
        address: (i > 1).then(|| "192.0.2.1".to_owned()),
        link: None,
        unreadable: Vec::new(),
    };
    let unlinked = |entries: Vec<AuditEntry>| -> Vec<AuditEntry> {
        entries.into_iter().map(|entry| AuditEntry { link: None, ..entry }).collect()
    };
    let mut tx = fixture.store.write().await.unwrap();
    tx.bump_directory().await.unwrap();
    for i in 0..5 {
        tx.insert_audit(&entry(i)).await.unwrap();
    }
    let all = AuditFilter { limit: 100, ..AuditFilter::default() };
    assert_eq!(
        unlinked(tx.audit(&all).await.unwrap()),
        (0..5).rev().map(entry).collect::<Vec<_>>()
    );
    let page = AuditFilter { limit: 2, before: Some("id-4".to_owned()), ..all.clone() };
    assert_eq!(unlinked(tx.audit(&page).await.unwrap()), [entry(3), entry(2)]);
    let own = AuditFilter {
        project: Some(fixture.project.clone()),
        env: Some(fixture.env.clone()),
        ..all.clone()
    };
    assert_eq!(tx.audit(&own).await.unwrap().len(), 3);
    let of_project = AuditFilter { project: Some(fixture.project.clone()), ..all };
    assert_eq!(tx.audit(&of_project).await.unwrap().len(), 4);
}

async fn a_claim_that_was_taken_over_marks_nothing(fixture: &Fixture) {
    let claim =
        |id: &str| Claim { token_id: "t".to_owned(), key: "k".to_owned(), id: id.to_owned() };
    let (slow, quick) = (claim("slow"), claim("quick"));
    let mut tx = fixture.store.write().await.unwrap();
    tx.bump_directory().await.unwrap();
    assert!(tx.claim_key(&slow, "request", fixture.now).await.unwrap());
    assert!(!tx.claim_key(&quick, "request", fixture.now).await.unwrap());
    assert!(tx.take_over_key(&quick, "slow", fixture.now).await.unwrap());
    assert!(!tx.mark_claim(&slow, "audit").await.unwrap());
    tx.keep_answer(&slow, b"late").await.unwrap();
    assert!(tx.mark_claim(&quick, "audit").await.unwrap());
    // What was changed stays known, also without an answer.
    tx.release_key(&quick).await.unwrap();
    assert!(!tx.take_over_key(&slow, "quick", fixture.now).await.unwrap());
    let kept = tx.kept_answer("t", "k").await.unwrap().unwrap();
    assert_eq!((kept.audit_id.as_deref(), kept.answer), (Some("audit"), None));
    assert_eq!(tx.forget_keys(fixture.now).await.unwrap(), 0);
    let later = fixture.now + jiff::SignedDuration::from_secs(1);
    assert_eq!(tx.forget_keys(later).await.unwrap(), 1);
}

async fn the_latest_versions_of_a_flag_are_kept(fixture: &Fixture) {
    let env = fixture.env_id().await;
    fixture.put(&definition("f"), &config()).await;
    let key = definition("f").key;
    let mut tx = fixture.store.write().await.unwrap();
    tx.bump_directory().await.unwrap();
    let mut config = config();
    for version in 1_001..=1_250 {
        config.salt = version.to_string();
        tx.put_config(env, &key, &config, None, version, fixture.now).await.unwrap();
    }
    // What changes nothing is no version.
    tx.put_config(env, &key, &config, None, 1_251, fixture.now).await.unwrap();
    let versions = tx.flag_versions(env, &key, 0, 1_000).await.unwrap();
    let versions: Vec<i64> = versions.iter().map(|each| each.version).collect();
    assert_eq!(versions, (1_051..=1_250).rev().collect::<Vec<_>>());
    assert_eq!(tx.config_at(env, &key, 1_100).await.unwrap().unwrap().salt, "1100");
    assert_eq!(tx.config_at(env, &key, 1_050).await.unwrap(), None);
}

async fn deleting_a_project_takes_everything_with_it(fixture: &Fixture) {
    let env = fixture.env_id().await;
    fixture.put(&definition("f"), &config()).await;
    let segment: Segment = serde_json::from_value(json!({"key": "s", "name": "s"})).unwrap();
    let mut tx = fixture.store.write().await.unwrap();
    tx.bump_directory().await.unwrap();
    tx.put_segment(env, &segment, 9, fixture.now).await.unwrap();
    let scope = Scope::Environment(fixture.project.clone(), fixture.env.clone());
    let record = TokenRecord {
        digest: [7; 32],
        grant: Grant {
            id: Ids.next(),
            name: String::new(),
            kind: TokenKind::Client,
            role: None,
            scope,
            holder: None,
            expires_at: None,
            signing: None,
        },
        hint: String::new(),
        created_at: fixture.now,
        created_by: String::new(),
        last_used_at: None,
        previous: None,
    };
    tx.insert_token(&NewToken { record: &record, env: Some(env) }).await.unwrap();
    assert!(tx.delete_project(&fixture.project).await.unwrap());
    assert!(!tx.delete_project(&fixture.project).await.unwrap());
    assert!(tx.environments().await.unwrap().is_empty());
    assert!(tx.tokens().await.unwrap().is_empty());
    assert!(tx.definitions(&fixture.project).await.unwrap().is_empty());
    assert!(tx.segments(env).await.unwrap().is_empty());
    // The number of an environment is never given to another.
    tx.insert_project(&fixture.project, "again", fixture.now).await.unwrap();
    let again = tx
        .insert_environment(&fixture.project, &fixture.env, "", ServerSdk::None, fixture.now)
        .await;
    assert!(again.unwrap().unwrap() > env);
}

async fn prerequisites_and_segments_in_use_are_found(fixture: &Fixture) {
    let env = fixture.env_id().await;
    fixture.put(&definition("plain"), &config()).await;
    let mut needy = config();
    needy.prerequisites =
        serde_json::from_value(json!([{"key": "plain", "variation": 0}])).unwrap();
    needy.rules[0].clauses[0].op = "segmentMatch".to_owned();
    fixture.put(&definition("needy"), &needy).await;
    let mut tx = fixture.store.write().await.unwrap();
    let edges = tx.prerequisites(env, Damaged::Refused).await.unwrap();
    let expected = (FlagKey::stored("needy"), vec![FlagKey::stored("plain")]);
    assert_eq!(edges.into_iter().collect::<Vec<_>>(), [expected]);
    let asking = tx.configs_asking_for_segments(env, Damaged::Refused).await.unwrap();
    assert_eq!(asking, [(FlagKey::stored("needy"), needy)]);
    let segment: Segment = serde_json::from_value(json!({"key": "s", "name": "S"})).unwrap();
    tx.put_segment(env, &segment, 5, fixture.now).await.unwrap();
    let key = SegmentKey::stored("s");
    assert_eq!(tx.segment(env, &key).await.unwrap().unwrap().segment, segment);
    assert_eq!(tx.changed_segments(env, 4).await.unwrap().len(), 1);
    assert_eq!(tx.changed_segments(env, 5).await.unwrap().len(), 0);
    assert!(tx.delete_segment(env, &key, 6, fixture.now).await.unwrap());
    assert!(!tx.delete_segment(env, &key, 7, fixture.now).await.unwrap());
    assert!(tx.segment(env, &key).await.unwrap().is_none());
    let changed = tx.changed_segments(env, 5).await.unwrap();
    assert!(matches!(changed.as_slice(), [only] if only.text.is_none()));
}

async fn what_an_environment_is_made_for_is_kept(fixture: &Fixture) {
    let key = EnvKey::stored("imported");
    let mut tx = fixture.store.write().await.unwrap();
    tx.bump_directory().await.unwrap();
    let env = tx
        .insert_environment(&fixture.project, &key, "", ServerSdk::LaunchDarkly, fixture.now)
        .await;
    let env = env.unwrap().unwrap();
    assert_eq!(tx.server_sdk(env).await.unwrap(), ServerSdk::LaunchDarkly);
    tx.commit().await.unwrap();
    let environments = fixture.store.read().await.unwrap().environments().await.unwrap();
    let kinds: Vec<_> = environments.iter().map(|environment| environment.server_sdk).collect();
    assert_eq!(kinds, [ServerSdk::None, ServerSdk::LaunchDarkly]);
}

async fn many_rows_are_written_at_once(fixture: &Fixture) {
    const ROWS: usize = 1_234;
    let project = &fixture.project;
    let definitions: Vec<_> = (0..ROWS).map(|i| definition(&format!("f{i}"))).collect();
    let configs: Vec<_> = definitions.iter().map(|flag| (flag.key.clone(), config())).collect();
    let segment = |i| Segment { key: SegmentKey::stored(&format!("s{i}")), ..segment() };
    let segments: Vec<Segment> = (0..ROWS).map(segment).collect();
    let mut tx = fixture.store.write().await.unwrap();
    let bumped = tx.bump_environment(project, &fixture.env, fixture.now).await.unwrap();
    let (env, version) = bumped.unwrap();
    tx.lock_environment(env).await.unwrap();
    tx.lock_environment(env + 1).await.unwrap();
    tx.insert_definitions(project, &definitions, fixture.now).await.unwrap();
    tx.put_configs(env, &configs, version, fixture.now).await.unwrap();
    tx.put_segments(env, &segments, version, fixture.now).await.unwrap();
    // Over rows that are there: a kill ends, and a segment that was deleted is new.
    let kill =
        Kill { id: "k".to_owned(), at: fixture.now, by: String::new(), version, was_on: true };
    let key = &definitions[0].key;
    tx.put_config(env, key, &config(), Some(&kill), version, fixture.now).await.unwrap();
    tx.put_configs(env, &configs[..2], version + 1, fixture.now).await.unwrap();
    assert!(tx.delete_segment(env, &segments[0].key, version, fixture.now).await.unwrap());
    tx.put_segments(env, &segments[..2], version + 1, fixture.now).await.unwrap();
    tx.put_configs(env, &[], version, fixture.now).await.unwrap();
    tx.delete_definition(project, &definitions[1].key, fixture.now).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = fixture.store.read().await.unwrap();
    let flags = tx.flags(project, env).await.unwrap();
    assert_eq!((flags.len(), tx.segments(env).await.unwrap().len()), (ROWS, ROWS));
    let first = tx.flag(project, env, key).await.unwrap().unwrap();
    assert_eq!((&first.definition, &first.config), (&definitions[0], &config()));
    assert_eq!((first.version, first.killed), (version + 1, None));
    assert_eq!(tx.changed_segments(env, version).await.unwrap().len(), 2);
    let all = tx.all_definitions(project).await.unwrap();
    assert_eq!((all.len(), all[key].1, all[&definitions[1].key].1), (ROWS, false, true));
}

/// A segment with nobody in it.
fn segment() -> Segment {
    serde_json::from_value(json!({"key": "s", "name": "S"})).unwrap()
}

async fn a_newer_schema_is_refused(fixture: &Fixture) {
    let insert = "insert into schema_migration (number, name, checksum) values (999, 'x', 'y')";
    match &fixture.store {
        Store::Postgres { pool, .. } => {
            sqlx::raw_sql(insert).execute(pool).await.unwrap();
        }
        Store::Sqlite { pool, .. } => {
            sqlx::raw_sql(insert).execute(pool).await.unwrap();
        }
    }
    let error = fixture.store.migrate().await.unwrap_err().to_string();
    assert!(error.contains("newer version"), "{error}");
}
