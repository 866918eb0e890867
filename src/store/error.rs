//! What can go wrong with the database, and what to do about it.

use std::path::{Path, PathBuf};

/// A failure of the store. Its text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process owns the file.
    #[error("{0} is in use by another zongji: stop that one first, or give this one its own data folder")]
    Locked(PathBuf),
    /// The file stayed locked by some other program for longer than we wait.
    #[error("the database stayed locked by another program (a backup, an open sqlite3 shell?): end it and try again")]
    Busy,
    /// The disk is full.
    #[error("the disk that holds the database is full: free some space; nothing that was acknowledged is lost")]
    NoDisk,
    /// The file is something else.
    #[error("{0} is not a zongji database: move it away or point the data folder elsewhere")]
    NotADatabase(PathBuf),
    /// The file is damaged.
    #[error("the database is damaged ({0}): stop, keep the file, and put the last backup in its place")]
    Corrupt(String),
    /// Folder or file cannot be made, read or written.
    #[error("cannot open {path}: {why}: check that the folder exists and that this user may write there")]
    NoAccess {
        /// Which.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// Written by a newer program.
    #[error("{0} was written by a newer zongji: use that version, or another data folder")]
    Newer(PathBuf),
    /// The disk failed in some other way.
    #[error("the disk failed: {0}")]
    Io(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Anything else: a fault of ours.
    #[error("the database refused: {0}")]
    Failed(String),
}

impl StoreError {
    /// Whether trying again later may succeed without anybody changing the request.
    pub const fn is_passing(&self) -> bool {
        matches!(self, StoreError::Busy | StoreError::NoDisk | StoreError::Io(_) | StoreError::Locked(_))
    }

    /// From an error while opening `path`, where more can be said.
    pub(super) fn opening(path: &Path, e: sqlx::Error) -> Self {
        match StoreError::from(e) {
            StoreError::Corrupt(why) if why.contains("not a database") => StoreError::NotADatabase(path.into()),
            StoreError::Io(why) if !path.exists() => StoreError::NoAccess { path: path.into(), why },
            other => other,
        }
    }

    /// From a failed migration of `path`.
    pub(super) fn migrating(path: &Path, e: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError as M;
        match e {
            M::VersionMissing(_) | M::VersionMismatch(_) | M::VersionTooNew(..) => StoreError::Newer(path.into()),
            M::Execute(e) | M::ExecuteMigration(e, _) => match StoreError::opening(path, e) {
                // Tables of ours that exist without our notes of migration: somebody else's database.
                StoreError::Failed(why) if why.contains("already exists") => StoreError::NotADatabase(path.into()),
                other => other,
            },
            other => StoreError::Failed(other.to_string()),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(e: sqlx::Error) -> Self {
        match &e {
            sqlx::Error::PoolTimedOut => return StoreError::Busy,
            sqlx::Error::Io(io) => return StoreError::Io(io.to_string()),
            _ => {}
        }
        let Some(db) = e.as_database_error() else { return StoreError::Failed(e.to_string()) };
        // Primary result codes, https://sqlite.org/rescode.html; the extended code has more in its higher bits.
        let primary = db.code().and_then(|c| c.parse::<i32>().ok()).map_or(0, |c| c & 0xff);
        match primary {
            5 | 6 => StoreError::Busy,
            13 => StoreError::NoDisk,
            11 | 26 => StoreError::Corrupt(db.message().to_string()),
            8 | 10 | 14 => StoreError::Io(db.message().to_string()),
            _ => StoreError::Failed(db.message().to_string()),
        }
    }
}
