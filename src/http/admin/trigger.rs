//! Triggers: secret URLs by which alert managers kill or restore one flag.
//!
//! The secret in the path is the whole authorization of a call, and no log has it.

use crate::auth;
use crate::auth::new_trigger_secret;
use crate::control::Provenance;
use crate::control::Rehearsal;
use crate::control::TriggerRequest;
use crate::http::AdminState;
use crate::http::admin::Items;
use crate::http::admin::applied::Touched;
use crate::http::admin::decode;
use crate::http::admin::flag_config::PatchQuery;
use crate::http::admin::required_name;
use crate::http::authorized::Authorized;
use crate::http::authorized::ChangeConfig;
use crate::http::authorized::ReadEnvironment;
use crate::http::error::ApiError;
use crate::http::extract::Keys;
use crate::http::extract::NoParams;
use crate::http::extract::Params;
use crate::http::json_body::JsonBody;
use crate::http::json_body::SDK_BODY_BYTES_MAX;
use crate::http::json_body::collect;
use crate::http::limit::Arrival;
use crate::http::middleware::RequestId;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::trigger::Alert;
use crate::model::trigger::TRIGGER_ACTIONS;
use crate::model::trigger::TriggerAction;
use crate::store::TriggerRecord;
use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::Uri;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

/// A trigger that is to be made.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct NewTrigger {
    /// For people.
    name: String,
    action: TriggerAction,
    /// Whether a kill is undone when the alert is over, if it was this trigger's.
    restore_when_resolved: Option<bool>,
}

/// A trigger as it is listed: everything but its secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TriggerBody {
    id: String,
    name: String,
    action: TriggerAction,
    restore_when_resolved: bool,
    /// The last characters of the secret.
    hint: String,
    #[schema(value_type = String)]
    created_at: Timestamp,
    created_by: String,
}

/// A trigger that has just been made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TriggerCreated {
    #[serde(flatten)]
    listed: TriggerBody,
    /// The path of the URL, with the secret in it; shown only now, and not by a dry run, which makes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

/// What a trigger did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FiredBody {
    flag: FlagKey,
    environment: EnvKey,
    /// `null` if everything was so already, or there was nothing to do.
    done: Option<TriggerAction>,
}

impl From<TriggerRecord> for TriggerBody {
    fn from(record: TriggerRecord) -> Self {
        Self {
            id: record.id,
            name: record.name,
            action: record.action,
            restore_when_resolved: record.restores_when_resolved,
            hint: record.hint,
            created_at: record.created_at,
            created_by: record.created_by,
        }
    }
}

/// Lists the triggers of a flag in an environment.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/flags/{flag}/triggers", tag = "triggers",
    params(("project" = String, Path), ("environment" = String, Path), ("flag" = String, Path)),
    responses((status = 200, description = "The triggers, oldest first.", body = Items<TriggerBody>)))]
pub(crate) async fn list_triggers(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, env, flag)): Keys<(ProjectKey, EnvKey, FlagKey)>,
    _: Params<NoParams>,
) -> Result<Json<Items<TriggerBody>>, ApiError> {
    let triggers = state.control.triggers(&project, &env, &flag).await?;
    Ok(Json(Items { items: triggers.into_iter().map(TriggerBody::from).collect() }))
}

/// Makes a trigger; its secret is shown only in this answer.
#[utoipa::path(post, path = "/api/v1/projects/{project}/environments/{environment}/flags/{flag}/triggers", tag = "triggers",
    params(("project" = String, Path), ("environment" = String, Path), ("flag" = String, Path)),
    request_body = NewTrigger,
    responses((status = 201, description = "The trigger with its URL.", body = TriggerCreated)))]
pub(crate) async fn create_trigger(
    State(state): State<AdminState>,
    caller: Authorized<ChangeConfig>,
    Keys((project, env, flag)): Keys<(ProjectKey, EnvKey, FlagKey)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<TriggerCreated>), ApiError> {
    let request = decode(body, |fields| {
        let name = required_name(fields);
        if !fields.has("action") {
            fields.missing("action");
        }
        let action = fields.word("action", TRIGGER_ACTIONS);
        let restores_when_resolved = fields.flag("restoreWhenResolved").unwrap_or(false);
        Some(TriggerRequest { name: name?, action: action?, restores_when_resolved })
    })?;
    let secret = new_trigger_secret(state.control.ids);
    let author = caller.author(None);
    let place = (&project, &env, &flag);
    let record = state.control.create_trigger(&author, place, request, &secret).await?;
    let mut listed = TriggerBody::from(record);
    if author.is_rehearsing() {
        listed.hint.clear();
    }
    let url = (!author.is_rehearsing()).then(|| format!("/trigger/{}", secret.token));
    Ok((StatusCode::CREATED, Json(TriggerCreated { listed, url })))
}

