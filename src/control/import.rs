//! Bringing over an environment of LaunchDarkly, in one transaction.
//!
//! What becomes of each flag and segment is decided in `change`.

use crate::change::Import;
use crate::change::ImportPlan;
use crate::change::ImportReport;
use crate::change::ImportScene;
use crate::change::ImportedKeys;
use crate::change::list_names;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Served;
use crate::control::project::initial_salt;
use crate::control::safety;
use crate::model::change::EnvId;
use crate::model::environment::ServerSdk;
use crate::model::flag::FlagDefinition;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::model::rule::FlagConfig;
use crate::model::segment::Segment;
use crate::store::Damaged;
use crate::store::EnvironmentRecord;
use crate::store::Tx;
use crate::store::within_timeout;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Keys that the audit entry names of each kind of change; further ones are counted.
const NAMES_MAX: usize = 100;

/// Rows that one import writes, so that it is done within the time that a transaction has; a new flag is one in every
/// environment of the project.
const IMPORTED_ROWS_MAX: usize = 100_000;

/// Flags that are looked up one by one in another environment; for more, all are read at once.
const LOOKUPS_MAX: usize = 20;

/// An import that is asked for.
#[derive(Debug)]
pub struct ImportRequest {
    /// The file, read.
    pub import: Import,
    /// Whether what is there and differs is overwritten.
    pub is_replacing: bool,
}

/// An import that was made, or would be.
#[derive(Debug)]
pub struct Imported {
    /// The environment's version after it.
    pub version: i64,
    /// What became of each flag and segment.
    pub report: ImportReport,
}

/// What an import is compared with.
struct Loaded {
    /// The environment that is imported into.
    own: EnvironmentRecord,
    others: Vec<EnvironmentRecord>,
    definitions: BTreeMap<FlagKey, (FlagDefinition, bool)>,
    configs: BTreeMap<FlagKey, (FlagConfig, bool)>,
    segments: BTreeMap<SegmentKey, Segment>,
    used_elsewhere: BTreeSet<FlagKey>,
}

impl Control {
    /// Imports flags and segments into an environment; new flags start off in the other environments of the project.
    ///
    /// If everything is so already, nothing is written and the version stays.
    ///
    /// # Errors
    ///
    /// There is no such environment; `server_sdk_required` if it was not created for LaunchDarkly's SDKs; `too_many` if more
    /// than `IMPORTED_ROWS_MAX` rows would be written.
    pub async fn import(
        &self,
        author: &Author,
        project: &ProjectKey,
        env_key: &EnvKey,
        request: ImportRequest,
    ) -> Result<Imported, ControlError> {
        within_timeout(async {
            let ImportRequest { import, is_replacing } = request;
            // First without any lock, so that nobody waits for what writes nothing.
            let mut tx = self.store.read().await?;
            let loaded = load(&mut tx, (project, env_key), &import, is_replacing).await?;
            drop(tx);
            let plan = self.plan_import(&loaded, import.clone(), is_replacing)?;
            let version = loaded.own.version;
            if plan.is_empty() {
                return Ok(Imported { version, report: plan.report });
            }
            if author.is_rehearsing() {
                return Ok(Imported { version: version + 1, report: plan.report });
            }
            let now = self.clock.now();
            let (mut tx, own) = self.lock_for_import(project, env_key, now).await?;
            let loaded = load(&mut tx, (project, env_key), &import, is_replacing).await?;
            let plan = self.plan_import(&loaded, import, is_replacing)?;
            let (_, version) = own;
            if plan.is_empty() {
                // Somebody did the same in between, and the version that was counted up goes with the transaction.
                return Ok(Imported { version: version - 1, report: plan.report });
            }
            let report = plan.report.clone();
            let others = &loaded.others;
            self.write_import(tx, author, (project, env_key), own, others, plan, now).await?;
            Ok(Imported { version, report })
        })
        .await
    }

