//! Files that a run writes: each aside and whole, then all together into their places.
//!
//! What holds at every moment, also when the process is killed or the disk is full:
//!
//! 1. What stands at a target is what stood there before or the new file, never a part of one. A
//!    model that needs a file of data opens: that file's name carries a digest of its content, it
//!    is in place before the model and the old one leaves after it.
//! 2. No input is replaced or removed, by whatever name it is reached; nor is anything but a
//!    regular file that may be written. A link stays and its file is replaced.
//! 3. A run that fails, or is ended by a signal, leaves the folders as they were. One that is
//!    killed leaves files that the next run names.

mod change;
mod error;
mod publish;
mod target;
mod temporary;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

pub use error::OutputError;
pub(crate) use target::{Inputs, Target};
pub(crate) use temporary::{Temporary, Workspace, remove_all, remove_all_now};

/// Tells the files of data that a model's file refers to; `None` for what is no model.
pub(crate) type DataOf = fn(&Path) -> Option<BTreeSet<String>>;

/// The files of a run, none of which is in its place before [`Outputs::publish`].
#[derive(Default)]
pub(crate) struct Outputs {
    inputs: Inputs,
    targets: Vec<Target>,
    staged: Vec<Staged>,
    notes: Vec<String>,
}

/// A file that is written and waits beside its place.
pub(crate) struct Staged {
    target: Target,
    kind: Kind,
    file: Temporary,
}

/// In the order in which they take their places: who sees a new model sees all that goes with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A report, a plan, statistics, a page.
    Document,
    /// Data of a model, in a file that is named after its content.
    Data,
    /// A model.
    Model,
}

impl Outputs {
    /// Outputs of a run that reads `inputs`.
    pub fn of(inputs: Inputs) -> Self {
        Outputs {
            inputs,
            ..Outputs::default()
        }
    }

    /// Where `what` will go. What lies around in that folder from killed runs becomes a note.
    ///
    /// # Errors
    /// The place is that of an input or of another output, holds what is not replaced, or cannot be
    /// written.
    pub fn target(&mut self, path: &Path, what: &'static str) -> Result<Target, OutputError> {
        let target = Target::new(path, what)?;
        self.inputs.refuse(&target)?;
        if let Some(other) = self.targets.iter().find(|other| other.meets(&target)) {
            return Err(OutputError::same(&target, other.what));
        }
        let probe = Temporary::beside(&target.path);
        drop(probe.map_err(|error| OutputError::io(path, error))?);
        let is_new = |note: &String| !self.notes.contains(note);
        let notes = temporary::left_beside(&target.path);
        let notes: Vec<String> = notes.into_iter().filter(is_new).collect();
        self.notes.extend(notes);
        self.targets.push(target.clone());
        Ok(target)
    }

    /// What the user should know of the folders that are written to.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Writes a document aside.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn document(&mut self, target: &Target, text: &str) -> Result<(), OutputError> {
        let staged = Staged::write(target, Kind::Document, |file| {
            file.write_all(text.as_bytes())
        })?;
        self.staged.push(staged);
        Ok(())
    }

    /// Adds what was written aside.
    pub fn add(&mut self, staged: Staged) {
        self.staged.push(staged);
    }

    /// Puts all files into their places, or none.
    ///
    /// # Errors
    /// What stands at a place is not replaced, or the system refuses; all is as before then.
    pub fn publish(self, data_of: DataOf) -> Result<(), OutputError> {
        publish::publish(self.staged, &self.inputs, data_of)
    }
}

impl Staged {
    /// Writes a file aside, down to the disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(
        target: &Target,
        kind: Kind,
        fill: impl FnOnce(&mut BufWriter<&std::fs::File>) -> io::Result<()>,
    ) -> Result<Staged, OutputError> {
        let written = || {
            let file = Temporary::beside(&target.path)?;
            let mut writer = BufWriter::with_capacity(1 << 20, file.file()?);
            fill(&mut writer)?;
            writer.flush()?;
            drop(writer);
            change::step()?;
            file.file()?.sync_all()?;
            Ok(file)
        };
        let file = written().map_err(|error| OutputError::io(&target.path, error))?;
        Ok(Staged {
            target: target.clone(),
            kind,
            file,
        })
    }

    /// Names the file after its content, whose digest is given in hexadecimal digits: "m.onnx"
    /// becomes "m.onnx.0123456789abcdef.data".
    pub fn named_after_content(mut self, digest: &str) -> Staged {
        self.target.path = data_path(&self.target.path, digest);
        self
    }

    /// Length of the file in bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn length(&self) -> Result<u64, OutputError> {
        let found = self.file.file().and_then(std::fs::File::metadata);
        let found = found.map_err(|error| OutputError::io(&self.target.path, error))?;
        Ok(found.len())
    }
}

/// Digits of the digest in the name of a file of data.
const NAME_DIGITS: usize = 16;
const DATA_END: &str = ".data";

/// The file of data with this digest beside the model at `path`.
pub(crate) fn data_path(path: &Path, digest: &str) -> PathBuf {
    let digits = digest.get(..NAME_DIGITS).unwrap_or(digest);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{digits}{DATA_END}"));
    path.with_file_name(name)
}

/// Whether a name is one that [`data_path`] gives beside a model called `model`.
fn is_data_of(name: &str, model: &str) -> bool {
    let digits = name
        .strip_prefix(model)
        .and_then(|rest| rest.strip_prefix('.'));
    let digits = digits.and_then(|rest| rest.strip_suffix(DATA_END));
    let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    digits.is_some_and(|digits| digits.len() == NAME_DIGITS && digits.chars().all(is_digit))
}

/// The folder of a file; "." for a bare name.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
