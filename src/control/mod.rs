//! What can be done to the installation: every command that writes, and what administrators read.
//!
//! One write path, whoever asks (the admin API, the demonstration):
//! lock the counter row → load → decide with `change` → write rows, version, change log and audit entry → commit → ring the
//! doorbells → wait until this process serves it. Nothing is half applied: any error on the way rolls everything back.
//!
//! Who may do what is decided before, in `auth`; how it looks on the wire, in `http`.

mod audit;
mod change_set;
mod confirm;
mod emergency;
mod error;
mod flag;
mod flag_config;
mod flag_history;
mod history;
mod idempotency;
mod import;
mod project;
mod read;
mod recent_use;
mod rehearsal;
mod safety;
mod schedule;
mod segment;
mod stale;
mod state;
mod token;
mod trigger;
mod upkeep;
mod usage;
mod world;

pub use change_set::ChangeSet;
pub use change_set::ChangedSet;
pub use change_set::Dependency;
pub use change_set::Part;
pub use change_set::PartChanged;
pub use confirm::Confirmation;
pub use emergency::KilledMany;
pub use emergency::RestoredMany;
pub use emergency::Selection;
pub use error::ControlError;
pub use flag::DefinitionChange;
pub use flag_config::ConfigChange;
pub use flag_config::ConfigChanged;
pub use flag_history::RevertRequest;
pub use history::Accepted;
pub use idempotency::Keyed;
pub use import::ImportRequest;
pub use import::Imported;
pub use project::EnvironmentChange;
pub use project::SafetyChange;
pub use project::initial_salt;
pub use rehearsal::Rehearsal;
pub use rehearsal::Told;
pub use schedule::Claimed;
pub use schedule::Planning;
pub use schedule::ScheduleRequest;
pub use schedule::When;
pub use segment::PutSegment;
pub use stale::StaleReason;
pub use state::StateApplied;
pub use state::StateRequest;
pub use token::TokenRequest;
pub use trigger::Fired;
pub use trigger::TriggerRequest;
pub use usage::FlagUsage;
pub use usage::StaleFlag;
pub use usage::UsageFilter;

use crate::auth::HeadSigner;
use crate::clock::Clock;
use crate::clock::Ids;
use crate::model::change::Actor;
use crate::model::change::AuditEntry;
use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::snapshot::ReplicaName;
use crate::snapshot::Snapshots;
use crate::store::Claim;
use crate::store::Redis;
use crate::store::Store;
use crate::store::Tx;
use crate::telemetry::Metrics;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;

/// How long a change waits to be served by this process before it is acknowledged anyway; it is committed already.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Everything that commands need.
#[derive(Debug, Clone)]
pub struct Control {
    /// What is written.
    pub store: Store,
    /// What is served.
    pub snapshots: Arc<Snapshots>,
    /// This process, as other replicas know it.
    pub replica: ReplicaName,
    /// The second doorbell, if there is one.
    pub redis: Option<Redis>,
    /// Where figures go.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
    /// Ids and secrets.
    pub ids: Ids,
    /// What signs the end of the audit log.
    pub signer: Arc<HeadSigner>,
}

/// Who makes a change, and in which request.
#[derive(Debug, Clone)]
pub struct Author {
    /// Who.
    pub actor: Actor,
    /// The id of the request.
    pub request_id: String,
    /// Why, in their own words.
    pub comment: Option<String>,
    /// From where, and on what conditions.
    pub provenance: Provenance,
}

/// Where a change comes from and on what conditions it is made; by default it comes from within and on none.
#[derive(Debug, Clone, Default)]
pub struct Provenance {
    /// The address that the request came from.
    pub address: Option<String>,
    /// The claim on the key that the request was sent with.
    pub claim: Option<Claim>,
    /// Whether protected environments may not be changed.
    pub is_unprivileged: bool,
    /// Whether it was not said from which version the change starts.
    pub lacks_version: bool,
    /// Whom to tell what the change would do, if it is only tried out.
    pub rehearsal: Option<Rehearsal>,
}

impl Author {
    /// Whether nothing is to be written, but only said what would be.
    pub fn is_rehearsing(&self) -> bool {
        self.provenance.rehearsal.is_some()
    }

    /// The same author, for whom nothing is written.
    pub fn rehearsing(mut self) -> Self {
        self.provenance.rehearsal.get_or_insert_default();
        self
    }
}

