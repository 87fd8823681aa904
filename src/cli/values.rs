//! Values on the command line. Every number has a range, which the message of a value beyond it
//! tells.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::flags::with_flags;
use crate::ranges;
pub(crate) use crate::ranges::{BATCHES, PIXELS, SAMPLES, THREADS, WIDTHS};
use crate::select::{Budget, Hardware};

/// Megabytes: up to 16 terabytes, and a limit that leaves room for ONNX Runtime itself.
pub const MEMORY: RangeInclusive<u64> = 0..=1 << 24;
pub const MEMORY_LIMIT: RangeInclusive<u64> = 256..=1 << 24;
/// Up to a week.
pub const SECONDS: RangeInclusive<u64> = 1..=604_800;
pub const SEEDS: RangeInclusive<u64> = 0..=u64::MAX;

/// Reads a whole number within the range.
pub fn whole<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Clone,
{
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!(
            "expected a whole number from {} to {}",
            range.start(),
            range.end()
        )),
    }
}

pub fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, sizes) = text
        .rsplit_once('=')
        .ok_or("expected NAME=D,D,... such as input=1,3,224,224")?;
    let size = |size: &str| {
        let read = whole(ranges::LENGTHS)(size.trim());
        read.map_err(|expected| format!("size '{size}': {expected}"))
    };
    Ok((
        name.to_owned(),
        sizes.split(',').map(size).collect::<Result<_, _>>()?,
    ))
}

/// A number that is neither NaN nor infinite, in single precision.
pub fn finite(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(format!(
            "expected a number from {} to {}",
            f32::MIN,
            f32::MAX
        )),
    }
}

pub fn fraction(text: &str) -> Result<f64, String> {
    number(text, ranges::is_share, ranges::SHARE)
}

pub fn ratio(text: &str) -> Result<f64, String> {
    number(text, ranges::is_ratio, ranges::RATIO)
}

pub fn part(text: &str) -> Result<f64, String> {
    number(text, ranges::is_part, ranges::PART)
}

pub fn drop(text: &str) -> Result<f64, String> {
    number(text, ranges::is_drop, ranges::DROP)
}

fn number(text: &str, is_in: fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    let read = text.parse().ok().filter(|value| is_in(*value));
    read.ok_or_else(|| format!("expected {expected}"))
}

/// What the model will run on.
pub fn hardware(text: &str) -> Result<Hardware, String> {
    let found = text.parse::<Hardware>();
    found.map_err(|error| with_flags(&error).into_owned())
}

/// A share of the file, or bytes.
pub fn size(text: &str) -> Result<Budget, String> {
    Budget::size(text)
}

/// A share of the latency, or milliseconds.
pub fn latency(text: &str) -> Result<Budget, String> {
    Budget::latency(text)
}
