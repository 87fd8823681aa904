//! The front door: a run that is asked for step by step.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use globset::Glob;

use crate::allowance::Allowance;
use crate::groups::Scope;
use crate::metric::Metric;
use crate::onnx::Model;
use crate::outputs::{Outputs, Staged, Target};
use crate::pipeline::{
    self, Calibration, Error, Globs, Observer, Options, Pruned, STATISTICS, Silent,
};
use crate::profile::Profile;
use crate::ranges;
use crate::repair::Repair;
use crate::report::{Compared, Inspection};
use crate::runtime::RuntimeOptions;
use crate::select::{Budget, Limits, Plan};
use crate::statistics::Estimator;

/// A run on a model: what is asked of it, and [`Prune::run`].
///
/// What is left out is as in the `onnx-mipp` program: without a budget the smallest model whose
/// outputs hardly change on samples held back, widths in multiples of 8, and a repair layer by
/// layer.
#[derive(Debug, Clone, Default)]
pub struct Prune {
    options: Options,
    exclude: Vec<String>,
    only: Vec<String>,
    statistics: Option<PathBuf>,
}

impl Prune {
    /// Asks for nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Prune::default()
    }

    /// The samples that show what the channels carry. Without them inputs are made up, and nothing
    /// is known about the quality of the result.
    #[must_use]
    pub fn calibration(mut self, calibration: Calibration) -> Self {
        self.options.opening.calibration = calibration;
        self
    }

    /// How small the model gets, or what it must be worth. Of several budgets all are kept; ratios,
    /// shares of MI and latencies have limits to what they go with ([`Budget::excludes`]).
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.options.budgets.push(budget);
        self
    }

    /// Measures the original and the result, and the candidates of [`Budget::Drop`].
    #[must_use]
    pub fn metric(mut self, metric: Metric) -> Self {
        self.options.metric = Some(metric);
        self
    }

    /// Where the time of a run goes where the model will run, by which groups share a budget of
    /// [`Budget::Latency`] or [`Budget::Milliseconds`]. Without a [`latency_command`] nothing is
    /// measured then: what the profile says of narrower layers counts.
    ///
    /// [`latency_command`]: Prune::latency_command
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.options.profile = Some(profile);
        self
    }

    /// Measures the milliseconds of a run where the model will run, for [`Budget::Latency`] and
    /// [`Budget::Milliseconds`] and the report, in place of ONNX Runtime here.
    #[must_use]
    pub fn latency_command(mut self, clock: Metric) -> Self {
        self.options.latency_command = Some(clock);
        self
    }

    /// Applies a plan instead of selecting channels: no budget counts then.
    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.options.plan = Some(plan);
        self
    }

    /// Limits on the widths of groups.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.limits = limits;
        self
    }

    /// What may leave beyond what is exact and whole.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.options.opening.scope = scope;
        self
    }

    /// Nodes whose output channels may not change, by patterns such as `/layer4/**`.
    #[must_use]
    pub fn exclude<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.exclude = patterns.into_iter().map(Into::into).collect();
        self
    }

    /// Nodes whose output channels alone may change, by patterns.
    #[must_use]
    pub fn only<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.only = patterns.into_iter().map(Into::into).collect();
        self
    }

    /// What channels are judged by.
    #[must_use]
    pub fn estimator(mut self, estimator: Estimator) -> Self {
        self.options.estimator = estimator;
        self
    }

    /// Whether linear combinations of channels may stay where nothing but linear layers touches
    /// them; they may by default.
    #[must_use]
    pub fn combine(mut self, combine: bool) -> Self {
        self.options.combine = combine;
        self
    }

    /// How what was removed is rebuilt from what is kept.
    #[must_use]
    pub fn repair(mut self, repair: Repair) -> Self {
        self.options.repair = Some(repair);
        self
    }

    /// Bytes of samples and activations that a repair layer by layer keeps in memory; more go to a
    /// temporary file.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.options.memory = bytes;
        self
    }

    /// Bytes that the run may take: what asks for more is refused. By default half of the machine's
    /// memory.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.options.opening.allowance = Allowance { bytes };
        self
    }

    /// Where models run, and with which library of ONNX Runtime.
    #[must_use]
    pub fn runtime(mut self, runtime: RuntimeOptions) -> Self {
        self.options.opening.runtime = runtime;
        self
    }

    /// Whether the report says what other budgets are expected to lose; it does not by default.
    #[must_use]
    pub fn trade_off(mut self, trade_off: bool) -> Self {
        self.options.trade_off = trade_off;
        self
    }

    /// Writes the statistics of the calibration there, for [`Calibration::statistics`] of later
    /// runs.
    #[must_use]
    pub fn save_statistics(mut self, path: impl Into<PathBuf>) -> Self {
        self.statistics = Some(path.into());
        self
    }

    /// Prunes a model.
    ///
    /// # Errors
    /// An option is out of its range, the model or the data cannot be read or run, or the budget
    /// cannot be met.
    pub fn run(&self, model: &Model) -> Result<Pruned, Error> {
        self.run_with(model, &Silent)
    }

    /// As [`Prune::run`]; `observer` hears of the progress and of what the user should know.
    ///
    /// # Errors
    /// As [`Prune::run`].
    pub fn run_with(&self, model: &Model, observer: &dyn Observer) -> Result<Pruned, Error> {
        let options = self.checked()?;
        self.keeping(|keep| pipeline::prune(model.clone(), &options, keep, observer))
    }

    /// Prunes a model to each of the budgets, calibrating once. Budgets and plans of the run itself
    /// do not count, and unless it is asked for, the repair is that in one pass.
    ///
    /// # Errors
    /// As [`Prune::run`], for any budget; none is given or one is of quality, or nothing of the
    /// model may leave.
    pub fn sweep(&self, model: &Model, budgets: &[Budget]) -> Result<Vec<Pruned>, Error> {
        self.sweep_with(model, budgets, &Silent)
    }

    /// As [`Prune::sweep`]; `observer` hears of the progress and of what the user should know.
    ///
    /// # Errors
    /// As [`Prune::sweep`].
    pub fn sweep_with(
        &self,
        model: &Model,
        budgets: &[Budget],
        observer: &dyn Observer,
    ) -> Result<Vec<Pruned>, Error> {
        let quality = budgets.iter().find(|budget| budget.is_quality());
        if let Some(found) = quality.map(Budget::name) {
            return Err(Error::NotSwept { found });
        } else if budgets.is_empty() {
            return Err(Error::NotSwept { found: "none" });
        }
        budgets.iter().try_for_each(|&budget| in_reach(budget))?;
        let mut run = self.clone();
        run.options.budgets.clear();
        run.options.plan = None;
        run.options.repair.get_or_insert(Repair::Once);
        let options = run.checked()?;
        self.keeping(|keep| pipeline::sweep(model.clone(), budgets, &options, keep, observer))
    }

    /// Runs two models on all samples of the calibration: how close the outputs of `other` are to
    /// those of `original`, sizes and latency. Nothing is pruned: of what else is asked for, only
    /// where models run and the limit of memory count.
    ///
    /// # Errors
    /// An option is out of its range, a model or the data cannot be run, or the models differ in
    /// inputs or outputs.
    pub fn compare(&self, original: &Model, other: &Model) -> Result<Compared, Error> {
        self.compare_with(original, other, &Silent)
    }

    /// As [`Prune::compare`]; `observer` hears of the progress and of what the user should know.
    ///
    /// # Errors
    /// As [`Prune::compare`].
    pub fn compare_with(
        &self,
        original: &Model,
        other: &Model,
        observer: &dyn Observer,
    ) -> Result<Compared, Error> {
        let options = self.checked()?;
        pipeline::compare(original, other, &options.opening, observer)
    }

    /// Does what writes statistics aside, and puts them in their place.
    fn keeping<T>(
        &self,
        work: impl FnOnce(Option<&Target>) -> Result<(T, Option<Staged>), Error>,
    ) -> Result<T, Error> {
        let keep = self.statistics.as_deref();
        let keep = keep.map(|path| Target::new(path, STATISTICS)).transpose()?;
        let (done, staged) = work(keep.as_ref())?;
        let mut outputs = Outputs::default();
        staged.into_iter().for_each(|staged| outputs.add(staged));
        outputs.publish(crate::onnx::locations_in)?;
        Ok(done)
    }

    /// Describes the groups of a model, and what holds those that stay whole. Nothing is judged: no
    /// budget counts, and of the calibration no more than the sizes of its samples.
    ///
    /// # Errors
    /// An option is out of its range, or the model cannot be run.
    pub fn inspect(&self, model: &Model) -> Result<Inspection, Error> {
        let options = self.checked()?;
        pipeline::inspect(model.clone(), &options.opening, &Silent)
    }

    /// What is asked for, where it makes sense.
    fn checked(&self) -> Result<Options, Error> {
        let mut options = self.options.clone();
        for (place, &budget) in options.budgets.iter().enumerate() {
            in_reach(budget)?;
            let mut before = options.budgets.iter().take(place);
            if let Some(other) = before.find(|other| other.excludes(&budget)) {
                let (first, second) = (other.name(), budget.name());
                return Err(Error::Apart { first, second });
            }
            if matches!(budget, Budget::Drop(_)) && options.metric.is_none() {
                return Err(Error::NoMetric);
            }
        }
        within("align", options.limits.align, &ranges::WIDTHS)?;
        within("min_channels", options.limits.min_channels, &ranges::WIDTHS)?;
        let opening = &mut options.opening;
        check(&opening.calibration)?;
        if let Some(threads) = opening.runtime.threads {
            within("threads", threads, &ranges::THREADS)?;
        }
        opening.exclude = globs("exclude", &self.exclude)?;
        opening.only = globs("only", &self.only)?;
        Ok(options)
    }
}

