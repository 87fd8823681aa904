//! What a run is asked to do.

use std::path::{Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::metric::Metric;
use crate::pipeline::Error;
use crate::pipeline::open::Opening;
use crate::profile::Profile;
use crate::regular;
use crate::repair::Repair;
use crate::select::{Budget, Limits, Plan};
use crate::statistics::Estimator;

/// Change of the outputs on held-back samples, as a share of their variance, when no budget is
/// given. Chosen on networks of several kinds, all of which lose less than a point with it
/// (docs/results.md).
const DEFAULT_CHANGE: f64 = 0.005;
/// Share of every group's MI that is kept where files of statistics are all that is known of the
/// data.
const DEFAULT_MI_STATISTICS: f64 = 0.998;
/// The same without calibration data: so careful that nothing that people care about breaks,
/// ImageNet classifiers, a recogniser of writing and a sentence model among it (docs/results.md).
const DEFAULT_MI_SYNTHETIC: f64 = 0.9995;
/// A bound in bytes, so that memory does not grow with the samples beyond it.
pub(crate) const DEFAULT_MEMORY: u64 = 256_000_000;

/// What a run is asked to do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The samples, which groups may be pruned, and where models run.
    pub opening: Opening,
    /// The budgets, all of which are kept; none: what costs little accuracy.
    pub budgets: Vec<Budget>,
    /// What measures the original and the result, and decides a budget of its drop.
    pub metric: Option<Metric>,
    /// What measures the milliseconds of a run; `None`: ONNX Runtime on the device in use.
    pub latency_command: Option<Metric>,
    /// Where the time of a run goes where the model will run; `None`: it is profiled here.
    pub profile: Option<Profile>,
    /// A plan to apply instead of selecting.
    pub plan: Option<Plan>,
    /// Limits on widths.
    pub limits: Limits,
    /// What channels are judged by.
    pub estimator: Estimator,
    /// Whether combinations of channels may stay instead of channels, where nothing but linear
    /// layers touches them.
    pub combine: bool,
    /// How weights are repaired; `None`: sequentially with calibration data, once without.
    pub repair: Option<Repair>,
    /// Bytes of samples and activations that a sequential repair holds in memory.
    pub memory: u64,
    /// Whether the report says what other budgets are expected to lose.
    pub trade_off: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            opening: Opening::default(),
            budgets: Vec::new(),
            metric: None,
            latency_command: None,
            profile: None,
            plan: None,
            limits: Limits::default(),
            estimator: Estimator::default(),
            combine: true,
            repair: None,
            memory: DEFAULT_MEMORY,
            trade_off: false,
        }
    }
}

/// What decides which channels stay.
#[derive(Clone)]
pub(super) enum Goal<'a> {
    Plan(&'a Plan),
    Budgets(Vec<Budget>),
    /// What costs little accuracy.
    Default(Budget),
}

impl Goal<'_> {
    /// As the report names it.
    pub fn asked(&self) -> String {
        match self {
            Goal::Plan(_) => "a plan".to_owned(),
            Goal::Default(Budget::Change(bound)) => {
                let percent = bound * 100.0;
                format!("nothing, which allows the outputs a change of {percent} %")
            }
            Goal::Default(budget) => budget.to_string(),
            Goal::Budgets(budgets) => in_words(budgets),
        }
    }

    /// The budgets that the data are asked for.
    pub fn budgets(&self) -> &[Budget] {
        match self {
            Goal::Plan(_) => &[],
            Goal::Budgets(budgets) => budgets,
            Goal::Default(budget) => std::slice::from_ref(budget),
        }
    }
}

/// Budgets as on the command line.
pub(super) fn in_words(budgets: &[Budget]) -> String {
    let words: Vec<String> = budgets.iter().map(Budget::to_string).collect();
    words.join(" ")
}

impl Options {
    /// The plan, or else the budgets, by default one that costs little accuracy.
    pub(super) fn goal(&self) -> Goal<'_> {
        match &self.plan {
            Some(plan) => Goal::Plan(plan),
            None if self.budgets.is_empty() => Goal::Default(self.default_budget()),
            None => Goal::Budgets(self.budgets.clone()),
        }
    }

    fn default_budget(&self) -> Budget {
        let calibration = &self.opening.calibration;
        if calibration.judges_by_synthetic() {
            Budget::MutualInformation(DEFAULT_MI_SYNTHETIC)
        } else if calibration.is_synthetic() {
            Budget::MutualInformation(DEFAULT_MI_STATISTICS)
        } else {
            Budget::Change(DEFAULT_CHANGE)
        }
    }

    /// How weights are repaired.
    pub(super) fn repair(&self) -> Repair {
        let default = if self.opening.calibration.is_synthetic() {
            Repair::Once
        } else {
            Repair::Sequential
        };
        self.repair.unwrap_or(default)
    }
}

impl Plan {
    /// Reads a plan that a run wrote.
    ///
    /// # Errors
    /// The file cannot be read, or holds no plan.
    pub fn load(path: impl AsRef<Path>) -> Result<Plan, Error> {
        let path = path.as_ref();
        let failed = |error: String| Error::Json {
            path: path.to_owned(),
            error,
        };
        let text = regular::text(path).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
    }

    /// Reads a plan from JSON.
    ///
    /// # Errors
    /// The text holds no plan.
    pub fn parse(text: &str) -> Result<Plan, Error> {
        serde_json::from_str(text).map_err(|error| Error::Json {
            path: PathBuf::from("plan"),
            error: error.to_string(),
        })
    }
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
