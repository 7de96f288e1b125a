//! Pages of lists that have one order: as many as are asked for, behind the one that a cursor names.
//!
//! Lists of flags have several orders and filters besides, in `flag_list`; the names of the parameters are the same.

use crate::http::admin::flag_list::PAGE_MAX;
use crate::http::error::ApiError;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

/// Bytes of a cursor.
const CURSOR_BYTES_MAX: usize = 256;

/// What a list may be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    limit: Option<String>,
    cursor: Option<String>,
}

/// Which page is asked for.
#[derive(Debug)]
pub(crate) struct PageWanted {
    /// How many things; all, if it is not said.
    limit: Option<usize>,
    /// Those behind the one with this key or id.
    pub(crate) after: String,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Paged<T> {
    /// The things.
    items: Vec<T>,
    /// How many there are on all pages.
    total: usize,
    /// The `cursor` of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl PageQuery {
    /// Reads which page is asked for.
    ///
    /// # Errors
    ///
    /// 400 with a code that names the parameter.
    pub(crate) fn read(self) -> Result<PageWanted, ApiError> {
        let limit = match self.limit.as_deref().map(str::parse::<usize>) {
            None => None,
            Some(Ok(limit)) if (1..=PAGE_MAX).contains(&limit) => Some(limit),
            Some(_) => {
                let detail = format!("limit must be from 1 to {PAGE_MAX}");
                return Err(ApiError::bad_request("invalid_limit", detail));
            }
        };
        let after = match self.cursor {
            None => String::new(),
            Some(text) if is_cursor(&text) => text,
            Some(_) => {
                let detail = "cursor must be the `next` of an earlier answer";
                return Err(ApiError::bad_request("invalid_cursor", detail));
            }
        };
        Ok(PageWanted { limit, after })
    }
}

fn is_cursor(text: &str) -> bool {
    let is_known = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    !text.is_empty() && text.len() <= CURSOR_BYTES_MAX && text.chars().all(is_known)
}

impl PageWanted {
    /// How many things are to be read: one more than is asked for, which tells whether there is more.
    pub(crate) fn n_read(&self) -> i64 {
        let limit = self.limit.and_then(|limit| i64::try_from(limit).ok());
        limit.map_or(i64::MAX, |limit| limit + 1)
    }

    /// The page, of things that begin behind the cursor.
    pub(crate) fn page<S, T>(
        &self,
        mut items: Vec<S>,
        total: usize,
        name: impl Fn(&S) -> String,
        body: impl Fn(S) -> T,
    ) -> Paged<T> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| has_more).map(name);
        Paged { items: items.into_iter().map(body).collect(), total, next }
    }

    /// The page, of all things that there are, in the order of their names.
    pub(crate) fn page_of_all<S, T>(
        &self,
        mut items: Vec<S>,
        name: impl Fn(&S) -> String,
        body: impl Fn(S) -> T,
    ) -> Paged<T> {
        let total = items.len();
        items.retain(|item| name(item) > self.after);
        self.page(items, total, name, body)
    }
}
