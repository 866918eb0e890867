//! Opening the database: folder, lock, settings, migrations.

use super::StoreError;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};
use std::fs::{File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("src/store/migrations");

/// How long a statement waits for another program's lock before it fails with [`StoreError::Busy`].
const BUSY: Duration = Duration::from_secs(5);

/// Connections for reading.
const READERS: u32 = 4;

/// The database. Cheap to clone; all clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) write: SqlitePool,
    pub(super) read: SqlitePool,
    path: Arc<PathBuf>,
    /// Held while any clone lives; the system lets go of it when the process dies, however it dies.
    _lock: Option<Arc<File>>,
}

impl Store {
    /// Opens the database for this process alone: makes the folder and the file where they are missing and brings the
    /// tables up to date. Only one process may own a file, since [`Store::recover`] closes what others left open.
    pub async fn open(path: &Path) -> Result<Store, StoreError> {
        Store::open_waiting(path, BUSY).await
    }

    /// [`Store::open`] with another limit to wait for foreign locks.
    pub(super) async fn open_waiting(path: &Path, busy: Duration) -> Result<Store, StoreError> {
        let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_private_folder(folder)?;
        if path.is_dir() {
            return Err(StoreError::NoAccess { path: path.into(), why: "it is a folder".into() });
        }
        let lock = lock(path)?;
        open_private(path)?; // SQLite gives the WAL the rights of the file it finds
        let options = settings(path, busy).create_if_missing(true);
        let write = pool(1, busy).connect_with(options.clone()).await.map_err(|e| StoreError::opening(path, e))?;
        let foreign: bool = sqlx::query_scalar(
            "SELECT count(*) > 0 AND sum(name = '_sqlx_migrations') = 0 FROM sqlite_schema WHERE type = 'table'",
        )
        .fetch_one(&write)
        .await
        .map_err(|e| StoreError::opening(path, e))?;
        if foreign {
            return Err(StoreError::NotADatabase(path.into())); // somebody else's tables
        }
        MIGRATIONS.run(&write).await.map_err(|e| StoreError::migrating(path, e))?;
        let read = pool(READERS, busy).connect_lazy_with(options.create_if_missing(false).pragma("query_only", "1"));
        Ok(Store { write, read, path: Arc::new(path.into()), _lock: Some(Arc::new(lock)) })
    }

    /// Opens an existing database to look at it, also while another process owns it. Every write is refused.
    pub async fn open_to_read(path: &Path) -> Result<Store, StoreError> {
        if !path.is_file() {
            let why = "there is no such file".into();
            return Err(StoreError::NoAccess { path: path.into(), why });
        }
        let options = settings(path, BUSY).pragma("query_only", "1");
        let read = pool(READERS, BUSY).connect_with(options).await.map_err(|e| StoreError::opening(path, e))?;
        sqlx::query("SELECT 1 FROM call LIMIT 1").fetch_optional(&read).await.map_err(
            |e| match StoreError::opening(path, e) {
                StoreError::Failed(_) => StoreError::NotADatabase(path.into()), // no such table
                other => other,
            },
        )?;
        Ok(Store { write: read.clone(), read, path: Arc::new(path.into()), _lock: None })
    }

    /// Reads the whole database and looks for damage (1 GB takes seconds), and for migrations that are not ours.
    pub async fn check(&self) -> Result<(), StoreError> {
        let run: Vec<(i64, Vec<u8>)> =
            sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations").fetch_all(&self.read).await?;
        let ours = |(version, sum): &(i64, Vec<u8>)| {
            MIGRATIONS.iter().any(|m| m.version == *version && m.checksum.as_ref() == sum.as_slice())
        };
        if !run.iter().all(ours) {
            return Err(StoreError::Newer(self.path.to_path_buf()));
        }
        let found: Vec<String> = sqlx::query_scalar("PRAGMA quick_check(3)").fetch_all(&self.read).await?;
        if found == ["ok"] { Ok(()) } else { Err(StoreError::Corrupt(found.join("; "))) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Finishes what is under way, folds the WAL into the file and closes all connections.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// A transaction that owns the right to write from its first statement, so that it cannot fail half-way for a lock.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.write.begin_with("BEGIN IMMEDIATE").await?)
    }
}

fn settings(path: &Path, busy: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full) // NORMAL may lose the last commits when the power fails
        .foreign_keys(true)
        .busy_timeout(busy)
        .disable_statement_logging()
}

fn pool(connections: u32, busy: Duration) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(busy * 2)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = open_private(&name)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(path.into())),
        Err(TryLockError::Error(e)) => Err(no_access(&name, &e)),
    }
}

/// Makes a folder, and those above it that are missing, that nobody but the user who runs us may enter: names, numbers
/// and voices lie in it. One that is there already keeps its rights.
pub fn make_private_folder(folder: &Path) -> Result<(), StoreError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| no_access(folder, &e))
}

/// What to do about a folder that other users may look into; `None` when they may not, or when there is no folder.
pub fn open_to_others(folder: &Path) -> Option<String> {
    let mode = folder.metadata().ok()?.permissions().mode() & 0o777;
    let shown = folder.display();
    (mode & 0o077 != 0).then(|| {
        format!("{shown} may be looked into by other users (its mode is {mode:o}); calls lie in it: chmod 700 {shown}")
    })
}

/// Opens a file, making it where it is missing; nobody else may read a file that we make.
fn open_private(path: &Path) -> Result<File, StoreError> {
    let mut how = File::options();
    how.create(true).truncate(false).read(true).write(true).mode(0o600);
    how.open(path).map_err(|e| no_access(path, &e))
}

fn no_access(path: &Path, e: &std::io::Error) -> StoreError {
    match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::NoDisk,
        _ => StoreError::NoAccess { path: path.into(), why: e.to_string() },
    }
}