/// What a change is recorded as.
struct Deed<'a> {
    action: &'static str,
    subject: &'a str,
    project: Option<&'a ProjectKey>,
    env: Option<&'a EnvKey>,
    version: Option<i64>,
    instructions: Option<String>,
    changes: Vec<String>,
}

impl Control {
    /// Writes the audit entry of a change, unless the environment's safety forbids the change; returns its id.
    ///
    /// Locks the end of the audit log, so it comes behind all other locks.
    async fn record(
        &self,
        tx: &mut Tx,
        author: &Author,
        deed: Deed<'_>,
        now: Timestamp,
    ) -> Result<String, ControlError> {
        safety::check(tx, author, &deed).await?;
        self.append(tx, author, deed, now).await
    }

    /// Writes the audit entry of a change that is known to be safe; returns its id.
    async fn append(
        &self,
        tx: &mut Tx,
        author: &Author,
        deed: Deed<'_>,
        now: Timestamp,
    ) -> Result<String, ControlError> {
        let id = self.ids.next();
        if let Some(rehearsal) = &author.provenance.rehearsal {
            rehearsal.record(&deed.changes);
        }
        if let Some(claim) = &author.provenance.claim
            && !tx.mark_claim(claim, &id).await?
        {
            let detail = "the same request is being worked on elsewhere; try again";
            return Err(ControlError::conflict("idempotency_in_progress", detail));
        }
        let entry = AuditEntry {
            id,
            at: now,
            actor: author.actor.clone(),
            project: deed.project.cloned(),
            env: deed.env.cloned(),
            action: deed.action.to_owned(),
            subject: deed.subject.to_owned(),
            version: deed.version,
            comment: author.comment.clone(),
            instructions: deed.instructions,
            changes: deed.changes,
            request_id: author.request_id.clone(),
            address: author.provenance.address.clone(),
            link: None,
            unreadable: Vec::new(),
        };
        tx.insert_audit(&entry).await?;
        Ok(entry.id)
    }

    /// Commits, rings, and waits until this process serves what was committed; a change that is only tried out is rolled back.
    async fn finish(
        &self,
        author: &Author,
        mut tx: Tx,
        served: Served,
    ) -> Result<(), ControlError> {
        if author.is_rehearsing() {
            return Ok(tx.roll_back().await?);
        }
        let epoch = tx.notify("changed").await?;
        tx.commit().await?;
        self.metrics.changes.inc();
        let installed = tokio::time::timeout(INSTALL_TIMEOUT, self.wait_until(&served, epoch));
        let published = async {
            if let Some(redis) = &self.redis
                && let Err(error) = redis.publish().await
            {
                // Other replicas find the change by the database's doorbell or by their poll.
                debug!(%error, "could not ring through Redis");
            }
        };
        let (is_installed, ()) = tokio::join!(installed, published);
        if is_installed.is_err() {
            debug!("a change was acknowledged before this process served it");
            let directory = self.snapshots.directory();
            if let Served::Environments(positions) | Served::All(_, positions) = &served {
                for (env, version) in positions {
                    let position = Position { epoch, version: *version };
                    // Whoever reads with the version of the answer then reads what was written.
                    if let Some(environment) = directory.environment(*env) {
                        environment.promise(position);
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until this process serves what was committed.
    async fn wait_until(&self, served: &Served, epoch: i64) {
        let (directory, positions) = match served {
            Served::Environments(positions) => (None, positions.as_slice()),
            Served::Directory(version) => (Some(*version), [].as_slice()),
            Served::All(directory, positions) => (*directory, positions.as_slice()),
        };
        // Of an earlier epoch, a replica may have served the same versions.
        if let Some(version) = directory {
            self.snapshots.wait_for_directory(Position { epoch, version }).await;
        }
        for (env, version) in positions {
            self.snapshots.wait_for(*env, Position { epoch, version: *version }).await;
        }
    }
}

/// What this process must serve before a change is acknowledged.
enum Served {
    /// Environments at these versions or higher.
    Environments(Vec<(EnvId, i64)>),
    /// The directory at this version or a higher one.
    Directory(i64),
    /// The directory, if it changed, and environments.
    All(Option<i64>, Vec<(EnvId, i64)>),
}
