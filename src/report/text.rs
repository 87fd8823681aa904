//! The report and the inspection as tables for people.

use std::fmt;

use crate::report::latency::{busy, latency_row, milliseconds};
use crate::report::{Compared, GroupReport, Inspection, Report, Sweep, SweepEntry};
use crate::select::{Candidate, Interval};
use crate::shown;
use crate::verify::{Change, Comparison, Divergence};

/// Columns of the table of groups.
const HEAD: [&str; 6] = ["group", "channels", "kept", "MI kept", "95 %", "explained"];
/// The same where all of it is of made-up inputs.
const SYNTHETIC_HEAD: [&str; 6] = [
    "group",
    "channels",
    "kept",
    "MI of made-up inputs",
    "95 %",
    "of these explained",
];

/// What stands where figures of the quality would.
pub(super) const UNKNOWN: &str = "nothing is known about the quality of the result without data: give --calib with a few \
    hundred real samples";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_groups(f)?;
        let totals = [
            total("MACs", self.macs, count),
            total("parameters", self.parameters, count),
            total(
                "file",
                Change {
                    before: self.bytes.before as f64,
                    after: self.bytes.after as f64,
                },
                bytes,
            ),
        ];
        let mut rows = vec![["", "before", "after", "left"].map(str::to_owned)];
        rows.extend(totals);
        if let Some(latency) = self.latency_ms {
            rows.push(latency_row(latency));
        }
        table(f, &rows)?;
        if let Some(busy) = self.latency_ms.and_then(busy) {
            writeln!(f, "\n{busy}")?;
        }
        if let Some(Change { before, after }) = self.metric {
            let [before, after] = [before, after].map(super::figure);
            writeln!(f, "\nthe metric was {before} and is {after}")?;
        }
        writeln!(f)?;
        self.write_comparison(f)?;
        match self.next() {
            Some(next) => writeln!(f, "next: {next}"),
            None => Ok(()),
        }
    }
}

impl Report {
    /// What the candidates of a budget of latency took.
    pub(super) fn measured(&self) -> Option<String> {
        let shares = self.candidates.iter();
        let shares: Vec<String> = shares.map(|t| format!("{:.4}", t.measured)).collect();
        let candidates = match shares.len() {
            0 => return None,
            1 => "the candidate that was measured",
            _ => "the candidates that were measured",
        };
        let shares = shares.join(", ");
        Some(format!("{candidates} took {shares} of the latency"))
    }

    /// What the candidates of a search measured.
    pub(super) fn searched(&self) -> Option<String> {
        let search = self.search.as_ref()?;
        let is_change = matches!(search.bounds.as_slice(), [bound] if bound.of == "max_change");
        let one = |candidate: &Candidate| {
            let Candidate { macs, measured, .. } = candidate;
            if is_change {
                let measured = measured.first().filter(|high| high.is_finite());
                measured.map_or_else(
                    || format!("{macs:.3} of the MACs without a bound"),
                    |high| format!("{macs:.3} of the MACs by up to {:.2} %", high * 100.0),
                )
            } else {
                let kept = if candidate.kept { "" } else { ", which misses" };
                let found = super::measured(&search.bounds, measured);
                format!("{macs:.3} of the MACs ({found}{kept})")
            }
        };
        let tried: Vec<String> = search.candidates.iter().map(one).collect();
        let (last, others) = tried.split_last()?;
        let tried = match others {
            [] => last.clone(),
            others => format!("{} and {last}", others.join(", ")),
        };
        Some(if is_change {
            format!("sizes tried on the held-back samples: the outputs change at {tried}")
        } else {
            format!("sizes tried: {tried}")
        })
    }

    /// Whether the model was pruned without data to compare it on.
    pub(super) fn is_unknown(&self) -> bool {
        let is_cut = |group: &GroupReport| group.channels.after < group.channels.before;
        self.calibration.source.is_empty() && self.groups.iter().any(is_cut)
    }

