//! The report: what was asked, what was done and how good the result is, as text and as JSON.

mod advice;
mod html;
mod inspection;
mod latency;
mod layers;
mod note;
mod text;

use std::path::PathBuf;

use serde::Serialize;

use crate::flags::with_flags;
use crate::graph::{Graph, GroupId};
use crate::groups::{Group, Groups, Reason};
use crate::select::{Bound, CostModel, Score, Search, Selection, TradeOff, Trial};
use crate::statistics::Statistics;
use crate::verify::{Change, Comparison, Timing};

pub use inspection::{GroupInspection, Inspection, Place, Ungrouped, inspect, ungrouped};
pub use layers::{Layer, layers};
pub use note::Note;

/// Everything that a run found out. It shows itself as text, is written as JSON by serde, and as a
/// page by [`Report::html`]; these speak of options in the words of the command line.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Report {
    /// Version of onnx-mipp.
    pub version: &'static str,
    /// The device that ran the models.
    pub device: String,
    /// Version of ONNX Runtime.
    pub onnxruntime: String,
    /// The command line; `None` where there was none.
    pub command: Option<String>,
    /// The original's file; `None` for a model in memory.
    pub input: Option<String>,
    /// The calibration data.
    pub calibration: Calibration,
    /// What was asked for, in the words of the command line.
    pub asked: String,
    /// The repair that the result has.
    #[cfg_attr(test, schemars(extend("enum" = ["none", "once", "sequential", "tuned"])))]
    pub repair: &'static str,
    /// Multiply-accumulates of one sample.
    #[cfg_attr(test, schemars(with = "Change<crate::verify::Measure>"))]
    pub macs: Change<f64>,
    /// Elements of the weights.
    #[cfg_attr(test, schemars(with = "Change<crate::verify::Measure>"))]
    pub parameters: Change<f64>,
    /// Bytes of the files, external data included.
    pub bytes: Change<u64>,
    /// Milliseconds of one run of the smallest batch on this machine: of runs in turns, the mean of
    /// the faster half; or what the command of `--latency-command` said.
    pub latency_ms: Option<Timing>,
    /// The metric before and after; `None` where none was given.
    pub metric: Option<Change<f64>>,
    /// The candidates of a budget of latency, in the order in which they were measured; empty for
    /// other budgets.
    pub candidates: Vec<Trial>,
    /// How the default budget, or budgets of quality, found the size; `None` with others.
    pub search: Option<Search>,
    /// Every group, in the order of the model.
    pub groups: Vec<GroupReport>,
    /// Layers with weights that make no channels of a group.
    pub ungrouped: Vec<Ungrouped>,
    /// What other budgets of the measure that was asked for are expected to lose, from all of it
    /// down; only with a report in HTML.
    pub trade_off: Vec<TradeOff>,
    /// The layers with weights, in the order of the model.
    pub layers: Vec<Layer>,
    /// The comparison with the original; `None` where nothing was pruned, and without data: made-up
    /// inputs do not tell how good a model is.
    pub comparison: Option<Comparison>,
    /// Whether the comparison ran on samples that no statistics saw.
    pub held_back: bool,
    /// What the user should know, in sentences.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub notes: Vec<Note>,
}

/// What the calibration read.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Calibration {
    /// Paths of the data; empty without any.
    pub source: Vec<String>,
    /// Whether the statistics are of made-up inputs, and with them every MI and all that follows
    /// from it.
    pub synthetic: bool,
    /// Samples that the statistics saw.
    pub samples: usize,
    /// Samples of the comparison.
    pub compared: usize,
}

/// One group.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GroupReport {
    /// Its name, as in the plan.
    pub name: String,
    /// Its channels.
    pub channels: Change<usize>,
    /// Share of the original's multiply-accumulates in nodes that read or make the channels.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub macs_share: f64,
    /// The channels that stay are linear combinations of the original's.
    pub combined: bool,
    /// What the selection kept; `None` where nothing was selected. Of made-up inputs, where
    /// `synthetic` says so.
    pub score: Option<Score>,
    /// Whether the score and the weight are of made-up inputs.
    pub synthetic: bool,
    /// How far the measured covariances of what its readers see decide the score, and not the
    /// shrinkage: 1 less the largest shrinkage; `None` where nothing was seen.
    pub data_weight: Option<f64>,
    /// Why it was frozen; empty where it was not.
    pub frozen: Vec<String>,
}

