//! The changes of a folder. Each passes through [`step`], where tests look at the folder and make
//! it fail.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::{folder, temporary};

#[cfg(test)]
type Look = Box<dyn FnMut() -> io::Result<()>>;

#[cfg(test)]
thread_local! {
    /// Called before every change.
    pub(super) static BEFORE: std::cell::RefCell<Option<Look>> = const { std::cell::RefCell::new(None) };
}

pub(super) fn step() -> io::Result<()> {
    #[cfg(test)]
    if let Some(look) = BEFORE.with(|before| before.borrow_mut().as_mut().map(|look| look())) {
        return look;
    }
    Ok(())
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    step()?;
    fs::remove_file(path)
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step()?;
    fs::rename(from, to)
}

/// A second name for the file at `path`, or a copy where the disk knows no links; it goes with the
/// value.
pub(super) fn second(path: &Path) -> io::Result<TempPath> {
    step()?;
    let linked = temporary::builder().make_in(folder(path), |name| {
        fs::hard_link(path, name).or_else(|_| fs::copy(path, name).map(drop))
    });
    Ok(linked?.into_temp_path())
}

/// Brings a folder's names to the disk. Not every system can, and what counts is that all is in
/// order while the machine runs.
pub(super) fn sync(path: &Path) {
    if cfg!(unix) {
        let _ = File::open(path).and_then(|folder| folder.sync_all());
    }
}

/// Folders that other runs of this program do not change meanwhile, where the system can lock them.
pub(super) fn lock(folders: &[PathBuf]) -> Vec<File> {
    let open = folders.iter().filter_map(|path| File::open(path).ok());
    open.filter(|folder| folder.lock().is_ok()).collect()
}
