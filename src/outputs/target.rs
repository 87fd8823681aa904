//! Which places may be written, and which are inputs.

use std::fs::{self, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{OutputError, folder};

/// A place that an output will take.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The file itself, behind a link where the path is one.
    pub path: PathBuf,
    /// As messages name it.
    pub(super) given: PathBuf,
    pub what: &'static str,
}

impl Target {
    /// The error of what cannot be written there.
    pub fn refused(&self, problem: &str) -> OutputError {
        OutputError::taken(&self.given, self.what, problem)
    }

    /// The place at `path`.
    ///
    /// # Errors
    /// It holds anything but a regular file that may be written.
    pub fn new(path: &Path, what: &'static str) -> Result<Target, OutputError> {
        if path.file_name().is_none() {
            return Err(OutputError::taken(path, what, "the path names no file"));
        }
        let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        let real = if is_link {
            fs::canonicalize(path).map_err(|error| {
                OutputError::taken(path, what, format!("it is a link to nothing ({error})"))
            })?
        } else {
            path.to_owned()
        };
        let target = Target {
            path: real,
            given: path.to_owned(),
            what,
        };
        target.check()?;
        Ok(target)
    }

    /// Refuses what is not replaced. Opening the file for writing tells more than its mode: also of
    /// other users' files, read-only disks and programs that run.
    pub(super) fn check(&self) -> Result<(), OutputError> {
        let taken = |problem: &str| Err(self.refused(problem));
        let found = match fs::symlink_metadata(&self.path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(OutputError::io(&self.path, error)),
        };
        if found.is_dir() {
            return taken("it is a directory");
        }
        if !found.is_file() {
            return taken("it is no regular file but a device, a pipe, a socket or a link");
        }
        if found.permissions().readonly() {
            return taken("the file there is read-only");
        }
        match OpenOptions::new().append(true).open(&self.path) {
            Ok(_) => Ok(()),
            Err(error) => taken(&format!("the file there may not be written ({error})")),
        }
    }

    /// Whether two outputs would be one file. Names that differ in case alone are one on many
    /// disks.
    pub(super) fn meets(&self, other: &Target) -> bool {
        let name = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().to_lowercase())
        };
        let at = |path: &Path| fs::canonicalize(folder(path)).ok();
        let is_one_name = name(&self.path) == name(&other.path)
            && at(&self.path).is_some_and(|found| at(&other.path) == Some(found));
        is_one_name
            || Identity::of(&self.path).is_some_and(|own| Identity::of(&other.path) == Some(own))
    }
}

/// What makes a file itself, whatever names lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Identity {
    #[cfg(unix)]
    Inode { device: u64, inode: u64 },
    #[cfg(not(unix))]
    Path(PathBuf),
}

impl Identity {
    /// Of the file at `path`, if there is one, behind links.
    fn of(path: &Path) -> Option<Identity> {
        let found = fs::metadata(path).ok()?;
        Identity::new(path, &found)
    }

    #[cfg(unix)]
    fn new(_: &Path, found: &Metadata) -> Option<Identity> {
        use std::os::unix::fs::MetadataExt;
        Some(Identity::Inode {
            device: found.dev(),
            inode: found.ino(),
        })
    }

    #[cfg(not(unix))]
    fn new(path: &Path, _: &Metadata) -> Option<Identity> {
        fs::canonicalize(path).ok().map(Identity::Path)
    }
}

/// The files that a run reads, none of which it may replace or remove.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs(Vec<Input>);

#[derive(Debug, Clone)]
struct Input {
    path: PathBuf,
    what: &'static str,
    /// Which files are read where the path is that of a folder.
    is_read: fn(&Path) -> bool,
}

impl Inputs {
    /// Adds a file.
    pub fn add(&mut self, path: &Path, what: &'static str) {
        self.add_all(path, what, |_| true);
    }

    /// Adds a file, or those of a folder, and of the folders in it, that `is_read` picks.
    pub fn add_all(&mut self, path: &Path, what: &'static str, is_read: fn(&Path) -> bool) {
        self.0.push(Input {
            path: path.to_owned(),
            what,
            is_read,
        });
    }

    pub(super) fn refuse(&self, target: &Target) -> Result<(), OutputError> {
        match self.find(&target.path) {
            Some(what) => Err(OutputError::same(target, what)),
            None => Ok(()),
        }
    }

    /// Which input stands at `path`. What is not there is none.
    pub(super) fn find(&self, path: &Path) -> Option<&'static str> {
        let own = Identity::of(path)?;
        let mut all = self.0.iter();
        let found = all.find(|input| input.holds(&input.path, &own, 0));
        found.map(|input| input.what)
    }
}

/// Data lie in a folder or in the folders of that; deeper is not read.
const DEEPEST: usize = 2;

impl Input {
    fn holds(&self, path: &Path, own: &Identity, depth: usize) -> bool {
        let Ok(found) = fs::metadata(path) else {
            return false;
        };
        if !found.is_dir() {
            let is_read = depth == 0 || (self.is_read)(path);
            return is_read && Identity::new(path, &found).as_ref() == Some(own);
        }
        let mut entries = fs::read_dir(path).into_iter().flatten().flatten();
        depth < DEEPEST && entries.any(|entry| self.holds(&entry.path(), own, depth + 1))
    }
}
