//! What a report advises: what holds the most channels, and what to do next.

use std::slice;

use crate::groups::HINT;
use crate::report::{GroupReport, Report};
use crate::{flags::with_flags, shown};

/// What is frozen and has less of the MACs is not worth a line.
const LEAST_SHARE: f64 = 0.01;
/// Fewer samples leave the choice of channels to chance (docs/guide/data.md).
const FEW_SAMPLES: usize = 256;

/// A group or a layer that stays, its share of the MACs and why.
type Held<'a> = (&'a str, f64, &'a [String]);

impl Report {
    /// What is frozen and worth most, and, where nothing frees that, what an option frees. Empty
    /// where all of it is worth little, or was held by the user.
    pub(super) fn held(&self) -> Vec<String> {
        let groups = self.groups.iter();
        let groups = groups.map(|g| (g.name.as_str(), g.macs_share, g.frozen.as_slice()));
        let layers = self.ungrouped.iter();
        let layers = layers.map(|l| (l.name.as_str(), l.macs_share, slice::from_ref(&l.frozen)));
        let is_asked = |reason: &String| {
            reason.ends_with("it matches --exclude") || reason.ends_with("it does not match --only")
        };
        let is_worth = |&(_, share, reasons): &Held<'_>| {
            share >= LEAST_SHARE && !reasons.is_empty() && !reasons.iter().any(is_asked)
        };
        let mut held: Vec<Held<'_>> = groups.chain(layers).filter(is_worth).collect();
        held.sort_by(|a, b| b.1.total_cmp(&a.1));
        let hint = with_flags(HINT);
        let is_freed = |reason: &String| reason.ends_with(&*hint);
        let mut lines = Vec::new();
        if let Some((name, share, reasons)) = held.first() {
            let why = reasons.iter().find(|reason| is_freed(reason));
            let why = why.or(reasons.first()).map_or("", String::as_str);
            lines.push(format!(
                "frozen, worth most: {}: {}{}",
                valued(name, *share),
                shown::line(why),
                match reasons.len() {
                    0 | 1 => String::new(),
                    2 => ", and 1 other reason".to_owned(),
                    n => format!(", and {} other reasons", n - 1),
                }
            ));
        }
        let freed = held.iter().position(|(_, _, r)| r.iter().any(is_freed));
        if let Some((name, share, _)) = freed.filter(|&at| at > 0).and_then(|at| held.get(at)) {
            let free = valued(name, *share);
            lines.push(format!("--prune-normalized would let {free} get narrower"));
        }
        lines
    }

    /// What to do after this run; `None` where the summary has said it.
    pub(super) fn next(&self) -> Option<&'static str> {
        let is_cut = |group: &GroupReport| group.channels.after < group.channels.before;
        let has_data = !self.calibration.source.is_empty();
        let samples = self.calibration.samples + self.calibration.compared;
        if self.is_unknown() {
            return None;
        }
        Some(
            if self.groups.iter().all(|group| !group.frozen.is_empty()) {
                "`onnx-mipp inspect` says what holds the channels"
            } else if !has_data {
                "give --calib with a few hundred real samples"
            } else if !self.groups.iter().any(is_cut) {
                "ask for a size, such as --macs 0.8, or give more samples"
            } else if samples < FEW_SAMPLES {
                "give more samples; 512 are enough for most models"
            } else if self.metric.is_some() {
                "quantize the result (docs/guide/toolchain.md)"
            } else {
                "measure the accuracy of both models on labelled data, or have --metric do it"
            },
        )
    }
}

fn valued(name: &str, share: f64) -> String {
    format!(
        "'{}' ({:.1} % of the MACs)",
        shown::line(name),
        share * 100.0
    )
}
