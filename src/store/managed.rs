//! Which flags and segments are looked after from files, and by whom.

use crate::model::change::EnvId;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::on_tx;
use crate::store::sql;

const FLAGS: &str = "select flag_key from managed_flag where project_key = $1 and owner = $2";
const SEGMENTS: &str = "select m.environment_id, m.segment_key from managed_segment m
    join environment e on e.id = m.environment_id where e.project_key = $1 and m.owner = $2";
const OTHER_FLAGS: &str =
    "select flag_key, owner from managed_flag where project_key = $1 and owner <> $2";
const OTHER_SEGMENTS: &str = "select m.environment_id, m.segment_key, m.owner
    from managed_segment m join environment e on e.id = m.environment_id
    where e.project_key = $1 and m.owner <> $2";
const PUT_FLAG: &str = "insert into managed_flag (project_key, flag_key, owner) values ($1, $2, $3)
    on conflict (project_key, flag_key) do update set owner = excluded.owner";
const PUT_SEGMENT: &str = "insert into managed_segment (environment_id, segment_key, owner)
    values ($1, $2, $3)
    on conflict (environment_id, segment_key) do update set owner = excluded.owner";
const FORGET_SEGMENT: &str =
    "delete from managed_segment where environment_id = $1 and segment_key = $2";

impl Tx {
    /// Reads which flags of a project an owner looks after.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn managed_flags(
        &mut self,
        project: &ProjectKey,
        owner: &str,
    ) -> Result<Vec<FlagKey>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(FLAGS => (String,)).bind(project.as_str()).bind(owner).fetch_all(c).await
        })?;
        Ok(rows.into_iter().map(|(key,)| FlagKey::stored(&key)).collect())
    }

    /// Reads which segments of a project an owner looks after.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn managed_segments(
        &mut self,
        project: &ProjectKey,
        owner: &str,
    ) -> Result<Vec<(EnvId, SegmentKey)>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(SEGMENTS => (i64, String)).bind(project.as_str()).bind(owner).fetch_all(c).await
        })?;
        Ok(rows.into_iter().map(|(env, key)| (env, SegmentKey::stored(&key))).collect())
    }

    /// Reads which flags of a project others than this owner look after, and who.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn flags_of_others(
        &mut self,
        project: &ProjectKey,
        owner: &str,
    ) -> Result<Vec<(FlagKey, String)>, StoreError> {
        let rows = on_tx!(self, c => {
            let query = sql!(OTHER_FLAGS => (String, String)).bind(project.as_str()).bind(owner);
            query.fetch_all(c).await
        })?;
        Ok(rows.into_iter().map(|(key, owner)| (FlagKey::stored(&key), owner)).collect())
    }

    /// Reads which segments of a project others than this owner look after, and who.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn segments_of_others(
        &mut self,
        project: &ProjectKey,
        owner: &str,
    ) -> Result<Vec<(EnvId, SegmentKey, String)>, StoreError> {
        let rows = on_tx!(self, c => {
            let query = sql!(OTHER_SEGMENTS => (i64, String, String));
            query.bind(project.as_str()).bind(owner).fetch_all(c).await
        })?;
        let segment =
            |(env, key, owner): (i64, String, String)| (env, SegmentKey::stored(&key), owner);
        Ok(rows.into_iter().map(segment).collect())
    }

    /// Notes that an owner looks after a flag.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn put_managed_flag(
        &mut self,
        project: &ProjectKey,
        key: &FlagKey,
        owner: &str,
    ) -> Result<(), StoreError> {
        on_tx!(self, c => {
            let query = sql!(PUT_FLAG).bind(project.as_str()).bind(key.as_str()).bind(owner);
            query.execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Notes that an owner looks after a segment.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn put_managed_segment(
        &mut self,
        env: EnvId,
        key: &SegmentKey,
        owner: &str,
    ) -> Result<(), StoreError> {
        on_tx!(self, c => {
            let query = sql!(PUT_SEGMENT).bind(env).bind(key.as_str()).bind(owner);
            query.execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Forgets who looks after a segment that is deleted.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn forget_managed_segment(
        &mut self,
        env: EnvId,
        key: &SegmentKey,
    ) -> Result<(), StoreError> {
        on_tx!(self, c => {
            let query = sql!(FORGET_SEGMENT).bind(env).bind(key.as_str());
            query.execute(c).await.map(|_| ())
        })?;
        Ok(())
    }
}
