//! What keeps flags that are still evaluated from being archived by mistake; who deletes one means it.
//!
//! Counts are written every few seconds, so what was evaluated just now may not be known yet.

use crate::control::ControlError;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::store::RecentUse;
use crate::store::StoreError;
use crate::store::Tx;
use jiff::Timestamp;
use jiff::ToSpan;
use jiff::tz::TimeZone;

/// Days in which a flag must not have been evaluated.
const RECENT_DAYS: i64 = 7;
/// Environments that are named.
const NAMES_MAX: usize = 5;

/// Refuses if a flag was evaluated recently in any environment.
///
/// # Errors
///
/// `recently_used`.
pub(super) async fn refuse(
    tx: &mut Tx,
    project: &ProjectKey,
    key: &FlagKey,
    now: Timestamp,
) -> Result<(), ControlError> {
    let Some(use_) = describe(tx, project, key, now).await? else { return Ok(()) };
    let detail = format!("{use_}; if that does not matter, say so by `ignoreUsage`");
    Err(ControlError::conflict("recently_used", detail))
}

/// Says where, when and how often a flag was evaluated recently; `None` if it was not.
pub(super) async fn describe(
    tx: &mut Tx,
    project: &ProjectKey,
    key: &FlagKey,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let since = today.saturating_sub(RECENT_DAYS.days());
    let mut uses = tx.recent_use(project, key, since).await?;
    uses.retain(|each| each.last_at.to_zoned(TimeZone::UTC).date() >= since);
    if uses.is_empty() {
        return Ok(None);
    }
    let word = |each: &RecentUse| {
        let RecentUse { env, last_at, n } = each;
        let times = if *n == 1 { "once".to_owned() } else { format!("{n} times") };
        format!("{times} in `{env}`, last at {last_at:.0}")
    };
    let places: Vec<String> = uses.iter().take(NAMES_MAX).map(word).collect();
    let n_more = uses.len().saturating_sub(NAMES_MAX);
    let rest =
        if n_more == 0 { String::new() } else { format!(", and in {n_more} more environments") };
    let places = places.join("; ");
    Ok(Some(format!("`{key}` was evaluated since {since}: {places}{rest}")))
}