    /// Decides what is to be written; its work grows with the file and with what is there, but not with both multiplied.
    fn plan_import(
        &self,
        loaded: &Loaded,
        import: Import,
        is_replacing: bool,
    ) -> Result<ImportPlan, ControlError> {
        let scene = ImportScene {
            initial_salt: &initial_salt(&loaded.own.project, &loaded.own.key),
            definitions: &loaded.definitions,
            configs: &loaded.configs,
            segments: &loaded.segments,
            used_elsewhere: &loaded.used_elsewhere,
            is_replacing,
        };
        let plan = import.plan(&scene, &mut || self.ids.next());
        let n_defined = plan.created.len() + plan.redefined.len();
        let n_elsewhere = n_defined.saturating_mul(loaded.others.len());
        let n_own = n_defined + plan.configs.len() + plan.segments.len();
        let n_rows = n_own.saturating_add(n_elsewhere);
        if n_rows > IMPORTED_ROWS_MAX {
            let detail = format!(
                "would write {n_rows} rows, counting each new flag in each environment of the project, and one import may write {IMPORTED_ROWS_MAX}; import a part of the file, or into a project with fewer environments"
            );
            return Err(ControlError::too_many(detail));
        }
        Ok(plan)
    }

    /// Locks a project and then its environments, in the order of their numbers, as a change of a definition does; only the
    /// environment that is imported into is counted up, since the others may have nothing to change.
    async fn lock_for_import(
        &self,
        project: &ProjectKey,
        env_key: &EnvKey,
        now: Timestamp,
    ) -> Result<(Tx, (EnvId, i64)), ControlError> {
        let mut tx = self.store.write().await?;
        if !tx.lock_project(project).await? {
            return Err(ControlError::not_found("project", project));
        }
        let mut own = None;
        for environment in tx.environments().await? {
            if environment.project != *project {
                continue;
            }
            if environment.key == *env_key {
                own = tx.bump_environment(project, env_key, now).await?;
            } else {
                tx.lock_environment(environment.id).await?;
            }
        }
        let own = own.ok_or_else(|| ControlError::not_found("environment", env_key))?;
        Ok((tx, own))
    }

    /// Writes everything that a plan has, and finishes.
    #[expect(clippy::too_many_arguments, reason = "the second half of one caller")]
    async fn write_import(
        &self,
        mut tx: Tx,
        author: &Author,
        (project, env_key): (&ProjectKey, &EnvKey),
        (env, version): (EnvId, i64),
        others: &[EnvironmentRecord],
        plan: ImportPlan,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        let ImportPlan { created, redefined, configs, segments, report } = plan;
        tx.insert_definitions(project, &created, now).await?;
        for definition in &redefined {
            tx.update_definition(project, definition).await?;
        }
        tx.put_configs(env, &configs, version, now).await?;
        tx.put_segments(env, &segments, version, now).await?;
        if !created.is_empty() || !redefined.is_empty() {
            safety::check_definition(&mut tx, author, project).await?;
        }
        let deed = Deed {
            action: "environment.import",
            subject: env_key.as_str(),
            project: Some(project),
            env: Some(env_key),
            version: Some(version),
            instructions: None,
            changes: words(&report),
        };
        let audit_id = self.record(&mut tx, author, deed, now).await?;
        let flags: Vec<&str> = configs.iter().map(|(key, _)| key.as_str()).collect();
        let segments: Vec<&str> = segments.iter().map(|segment| segment.key.as_str()).collect();
        tx.log_change(env, version, &flags, &segments, &audit_id, now).await?;
        let mut positions = vec![(env, version)];
        let defined: Vec<&FlagDefinition> = created.iter().chain(&redefined).collect();
        let keys: Vec<&str> = defined.iter().map(|flag| flag.key.as_str()).collect();
        for other in others.iter().filter(|_| !defined.is_empty()) {
            let Some((id, version)) = tx.bump_environment(project, &other.key, now).await? else {
                continue;
            };
            let initial = |flag: &&FlagDefinition| {
                let config = FlagConfig::initial(flag, initial_salt(project, &other.key));
                (flag.key.clone(), config)
            };
            let configs: Vec<(FlagKey, FlagConfig)> = defined.iter().map(initial).collect();
            tx.put_configs(id, &configs, version, now).await?;
            tx.log_change(id, version, &keys, &[], &audit_id, now).await?;
            positions.push((id, version));
        }
        self.finish(author, tx, Served::Environments(positions)).await
    }
}

