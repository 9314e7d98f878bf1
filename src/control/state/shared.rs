//! The database as all parts share it. Once its disk has refused, redb takes nothing more until it is opened anew, which is
//! done before the next use.

use std::path::Path;
use std::sync::{PoisonError, RwLock};

use redb::{Database, DatabaseError};

use super::StateError;

/// Opens the database, makes it when there is none.
type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// See the module's documentation.
pub(super) struct Shared {
    /// Its file, for errors.
    path: String,
    opener: Opener,
    /// None after the latest use has failed.
    database: RwLock<Option<Database>>,
}

impl Shared {
    pub(super) fn open(path: &Path) -> Result<Self, StateError> {
        let file = path.to_owned();
        Self::open_by(path, Box::new(move || Database::create(&file)))
    }

    fn open_by(path: &Path, opener: Opener) -> Result<Self, StateError> {
        let shared = Self { path: path.display().to_string(), opener, database: RwLock::new(None) };
        shared.reopen()?;
        Ok(shared)
    }

    /// Does something with the database, which is opened before when the latest use has failed.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StateError> {
        if !self.is_open() {
            self.reopen()?;
        }
        let outcome = match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Some(database) => work(database).map_err(|error| self.failed(&error)),
            None => Err(self.failed(&"it was closed by another use that failed")),
        };
        if outcome.is_err() {
            *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        outcome
    }

    /// Whether the latest use has not failed.
    pub(super) fn is_open(&self) -> bool {
        self.database.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn reopen(&self) -> Result<(), StateError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            *database = Some((self.opener)().map_err(|error| self.failed(&error))?);
        }
        Ok(())
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> StateError {
        StateError::Database { path: self.path.clone(), reason: error.to_string() }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::backends::FileBackend;
    use redb::{ReadableDatabase as _, StorageBackend, TableDefinition};

    use super::*;

    const TABLE: TableDefinition<u64, u64> = TableDefinition::new("test");

    /// A disk that is full at times.
    #[derive(Debug)]
    struct Disk {
        file: FileBackend,
        is_full: Arc<AtomicBool>,
    }

    impl Disk {
        fn room(&self) -> io::Result<()> {
            let is_full = self.is_full.load(Ordering::Relaxed);
            if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.room()?;
            self.file.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.room()?;
            self.file.write(offset, data)
        }

        fn close(&self) -> io::Result<()> {
            self.file.close()
        }
    }

    fn put(shared: &Shared, key: u64) -> Result<(), StateError> {
        shared.with(|database| {
            let transaction = database.begin_write()?;
            transaction.open_table(TABLE)?.insert(key, key)?;
            transaction.commit()?;
            Ok(())
        })
    }

    fn get(shared: &Shared, key: u64) -> Option<u64> {
        let read = |database: &Database| {
            let table = database.begin_read()?.open_table(TABLE)?;
            Ok(table.get(key)?.map(|value| value.value()))
        };
        shared.with(read).unwrap()
    }

    #[test]
    fn after_a_full_disk_it_is_written_again_and_holds_what_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let is_full = Arc::new(AtomicBool::new(false));
        let (file, full) = (path.clone(), is_full.clone());
        let opener = move || {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&file)?;
            let disk = Disk { file: FileBackend::new(file)?, is_full: full.clone() };
            Database::builder().create_with_backend(disk)
        };
        let shared = Shared::open_by(&path, Box::new(opener)).unwrap();
        put(&shared, 1).unwrap();
        is_full.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            let error = put(&shared, 2).unwrap_err().to_string();
            assert!(error.contains("state.redb"), "{error}");
            assert!(!shared.is_open());
        }
        is_full.store(false, Ordering::Relaxed);
        put(&shared, 3).unwrap();
        assert!(shared.is_open());
        assert_eq!((get(&shared, 1), get(&shared, 2), get(&shared, 3)), (Some(1), None, Some(3)));
    }
}
