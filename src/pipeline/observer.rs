//! What a run tells while it works, and who hears it.

use crate::report::Note;

/// What a run tells while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A stage begins.
    Stage(&'static str),
    /// A stage that counts begins.
    Counting {
        /// Its name.
        stage: &'static str,
        /// How many will come.
        total: usize,
        /// What is counted, in the plural.
        what: &'static str,
    },
    /// That many more are done.
    Advance(usize),
    /// Something that the user should know.
    Note(Note),
}

/// Hears what a run tells; any function of an [`Event`] does.
pub trait Observer {
    /// Hears one event.
    fn hear(&self, event: Event);
}

impl<F: Fn(Event)> Observer for F {
    fn hear(&self, event: Event) {
        self(event);
    }
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn hear(&self, _: Event) {}
}

impl dyn Observer + '_ {
    pub(super) fn stage(&self, stage: &'static str) {
        self.hear(Event::Stage(stage));
    }

    pub(super) fn counting(&self, stage: &'static str, total: usize, what: &'static str) {
        self.hear(Event::Counting { stage, total, what });
    }

    pub(super) fn advance(&self, more: usize) {
        self.hear(Event::Advance(more));
    }

    pub(super) fn notes(&self, notes: &[Note]) {
        for note in notes {
            self.hear(Event::Note(note.clone()));
        }
    }
}
