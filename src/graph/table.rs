//! Tables with an index of their own, so that a node's cannot be taken for a value's. By hand: the
//! crate for it (typed-index-collections) puts one that nobody keeps (bincode) into Cargo.lock.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// An index of a [`Table`].
pub trait Id: Copy + From<usize> {
    /// The place in the table, from 0.
    fn index(self) -> usize;
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(usize);

        impl $name {
            /// The index after it.
            #[must_use]
            pub fn next(self) -> Self {
                $name(self.0.saturating_add(1))
            }

            /// The place in the table, from 0.
            #[must_use]
            pub fn index(self) -> usize {
                self.0
            }
        }

        impl From<usize> for $name {
            fn from(index: usize) -> Self {
                $name(index)
            }
        }

        impl Id for $name {
            fn index(self) -> usize {
                self.0
            }
        }
    };
}

id! {
    /// Index of a node in [`Graph::nodes`](crate::graph::Graph::nodes), which is its index in the
    /// file.
    NodeId
}

id! {
    /// Index of a value (a named tensor) in [`Graph::values`](crate::graph::Graph::values).
    ValueId
}

id! {
    /// Index of a group of channels.
    GroupId
}

/// Entries by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<I, T> {
    entries: Vec<T>,
    index: PhantomData<I>,
}

impl<I, T> Default for Table<I, T> {
    fn default() -> Self {
        Table::from(Vec::new())
    }
}

impl<I, T> From<Vec<T>> for Table<I, T> {
    fn from(entries: Vec<T>) -> Self {
        let index = PhantomData;
        Table { entries, index }
    }
}

impl<I, T> FromIterator<T> for Table<I, T> {
    fn from_iter<E: IntoIterator<Item = T>>(entries: E) -> Self {
        Table::from(Vec::from_iter(entries))
    }
}

impl<I: Id, T> Table<I, T> {
    /// Adds an entry; returns its index.
    pub fn push(&mut self, entry: T) -> I {
        self.entries.push(entry);
        I::from(self.entries.len() - 1)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An entry, where there is one.
    #[must_use]
    pub fn get(&self, id: I) -> Option<&T> {
        self.entries.get(id.index())
    }

    /// An entry to change, where there is one.
    pub fn get_mut(&mut self, id: I) -> Option<&mut T> {
        self.entries.get_mut(id.index())
    }

    /// All indexes in order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = I> + ExactSizeIterator + use<I, T> {
        (0..self.entries.len()).map(I::from)
    }

    /// All entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.entries.iter()
    }

    /// All entries with their indexes.
    pub fn entries(&self) -> impl Iterator<Item = (I, &T)> + Clone {
        let entries = self.entries.iter().enumerate();
        entries.map(|(index, entry)| (I::from(index), entry))
    }
}

impl<I: Id, T> Index<I> for Table<I, T> {
    type Output = T;

    fn index(&self, id: I) -> &T {
        &self.entries[id.index()]
    }
}

impl<I: Id, T> IndexMut<I> for Table<I, T> {
    fn index_mut(&mut self, id: I) -> &mut T {
        &mut self.entries[id.index()]
    }
}

impl<'t, I, T> IntoIterator for &'t Table<I, T> {
    type Item = &'t T;
    type IntoIter = std::slice::Iter<'t, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}

impl<'t, I, T> IntoIterator for &'t mut Table<I, T> {
    type Item = &'t mut T;
    type IntoIter = std::slice::IterMut<'t, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter_mut()
    }
}
