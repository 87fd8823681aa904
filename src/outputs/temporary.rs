//! Temporary files and folders. A signal may end the process at any time: those that are open then
//! are listed here, so that they go with it. Each is locked while its process lives, so that others
//! can tell what a killed run left.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::{Builder, NamedTempFile, TempDir};

use super::{change, folder};

/// Paths of what is open. Files come and go, and take their places, while it is locked.
pub(super) type Open = BTreeSet<PathBuf>;

static OPEN: Mutex<Open> = Mutex::new(BTreeSet::new());

const START: &str = ".onnx-mipp-";
const END: &str = ".tmp";
/// Folders are not hidden: they lie where all programs put theirs.
const FOLDER_START: &str = "onnx-mipp-";
/// Locked as long as a folder is in use.
const LOCK: &str = "lock";

pub(super) fn open() -> MutexGuard<'static, Open> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all that is open. As long as the result lives nothing new comes, and nothing takes its
/// place: the process is meant to end meanwhile.
pub(crate) fn remove_all() -> impl Drop {
    let open = open();
    remove(&open);
    open
}

/// The same without waiting, for a process that cannot wait.
pub(crate) fn remove_all_now() {
    if let Ok(open) = OPEN.try_lock() {
        remove(&open);
    }
}

fn remove(open: &Open) {
    for path in open {
        // What cannot be removed is named by the next run.
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
    }
}

/// How temporary files are named; those that take their place are like any new file.
pub(super) fn builder() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(START).suffix(END);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

/// A temporary file.
pub(crate) struct Temporary {
    file: Option<NamedTempFile>,
    path: PathBuf,
}

impl Temporary {
    /// A new file in the folder of `path`, with the permissions of an ordinary new file.
    ///
    /// # Errors
    /// The folder does not exist or cannot be written.
    pub fn beside(path: &Path) -> io::Result<Temporary> {
        let mut open = open();
        change::step()?;
        let file = builder().tempfile_in(folder(path))?;
        // Some disks have no locks.
        let _ = file.as_file().try_lock();
        let path = file.path().to_owned();
        open.insert(path.clone());
        Ok(Temporary {
            file: Some(file),
            path,
        })
    }

    /// The open file.
    ///
    /// # Errors
    /// It has taken its place.
    pub fn file(&self) -> io::Result<&File> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(file.as_file())
    }

    /// Renames it into its place.
    pub(super) fn persist(&mut self, open: &mut Open, target: &Path) -> io::Result<()> {
        change::step()?;
        let file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
        match file.persist(target) {
            Ok(_) => {
                open.remove(&self.path);
                Ok(())
            }
            Err(error) => {
                self.file = Some(error.file);
                Err(error.error)
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            drop(file);
            open().remove(&self.path);
        }
    }
}

/// A temporary folder.
#[derive(Debug)]
pub(crate) struct Workspace {
    folder: Option<TempDir>,
    path: PathBuf,
    _lock: Option<File>,
}

impl Workspace {
    /// A new folder where the system wants temporary ones.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> io::Result<Workspace> {
        Workspace::within(&std::env::temp_dir())
    }

    /// A new folder in another.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn within(folder: &Path) -> io::Result<Workspace> {
        let mut open = open();
        let folder = Builder::new().prefix(FOLDER_START).tempdir_in(folder)?;
        let path = folder.path().to_owned();
        open.insert(path.clone());
        drop(open);
        let lock = File::create(path.join(LOCK))?;
        Ok(Workspace {
            folder: Some(folder),
            path,
            _lock: lock.try_lock().ok().map(|()| lock),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        drop(self.folder.take());
        open().remove(&self.path);
    }
}

/// What killed runs left beside `target` and among the system's temporary folders, a sentence each.
pub(super) fn left_beside(target: &Path) -> Vec<String> {
    let mut found = dead_in(folder(target), |name| {
        (name.starts_with(START) && name.ends_with(END)).then_some(Path::new(""))
    });
    found.extend(dead_in(&std::env::temp_dir(), |name| {
        name.starts_with(FOLDER_START).then_some(Path::new(LOCK))
    }));
    let Some((first, others)) = found.split_first() else {
        return Vec::new();
    };
    let more = match others.len() {
        0 => "it".to_owned(),
        more => format!("it and {more} more"),
    };
    vec![format!(
        "a run that was killed left {}; {more} may be removed",
        first.display()
    )]
}

/// What has such a name and is locked by no one; `lock` says where below it the lock is.
fn dead_in(folder: &Path, lock: impl Fn(&str) -> Option<&'static Path>) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| {
            let lock = lock(entry.file_name().to_str()?)?;
            let path = entry.path();
            let locked = if lock.as_os_str().is_empty() {
                path.clone()
            } else {
                path.join(lock)
            };
            is_dead(&locked).then_some(path)
        })
        .collect();
    found.sort();
    found
}

fn is_dead(path: &Path) -> bool {
    let is_file = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    let Some(file) = is_file.then(|| File::open(path).ok()).flatten() else {
        return false;
    };
    !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}
