//! What the store does with counts and events, alike on both databases.

use crate::harness::Backend;
use crate::harness::Database;
use crate::harness::Folder;
use jiff::Timestamp;
use jiff::civil::date;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use vexil::model::event::EventKind;
use vexil::store::Asked;
use vexil::store::EventRow;
use vexil::store::Exposure;
use vexil::store::Store;

async fn open(backend: Backend, folder: &Folder) -> Store {
    let store = match backend {
        Backend::Sqlite => Store::sqlite(folder.path()).await.unwrap(),
        Backend::Postgres => {
            Store::postgres(&SecretString::from(Database::create().await.url)).unwrap()
        }
    };
    store.migrate().await.unwrap();
    store
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[tokio::test]
async fn counts_add_up_until_their_days_are_dropped() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let folder = Folder::new();
        let store = open(backend, &folder).await;
        let (old, new) = (date(2026, 1, 1), date(2026, 1, 2));
        let days = BTreeSet::from([old, new]);
        store.prepare_days(&days).await.unwrap();
        store.prepare_days(&days).await.unwrap();
        for _ in 0..2 {
            let mut tx = store.begin_writing().await.unwrap();
            let of = |day, variation| (1, "f".to_owned(), day, variation, 3);
            let usage = BTreeMap::from([(of(old, 0), 2), (of(new, 0), 3), (of(new, -1), 1)]);
            tx.add_usage(&usage).await.unwrap();
            let event = |day| EventRow {
                day,
                at: at("2026-01-01T10:00:00.123456Z"),
                env: 1,
                kind: EventKind::Custom,
                key: "k".to_owned(),
                unit_kind: "user".to_owned(),
                unit: [7; 16],
                variation: None,
                version: None,
                reason: None,
                in_experiment: false,
                value: Some(0.5),
                sampling_ratio: 1,
            };
            tx.insert_events(&[event(old), event(new)]).await.unwrap();
            let exposure = Exposure {
                version: 3,
                reason: Some("FALLTHROUGH"),
                in_experiment: true,
                first_at: at("2026-01-01T10:00:00Z"),
                n: 1,
            };
            let of = |day| (day, 1, "f".to_owned(), "user".to_owned(), [7; 16], 0);
            let exposures = BTreeMap::from([(of(old), exposure.clone()), (of(new), exposure)]);
            tx.add_exposures(&exposures).await.unwrap();
            tx.commit().await.unwrap();
        }
        let usage = async || {
            let mut tx = store.read().await.unwrap();
            let records = tx.usage(1, "f", old).await.unwrap();
            records.iter().map(|each| (each.day, each.variation, each.n)).collect::<Vec<_>>()
        };
        let kept = [(new, None, 2), (new, Some(0), 6)];
        let all = [&[(old, Some(0), 4)][..], &kept].concat();
        assert_eq!(usage().await, all, "{backend:?}");
        store.drop_days_before(new).await.unwrap();
        assert_eq!(usage().await, kept, "{backend:?}");
        let totals = store.read().await.unwrap().usage_totals(1, old).await.unwrap();
        assert_eq!(totals["f"], BTreeMap::from([(None, 2), (Some(0), 6)]));
        // The days that are left can still be written.
        store.prepare_days(&days).await.unwrap();
        // Environment 1 is not there, so what was counted in it goes.
        let now = at("2026-01-02T00:00:00Z");
        store.forget_expired(now, now).await.unwrap();
        assert_eq!(usage().await, [], "{backend:?}");
        store.close().await;
    }
}

#[tokio::test]
async fn payloads_are_new_once_until_they_expire() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let folder = Folder::new();
        let store = open(backend, &folder).await;
        let expires_at = at("2026-01-01T10:00:00Z");
        let new = async |ids: &[(i64, &'static str)]| {
            let ids = ids.iter().map(|id| (*id, expires_at)).collect();
            let mut tx = store.begin_writing().await.unwrap();
            let new = tx.new_payloads(&ids).await.unwrap();
            tx.commit().await.unwrap();
            new.into_iter().map(|(env, id)| format!("{env}{id}")).collect::<Vec<_>>()
        };
        assert_eq!(new(&[(1, "a"), (1, "b"), (2, "a")]).await, ["1a", "1b", "2a"]);
        assert_eq!(new(&[(1, "a"), (1, "c")]).await, ["1c"]);
        let before = at("2026-01-01T09:59:59Z");
        store.forget_expired(before, before).await.unwrap();
        assert_eq!(new(&[(1, "a")]).await, [""; 0]);
        let after = at("2026-01-01T10:00:01Z");
        store.forget_expired(after, after).await.unwrap();
        assert_eq!(new(&[(1, "a")]).await, ["1a"]);
        store.close().await;
    }
}

/// Flags that one environment can have that there are not.
const UNKNOWN_MAX: usize = 10_000;

#[tokio::test]
async fn flags_that_there_are_not_have_a_bound_for_each_environment() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let folder = Folder::new();
        let store = open(backend, &folder).await;
        let asked = Asked {
            n: 1,
            first_at: at("2026-01-01T10:00:00Z"),
            last_at: at("2026-01-01T10:00:00Z"),
        };
        let many: BTreeMap<_, _> =
            (0..UNKNOWN_MAX + 5).map(|i| ((1, format!("f{i:05}")), asked)).collect();
        let mut tx = store.begin_writing().await.unwrap();
        assert_eq!(tx.add_unknown(&many).await.unwrap(), 5);
        let later = Asked { last_at: at("2026-01-01T11:00:00Z"), ..asked };
        let again = [(1, "f00000".to_owned()), (1, "new".to_owned()), (2, "new".to_owned())];
        let again = again.into_iter().map(|of| (of, later)).collect();
        assert_eq!(tx.add_unknown(&again).await.unwrap(), 1, "those that are there go on");
        tx.commit().await.unwrap();
        let told = store.read().await.unwrap().unknown_flags(1, "p", 10).await.unwrap();
        assert_eq!((told[0].flag.as_str(), told[0].n), ("f00000", 2), "the latest first");
        store.close().await;
    }
}
