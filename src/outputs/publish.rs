//! All files into their places, or none.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::temporary::{self, Open};
use super::{DataOf, Inputs, Kind, OutputError, Staged, change, folder, is_data_of};
use crate::digest;

pub(super) fn publish(
    mut staged: Vec<Staged>,
    inputs: &Inputs,
    data_of: DataOf,
) -> Result<(), OutputError> {
    staged.sort_by_key(|staged| staged.kind);
    let folders: BTreeSet<PathBuf> = staged
        .iter()
        .filter_map(|staged| fs::canonicalize(folder(&staged.target.path)).ok())
        .collect();
    let folders: Vec<PathBuf> = folders.into_iter().collect();
    // A signal waits until all is in place or as before.
    let mut open = temporary::open();
    let _locks = change::lock(&folders);
    let old = replaced_data(&staged, data_of);
    let mut undo = Undo::default();
    if let Err(error) = place(&mut staged, inputs, &mut open, &mut undo) {
        return Err(undo.back(error));
    }
    folders.iter().for_each(|folder| change::sync(folder));
    let made: BTreeSet<&Path> = staged.iter().map(|s| s.target.path.as_path()).collect();
    for path in old {
        let is_wanted = made.contains(path.as_path()) || inputs.find(&path).is_some();
        if !is_wanted && !is_referred_to(&path, data_of) {
            // All that was asked for is done; the next run names what stays.
            let _ = change::remove(&path);
        }
    }
    Ok(())
}

/// Renames all into place. `undo` takes what must be taken back when it fails.
fn place(
    staged: &mut [Staged],
    inputs: &Inputs,
    open: &mut Open,
    undo: &mut Undo,
) -> Result<(), OutputError> {
    let last = staged.len().saturating_sub(1);
    for (number, staged) in staged.iter_mut().enumerate() {
        let path = staged.target.path.clone();
        let failed = |error| OutputError::io(&path, error);
        if staged.kind == Kind::Data {
            if is_there(staged)? {
                continue;
            }
        } else {
            staged.target.check()?;
            inputs.refuse(&staged.target)?;
        }
        // What is renamed last is never taken back.
        let old = if number < last {
            Undo::keep(&path).map_err(failed)?
        } else {
            None
        };
        staged.file.persist(open, &path).map_err(failed)?;
        undo.0.push((path.clone(), old));
        if staged.kind == Kind::Data {
            change::sync(folder(&path));
        }
    }
    Ok(())
}

/// The files of data, named as this program names them, of the models that will be replaced.
fn replaced_data(staged: &[Staged], data_of: DataOf) -> Vec<PathBuf> {
    let models = staged.iter().filter(|staged| staged.kind == Kind::Model);
    let data = models.flat_map(|staged| {
        let path = &staged.target.path;
        let own = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let names = data_of(path).unwrap_or_default().into_iter();
        let names = names.filter(move |name| is_data_of(name, &own));
        names
            .map(|name| path.with_file_name(name))
            .collect::<Vec<_>>()
    });
    data.collect()
}

/// Whether a model beside the file of data may need it: one that cannot be read may.
fn is_referred_to(path: &Path, data_of: DataOf) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return true;
    };
    let Ok(entries) = fs::read_dir(folder(path)) else {
        return true;
    };
    let models = entries.flatten().map(|entry| entry.path()).filter(|path| {
        path.extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("onnx"))
    });
    let mut data = models.map(|model| data_of(&model));
    data.any(|names| names.is_none_or(|names| names.contains(name)))
}

/// Whether the file of data is in place already, with this content.
fn is_there(staged: &Staged) -> Result<bool, OutputError> {
    let path = &staged.target.path;
    if fs::symlink_metadata(path).is_err() {
        return Ok(false);
    }
    let failed = |error| OutputError::io(path, error);
    let own = staged.file.file().and_then(digest).map_err(failed)?;
    let is_regular = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    let found = if is_regular {
        File::open(path)
            .and_then(|file| digest(&file))
            .map_err(failed)?
    } else {
        String::new()
    };
    if found == own {
        Ok(true)
    } else {
        Err(OutputError::taken(
            path,
            "data of the model",
            "another file of this name is there, or one that was damaged: remove it, or",
        ))
    }
}

fn digest(file: &File) -> io::Result<String> {
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    Ok(digest::hex(digest::of(file)?))
}

/// What brings everything back as it was.
#[derive(Default)]
struct Undo(Vec<(PathBuf, Option<TempPath>)>);

impl Undo {
    /// Keeps what stands at `path`, before it is replaced.
    fn keep(path: &Path) -> io::Result<Option<TempPath>> {
        match fs::symlink_metadata(path) {
            Ok(_) => change::second(path).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Takes all back, the last first. What cannot go back to its place stays under its temporary
    /// name.
    fn back(self, error: OutputError) -> OutputError {
        let mut error = error;
        for (path, old) in self.0.into_iter().rev() {
            let Some(old) = old else {
                let _ = change::remove(&path);
                continue;
            };
            if change::rename(&old, &path).is_err()
                && let Ok(kept) = old.keep()
            {
                error = OutputError::Kept {
                    path,
                    kept,
                    error: Box::new(error),
                };
            }
        }
        error
    }
}