/// Revokes a trigger.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/environments/{environment}/flags/{flag}/triggers/{id}", tag = "triggers",
    params(("project" = String, Path), ("environment" = String, Path), ("flag" = String, Path), ("id" = String, Path)),
    responses((status = 204, description = "Its URL does nothing any more.")))]
pub(crate) async fn revoke_trigger(
    State(state): State<AdminState>,
    caller: Authorized<ChangeConfig>,
    Keys((project, env, flag, id)): Keys<(ProjectKey, EnvKey, FlagKey, String)>,
    _: Params<PatchQuery>,
) -> Result<StatusCode, ApiError> {
    state.control.revoke_trigger(&caller.author(None), &project, &env, &flag, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Kills or restores the flag of a trigger.
///
/// Needs no token: the secret is enough. Of the body only `status` counts, as Alertmanager writes it: `firing` kills, and `resolved`
/// undoes that kill if the trigger was made so. Anything else does what the trigger is for.
#[utoipa::path(post, path = "/trigger/{secret}", tag = "triggers", security(()),
    params(("secret" = String, Path)),
    responses((status = 200, description = "What was done.", body = FiredBody),
        (status = 429, description = "It was called too often.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn fire_trigger(
    State(state): State<AdminState>,
    Keys((secret,)): Keys<(String,)>,
    (arrival, rehearsal): (Option<Extension<Arrival>>, Option<Extension<Rehearsal>>),
    uri: Uri,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<(Extension<Touched>, Json<FiredBody>), ApiError> {
    check_dry_run(&uri)?;
    let digest = auth::digest(&secret);
    if let Some(Extension(arrival)) = &arrival {
        arrival.admit_trigger(&digest, &headers)?;
    }
    let unknown = || ApiError::not_found("there is no such trigger, or it was revoked");
    if !auth::is_trigger_secret(&secret) {
        return Err(unknown());
    }
    let bytes = collect(body, SDK_BODY_BYTES_MAX).await?;
    let address = arrival.map(|Extension(arrival)| arrival.client_address(&headers).to_string());
    let rehearsal = rehearsal.map(|Extension(rehearsal)| rehearsal);
    let provenance = Provenance { address, rehearsal, ..Provenance::default() };
    let request = (request_id.as_str().to_owned(), provenance);
    let fired = state.control.fire_trigger(&digest, alert_of(&bytes), request).await?;
    let TriggerRecord { project, env: environment, flag, .. } = fired.trigger;
    let touched = Touched { project, environment: environment.clone() };
    Ok((Extension(touched), Json(FiredBody { flag, environment, done: fired.done })))
}

/// Lets parameters of alert managers pass, but none that was meant to be a dry run and is none.
fn check_dry_run(uri: &Uri) -> Result<(), ApiError> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| pairs);
    let is_wrong = |(name, value): &(String, String)| {
        name.eq_ignore_ascii_case("dryRun")
            && !(name == "dryRun" && ["true", "false"].contains(&value.as_str()))
    };
    if pairs.unwrap_or_default().iter().any(is_wrong) {
        let detail = "write `dryRun=true` to try the trigger out, or leave the parameter out";
        return Err(ApiError::bad_request("invalid_query", detail));
    }
    Ok(())
}

/// What a body says of an alert. It may be anything: an alert manager cannot be told to write another one.
fn alert_of(bytes: &[u8]) -> Alert {
    #[derive(Deserialize)]
    struct Notification {
        status: String,
    }
    let status = serde_json::from_slice(bytes).map(|Notification { status }| status);
    match status.as_deref() {
        Ok("firing") => Alert::Firing,
        Ok("resolved") => Alert::Resolved,
        _ => Alert::Unknown,
    }
}
