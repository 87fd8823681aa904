//! The options of a call, from Python's names and types to the library's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use onnx_mipp::{
    Budget, Calibration, Color, Device, Estimator, Exif, Hardware, Heads, ImageOptions, Layout,
    Limits, Metric, Plan, Profile, Prune, Repair, RuntimeOptions, Scope, Stop,
};
use pyo3::prelude::*;

use crate::_native::error;

const MEGABYTE: u64 = 1_000_000;
/// Megabytes: up to 16 terabytes, and a limit that leaves room for ONNX Runtime itself.
const MEMORY: std::ops::RangeInclusive<u64> = 0..=1 << 24;
const MEMORY_LIMIT: std::ops::RangeInclusive<u64> = 256..=1 << 24;

/// Seconds for one model: up to a week, and what the command allows by itself.
const SECONDS: std::ops::RangeInclusive<u64> = 1..=604_800;
const METRIC_SECONDS: u64 = 3600;

/// A whole number, of any size.
type Whole = i128;

/// What the package's functions take, under the same names; what is left out is None. What not all
/// of them take may be missing.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Options {
    /// Files, also those of data that were in memory.
    #[pyo3(default)]
    calibration: Vec<PathBuf>,
    /// Whether the data were in memory.
    #[pyo3(default)]
    in_memory: bool,
    #[pyo3(default)]
    macs: Option<f64>,
    #[pyo3(default)]
    params: Option<f64>,
    /// A share, or bytes such as "3.5MB".
    #[pyo3(default)]
    size: Option<Amount>,
    /// A share, or milliseconds such as "12ms".
    #[pyo3(default)]
    latency: Option<Amount>,
    #[pyo3(default)]
    latency_command: Option<Measure>,
    /// A file that a runtime wrote.
    #[pyo3(default)]
    profile: Option<PathBuf>,
    #[pyo3(default)]
    ratio: Option<f64>,
    #[pyo3(default)]
    mi: Option<f64>,
    #[pyo3(default)]
    agreement: Option<f64>,
    #[pyo3(default)]
    max_change: Option<f64>,
    #[pyo3(default)]
    max_drop: Option<f64>,
    /// A command, or a function of a path.
    #[pyo3(default)]
    metric: Option<Measure>,
    #[pyo3(default)]
    metric_lower: bool,
    #[pyo3(default)]
    metric_timeout: Option<Whole>,
    #[pyo3(default)]
    align: Option<Whole>,
    /// What the model will run on.
    #[pyo3(default)]
    target: Option<String>,
    #[pyo3(default)]
    min_channels: Option<Whole>,
    #[pyo3(default)]
    best_effort: bool,
    #[pyo3(default)]
    estimator: Option<String>,
    #[pyo3(default)]
    no_combine: bool,
    #[pyo3(default)]
    exclude: Vec<String>,
    #[pyo3(default)]
    only: Vec<String>,
    #[pyo3(default)]
    heads: Option<String>,
    #[pyo3(default)]
    prune_normalized: bool,
    #[pyo3(default)]
    repair: Option<String>,
    #[pyo3(default)]
    memory: Option<Whole>,
    #[pyo3(default)]
    samples: Option<Whole>,
    #[pyo3(default)]
    batch: Option<Whole>,
    shape: Vec<(String, Vec<Whole>)>,
    #[pyo3(default)]
    mean: Option<Vec<f64>>,
    #[pyo3(default)]
    std: Option<Vec<f64>>,
    #[pyo3(default)]
    scale: Option<f64>,
    #[pyo3(default)]
    resize: Option<Whole>,
    #[pyo3(default)]
    crop: Option<Whole>,
    #[pyo3(default)]
    layout: Option<String>,
    #[pyo3(default)]
    color: Option<String>,
    #[pyo3(default)]
    exif: Option<String>,
    #[pyo3(default)]
    seed: Option<Whole>,
    #[pyo3(default)]
    stats: Vec<PathBuf>,
    #[pyo3(default)]
    stats_out: Option<PathBuf>,
    /// A plan as JSON.
    #[pyo3(default)]
    plan: Option<String>,
    /// The file of one.
    #[pyo3(default)]
    plan_file: Option<PathBuf>,
    device: Option<String>,
    threads: Option<Whole>,
    memory_limit: Option<Whole>,
    onnxruntime: Option<PathBuf>,
}

