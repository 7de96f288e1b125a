//! What a handler of the control plane must be allowed to do, as part of its type: without that it cannot be written, because
//! only an [`Authorized`] says who is the author of a change.
//!
//! Which role may do what is in `auth`.

use crate::auth;
use crate::auth::Denied;
use crate::auth::Permission;
use crate::auth::Place;
use crate::control::Author;
use crate::control::Provenance;
use crate::control::Rehearsal;
use crate::http::AdminState;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::limit::Arrival;
use crate::model::change::Actor;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::limit::TEXT_CHARS_MAX;
use crate::model::token::Role;
use crate::store::Claim;
use axum::extract::FromRequestParts;
use axum::extract::MatchedPath;
use axum::extract::RawPathParams;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::header;
use axum::http::request::Parts;
use std::marker::PhantomData;
use std::ops::Deref;

/// Why a change is made, for requests whose body has no place for it.
pub(crate) const COMMENT: HeaderName = HeaderName::from_static("vexil-comment");

/// What the path says a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing: the handler takes what is within the token's scope.
    Anywhere,
    /// The whole installation.
    Installation,
    /// A whole project.
    Project,
    /// A project as far as the token reaches it.
    PartOfProject,
    /// An environment.
    Environment,
}

/// What must be allowed.
pub(crate) trait Requirement {
    /// What is done.
    const PERMISSION: Permission;
    /// What it is done to.
    const REACH: Reach;
    /// Whether a protected environment needs more.
    const HEEDS_PROTECTION: bool = false;
    /// What becomes of `If-Match`.
    const IF_MATCH: IfMatch = IfMatch::Refused;
}

/// What a route does with `If-Match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// It would not heed it, so it does not take it.
    Refused,
    /// The handler compares it.
    Compared,
    /// Nothing holds an emergency up.
    Ignored,
}

/// The same with an `If-Match` that the handler compares.
#[derive(Debug)]
pub(crate) struct Versioned<R>(PhantomData<R>);

impl<R: Requirement> Requirement for Versioned<R> {
    const PERMISSION: Permission = R::PERMISSION;
    const REACH: Reach = R::REACH;
    const HEEDS_PROTECTION: bool = R::HEEDS_PROTECTION;
    const IF_MATCH: IfMatch = IfMatch::Compared;
}

/// Kills and restores flags, wherever the handler finds them.
#[derive(Debug)]
pub(crate) struct Emergency;

impl Requirement for Emergency {
    const PERMISSION: Permission = Permission::TurnOff;
    const REACH: Reach = Reach::Anywhere;
    const IF_MATCH: IfMatch = IfMatch::Ignored;
}

macro_rules! requirements {
    ($($(#[$doc:meta])* $name:ident: $permission:ident, $reach:ident $(, $protection:literal)?;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub(crate) struct $name;
            impl Requirement for $name {
                const PERMISSION: Permission = Permission::$permission;
                const REACH: Reach = Reach::$reach;
                $(const HEEDS_PROTECTION: bool = $protection;)?
            }
        )*
    };
}

requirements! {
    /// Reads what is within the token's scope.
    ReadOwn: Read, Anywhere;
    /// Reads what is about the installation.
    ReadInstallation: Read, Installation;
    /// Reads what is about a whole project.
    ReadProject: Read, Project;
    /// Reads a project as far as the token reaches it.
    ReadPartOfProject: Read, PartOfProject;
    /// Reads what is in an environment.
    ReadEnvironment: Read, Environment;
    /// Takes the whole audit log away.
    ExportAudit: ExportAudit, Installation;
    /// Creates flags.
    CreateFlag: CreateFlag, Project;
    /// Changes or deletes flags everywhere, in protected environments too.
    ChangeFlag: Change, Project, true;
    /// Changes configurations of flags; what protection asks for is decided when the instructions are known.
    ChangeConfig: Change, Environment;
    /// Changes several things of a project, each of which the handler checks again.
    ChangePart: Change, PartOfProject;
    /// Changes segments.
    ChangeSegment: Change, Environment, true;
    /// Writes whatever a project has, in protected environments too.
    ImportFlags: Change, Project, true;
    /// Renames a project, creates and deletes its environments.
    ManageProject: ManageProject, Project;
    /// Changes what an environment is like.
    ManageEnvironment: ManageProject, Environment;
    /// Deletes a project.
    DeleteProject: DeleteProject, Project;
    /// Creates projects, and decides what is about the whole installation.
    ManageInstallation: ManageInstallation, Installation;
    /// Reads which tokens there are within the token's scope.
    ReadOwnTokens: ReadTokens, Anywhere;
    /// Reads which tokens an environment has.
    ReadTokens: ReadTokens, Environment;
    /// Makes, rotates and revokes tokens within the token's scope.
    ManageOwnTokens: ManageTokens, Anywhere;
    /// Makes, rotates and revokes tokens of an environment.
    ManageTokens: ManageTokens, Environment;
}

/// A caller who may do what `R` says.
#[derive(Debug)]
pub(crate) struct Authorized<R> {
    caller: Caller,
    provenance: Provenance,
    comment: Option<String>,
    if_match: Option<String>,
    requirement: PhantomData<R>,
}

impl<R: Requirement> FromRequestParts<AdminState> for Authorized<R> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let Some(role) = caller.grant().role else { return Err(Denied::NotAdmin.into()) };
        if let Some(arrival) = parts.extensions.get::<Arrival>() {
            let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
            arrival.admit_admin(&caller.digest, route)?;
        }
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| ApiError::not_found("the path names nothing"))?;
        let invalid =
            |name: &str| ApiError::not_found(format!("the path has no valid key at {{{name}}}"));
        let named = |wanted: &'static str| {
            let text = params.iter().find(|(name, _)| *name == wanted).map(|(_, text)| text);
            text.ok_or_else(|| invalid(wanted))
        };
        let project = || ProjectKey::parse(named("project")?).ok_or_else(|| invalid("project"));
        let environment =
            || EnvKey::parse(named("environment")?).ok_or_else(|| invalid("environment"));
        let may = |place| auth::require(caller.grant(), R::PERMISSION, place);
        let directory = caller.snapshots.directory();
        let is_protected = match R::REACH {
            Reach::Anywhere => may(Place::Anywhere).map(|()| false)?,
            Reach::Installation => may(Place::Installation).map(|()| false)?,
            Reach::PartOfProject => may(Place::PartOf(&project()?)).map(|()| false)?,
            Reach::Project => {
                let project = project()?;
                may(Place::Project(&project))?;
                directory.has_protected(&project)
            }
            Reach::Environment => {
                let (project, env) = (project()?, environment()?);
                may(Place::Environment(&project, &env))?;
                directory.safety(&project, &env).protected
            }
        };
        let is_privileged = Permission::ChangeProtected.is_of(role);
        if R::HEEDS_PROTECTION && is_protected && !is_privileged {
            return Err(Denied::Role { needed: Permission::ChangeProtected.needed() }.into());
        }
        let comment = read_comment(&parts.headers)?;
        let if_match = match R::IF_MATCH {
            IfMatch::Compared => read_if_match(&parts.headers)?,
            IfMatch::Ignored => None,
            IfMatch::Refused => refuse_if_match(parts).map(|()| None)?,
        };
        let arrival = parts.extensions.get::<Arrival>();
        let address = arrival.map(|arrival| arrival.client_address(&parts.headers).to_string());
        let provenance = Provenance {
            address,
            claim: parts.extensions.get::<Claim>().cloned(),
            is_unprivileged: !is_privileged,
            rehearsal: parts.extensions.get::<Rehearsal>().cloned(),
            lacks_version: if_match.is_none(),
        };
        Ok(Self { caller, provenance, comment, if_match, requirement: PhantomData })
    }
}