/// Reads what an import is compared with.
async fn load(
    tx: &mut Tx,
    (project, env_key): (&ProjectKey, &EnvKey),
    import: &Import,
    is_replacing: bool,
) -> Result<Loaded, ControlError> {
    let environments = tx.environments().await?.into_iter();
    let (own, others): (Vec<_>, Vec<_>) =
        environments.filter(|each| each.project == *project).partition(|each| each.key == *env_key);
    let Some(own) = own.into_iter().next() else {
        let is_there = tx.projects().await?.iter().any(|each| each.key == *project);
        return Err(if is_there {
            ControlError::not_found("environment", env_key)
        } else {
            ControlError::not_found("project", project)
        });
    };
    if own.server_sdk != ServerSdk::LaunchDarkly {
        let detail = format!(
            "the environment `{env_key}` was not created for LaunchDarkly's SDKs, so its rollouts may hash otherwise; create one with POST /api/v1/projects/{project}/environments {{\"key\":\"…\",\"serverSdk\":\"launchdarkly\"}} and import into that"
        );
        return Err(ControlError::conflict("server_sdk_required", detail));
    }
    let definitions = tx.all_definitions(project).await?;
    let used_elsewhere = if is_replacing {
        let redefined = import.redefined(&definitions).collect();
        used_elsewhere(tx, project, &others, &redefined).await?
    } else {
        BTreeSet::new()
    };
    let flags = tx.flags(project, own.id).await?.into_iter();
    let configs = flags.map(|flag| (flag.definition.key, (flag.config, flag.killed.is_some())));
    let configs = configs.collect();
    let segments = tx.segments(own.id).await?.into_iter();
    let segments = segments.map(|stored| (stored.segment.key.clone(), stored.segment)).collect();
    Ok(Loaded { own, others, definitions, configs, segments, used_elsewhere })
}

/// The flags that would get other values and that another environment of the project uses: it has configured or killed them,
/// or another of its flags has them as a prerequisite.
async fn used_elsewhere(
    tx: &mut Tx,
    project: &ProjectKey,
    others: &[EnvironmentRecord],
    redefined: &BTreeSet<&FlagKey>,
) -> Result<BTreeSet<FlagKey>, ControlError> {
    let mut used = BTreeSet::new();
    for other in others.iter().filter(|_| !redefined.is_empty()) {
        let needed = tx.prerequisites(other.id, Damaged::Refused).await?.into_values().flatten();
        used.extend(needed.filter(|key| redefined.contains(key)));
        let mut flags = Vec::new();
        if redefined.len() <= LOOKUPS_MAX {
            for key in redefined {
                flags.extend(tx.flag(project, other.id, key).await?);
            }
        } else {
            flags = tx.flags(project, other.id).await?;
        }
        let salt = initial_salt(project, &other.key);
        for flag in flags.into_iter().filter(|flag| redefined.contains(&flag.definition.key)) {
            let is_initial = || flag.config == FlagConfig::initial(&flag.definition, salt.clone());
            if flag.killed.is_some() || !is_initial() {
                used.insert(flag.definition.key);
            }
        }
    }
    Ok(used)
}

/// What was done, in words.
fn words(report: &ImportReport) -> Vec<String> {
    let of = |what: &str, keys: &ImportedKeys| -> Vec<String> {
        let ImportedKeys { created, configured, replaced, .. } = keys;
        let lists = [("created", created), ("configured", configured), ("replaced", replaced)];
        let lists = lists.into_iter().filter(|(_, keys)| !keys.is_empty());
        lists
            .map(|(verb, keys)| {
                let names = list_names(keys.iter(), NAMES_MAX);
                format!("{verb} {} {what}(s): {names}", keys.len())
            })
            .collect()
    };
    let mut words = of("segment", &report.segments);
    words.extend(of("flag", &report.flags));
    words
}