/// What a sweep goes over.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Budgets {
    macs: Vec<f64>,
    params: Vec<f64>,
    size: Vec<Amount>,
    latency: Vec<Amount>,
    ratio: Vec<f64>,
    mi: Vec<f64>,
}

impl Budgets {
    /// The budgets in the order of the command, each once.
    pub fn all(&self) -> PyResult<Vec<Budget>> {
        let read = |all: &[Amount], option, read| {
            let all = all.iter().map(|amount| amount.budget(option, read));
            all.collect::<PyResult<Vec<Budget>>>()
        };
        let size = read(&self.size, "size", Budget::size)?;
        let latency = read(&self.latency, "latency", Budget::latency)?;
        let macs = self.macs.iter().copied().map(Budget::Macs);
        let params = self.params.iter().copied().map(Budget::Params);
        let ratio = self.ratio.iter().copied().map(Budget::Ratio);
        let mi = self.mi.iter().copied().map(Budget::MutualInformation);
        let costs = macs.chain(params).chain(size).chain(latency);
        let mut budgets = Vec::new();
        for budget in costs.chain(ratio).chain(mi) {
            if !budgets.contains(&budget) {
                budgets.push(budget);
            }
        }
        Ok(budgets)
    }
}

/// A number, or a text with a unit.
#[derive(FromPyObject)]
enum Amount {
    Number(f64),
    Text(String),
}

impl Amount {
    /// The budget that the text is for.
    fn budget(&self, option: &str, read: fn(&str) -> Result<Budget, String>) -> PyResult<Budget> {
        let text = match self {
            Amount::Number(number) => number.to_string(),
            Amount::Text(text) => text.clone(),
        };
        read(&text).map_err(|expected| error(format!("`{option}`: {expected}, found {text}")))
    }
}

/// What a metric is.
#[derive(FromPyObject)]
enum Measure {
    Command(String),
    Function(Py<PyAny>),
}

impl Options {
    /// The file of the plan, if it came from one.
    pub fn plan_file(&self) -> Option<&Path> {
        self.plan_file.as_deref()
    }

    fn heads(&self) -> PyResult<Heads> {
        let known = [
            ("best", Heads::Best),
            ("whole", Heads::Whole),
            ("inside", Heads::Inside),
        ];
        let name = self.heads.as_deref();
        name.map_or(Ok(Heads::Best), |name| named("heads", name, &known))
    }

    /// The run that is asked for, which `stop` ends early.
    pub fn prune(&self, stop: &Stop) -> PyResult<Prune> {
        let mut run = Prune::new()
            .calibration(self.calibration()?)
            .limits(self.limits()?)
            .scope(Scope {
                heads: self.heads()?,
                normalized: self.prune_normalized,
            })
            .exclude(&self.exclude)
            .only(&self.only)
            .combine(!self.no_combine)
            .runtime(self.runtime(stop)?);
        let plan = self.plan()?;
        let budgets = self.budgets()?;
        self.refuse(plan.is_some(), budgets.first())?;
        for budget in budgets {
            run = run.budget(budget);
        }
        if let Some(metric) = self.measure(self.metric.as_ref())? {
            run = run.metric(if self.metric_lower {
                metric.lower()
            } else {
                metric
            });
        }
        if let Some(clock) = self.measure(self.latency_command.as_ref())? {
            run = run.latency_command(clock);
        }
        if let Some(path) = &self.profile {
            run = run.profile(Profile::load(path).map_err(error)?);
        }
        if let Some(plan) = plan {
            run = run.plan(plan);
        }
        if let Some(name) = &self.estimator {
            let known = [
                ("gaussian", Estimator::Gaussian),
                ("copula", Estimator::Copula),
            ];
            run = run.estimator(named("estimator", name, &known)?);
        }
        if let Some(name) = &self.repair {
            let known = [
                ("none", Repair::None),
                ("once", Repair::Once),
                ("sequential", Repair::Sequential),
                ("tuned", Repair::Tuned),
            ];
            run = run.repair(named("repair", name, &known)?);
        }
        if let Some(megabytes) = self.memory {
            run = run.memory(bytes("memory", megabytes, &MEMORY)?);
        }
        if let Some(megabytes) = self.memory_limit {
            run = run.memory_limit(bytes("memory_limit", megabytes, &MEMORY_LIMIT)?);
        }
        if let Some(path) = &self.stats_out {
            run = run.save_statistics(path);
        }
        Ok(run)
    }

