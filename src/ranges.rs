//! What numbers may be, whoever gives them.

use std::ops::RangeInclusive;

/// Sizes and counts that no run comes near.
pub(crate) const WIDTHS: RangeInclusive<usize> = 1..=1 << 20;
pub(crate) const THREADS: RangeInclusive<usize> = 1..=1024;
pub(crate) const SAMPLES: RangeInclusive<usize> = 1..=100_000_000;
pub(crate) const BATCHES: RangeInclusive<usize> = 1..=1 << 16;
pub(crate) const PIXELS: RangeInclusive<u32> = 1..=1 << 16;
/// Lengths of an axis.
pub(crate) const LENGTHS: RangeInclusive<usize> = 1..=i32::MAX as usize;

/// Shares of what is kept.
pub(crate) const SHARE: &str = "a number above 0 and up to 1";
/// Shares of what leaves.
pub(crate) const RATIO: &str = "a number from 0 on and below 1";

/// Shares that are neither none nor all.
pub(crate) const PART: &str = "a number above 0 and below 1";
/// What a metric may drop by, in its own units.
pub(crate) const DROP: &str = "a number from 0 on";

/// Bytes of a file.
pub(crate) const BYTES: &str = "a number of bytes of 1 or more";

pub(crate) fn is_bytes(value: f64) -> bool {
    value >= 1.0 && value.is_finite()
}

/// Milliseconds.
pub(crate) const TIME: &str = "a number of milliseconds above 0";

pub(crate) fn is_time(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

pub(crate) fn is_part(value: f64) -> bool {
    value > 0.0 && value < 1.0
}

pub(crate) fn is_drop(value: f64) -> bool {
    value >= 0.0 && value.is_finite()
}

pub(crate) fn is_share(value: f64) -> bool {
    value > 0.0 && value <= 1.0
}

pub(crate) fn is_ratio(value: f64) -> bool {
    (0.0..1.0).contains(&value)
}
