//! What a run says beside its figures.

use std::fmt;

use serde::{Serialize, Serializer};

/// Whose words a text is in, where it names an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    Library,
    /// The flags of the command line.
    Flags,
}

impl Words {
    /// `{}` speaks to users of the library, `{:#}` to those of the command line.
    pub fn of(f: &fmt::Formatter<'_>) -> Self {
        if f.alternate() {
            Words::Flags
        } else {
            Words::Library
        }
    }

    /// The one or the other.
    pub fn pick<'w>(self, library: &'w str, flag: &'w str) -> &'w str {
        match self {
            Words::Library => library,
            Words::Flags => flag,
        }
    }
}

/// Something that the user should know. `{}` speaks to users of the library; `{:#}` names the flags
/// of the command line, and so do reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    /// The same where the command line names an option otherwise.
    with_flags: Option<String>,
}

impl Note {
    /// A note that names an option.
    pub(crate) fn worded(text: impl Fn(Words) -> String) -> Self {
        Note {
            text: text(Words::Library),
            with_flags: Some(text(Words::Flags)),
        }
    }
}

impl<S: Into<String>> From<S> for Note {
    fn from(text: S) -> Self {
        Note {
            text: text.into(),
            with_flags: None,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = self.with_flags.as_ref().unwrap_or(&self.text);
        f.write_str(Words::of(f).pick(&self.text, flags))
    }
}

impl Serialize for Note {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Note;

    #[test]
    fn a_note_has_the_words_of_its_reader() {
        let note = Note::worded(|w| format!("give {}", w.pick("calibration data", "--calib")));
        assert_eq!(note.to_string(), "give calibration data");
        assert_eq!(format!("{note:#}"), "give --calib");
        assert_eq!(format!("{:#}", Note::from("plain")), "plain");
    }
}
