//! Which history of the database this is: told apart by the server's own identity, and by what was seen of it.
//!
//! A restored backup or a promoted standby can hold less than replicas have served already. The system identifier and the
//! timeline of PostgreSQL show that the history is another one; the id of the audit entry behind each version, its stamp,
//! shows whether it is the same up to there. Who compares them with what is served is the follower, in `snapshot`.

use crate::model::change::EnvId;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::dialect;
use crate::store::on_tx;
use crate::store::sql;
use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use sqlx::Postgres;
use sqlx::Transaction;
use std::sync::Arc;

/// Where the database stands at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    /// Grows when the database's history was replaced.
    pub epoch: i64,
    /// The epoch from which replicas take what is here even if they have seen more.
    pub accepted_epoch: i64,
    /// Which server this is, which timeline it writes, and which of its databases this is; empty on SQLite.
    pub identity: String,
    /// The name of the installation, which its copies share; `None` before the first replica has followed it.
    pub installation: Option<String>,
    /// Whether the server is still the one under which the epoch began.
    pub is_continued: bool,
    /// What is missing here that a replica has seen; while it does, nothing can be changed.
    pub regression: Option<String>,
    /// Grows with every change of projects, environments and tokens.
    pub directory_version: i64,
    /// What its clock says; `None` on SQLite, which has none of its own.
    pub now: Option<Timestamp>,
    /// Each environment.
    pub environments: Vec<EnvironmentPosition>,
}

impl Positions {
    /// Whether they are of the same database as earlier ones, which may have been given its name since.
    pub fn are_of_same(&self, earlier: &Self) -> bool {
        let is_named = earlier.installation.is_some();
        let is_other = is_named && self.installation != earlier.installation;
        !is_other && self.identity == earlier.identity
    }
}

/// Where an environment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentPosition {
    /// Its number.
    pub id: EnvId,
    /// How often it was changed.
    pub version: i64,
    /// The id of the audit entry that made the version; no two histories have the same.
    pub stamp: String,
}

/// The server and the timeline that it writes; fails on a standby, which cannot be written to.
macro_rules! postgres_identity {
    () => {
        "(select system_identifier::text from pg_control_system()) || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
    };
}

