//! Values on the command line. Every number has a range, which the message of a value beyond it tells.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Sizes and counts that no run comes near.
pub const WIDTHS: RangeInclusive<usize> = 1..=1 << 20;
pub const THREADS: RangeInclusive<usize> = 1..=1024;
pub const SAMPLES: RangeInclusive<usize> = 1..=100_000_000;
pub const BATCHES: RangeInclusive<usize> = 1..=1 << 16;
pub const PIXELS: RangeInclusive<u32> = 1..=1 << 16;
/// Megabytes: up to 16 terabytes, and a limit that leaves room for ONNX Runtime itself.
pub const MEMORY: RangeInclusive<u64> = 0..=1 << 24;
pub const MEMORY_LIMIT: RangeInclusive<u64> = 256..=1 << 24;
pub const SEEDS: RangeInclusive<u64> = 0..=u64::MAX;
/// Lengths of an axis.
const LENGTHS: RangeInclusive<usize> = 1..=i32::MAX as usize;

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
        let read = whole(LENGTHS)(size.trim());
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
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("expected a number above 0 and up to 1".to_owned()),
    }
}

pub fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 on and below 1".to_owned()),
    }
}