impl<R> Deref for Authorized<R> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl<R> Authorized<R> {
    /// The role of the token.
    pub(crate) fn role(&self) -> Role {
        // OK because nobody is authorized without one; a viewer may do least.
        self.grant().role.unwrap_or(Role::Viewer)
    }

    /// Who is recorded as the author of a change; `comment` is what the body says.
    pub(crate) fn author(&self, comment: Option<String>) -> Author {
        let grant = self.grant();
        let actor = Actor { id: grant.id.clone(), name: grant.name.clone(), holder: grant.holder };
        Author {
            actor,
            request_id: self.request_id().to_owned(),
            comment: comment.or_else(|| self.comment.clone()),
            provenance: self.provenance.clone(),
        }
    }
}

impl<R: Requirement> Authorized<Versioned<R>> {
    /// The `ETag` that `If-Match` names, without its quotes; `None` if it is not there or is `*`, which is any.
    pub(crate) fn if_tag(&self) -> Option<String> {
        self.if_match.clone()
    }

    /// The version that `If-Match` names.
    pub(crate) fn if_version(&self) -> Result<Option<i64>, ApiError> {
        let version = self.if_match.as_ref().map(|tag| tag.parse().map_err(|_| invalid_if_match()));
        version.transpose()
    }
}

/// Reads `If-Match`: one `ETag`, or `*` for any.
fn read_if_match(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    // Proxies that compress make tags weak.
    let text = text.strip_prefix("W/").unwrap_or(text);
    let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    tag.map(|tag| Some(tag.to_owned())).ok_or_else(invalid_if_match)
}

fn invalid_if_match() -> ApiError {
    let detail = "If-Match must be the one ETag that the route's GET answers, like \"813\" with its quotes, or *";
    ApiError::bad_request("invalid_if_match", detail)
}

/// Refuses a condition that nobody would look at, so that nobody relies on it.
fn refuse_if_match(parts: &Parts) -> Result<(), ApiError> {
    if parts.method.is_safe() || !parts.headers.contains_key(header::IF_MATCH) {
        return Ok(());
    }
    let detail = "this route does not compare If-Match; leave it out, or name versions as the API's description says";
    Err(ApiError::bad_request("if_match_unsupported", detail))
}

fn read_comment(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(COMMENT) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).ok();
    let text = text.filter(|text| text.chars().count() <= TEXT_CHARS_MAX);
    text.map(|text| Some(text.to_owned())).ok_or_else(|| {
        let detail = format!("Vexil-Comment must be UTF-8 of at most {TEXT_CHARS_MAX} characters");
        ApiError::bad_request("invalid_comment", detail)
    })
}
