//! Which flags of an environment ask for other flags or for segments, without reading those that ask for nothing.
//!
//! Who is in the way of a change, and what is told of a dry run, is decided in `control`.

use crate::model::change::EnvId;
use crate::model::key::FlagKey;
use crate::model::rule::FlagConfig;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::error::read_body;
use crate::store::on_tx;
use crate::store::sql;
use std::collections::BTreeMap;

/// What becomes of rows that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// They are an error: what is decided must not miss one.
    Refused,
    /// They are left out of what is only told.
    LeftOut,
}

impl Damaged {
    fn read(self, key: &str, body: &str) -> Result<Option<FlagConfig>, StoreError> {
        match (read_body("flag_config", key, body), self) {
            (Ok(config), _) => Ok(Some(config)),
            (Err(_), Self::LeftOut) => Ok(None),
            (Err(error), Self::Refused) => Err(error),
        }
    }
}

/// Finds the few flags that have prerequisites without reading the many that have none; and what is cut off, which may have had
/// some, as far as that can be seen.
const WITH_PREREQUISITES: &str = "select flag_key, body from flag_config
    where environment_id = $1 and not is_deleted
        and (body like '%\"prerequisites\":[{%' or body not like '{%}')";
/// Finds the flags that may ask for a segment, in the same way.
const ASKING_FOR_SEGMENTS: &str = "select flag_key, body from flag_config
    where environment_id = $1 and not is_deleted
        and (body like '%\"segmentMatch\"%' or body not like '{%}')";

impl Tx {
    /// Maps each flag of an environment that has prerequisites to them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read and must not be left out.
    pub async fn prerequisites(
        &mut self,
        env: EnvId,
        damaged: Damaged,
    ) -> Result<BTreeMap<FlagKey, Vec<FlagKey>>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(WITH_PREREQUISITES => (String, String)).bind(env).fetch_all(c).await
        })?;
        let mut edges = BTreeMap::new();
        for (key, body) in rows {
            let Some(config) = damaged.read(&key, &body)? else { continue };
            let others = config.prerequisites.into_iter().map(|each| each.key).collect();
            edges.insert(FlagKey::stored(&key), others);
        }
        Ok(edges)
    }

    /// Reads the configurations of an environment whose rules may ask for a segment.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read and must not be left out.
    pub async fn configs_asking_for_segments(
        &mut self,
        env: EnvId,
        damaged: Damaged,
    ) -> Result<Vec<(FlagKey, FlagConfig)>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(ASKING_FOR_SEGMENTS => (String, String)).bind(env).fetch_all(c).await
        })?;
        let read = |(key, body): (String, String)| {
            let config = damaged.read(&key, &body).transpose()?;
            Some(config.map(|config| (FlagKey::stored(&key), config)))
        };
        rows.into_iter().filter_map(read).collect()
    }
}