    /// The group that keeps the least of its MI.
    pub(super) fn least_mi(&self) -> Option<String> {
        let kept = |group: &GroupReport| group.score.map_or(1.0, |score| score.mi_kept);
        let cut = self.groups.iter().filter(|group| kept(group) < 1.0);
        let least = cut.min_by(|a, b| kept(a).total_cmp(&kept(b)))?;
        let percent = kept(least) * 100.0;
        let name = shown::line(&least.name);
        if self.calibration.synthetic {
            return Some(format!(
                "least MI of made-up inputs kept: {percent:.1} % of '{name}'"
            ));
        }
        let sure = match interval(least) {
            Some(interval) => format!("{interval} with a confidence of 95 %"),
            None => "with unknown confidence (one sample, or ranks)".to_owned(),
        };
        Some(format!("least MI kept: {percent:.1} % of '{name}', {sure}"))
    }

    /// How many groups keep combinations of channels.
    fn combined(&self) -> Option<String> {
        match self.groups.iter().filter(|group| group.combined).count() {
            0 => None,
            1 => Some("combinations of channels are left in 1 group".to_owned()),
            n => Some(format!("combinations of channels are left in {n} groups")),
        }
    }

    fn write_groups(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_free = |group: &&GroupReport| group.frozen.is_empty();
        let frozen = self.groups.len() - self.groups.iter().filter(is_free).count();
        if frozen < self.groups.len() {
            let head = if self.calibration.synthetic {
                SYNTHETIC_HEAD
            } else {
                HEAD
            };
            let mut rows = vec![head.map(str::to_owned)];
            rows.extend(self.groups.iter().filter(is_free).map(row));
            table(f, &rows)?;
        }
        match frozen {
            0 => {}
            1 => writeln!(
                f,
                "1 frozen group is not shown; `onnx-mipp inspect` says why it is."
            )?,
            n => writeln!(
                f,
                "{n} frozen groups are not shown; `onnx-mipp inspect` says why they are."
            )?,
        }
        match self.ungrouped.len() {
            0 => {}
            1 => writeln!(
                f,
                "1 layer with weights is in no group; `onnx-mipp inspect` says why it is not."
            )?,
            n => writeln!(
                f,
                "{n} layers with weights are in no group; `onnx-mipp inspect` says why they are not."
            )?,
        }
        if self.groups.is_empty() && self.ungrouped.is_empty() {
            return Ok(());
        }
        for line in self.held() {
            writeln!(f, "{line}")?;
        }
        writeln!(f)
    }

    fn write_comparison(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "asked {}, reached ", shown::line(&self.asked))?;
        if let (false, Some(latency)) = (self.candidates.is_empty(), self.latency_ms) {
            write!(f, "{:.4} of the latency, ", latency.share())?;
        }
        writeln!(
            f,
            "{:.4} of the MACs and {:.4} of the parameters",
            share(self.macs),
            share(self.parameters)
        )?;
        if let Some(measured) = self.measured() {
            writeln!(f, "{measured}")?;
        }
        if let Some(searched) = self.searched() {
            writeln!(f, "{searched}")?;
        }
        if let Some(least) = self.least_mi() {
            writeln!(f, "{least}")?;
        }
        if let Some(combined) = self.combined() {
            writeln!(f, "{combined}")?;
        }
        writeln!(
            f,
            "ran on {} with ONNX Runtime {}, repair {}",
            self.device, self.onnxruntime, self.repair
        )?;
        let Some(comparison) = &self.comparison else {
            return if self.is_unknown() {
                writeln!(f, "{UNKNOWN}")
            } else {
                Ok(())
            };
        };
        let whose = match self.held_back {
            _ if self.searched().is_some() => "held-back samples, which chose the size",
            true => "held-back samples",
            false => "calibration samples",
        };
        closeness(f, comparison, whose)
    }
}

