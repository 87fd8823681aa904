//! Sizes of the pieces in which matrices are worked on, and why results do not depend on threads.
//!
//! Threads share panels of columns. Where panels begin is said here and not by the number of
//! threads, each element is made by one thread in a fixed order of sums, and faer is built without
//! threads of its own. So the bytes are the same with any number of threads. Another size here
//! gives sums of another order, and other last digits.

/// Columns that are worked on together: so many that their sums stay in the cache until they are
/// added.
pub(super) const PANEL: usize = 128;
/// Columns and rows that are mirrored together.
pub(super) const TILE: usize = 32;
/// Multiply-accumulates that are worth the sharing between threads.
pub(super) const WORTH_SHARING: usize = 1 << 24;
/// The same of a downdate, which reads and writes its matrix once.
pub(super) const DOWNDATE_WORTH_SHARING: usize = 1 << 23;
/// Of so few rows and columns each element of a downdate is counted by itself.
pub(super) const FEW: usize = 16;