fn within<T: PartialOrd + Display>(
    option: &'static str,
    found: T,
    range: &RangeInclusive<T>,
) -> Result<(), Error> {
    if range.contains(&found) {
        return Ok(());
    }
    Err(Error::Range {
        option,
        expected: format!("a whole number from {} to {}", range.start(), range.end()),
        found: found.to_string(),
    })
}

fn in_reach(budget: Budget) -> Result<(), Error> {
    let found = budget.value();
    let (is_in, expected) = match budget {
        Budget::Ratio(_) => (ranges::is_ratio(found), ranges::RATIO),
        Budget::Agreement(_) => (ranges::is_part(found), ranges::PART),
        Budget::Drop(_) => (ranges::is_drop(found), ranges::DROP),
        Budget::Bytes(_) => (ranges::is_bytes(found), ranges::BYTES),
        Budget::Milliseconds(_) => (ranges::is_time(found), ranges::TIME),
        _ => (ranges::is_share(found), ranges::SHARE),
    };
    if is_in {
        Ok(())
    } else {
        Err(Error::Range {
            option: budget.name(),
            expected: expected.to_owned(),
            found: found.to_string(),
        })
    }
}

fn check(calibration: &Calibration) -> Result<(), Error> {
    let (reader, image) = (&calibration.reader, &calibration.reader.image);
    if let Some(samples) = reader.samples {
        within("samples", samples, &ranges::SAMPLES)?;
    }
    if let Some(batch) = calibration.batch {
        within("batch", batch, &ranges::BATCHES)?;
    }
    for &length in reader.shapes.values().flatten() {
        within("shape", length, &ranges::LENGTHS)?;
    }
    for (option, pixels) in [("resize", image.resize), ("crop", image.crop)] {
        if let Some(pixels) = pixels {
            within(option, pixels, &ranges::PIXELS)?;
        }
    }
    Ok(())
}

fn globs(option: &'static str, patterns: &[String]) -> Result<Option<Globs>, Error> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let read = patterns.iter().map(|pattern| Glob::new(pattern));
    let globs = read.collect::<Result<Vec<_>, _>>();
    let globs = globs.and_then(|globs| Globs::new(&globs));
    globs.map(Some).map_err(|error| Error::Pattern {
        option,
        problem: error.to_string(),
    })
}
