//! Budgets of sizes and times as people write them.

use crate::ranges;
use crate::select::Budget;

const UNITS: [(&str, f64); 8] = [
    ("kib", 1024.0),
    ("mib", 1048576.0),
    ("gib", 1073741824.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("bytes", 1.0),
    ("b", 1.0),
];

impl Budget {
    /// A budget of the file: a share of it up to 1, or bytes, with a unit such as kB or MiB if not
    /// that many.
    ///
    /// # Errors
    /// The text is neither; the message says what was expected.
    pub fn size(text: &str) -> Result<Budget, String> {
        let lower = text.trim().to_lowercase();
        let with_unit = UNITS
            .iter()
            .find_map(|(unit, times)| Some((lower.strip_suffix(unit)?, times)));
        let found = match with_unit {
            Some((number, times)) => number_of(number)
                .map(|number| number * times)
                .filter(|bytes| ranges::is_bytes(*bytes))
                .map(Budget::Bytes),
            None => number_of(&lower).and_then(|number| match number {
                share if ranges::is_share(share) => Some(Budget::Size(share)),
                bytes if ranges::is_bytes(bytes) => Some(Budget::Bytes(bytes)),
                _ => None,
            }),
        };
        let expected = || {
            let (share, bytes) = (ranges::SHARE, ranges::BYTES);
            format!("expected {share}, or {bytes} such as 3.5MB")
        };
        found.ok_or_else(expected)
    }

    /// A budget of the time of a run: a share of it, or milliseconds with their unit.
    ///
    /// # Errors
    /// The text is neither; the message says what was expected.
    pub fn latency(text: &str) -> Result<Budget, String> {
        let text = text.trim();
        let found = match text.strip_suffix("ms") {
            Some(number) => number_of(number)
                .filter(|ms| ranges::is_time(*ms))
                .map(Budget::Milliseconds),
            None => number_of(text)
                .filter(|share| ranges::is_share(*share))
                .map(Budget::Latency),
        };
        let expected = || {
            let (share, time) = (ranges::SHARE, ranges::TIME);
            format!("expected {share}, or {time} such as 12ms")
        };
        found.ok_or_else(expected)
    }
}

fn number_of(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_amounts_are_told_apart() {
        let size = |text| Budget::size(text).ok();
        assert_eq!(size("0.5"), Some(Budget::Size(0.5)));
        assert_eq!(size("1"), Some(Budget::Size(1.0)));
        assert_eq!(size("3.5MB"), Some(Budget::Bytes(3.5e6)));
        assert_eq!(size("2 MiB"), Some(Budget::Bytes(2097152.0)));
        assert_eq!(size("900kB"), Some(Budget::Bytes(9e5)));
        assert_eq!(size("1B"), Some(Budget::Bytes(1.0)));
        assert_eq!(size("4096"), Some(Budget::Bytes(4096.0)));
        for wrong in ["", "0", "-1", "MB", "0.1B", "1e999", "nan", "5 apples"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
        let latency = |text| Budget::latency(text).ok();
        assert_eq!(latency("12ms"), Some(Budget::Milliseconds(12.0)));
        assert_eq!(latency("0.8"), Some(Budget::Latency(0.8)));
        for wrong in ["1.2", "0ms", "ms", "infms"] {
            assert_eq!(latency(wrong), None, "{wrong}");
        }
    }
}