    fn budgets(&self) -> PyResult<Vec<Budget>> {
        let read = |given: &Option<Amount>, option, read| {
            let given = given.as_ref();
            given.map(|given| given.budget(option, read)).transpose()
        };
        let size = read(&self.size, "size", Budget::size)?;
        let latency = read(&self.latency, "latency", Budget::latency)?;
        let given = [
            self.macs.map(Budget::Macs),
            self.params.map(Budget::Params),
            size,
            latency,
            self.ratio.map(Budget::Ratio),
            self.mi.map(Budget::MutualInformation),
            self.agreement.map(Budget::Agreement),
            self.max_change.map(Budget::Change),
            self.max_drop.map(Budget::Drop),
        ];
        Ok(given.into_iter().flatten().collect())
    }

    /// What measures models, by a command or a function of Python.
    fn measure(&self, given: Option<&Measure>) -> PyResult<Option<Metric>> {
        let limit = self.metric_timeout.map(seconds).transpose()?;
        let limit = Duration::from_secs(limit.unwrap_or(METRIC_SECONDS));
        let function = match given {
            None => return Ok(None),
            Some(Measure::Command(text)) => return Ok(Some(Metric::command(text, limit))),
            Some(Measure::Function(function)) => Python::attach(|py| function.clone_ref(py)),
        };
        Ok(Some(Metric::new(move |path| {
            Python::attach(|py| {
                let found = function.call1(py, (path,));
                let found = found.and_then(|found| found.extract::<f64>(py));
                found.map_err(|error| error.to_string())
            })
        })))
    }

    /// What excludes each other.
    fn refuse(&self, is_planned: bool, budget: Option<&Budget>) -> PyResult<()> {
        match budget {
            Some(budget) if is_planned => Err(apart("plan", budget.name())),
            _ if self.stats_out.is_some() && !self.stats.is_empty() => {
                Err(apart("stats_out", "stats"))
            }
            _ => Ok(()),
        }
    }

    fn plan(&self) -> PyResult<Option<Plan>> {
        match (&self.plan, &self.plan_file) {
            (Some(text), _) => Plan::parse(text).map(Some).map_err(error),
            (None, Some(path)) => Plan::load(path).map(Some).map_err(error),
            (None, None) => Ok(None),
        }
    }

    fn limits(&self) -> PyResult<Limits> {
        let usual = Limits::default();
        let target = self.target.as_deref().map(str::parse::<Hardware>);
        let block = target.transpose().map_err(error)?.map(Hardware::block);
        if block.is_some() && self.align.is_some() {
            return Err(apart("target", "align"));
        }
        Ok(Limits {
            align: whole("align", self.align)?.or(block).unwrap_or(usual.align),
            min_channels: whole("min_channels", self.min_channels)?.unwrap_or(usual.min_channels),
            best_effort: self.best_effort,
        })
    }

    fn runtime(&self, stop: &Stop) -> PyResult<RuntimeOptions> {
        let device = self.device.as_deref().map(str::parse::<Device>);
        Ok(RuntimeOptions {
            library: self.onnxruntime.clone(),
            device: device.transpose().map_err(error)?.unwrap_or_default(),
            threads: whole("threads", self.threads)?,
            stop: stop.clone(),
        })
    }