const POSTGRES_CLUSTER: &str = concat!(
    "select c.epoch, c.accepted_epoch, live.id || '/' || live.db, c.identity = live.id, c.regression,
        c.directory_version, now(), c.cache_key
    from cluster c, (select oid::text as db, ",
    postgres_identity!(),
    " as id from pg_database where datname = current_database()) live where c.id = 1"
);
const SQLITE_CLUSTER: &str =
    "select epoch, accepted_epoch, '', true, regression, directory_version, null, cache_key
    from cluster where id = 1";
const ENVIRONMENTS: &str = "select e.id, e.version, coalesce(l.audit_id, '') from environment e
    left join change_log l on l.environment_id = e.id and l.version = e.version";
const ENVIRONMENT: &str =
    "select c.epoch, e.version, coalesce(l.audit_id, ''), c.cache_key from cluster c cross join environment e
    left join change_log l on l.environment_id = e.id and l.version = e.version
    where c.id = 1 and e.id = $1";
const STAMP: &str = "select audit_id from change_log where environment_id = $1 and version = $2";

const POSTGRES_STATE: &str = concat!(
    "select identity = ",
    postgres_identity!(),
    ", regression, cache_key from cluster where id = 1"
);
const POSTGRES_CONTINUE: &str = concat!(
    "update cluster set epoch = epoch + 1, identity = ",
    postgres_identity!(),
    " where id = 1 and identity <> ",
    postgres_identity!()
);
const POSTGRES_FIRST: &str = concat!(
    "update cluster set identity = ",
    postgres_identity!(),
    " where id = 1 and identity = ''"
);
/// The epoch is raised to the one that was seen, so that the next, in which the loss is accepted, is above it.
const MARK: &str = "update cluster set regression = $1,
        epoch = case when epoch < $3 then $3 else epoch end
    where id = 1 and regression is null and epoch = $2";
const ACCEPT: &str =
    "update cluster set epoch = epoch + 1, accepted_epoch = epoch + 1, regression = null
    where id = 1 and regression is not null returning epoch";
const REGRESSION: &str = "select regression from cluster where id = 1";
const CACHE_KEY: &str = "select cache_key from cluster where id = 1";
const SET_CACHE_KEY: &str = "update cluster set cache_key = $1 where id = 1 and cache_key is null";

/// Why nothing is done where another installation is.
pub const OTHER_INSTALLATION: &str = "the database is of another installation";

/// Bytes of a short name, written as hexadecimal digits.
const SHORT_NAME_BYTES: usize = 8;

type EnvironmentRow = (i64, i64, String, Option<Vec<u8>>);
type ClusterRow =
    (i64, i64, String, bool, Option<String>, i64, Option<jiff_sqlx::Timestamp>, Option<Vec<u8>>);

/// Which installation a process follows; shared by all that use its store.
#[derive(Debug, Default)]
pub struct Followed {
    /// Its name, once it is known.
    name: ArcSwapOption<String>,
    /// The name of a new database in its place, which is read for whoever is to accept that.
    made_anew: ArcSwapOption<String>,
}

impl Followed {
    fn is_other(&self, cache_key: Option<&[u8]>) -> bool {
        let name = self.name.load();
        name.as_ref().is_some_and(|name| cache_key.map(installation_of).as_ref() != Some(&**name))
    }

    fn is_made_anew(&self, cache_key: Option<&[u8]>) -> bool {
        let name = self.made_anew.load();
        name.as_ref().is_some_and(|name| cache_key.map(installation_of).as_ref() == Some(&**name))
    }
}

/// A name of so few characters that it can be read, which tells nothing of what it was made of.
pub fn short_name(purpose: &str, of: &[u8]) -> String {
    let name = blake3::derive_key(purpose, of);
    hex::encode(name.get(..SHORT_NAME_BYTES).unwrap_or_default())
}

/// The name of the installation that has this key of its cache.
pub fn installation_of(cache_key: &[u8]) -> String {
    short_name("vexil name of an installation", cache_key)
}

/// Checks that the history is the one that replicas follow.
///
/// # Errors
///
/// [`StoreError::Regressed`] if it is another installation's or replicas have seen what is missing here;
/// [`StoreError::Unavailable`] if the server is another one than before, until a replica has looked whether anything is missing.
pub(super) async fn check(
    tx: &mut Transaction<'static, Postgres>,
    followed: &Followed,
) -> Result<(), StoreError> {
    let query = sql!(POSTGRES_STATE => (bool, Option<String>, Option<Vec<u8>>));
    let (is_continued, regression, cache_key) = query.fetch_one(&mut **tx).await?;
    if let Some(detail) = regression {
        return Err(StoreError::Regressed(detail));
    }
    if followed.is_other(cache_key.as_deref()) {
        return Err(StoreError::Regressed(OTHER_INSTALLATION.to_owned()));
    }
    if !is_continued {
        let detail =
            "another server or timeline has taken over, and nobody has looked yet what it has";
        return Err(StoreError::Unavailable(detail.to_owned()));
    }
    Ok(())
}

/// Checks that the database is of the installation that is followed, which is written to.
pub(super) async fn check_installation(
    tx: &mut Transaction<'static, Postgres>,
    followed: &Followed,
) -> Result<(), StoreError> {
    check_key(tx, |key| followed.is_other(key)).await
}

/// Checks that the database is of the installation that is followed, or a new one in its place.
pub(super) async fn check_readable(
    tx: &mut Transaction<'static, Postgres>,
    followed: &Followed,
) -> Result<(), StoreError> {
    if followed.name.load().is_none() {
        // It may have no tables yet.
        return Ok(());
    }
    check_key(tx, |key| followed.is_other(key) && !followed.is_made_anew(key)).await
}

async fn check_key(
    tx: &mut Transaction<'static, Postgres>,
    is_foreign: impl Fn(Option<&[u8]>) -> bool,
) -> Result<(), StoreError> {
    let (cache_key,) = sql!(CACHE_KEY => (Option<Vec<u8>>,)).fetch_one(&mut **tx).await?;
    match is_foreign(cache_key.as_deref()) {
        true => Err(StoreError::Regressed(OTHER_INSTALLATION.to_owned())),
        false => Ok(()),
    }
}

/// Notes the server under which the first epoch begins.
pub(super) async fn begin(tx: &mut Transaction<'static, Postgres>) -> Result<(), StoreError> {
    sql!(POSTGRES_FIRST).execute(&mut **tx).await?;
    Ok(())
}

impl Store {
    /// Follows an installation from now on: nothing is read or changed in the database of another one.
    pub fn follow(&self, name: &str) {
        if let Self::Postgres { followed, .. } = self {
            followed.name.store(Some(Arc::new(name.to_owned())));
        }
    }

    /// The name of the installation that is followed; `None` if it is not known yet, or the store can have no other.
    pub fn followed(&self) -> Option<Arc<String>> {
        match self {
            Self::Postgres { followed, .. } => followed.name.load_full(),
            Self::Sqlite { .. } => None,
        }
    }

    /// Notes the name of a new database in the place of the one that is followed, which can be read then; `None` if there is none.
    pub fn note_made_anew(&self, name: Option<String>) {
        if let Self::Postgres { followed, .. } = self {
            followed.made_anew.store(name.map(Arc::new));
        }
    }

    /// Notes that the server is another one than before, which begins an epoch; the first who notes it begins it.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn begin_epoch(&self) -> Result<(), StoreError> {
        let mut tx = self.begin_writing().await?;
        if let Tx::Postgres(tx) = &mut tx {
            sql!(POSTGRES_CONTINUE).execute(&mut **tx).await?;
        }
        tx.commit().await
    }

    /// Notes what is missing in a database that a replica has seen, in an epoch that may be a later one; until it is accepted,
    /// nothing can be changed. Notes nothing if the database is another one than the one with these positions by now.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn mark_regression(
        &self,
        detail: &str,
        looked_at: &Positions,
        seen_epoch: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin_unchecked().await?;
        let now = tx.positions().await?;
        if !now.are_of_same(looked_at) {
            return Ok(());
        }
        let epoch = looked_at.epoch;
        on_tx!(&mut tx, c => {
            sql!(MARK).bind(detail).bind(epoch).bind(seen_epoch).execute(c).await.map(|_| ())
        })?;
        tx.commit().await
    }

    /// Begins a transaction that writes, whatever is missing, but not into another installation's database.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if no connection can be had, [`StoreError::Regressed`] if the database is another
    /// installation's.
    pub async fn begin_writing(&self) -> Result<Tx, StoreError> {
        let mut tx = self.begin_unchecked().await?;
        if let (Tx::Postgres(tx), Self::Postgres { followed, .. }) = (&mut tx, self) {
            check_installation(tx, followed).await?;
        }
        Ok(tx)
    }

    /// Begins a transaction in which an operator accepts what is missing; a database that was made anew has another name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if no connection can be had, [`StoreError::Regressed`] if the database is another
    /// installation's, whose losses are for its own operators to accept.
    pub async fn begin_accepting(&self) -> Result<Tx, StoreError> {
        let mut tx = self.begin_unchecked().await?;
        if let (Tx::Postgres(tx), Self::Postgres { followed, .. }) = (&mut tx, self) {
            check_readable(tx, followed).await?;
        }
        Ok(tx)
    }

    /// Reads the key of which the one is made that authenticates what replicas leave in Redis; the first who asks sets it to
    /// `new`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn cache_key(&self, new: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut tx = self.begin_unchecked().await?;
        let key = on_tx!(&mut tx, c => {
            sql!(SET_CACHE_KEY).bind(new).execute(&mut *c).await?;
            let (key,) = sql!(CACHE_KEY => (Vec<u8>,)).fetch_one(&mut *c).await?;
            Ok::<_, StoreError>(key)
        })?;
        tx.commit().await?;
        Ok(key)
    }

    /// Begins a transaction that writes, wherever that is.
    pub(super) async fn begin_unchecked(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Postgres { pool, .. } => {
                Tx::Postgres(pool.begin_with(dialect::POSTGRES_WRITE).await?)
            }
            Self::Sqlite { pool, .. } => Tx::Sqlite(pool.begin_with(dialect::SQLITE_WRITE).await?),
        })
    }
}