/// Columns of the table of a sweep; the last only with a metric.
const SWEEP_HEAD: [&str; 9] = [
    "asked",
    "MACs",
    "parameters",
    "file",
    "latency",
    "cosine",
    "error",
    "top-1",
    "metric",
];

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table(f, &self.rows())?;
        if let Some(metric) = self.entries.first().and_then(|entry| entry.report.metric) {
            writeln!(
                f,
                "\nthe original's metric is {}",
                super::figure(metric.before)
            )?;
        }
        writeln!(f)?;
        for entry in &self.entries {
            if let Some(path) = &entry.path {
                let path = path.to_string_lossy();
                let (path, repair) = (shown::line(&path), entry.report.repair);
                writeln!(f, "wrote {path}, repair {repair}")?;
            }
        }
        if self.is_unknown() {
            writeln!(f, "{UNKNOWN}")?;
        }
        Ok(())
    }
}

impl Sweep {
    /// The table, whose first row names the columns.
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let is_measured = self
            .entries
            .iter()
            .any(|entry| entry.report.metric.is_some());
        let columns = SWEEP_HEAD.len() - usize::from(!is_measured);
        let rows = self.entries.iter().map(SweepEntry::row);
        let rows = std::iter::once(SWEEP_HEAD.map(str::to_owned)).chain(rows);
        rows.map(|row| row.into_iter().take(columns).collect())
            .collect()
    }

    /// Whether there were no data to compare the models on.
    pub(super) fn is_unknown(&self) -> bool {
        self.entries.iter().any(|entry| entry.report.is_unknown())
    }
}

impl SweepEntry {
    /// The cells under [`SWEEP_HEAD`].
    fn row(&self) -> [String; 9] {
        let report = &self.report;
        let found = report.comparison;
        let four = |value: f64| format!("{value:.4}");
        let or_dash = |text: Option<String>| text.unwrap_or("-".to_owned());
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let latency = report.latency_ms.unwrap_or_default();
        [
            report.asked.clone(),
            percent(share(report.macs)),
            percent(share(report.parameters)),
            bytes(report.bytes.after as f64),
            milliseconds(latency.after),
            or_dash(found.map(|found| four(found.cosine))),
            or_dash(found.map(|found| four(found.relative_error))),
            or_dash(found.and_then(|found| found.top1_agreement).map(percent)),
            or_dash(report.metric.map(|metric| super::figure(metric.after))),
        ]
    }
}

/// How close two models are, in one line.
fn closeness(f: &mut fmt::Formatter<'_>, found: &Comparison, whose: &str) -> fmt::Result {
    write!(
        f,
        "on {} {whose}: cosine {:.4}, relative error {:.4}",
        found.samples, found.cosine, found.relative_error
    )?;
    let known = found.divergence.filter(|found| found.high.is_finite());
    if let Some(Divergence { mean, high }) = known {
        let (mean, high) = (mean * 100.0, high * 100.0);
        write!(f, ", change {mean:.2} % (up to {high:.2} %)")?;
    }
    match found.top1_agreement {
        Some(agreement) => write!(f, ", top-1 agreement {:.1} %", agreement * 100.0)?,
        None => return writeln!(f),
    }
    match found.top1_agreement_low {
        Some(low) => writeln!(f, " (at least {:.1} %)", low * 100.0),
        None => writeln!(f),
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = Change {
            before: self.bytes.before as f64,
            after: self.bytes.after as f64,
        };
        let rows = [
            ["", "A", "B", "B / A"].map(str::to_owned),
            total("file", size, bytes),
            latency_row(self.latency_ms),
        ];
        for (letter, path) in [("A", &self.original), ("B", &self.other)] {
            match path {
                Some(path) => {
                    let path = path.to_string_lossy();
                    writeln!(f, "{letter} is {}", shown::line(&path))?;
                }
                None => writeln!(f, "{letter} is a model in memory")?,
            }
        }
        writeln!(f)?;
        table(f, &rows)?;
        if let Some(busy) = busy(self.latency_ms) {
            writeln!(f, "\n{busy}")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "ran on {} with ONNX Runtime {}",
            self.device, self.onnxruntime
        )?;
        match &self.comparison {
            Some(comparison) => closeness(f, comparison, "given samples"),
            None => writeln!(f, "{UNKNOWN_CLOSENESS}"),
        }
    }
}

