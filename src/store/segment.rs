//! Segments.

use crate::model::change::EnvId;
use crate::model::key::SegmentKey;
use crate::model::segment::Segment;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::error::read_body;
use crate::store::error::write_body;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

/// A segment with what is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSegment {
    /// The segment.
    pub segment: Segment,
    /// The environment's version at which it last changed.
    pub version: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub changed_at: Timestamp,
}

/// A segment that differs from an earlier version of its environment.
#[derive(Debug)]
pub struct ChangedSegment {
    /// Its key.
    pub key: SegmentKey,
    /// The environment's version at which it last changed.
    pub version: i64,
    /// The JSON text that is stored; `None` if the segment was deleted.
    pub text: Option<Box<str>>,
}

impl ChangedSegment {
    /// Reads the segment; `None` if it was deleted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if it cannot be read.
    pub fn read(&self) -> Result<Option<Segment>, StoreError> {
        let read = |text: &str| read_body("segment", self.key.as_str(), text);
        self.text.as_deref().map(read).transpose()
    }
}

#[derive(sqlx::FromRow)]
struct SegmentRow {
    key: String,
    body: String,
    version: i64,
    created_at: jiff_sqlx::Timestamp,
    changed_at: jiff_sqlx::Timestamp,
}

impl SegmentRow {
    fn read(self) -> Result<StoredSegment, StoreError> {
        Ok(StoredSegment {
            segment: read_body("segment", &self.key, &self.body)?,
            version: self.version,
            created_at: self.created_at.to_jiff(),
            changed_at: self.changed_at.to_jiff(),
        })
    }
}

const SEGMENTS: &str = "select key, body, version, created_at, changed_at from segment
    where environment_id = $1 and not is_deleted";
// Keys come in the order of their bytes, whatever the database's language is.
const POSTGRES_SEGMENTS_AFTER: &str = "select key, body, version, created_at, changed_at
    from segment where environment_id = $1 and key collate \"C\" > $2 and not is_deleted
    order by key collate \"C\" limit $3";
const SQLITE_SEGMENTS_AFTER: &str = "select key, body, version, created_at, changed_at
    from segment where environment_id = $1 and key > $2 and not is_deleted order by key limit $3";
const COUNT_SEGMENTS: &str =
    "select count(*) from segment where environment_id = $1 and not is_deleted";
const SEGMENT: &str = "select key, body, version, created_at, changed_at from segment
    where environment_id = $1 and key = $2 and not is_deleted";
const CHANGED_SEGMENTS: &str = "select key, body, version, is_deleted from segment
    where environment_id = $1 and version > $2";
const PUT_SEGMENT: &str =
    "insert into segment (environment_id, key, body, version, created_at, changed_at, is_deleted)
    values ($1, $2, $3, $4, $5, $5, false)
    on conflict (environment_id, key) do update
    set body = excluded.body, version = excluded.version, changed_at = excluded.changed_at,
        created_at = case when segment.is_deleted then excluded.created_at
            else segment.created_at end,
        is_deleted = false";
const DELETE_SEGMENT: &str = "update segment set is_deleted = true, version = $3, changed_at = $4
    where environment_id = $1 and key = $2 and not is_deleted";

impl Tx {
    /// Reads all segments of an environment, by key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read.
    pub async fn segments(&mut self, env: EnvId) -> Result<Vec<StoredSegment>, StoreError> {
        let rows = on_tx!(self, c => sql!(SEGMENTS => SegmentRow).bind(env).fetch_all(c).await)?;
        let mut segments: Vec<StoredSegment> =
            rows.into_iter().map(SegmentRow::read).collect::<Result<_, _>>()?;
        segments.sort_by(|left, right| left.segment.key.cmp(&right.segment.key));
        Ok(segments)
    }

    /// Reads segments of an environment whose keys are behind `after`, by key, and counts all.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read.
    pub async fn segments_after(
        &mut self,
        env: EnvId,
        after: &str,
        limit: i64,
    ) -> Result<(Vec<StoredSegment>, i64), StoreError> {
        let sql = match self {
            Self::Postgres(_) => POSTGRES_SEGMENTS_AFTER,
            Self::Sqlite(_) => SQLITE_SEGMENTS_AFTER,
        };
        let rows = on_tx!(self, c => {
            let query = sql!(sql => SegmentRow).bind(env).bind(after).bind(limit);
            query.fetch_all(c).await
        })?;
        let segments = rows.into_iter().map(SegmentRow::read).collect::<Result<_, _>>()?;
        let (n,) = on_tx!(self, c => sql!(COUNT_SEGMENTS => (i64,)).bind(env).fetch_one(c).await)?;
        Ok((segments, n))
    }

    /// Reads a segment; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if it cannot be read.
    pub async fn segment(
        &mut self,
        env: EnvId,
        key: &SegmentKey,
    ) -> Result<Option<StoredSegment>, StoreError> {
        let row = on_tx!(self, c => {
            sql!(SEGMENT => SegmentRow).bind(env).bind(key.as_str()).fetch_optional(c).await
        })?;
        row.map(SegmentRow::read).transpose()
    }

    /// Reads the segments that changed after `version`, deleted ones included; from 0, all segments.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn changed_segments(
        &mut self,
        env: EnvId,
        version: i64,
    ) -> Result<Vec<ChangedSegment>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(CHANGED_SEGMENTS => (String, String, i64, bool))
                .bind(env)
                .bind(version)
                .fetch_all(c)
                .await
        })?;
        let read = |(key, body, version, is_deleted): (String, String, i64, bool)| {
            let text = (!is_deleted).then(|| body.into_boxed_str());
            ChangedSegment { key: SegmentKey::stored(&key), version, text }
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Creates or replaces a segment, as of `version`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn put_segment(
        &mut self,
        env: EnvId,
        segment: &Segment,
        version: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let body = write_body(segment)?;
        on_tx!(self, c => {
            let query = sql!(PUT_SEGMENT).bind(env).bind(segment.key.as_str()).bind(body);
            query.bind(version).bind(now.to_sqlx()).execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Marks a segment as deleted; returns `false` if there is none.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn delete_segment(
        &mut self,
        env: EnvId,
        key: &SegmentKey,
        version: i64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let n_rows = on_tx!(self, c => {
            let query = sql!(DELETE_SEGMENT).bind(env).bind(key.as_str());
            query.bind(version).bind(now.to_sqlx()).execute(c).await?.rows_affected()
        });
        Ok(n_rows == 1)
    }
}
