//! Trying a change out: everything is done but the commit, and what it would mean is kept for whoever asked.
//!
//! Every command ends in [`Control::finish`](crate::control::Control), which rolls back what is a rehearsal; so none of them
//! has to know of it. Changes by instructions tell more than others, and decide for themselves.

use crate::change::Difference;
use crate::control::ControlError;
use crate::control::change_set::Dependency;
use crate::model::change::EnvId;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::store::Damaged;
use crate::store::Tx;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// A change that is only tried out; its clones share what is told of it.
#[derive(Debug, Clone, Default)]
pub struct Rehearsal(Arc<Mutex<Told>>);

/// What a change would do.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// In words, as the audit log would have it.
    pub changes: Vec<String>,
    /// What would differ.
    pub differences: Vec<Difference>,
    /// What depends on it.
    pub dependants: Vec<Dependency>,
}

impl Rehearsal {
    /// Returns what was told so far.
    pub fn told(&self) -> Told {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells what would be recorded.
    pub(super) fn record(&self, changes: &[String]) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.changes.extend_from_slice(changes);
    }

    /// Tells what would differ, and what depends on it; what depends on several things is told once.
    pub(super) fn tell(&self, differences: Vec<Difference>, dependants: Vec<Dependency>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.differences.extend(differences);
        told.dependants.extend(dependants);
        told.dependants.sort_unstable();
        told.dependants.dedup();
    }
}

/// The flags of an environment that have one of these as a prerequisite, as far as they can be read.
pub(super) async fn dependants_of_flags(
    tx: &mut Tx,
    (env, env_key): (EnvId, &EnvKey),
    keys: &BTreeSet<FlagKey>,
) -> Result<Vec<Dependency>, ControlError> {
    let edges = tx.prerequisites(env, Damaged::LeftOut).await?.into_iter();
    let asking = edges.filter(|(_, others)| others.iter().any(|other| keys.contains(other)));
    Ok(asking.map(|(key, _)| Dependency::Flag(env_key.clone(), key)).collect())
}