/// What stands where figures of the closeness would.
const UNKNOWN_CLOSENESS: &str = "nothing is known about how close the outputs are without data: give --calib with a few \
    hundred real samples";

fn row(group: &GroupReport) -> [String; 6] {
    let percent =
        |share: Option<f64>| share.map_or("-".to_owned(), |s| format!("{:.1} %", s * 100.0));
    [
        shown::line(&group.name).into_owned(),
        group.channels.before.to_string(),
        group.channels.after.to_string(),
        percent(group.score.map(|score| score.mi_kept)),
        interval(group).unwrap_or("-".to_owned()),
        percent(group.score.map(|score| score.explained)),
    ]
}

/// Where the MI kept lies; none where it is not known, or all is kept.
pub(super) fn interval(group: &GroupReport) -> Option<String> {
    let is_cut = group.channels.after < group.channels.before;
    let Interval { low, high } = group.score.filter(|_| is_cut)?.mi_interval?;
    Some(format!("{:.1}-{:.1} %", low * 100.0, high * 100.0))
}

pub(super) fn share(change: Change<f64>) -> f64 {
    if change.before > 0.0 {
        change.after / change.before
    } else {
        1.0
    }
}

pub(super) fn total(name: &str, change: Change<f64>, text: impl Fn(f64) -> String) -> [String; 4] {
    let left = format!("{:.3}", share(change));
    [
        name.to_owned(),
        text(change.before),
        text(change.after),
        left,
    ]
}

pub(super) fn count(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.3} G", v / 1e9),
        v if v >= 1e6 => format!("{:.3} M", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        v => format!("{v}"),
    }
}

pub(super) fn bytes(value: f64) -> String {
    format!("{:.1} kB", value / 1e3)
}

/// Columns as wide as their widest cell; the first to the left, the others to the right.
fn table<R: AsRef<[String]>>(f: &mut fmt::Formatter<'_>, rows: &[R]) -> fmt::Result {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.as_ref().get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let columns = rows.first().map_or(0, |row| row.as_ref().len());
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let row = row.as_ref();
        let cell = |(column, text): (usize, &String)| match column {
            0 => format!("{text:<width$}", width = widths[column]),
            _ => format!("{text:>width$}", width = widths[column]),
        };
        let line: Vec<String> = row.iter().enumerate().map(cell).collect();
        writeln!(f, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} MACs, {} parameters; {:.1} % of the MACs are in reach of pruning",
            count(self.macs),
            count(self.parameters),
            self.prunable_macs * 100.0
        )?;
        for group in &self.groups {
            writeln!(f)?;
            writeln!(
                f,
                "{}: {} channels, {:.1} % of the MACs, {:.1} % of the parameters",
                shown::line(&group.name),
                group.channels,
                group.macs_share * 100.0,
                group.parameters_share * 100.0
            )?;
            writeln!(f, "  made by  {}", shown::line(&group.producers.join(", ")))?;
            if !group.consumers.is_empty() {
                writeln!(f, "  read by  {}", shown::line(&group.consumers.join(", ")))?;
            }
            let place = |place: &super::Place| match place.positions {
                1 => format!("{}[{}]", place.tensor, place.axis),
                n => format!("{}[{}] x {n}", place.tensor, place.axis),
            };
            let places: Vec<String> = group.places.iter().map(place).collect();
            writeln!(f, "  lies on  {}", shown::line(&places.join(", ")))?;
            for reason in &group.frozen {
                writeln!(f, "  frozen   {}", shown::line(reason))?;
            }
        }
        for layer in &self.ungrouped {
            writeln!(f)?;
            writeln!(
                f,
                "{}: {} in no group, {:.1} % of the MACs",
                shown::line(&layer.name),
                shown::line(&layer.operator),
                layer.macs_share * 100.0
            )?;
            writeln!(f, "  frozen   {}", shown::line(&layer.frozen))?;
        }
        Ok(())
    }
}
