//! What administrators read about usage: counts, flags that may be removed, and flags that are asked for in vain.

use crate::control::Control;
use crate::control::ControlError;
use crate::control::read::find_environment;
use crate::control::stale::StaleReason;
use crate::control::stale::Watched;
use crate::control::stale::reasons;
use crate::model::flag::FlagDefinition;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::store::StoredFlag;
use crate::store::UnknownFlagRecord;
use crate::store::UsageRecord;
use crate::store::within_timeout;
use jiff::Timestamp;
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// How often a flag was evaluated.
#[derive(Debug, Clone)]
pub struct FlagUsage {
    /// The flag's key.
    pub flag: String,
    /// What it is; `None` if it was deleted since.
    pub definition: Option<FlagDefinition>,
    /// When it was last evaluated.
    pub last_evaluated_at: Option<Timestamp>,
    /// The counts, by day, variation and version.
    pub records: Vec<UsageRecord>,
}

/// Which counts are asked for.
#[derive(Debug, Clone)]
pub struct UsageFilter {
    /// How many days back, besides today.
    pub days: u32,
    /// Flags behind this one, by key; empty for the first ones.
    pub after: String,
    /// How many flags.
    pub limit: i64,
}

/// A flag that may be removed, and why.
#[derive(Debug, Clone)]
pub struct StaleFlag {
    /// The flag.
    pub flag: StoredFlag,
    /// When it was last evaluated.
    pub last_evaluated_at: Option<Timestamp>,
    /// Why; at least one.
    pub reasons: Vec<StaleReason>,
}

impl Control {
    /// Returns how often the flags of an environment were evaluated, by key.
    ///
    /// # Errors
    ///
    /// There is no such environment.
    pub async fn usage(
        &self,
        project: &ProjectKey,
        env: &EnvKey,
        filter: &UsageFilter,
    ) -> Result<Vec<FlagUsage>, ControlError> {
        let since = self.days_ago(filter.days);
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let environment = find_environment(&mut tx, project, env).await?;
            let keys = tx.used_flags(environment.id, since, &filter.after, filter.limit).await?;
            let mut definitions: BTreeMap<String, FlagDefinition> = tx
                .definitions(project)
                .await?
                .into_iter()
                .map(|definition| (definition.key.to_string(), definition))
                .collect();
            let mut last = tx.last_evaluated(environment.id).await?;
            let mut usage = Vec::with_capacity(keys.len());
            for flag in keys {
                let records = tx.usage(environment.id, &flag, since).await?;
                let definition = definitions.remove(&flag);
                let last_evaluated_at = last.remove(&flag);
                usage.push(FlagUsage { flag, definition, last_evaluated_at, records });
            }
            Ok(usage)
        })
        .await
    }

    /// Returns how often a flag was evaluated.
    ///
    /// # Errors
    ///
    /// There is no such flag, and there never was.
    pub async fn flag_usage(
        &self,
        project: &ProjectKey,
        env: &EnvKey,
        flag: &FlagKey,
        days: u32,
    ) -> Result<FlagUsage, ControlError> {
        let since = self.days_ago(days);
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let environment = find_environment(&mut tx, project, env).await?;
            let (definition, is_deleted) = tx
                .definition(project, flag)
                .await?
                .ok_or_else(|| ControlError::not_found("flag", flag))?;
            let records = tx.usage(environment.id, flag.as_str(), since).await?;
            let last_evaluated_at = tx.flag_last_evaluated(environment.id, flag.as_str()).await?;
            let definition = Some(definition).filter(|_| !is_deleted);
            Ok(FlagUsage { flag: flag.to_string(), definition, last_evaluated_at, records })
        })
        .await
    }

    /// Returns the flags of an environment that may be removed, by key, and since when usage is counted.
    ///
    /// # Errors
    ///
    /// There is no such environment.
    pub async fn stale_flags(
        &self,
        project: &ProjectKey,
        env: &EnvKey,
        days: u32,
    ) -> Result<(Vec<StaleFlag>, Timestamp), ControlError> {
        let (now, since) = (self.clock.now(), self.days_ago(days));
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let environment = find_environment(&mut tx, project, env).await?;
            let (_, counted_since) = tx.event_setting().await?;
            let flags = tx.flags(project, environment.id).await?;
            let totals = tx.usage_totals(environment.id, since).await?;
            let mut last = tx.last_evaluated(environment.id).await?;
            let watched = Watched::new(&flags, now, days, counted_since);
            let none = BTreeMap::new();
            let found: Vec<Vec<StaleReason>> = flags
                .iter()
                .map(|flag| {
                    let total = totals.get(flag.definition.key.as_str()).unwrap_or(&none);
                    reasons(flag, total, &watched)
                })
                .collect();
            let stale = flags.into_iter().zip(found).filter(|(_, reasons)| !reasons.is_empty());
            let stale = stale.map(|(flag, reasons)| {
                let last_evaluated_at = last.remove(flag.definition.key.as_str());
                StaleFlag { flag, last_evaluated_at, reasons }
            });
            Ok((stale.collect(), counted_since))
        })
        .await
    }

    /// Returns the flags that were asked for and that there are not, those first that were asked for last.
    ///
    /// # Errors
    ///
    /// There is no such environment.
    pub async fn unknown_flags(
        &self,
        project: &ProjectKey,
        env: &EnvKey,
        limit: i64,
    ) -> Result<Vec<UnknownFlagRecord>, ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let environment = find_environment(&mut tx, project, env).await?;
            Ok(tx.unknown_flags(environment.id, project.as_str(), limit).await?)
        })
        .await
    }

    /// The day so many days before today, UTC.
    fn days_ago(&self, days: u32) -> Date {
        let today = self.clock.now().to_zoned(TimeZone::UTC).date();
        today.saturating_sub(i64::from(days).days())
    }
}