    fn calibration(&self) -> PyResult<Calibration> {
        let mut calibration = Calibration::files(&self.calibration)
            .statistics(&self.stats)
            .images(self.images()?);
        if self.in_memory {
            calibration = calibration.source("data in memory");
        }
        if let Some(samples) = whole("samples", self.samples)? {
            calibration = calibration.samples(samples);
        }
        if let Some(batch) = whole("batch", self.batch)? {
            calibration = calibration.batch(batch);
        }
        if let Some(seed) = whole("seed", self.seed)? {
            calibration = calibration.seed(seed);
        }
        for (name, sizes) in &self.shape {
            let sizes = sizes.iter().map(|&size| known("shape", size));
            calibration = calibration.shape(name, sizes.collect::<PyResult<Vec<usize>>>()?);
        }
        Ok(calibration)
    }

    fn images(&self) -> PyResult<ImageOptions> {
        let singles = |values: &Option<Vec<f64>>| {
            let values = values.as_ref();
            values.map(|values| values.iter().map(|&value| value as f32).collect())
        };
        let layouts = [("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)];
        let colors = [
            ("rgb", Color::Rgb),
            ("bgr", Color::Bgr),
            ("gray", Color::Gray),
        ];
        let ways = [("ignore", Exif::Ignore), ("apply", Exif::Apply)];
        let (layout, color, exif) = (&self.layout, &self.color, &self.exif);
        let layout = layout.as_ref().map(|name| named("layout", name, &layouts));
        let color = color.as_ref().map(|name| named("color", name, &colors));
        let exif = exif.as_ref().map(|name| named("exif", name, &ways));
        Ok(ImageOptions {
            mean: singles(&self.mean),
            std: singles(&self.std),
            scale: self.scale.map(|scale| scale as f32),
            resize: whole("resize", self.resize)?,
            crop: whole("crop", self.crop)?,
            layout: layout.transpose()?,
            color: color.transpose()?,
            exif: exif.transpose()?.unwrap_or_default(),
        })
    }
}

/// Seconds that a command may take.
fn seconds(found: Whole) -> PyResult<u64> {
    let (start, end) = (SECONDS.start(), SECONDS.end());
    let known = u64::try_from(found)
        .ok()
        .filter(|found| SECONDS.contains(found));
    known.ok_or_else(|| {
        error(format!(
            "metric_timeout: expected a whole number from {start} to {end}, found {found}"
        ))
    })
}

fn apart(first: &str, second: &str) -> PyErr {
    error(format!("{first} cannot be used with {second}"))
}

/// What goes by a name.
fn named<T: Copy>(option: &str, name: &str, known: &[(&str, T)]) -> PyResult<T> {
    let found = known.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        error(format!(
            "{option}: expected {}, found {name}",
            names.join(" or ")
        ))
    })
}

/// A number that the library says more about: below 0 and beyond all sizes there is nothing to say.
fn known<T: TryFrom<Whole>>(option: &str, number: Whole) -> PyResult<T> {
    T::try_from(number).map_err(|_| {
        error(format!(
            "{option}: expected a whole number from 0 on, found {number}"
        ))
    })
}

fn whole<T: TryFrom<Whole>>(option: &str, number: Option<Whole>) -> PyResult<Option<T>> {
    number.map(|number| known(option, number)).transpose()
}

fn bytes(option: &str, megabytes: Whole, range: &std::ops::RangeInclusive<u64>) -> PyResult<u64> {
    let found = u64::try_from(megabytes)
        .ok()
        .filter(|megabytes| range.contains(megabytes));
    found.map(|megabytes| megabytes * MEGABYTE).ok_or_else(|| {
        let (start, end) = (range.start(), range.end());
        error(format!(
            "{option}: expected a whole number from {start} to {end}, found {megabytes}"
        ))
    })
}