impl Tx {
    /// Reads where everything stands.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn positions(&mut self) -> Result<Positions, StoreError> {
        let cluster = match self {
            Self::Postgres(_) => POSTGRES_CLUSTER,
            Self::Sqlite(_) => SQLITE_CLUSTER,
        };
        on_tx!(self, c => {
            let (epoch, accepted_epoch, identity, is_continued, regression, version, now, key) =
                sql!(cluster => ClusterRow).fetch_one(&mut *c).await?;
            let rows = sql!(ENVIRONMENTS => (i64, i64, String)).fetch_all(&mut *c).await?;
            let read = |(id, version, stamp)| EnvironmentPosition { id, version, stamp };
            let environments = rows.into_iter().map(read).collect();
            Ok(Positions {
                epoch,
                accepted_epoch,
                identity,
                installation: key.as_deref().map(installation_of),
                is_continued,
                regression,
                directory_version: version,
                now: now.map(|now| now.to_jiff()),
                environments,
            })
        })
    }

    /// Reads the epoch and where an environment of this installation stands; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Those of the database; [`StoreError::Unavailable`] if it is another installation's, which has its own numbers.
    pub async fn position(
        &mut self,
        env: EnvId,
        installation: Option<&str>,
    ) -> Result<Option<(i64, EnvironmentPosition)>, StoreError> {
        let row = on_tx!(self, c => {
            sql!(ENVIRONMENT => EnvironmentRow).bind(env).fetch_optional(c).await
        })?;
        let Some((epoch, version, stamp, cache_key)) = row else { return Ok(None) };
        let found = cache_key.as_deref().map(installation_of);
        if installation.is_some() && found.as_deref() != installation {
            return Err(StoreError::Unavailable(OTHER_INSTALLATION.to_owned()));
        }
        Ok(Some((epoch, EnvironmentPosition { id: env, version, stamp })))
    }

    /// Reads the stamp of a version of an environment; `None` if it has no such version.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn stamp(&mut self, env: EnvId, version: i64) -> Result<Option<String>, StoreError> {
        let row = on_tx!(self, c => {
            sql!(STAMP => (String,)).bind(env).bind(version).fetch_optional(c).await
        })?;
        Ok(row.map(|(stamp,)| stamp))
    }

    /// Accepts that something is missing: begins an epoch that replicas take as it is, and returns it with what is missing;
    /// `None` if nothing is.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn accept_history(&mut self) -> Result<Option<(i64, String)>, StoreError> {
        let (regression,) = on_tx!(self, c => {
            sql!(REGRESSION => (Option<String>,)).fetch_one(c).await
        })?;
        let epoch = on_tx!(self, c => sql!(ACCEPT => (i64,)).fetch_optional(c).await)?;
        Ok(epoch.and_then(|(epoch,)| Some((epoch, regression?))))
    }
}
