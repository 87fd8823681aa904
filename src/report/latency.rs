//! Latencies in words.

use crate::report::text::total;
use crate::verify::{Change, Timing};

/// The row of a table of totals.
pub(super) fn latency_row(latency: Timing) -> [String; 4] {
    let change = Change {
        before: latency.before,
        after: latency.after,
    };
    let mut row = total("latency", change, milliseconds);
    if let Some(left) = row.last_mut().filter(|_| !latency.is_told()) {
        "-".clone_into(left);
    }
    row
}

pub(super) fn milliseconds(value: f64) -> String {
    format!("{value:.2} ms")
}

/// That the latency cannot be told, where it cannot.
pub(super) fn busy(latency: Timing) -> Option<String> {
    let Timing { low, high, .. } = latency;
    (!latency.is_told()).then(|| {
        format!(
            "the machine was too busy to tell the latency: {low:.2} to {high:.2} of the original's, in parts of \
             the measurement"
        )
    })
}