/// What a candidate measured by the bounds of a search, in words.
#[must_use]
pub fn measured(bounds: &[Bound], values: &[f64]) -> String {
    let one = |(bound, value): (&Bound, &f64)| match (bound.of, bound.original) {
        ("agreement", _) => format!("at least {:.1} % agree", value * 100.0),
        ("max_drop", Some(original)) => {
            let [value, original] = [*value, original].map(figure);
            format!("the metric is {value}, the original's {original}")
        }
        _ if value.is_finite() => format!("the outputs change by up to {:.2} %", value * 100.0),
        _ => "the outputs change without a bound".to_owned(),
    };
    let all: Vec<String> = bounds.iter().zip(values).map(one).collect();
    all.join("; ")
}

/// A number of any size for people: six digits that count, and no zeros behind them.
fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let size = value.abs().max(f64::MIN_POSITIVE).log10().floor();
    if !(-5.0..15.0).contains(&size) {
        return format!("{value:.5e}");
    }
    let digits = (5.0 - size).max(0.0) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// What a comparison of two models found. It shows itself as text and is written as JSON by serde.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Compared {
    /// The file of the first model, with which the other is compared; `None` for a model in memory.
    #[cfg_attr(
        test,
        schemars(with = "String", description = "The first model's file.")
    )]
    pub original: Option<PathBuf>,
    /// That of the other.
    #[cfg_attr(
        test,
        schemars(with = "String", description = "The other model's file.")
    )]
    pub other: Option<PathBuf>,
    /// Paths of the data; empty without any.
    pub source: Vec<String>,
    /// The device that ran the models.
    pub device: String,
    /// Version of ONNX Runtime.
    pub onnxruntime: String,
    /// How close the other's outputs are to the first's; `None` without data.
    pub comparison: Option<Comparison>,
    /// Bytes of the files, external data included; of models in memory, with all tensors inline.
    pub bytes: Change<u64>,
    /// Milliseconds of one run of the smallest batch on this machine: of runs in turns, the mean of
    /// the faster half.
    pub latency_ms: Timing,
    /// What the user should know, in sentences.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub notes: Vec<Note>,
}

/// A model pruned to several budgets.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sweep {
    /// One for each budget, in the order asked for.
    pub entries: Vec<SweepEntry>,
}

/// One budget's result.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
// The program always has a path.
#[cfg_attr(test, schemars(extend("required" = ["path", "report"])))]
pub struct SweepEntry {
    /// The model's file; `None` for a model in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String", description = "The model's file."))]
    pub path: Option<PathBuf>,
    /// Its report.
    pub report: Report,
}

/// A value of this crate as JSON for people and machines.
///
/// # Errors
/// A value that JSON cannot express; none of this crate's is.
pub fn json(value: &impl Serialize) -> Result<String, String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    Ok(crate::shown::json(&text).into_owned())
}

/// Paths of the data as text.
pub(crate) fn source(paths: &[PathBuf]) -> Vec<String> {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect()
}

impl Report {
    /// The groups' part of a report.
    #[must_use]
    pub fn groups(
        graph: &Graph,
        groups: &Groups,
        selection: &Selection,
        statistics: Option<&Statistics>,
        synthetic: bool,
    ) -> Vec<GroupReport> {
        let (plan, scores) = (&selection.plan.groups, &selection.scores);
        let (macs, whole) = (CostModel::macs(graph, groups), groups.widths());
        let (total, shares) = (macs.total(&whole), macs.shares(&whole));
        let one = |(index, group): (GroupId, &Group)| GroupReport {
            name: group.name.clone(),
            channels: Change {
                before: group.channels.len(),
                after: plan
                    .get(index.index())
                    .map_or(group.channels.len(), |group| group.kept.len()),
            },
            macs_share: match shares.get(index) {
                Some(share) if total > 0.0 => share / total,
                _ => 0.0,
            },
            combined: plan.get(index.index()).is_some_and(|group| group.combined),
            score: scores.get(index).copied().flatten(),
            synthetic,
            data_weight: statistics.and_then(|statistics| data_weight(group, statistics)),
            frozen: group
                .frozen
                .iter()
                .map(|reason| with_flags(&sentence(graph, reason)).into_owned())
                .collect(),
        };
        groups.groups.entries().map(one).collect()
    }
}

fn data_weight(group: &Group, statistics: &Statistics) -> Option<f64> {
    let seen = group
        .consumers
        .iter()
        .filter_map(|&consumer| statistics.of(consumer));
    let blocks = seen.flat_map(|observed| &observed.blocks);
    let most = blocks.map(|block| block.shrinkage).reduce(f64::max)?;
    Some(1.0 - most)
}

/// A reason with its node: "node 'x' (Softmax): it mixes the channels".
#[must_use]
pub fn sentence(graph: &Graph, reason: &Reason) -> String {
    match reason.node.and_then(|id| graph.nodes.get(id)) {
        Some(node) => format!(
            "node '{}' ({}): {}",
            node.name,
            node.full_name(),
            reason.text
        ),
        None => reason.text.clone(),
    }
}
