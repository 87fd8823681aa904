//! What a run is asked to do.

use std::path::{Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::de::DeserializeOwned;

use crate::allowance::Allowance;
use crate::data::ReaderOptions;
use crate::graph::Graph;
use crate::groups::Scope;
use crate::ops;
use crate::pipeline::Error;
use crate::regular;
use crate::repair::Repair;
use crate::runtime::RuntimeOptions;
use crate::select::{Budget, Limits};
use crate::statistics::Estimator;

/// Change of the outputs on held-back samples, as a share of their variance, when no budget is given. Chosen on networks of several
/// kinds, all of which lose less than a point with it (docs/results.md).
const DEFAULT_DIVERGENCE: f64 = 0.005;
/// Share of every group's MI that is kept where files of statistics are all that is known of the data.
const DEFAULT_MI_STATISTICS: f64 = 0.998;
/// The same without calibration data: so careful that nothing that people care about breaks, ImageNet
/// classifiers, a recogniser of writing and a sentence model among it (docs/results.md).
const DEFAULT_MI_SYNTHETIC: f64 = 0.9995;

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Calibration data; empty for synthetic inputs.
    pub calibration: Vec<PathBuf>,
    /// How the data are read.
    pub reader: ReaderOptions,
    /// Samples per run; `None`: as many as fit a modest amount of memory.
    pub batch: Option<usize>,
    /// The budget; `None`: what costs little accuracy.
    pub budget: Option<Budget>,
    /// Limits on widths.
    pub limits: Limits,
    /// What channels are judged by.
    pub estimator: Estimator,
    /// Whether combinations of channels may stay instead of channels, where nothing but linear layers
    /// touches them.
    pub combine: bool,
    /// What may leave beyond what is exact and whole.
    pub scope: Scope,
    /// Nodes whose output channels may not change.
    pub exclude: Option<Globs>,
    /// Nodes whose output channels alone may change.
    pub only: Option<Globs>,
    /// How weights are repaired; `None`: sequentially with calibration data, once without.
    pub repair: Option<Repair>,
    /// Bytes of samples and activations that a sequential repair holds in memory.
    pub memory: u64,
    /// What the whole run may take, ONNX Runtime's part included.
    pub allowance: Allowance,
    /// Where models run.
    pub runtime: RuntimeOptions,
    /// Files of statistics to start from, instead of calibrating; their sums are added.
    pub stats: Vec<PathBuf>,
    /// Where to write the statistics of the calibration.
    pub stats_out: Option<PathBuf>,
    /// A plan to apply instead of selecting.
    pub plan: Option<PathBuf>,
    /// Where to write the plan.
    pub plan_out: Option<PathBuf>,
    /// Where to write the report: as HTML to a name that ends in .html, else as JSON.
    pub report: Option<PathBuf>,
    /// The file that options came from: it stays as it is.
    pub config: Option<PathBuf>,
    /// The command line, for the report.
    pub command: Option<String>,
}

/// Patterns of node names.
#[derive(Debug, Clone)]
pub struct Globs {
    patterns: Vec<Glob>,
    pub(super) set: GlobSet,
}

impl Globs {
    /// The patterns, ready to match.
    ///
    /// # Errors
    /// Together they are too large.
    pub fn new(patterns: &[Glob]) -> Result<Globs, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            set.add(pattern.clone());
        }
        Ok(Globs {
            patterns: patterns.to_vec(),
            set: set.build()?,
        })
    }

    /// The first pattern that matches none of the names.
    pub(super) fn idle(&self, names: &[&str]) -> Option<&str> {
        let mut used = vec![false; self.patterns.len()];
        for index in names.iter().flat_map(|name| self.set.matches(name)) {
            if let Some(used) = used.get_mut(index) {
                *used = true;
            }
        }
        let mut idle = self.patterns.iter().zip(used);
        idle.find(|(_, used)| !used).map(|(glob, _)| glob.glob())
    }
}

/// What a run tells while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A stage begins.
    Stage(&'static str),
    /// A stage that counts begins.
    Counting {
        /// Its name.
        stage: &'static str,
        /// How many will come.
        total: usize,
        /// What is counted, in the plural.
        what: &'static str,
    },
    /// That many more are done.
    Advance(usize),
    /// Something that the user should know.
    Note(String),
}

impl Options {
    /// The same for a model, whose first nodes tell what values its inputs take.
    pub(super) fn told_by(&self, graph: &Graph) -> Options {
        let mut options = self.clone();
        options.reader.told = ops::inputs::values(graph);
        options
    }

    /// Whether the report is a page, which shows more.
    pub(super) fn wants_page(&self) -> bool {
        self.report.as_deref().is_some_and(is_page)
    }

    /// How weights are repaired.
    pub(super) fn repair(&self) -> Repair {
        let default = if self.calibration.is_empty() {
            Repair::Once
        } else {
            Repair::Sequential
        };
        self.repair.unwrap_or(default)
    }

    pub(super) fn budget(&self, is_synthetic: bool) -> Budget {
        let default = if is_synthetic {
            Budget::MutualInformation(DEFAULT_MI_SYNTHETIC)
        } else if self.calibration.is_empty() {
            Budget::MutualInformation(DEFAULT_MI_STATISTICS)
        } else {
            Budget::Divergence(DEFAULT_DIVERGENCE)
        };
        self.budget.unwrap_or(default)
    }
}

/// Whether a report goes there as a page.
pub(super) fn is_page(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str());
    end.is_some_and(|end| ["html", "htm"].contains(&end.to_ascii_lowercase().as_str()))
}

/// Reads a value from JSON.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let failed = |error: String| Error::Json {
        path: path.to_owned(),
        error,
    };
    let text = regular::text(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
}
