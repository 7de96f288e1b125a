//! What administrators read; always from the store, so that they see what is written and not what is served.

use crate::control::Control;
use crate::control::ControlError;
use crate::model::flag::FlagDefinition;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::store::EnvironmentRecord;
use crate::store::ProjectRecord;
use crate::store::StoredFlag;
use crate::store::StoredSegment;
use crate::store::TokenRecord;
use crate::store::Tx;
use crate::store::within_timeout;
use jiff::Timestamp;
use std::collections::BTreeMap;

impl Control {
    /// Returns all projects, by key.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn projects(&self) -> Result<Vec<ProjectRecord>, ControlError> {
        within_timeout(async { Ok(self.store.read().await?.projects().await?) }).await
    }

    /// Returns a project with its environments, in the order in which they were created.
    ///
    /// # Errors
    ///
    /// There is no such project.
    pub async fn project(
        &self,
        key: &ProjectKey,
    ) -> Result<(ProjectRecord, Vec<EnvironmentRecord>), ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let mut projects = tx.projects().await?.into_iter();
            let project = projects.find(|project| project.key == *key);
            let project = project.ok_or_else(|| ControlError::not_found("project", key))?;
            let mut environments = tx.environments().await?;
            environments.retain(|environment| environment.project == *key);
            Ok((project, environments))
        })
        .await
    }

    /// Returns an environment.
    ///
    /// # Errors
    ///
    /// There is no such environment.
    pub async fn environment(
        &self,
        project: &ProjectKey,
        key: &EnvKey,
    ) -> Result<EnvironmentRecord, ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            find_environment(&mut tx, project, key).await
        })
        .await
    }

    /// Returns the definitions of a project, by key.
    ///
    /// # Errors
    ///
    /// There is no such project.
    pub async fn definitions(
        &self,
        project: &ProjectKey,
    ) -> Result<Vec<FlagDefinition>, ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            if !tx.projects().await?.iter().any(|each| each.key == *project) {
                return Err(ControlError::not_found("project", project));
            }
            Ok(tx.definitions(project).await?)
        })
        .await
    }

    /// Returns when each flag of a project was created.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn definition_times(
        &self,
        project: &ProjectKey,
    ) -> Result<BTreeMap<FlagKey, Timestamp>, ControlError> {
        within_timeout(async { Ok(self.store.read().await?.definition_times(project).await?) })
            .await
    }

    /// Returns a definition.
    ///
    /// # Errors
    ///
    /// There is no such flag.
    pub async fn definition(
        &self,
        project: &ProjectKey,
        key: &FlagKey,
    ) -> Result<FlagDefinition, ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            match tx.definition(project, key).await? {
                Some((definition, false)) => Ok(definition),
                _ => Err(ControlError::not_found("flag", key)),
            }
        })
        .await
    }

    /// Returns the flags of an environment, by key, and the environment's version.
    ///
    /// # Errors
    ///
    /// There is no such environment.
    pub async fn flags(
        &self,
        project: &ProjectKey,
        env: &EnvKey,
    ) -> Result<(Vec<StoredFlag>, i64), ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let environment = find_environment(&mut tx, project, env).await?;
            let flags = tx.flags(project, environment.id).await?;
            Ok((flags, environment.version))
        })
        .await
    }

    /// Returns a flag of an environment.
    ///
    /// # Errors
    ///
    /// There is no such flag.
    pub async fn flag(
        &self,
        project: &ProjectKey,
        env: &EnvKey,
        key: &FlagKey,
    ) -> Result<StoredFlag, ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let environment = find_environment(&mut tx, project, env).await?;
            let flag = tx.flag(project, environment.id, key).await?;
            flag.ok_or_else(|| ControlError::not_found("flag", key))
        })
        .await
    }

    /// Returns segments of an environment whose keys are behind `after`, by key, and how many there are in all.
    ///
    /// # Errors
    ///
    /// There is no such environment.
    pub async fn segments(
        &self,
        project: &ProjectKey,
        env: &EnvKey,
        after: &str,
        limit: i64,
    ) -> Result<(Vec<StoredSegment>, i64), ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let environment = find_environment(&mut tx, project, env).await?;
            Ok(tx.segments_after(environment.id, after, limit).await?)
        })
        .await
    }

    /// Returns a segment.
    ///
    /// # Errors
    ///
    /// There is no such segment.
    pub async fn segment(
        &self,
        project: &ProjectKey,
        env: &EnvKey,
        key: &SegmentKey,
    ) -> Result<StoredSegment, ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let environment = find_environment(&mut tx, project, env).await?;
            let segment = tx.segment(environment.id, key).await?;
            segment.ok_or_else(|| ControlError::not_found("segment", key))
        })
        .await
    }

    /// Returns all tokens that are not revoked, oldest first; those that cannot be read are not accepted and not listed.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn tokens(&self) -> Result<Vec<TokenRecord>, ControlError> {
        within_timeout(async {
            let tokens = self.store.read().await?.tokens().await?;
            Ok(tokens.into_iter().flatten().collect())
        })
        .await
    }
}

pub(super) async fn find_environment(
    tx: &mut Tx,
    project: &ProjectKey,
    key: &EnvKey,
) -> Result<EnvironmentRecord, ControlError> {
    let mut environments = tx.environments().await?.into_iter();
    let found = environments.find(|each| each.project == *project && each.key == *key);
    found.ok_or_else(|| ControlError::not_found("environment", key))
}
