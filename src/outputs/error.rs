use std::io;
use std::path::{Path, PathBuf};

use super::Target;

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// An output that is an input, or another output.
    #[error(
        "{}: the {what} cannot be written there, this is the {other} itself; choose another name, \
         so that both stay", path.display()
    )]
    Same {
        /// The place.
        path: PathBuf,
        /// What would be written there.
        what: &'static str,
        /// What is there, or will be.
        other: &'static str,
    },
    /// A place that holds what is not replaced.
    #[error("cannot write the {what} to {}: {problem}; choose another name", path.display())]
    Taken {
        /// The place.
        path: PathBuf,
        /// What would be written there.
        what: &'static str,
        /// What stands there.
        problem: String,
    },
    /// The system refuses.
    #[error(
        "cannot write {}: {error}; choose a folder that exists and may be written, with enough room",
        path.display()
    )]
    Io {
        /// The place.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// What was there could not be put back after a failure.
    #[error("{error}; {} was replaced, what was there before is now {}", path.display(), kept.display())]
    Kept {
        /// The place.
        path: PathBuf,
        /// Where its old file is.
        kept: PathBuf,
        /// What failed first.
        error: Box<OutputError>,
    },
}

impl OutputError {
    pub(super) fn same(target: &Target, other: &'static str) -> Self {
        OutputError::Same {
            path: target.given.clone(),
            what: target.what,
            other,
        }
    }

    pub(super) fn taken(path: &Path, what: &'static str, problem: impl Into<String>) -> Self {
        OutputError::Taken {
            path: path.to_owned(),
            what,
            problem: problem.into(),
        }
    }

    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        OutputError::Io {
            path: path.to_owned(),
            error,
        }
    }
}
