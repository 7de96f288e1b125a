//! What can go wrong with the store, as far as callers decide on it.

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is overloaded or refuses to write now; trying again later can help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// A row holds something that this version cannot read.
    #[error("the row `{key}` of table `{table}` cannot be read: {cause}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
        /// Why.
        cause: String,
    },
    /// The schema is not one that this version knows.
    #[error("{0}")]
    Schema(String),
    /// The database has lost what replicas have seen; nothing is changed until that is accepted.
    #[error("{0}")]
    Regressed(String),
    /// Another process has the SQLite file open.
    #[error("{0}")]
    Locked(String),
    /// Anything else that the database said.
    #[error("the store failed: {0}")]
    Backend(sqlx::Error),
}

impl StoreError {
    /// What is wrong, for anybody: without names, addresses and texts of the database.
    pub fn in_general(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => {
                "the database cannot be reached, or does not let this server in"
            }
            Self::Schema(_) => "the database's tables are not those of this version",
            Self::Regressed(_) => "the database lacks what was served",
            Self::Corrupt { .. } | Self::Locked(_) | Self::Backend(_) => {
                "the database cannot be used; the log has the cause"
            }
        }
    }
}

/// Classes and codes of SQLSTATE that mean "not now": connection lost (08), not let in (28), no such database (3D), out of resources (53), shutting down (57P),
/// lock not available (55P03), read-only standby (25006, and 55000 for what a standby cannot be asked), transaction that stood still (25P03), statement timeout
/// (57014), serialization (40).
///
/// Source: PostgreSQL documentation, appendix A.
const TRANSIENT_SQLSTATES: &[&str] =
    &["08", "28", "3D", "53", "57", "55P03", "55000", "25006", "25P03", "40"];

/// Primary result codes of SQLite that mean "not now": busy (5), locked (6), read-only (8), I/O error (10), full (13).
///
/// Source: SQLite documentation, result codes.
const TRANSIENT_SQLITE_CODES: &[u32] = &[5, 6, 8, 10, 13];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let is_transient = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => true,
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default();
                if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
                    TRANSIENT_SQLSTATES.iter().any(|class| code.starts_with(class))
                } else {
                    // The extended code's low byte is the primary code.
                    let primary = code.parse::<u32>().map(|code| code & 0xff);
                    primary.is_ok_and(|code| TRANSIENT_SQLITE_CODES.contains(&code))
                }
            }
            _ => false,
        };
        if is_transient { Self::Unavailable(error.to_string()) } else { Self::Backend(error) }
    }
}

/// Reads the JSON body of a row.
pub(super) fn read_body<T: serde::de::DeserializeOwned>(
    table: &'static str,
    key: &str,
    body: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(body).map_err(|cause| StoreError::Corrupt {
        table,
        key: key.to_owned(),
        cause: cause.to_string(),
    })
}

/// Writes the JSON body of a row.
pub(super) fn write_body(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|cause| StoreError::Backend(sqlx::Error::Encode(Box::new(cause))))
}
