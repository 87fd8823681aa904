//! What a run says beside its figures.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::flags::with_flags;

/// Something that the user should know. Options are named as in the library, in backticks; reports
/// name the flags of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note(String);

impl Note {
    /// The same in the words of the command line.
    pub(crate) fn with_flags(&self) -> String {
        with_flags(&self.0).into_owned()
    }
}

impl<S: Into<String>> From<S> for Note {
    fn from(text: S) -> Self {
        Note(text.into())
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Note {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&with_flags(&self.0))
    }
}
