//! What a model is worth: the bounds of quality that are asked for, and what a model uses of them.

use std::cell::OnceCell;

use crate::metric::{Metric, MetricError};
use crate::onnx::{self, Model};
use crate::outputs::Workspace;
use crate::pipeline::latency::Elsewhere;
use crate::pipeline::open::Subject;
use crate::pipeline::{Error, Options};
use crate::select::{Bound, Budget, REACH};
use crate::verify::{Check, Comparison, VerifyError, agreement};

/// Of a classifier whose outputs change by a small share d of their variance, about this times the
/// root of d is the share of the samples that it classifies otherwise (measured on two ImageNet
/// classifiers: docs/results/accuracy.md). It says only where a search begins.
const DISAGREEMENT: f64 = 0.45;
/// A metric of which nothing is known is first tried at this change of the outputs.
const FIRST_CHANGE: f64 = 0.02;

/// How many samples that are held back the budgets need, so that some may disagree.
pub(super) fn compared(budgets: &[Budget]) -> usize {
    let one = |budget: &Budget| match budget {
        Budget::Agreement(share) => agreement::needed(*share),
        _ => None,
    };
    let needed = budgets.iter().filter_map(one).max();
    needed.map_or(0, |needed| needed.saturating_mul(SPARE))
}

/// So many times the samples that a budget needs where all agree are compared, if there are as
/// many.
const SPARE: usize = 4;

/// What the user measures models with, and what it is of the original once that was measured.
pub(super) struct Gauge<'a> {
    metric: &'a Metric,
    /// The option that gives it.
    option: &'static str,
    subject: &'a Subject<'a>,
    original: OnceCell<f64>,
}

/// Those of a run.
pub(super) struct Gauges<'a> {
    /// What a model is worth.
    pub metric: Option<Gauge<'a>>,
    /// The milliseconds of a run, where they are not measured here.
    pub clock: Option<Elsewhere<'a>>,
}

impl<'a> Gauges<'a> {
    /// Measures the original: a command that fails is told of before the calibration, not after it.
    pub fn of(subject: &'a Subject<'_>, options: &'a Options) -> Result<Gauges<'a>, Error> {
        let gauge = |metric: Option<&'a Metric>, option| {
            let Some(metric) = metric else {
                return Ok(None);
            };
            metric.check(option)?;
            if metric.is_paired() && option != LATENCY {
                return Err(MetricError::Paired { option }.into());
            }
            Ok::<_, Error>(Some(Gauge {
                metric,
                option,
                subject,
                original: OnceCell::new(),
            }))
        };
        let gauges = Gauges {
            metric: gauge(options.metric.as_ref(), "metric")?,
            clock: gauge(options.latency_command.as_ref(), LATENCY)?.map(Elsewhere::of),
        };
        if let Some(metric) = &gauges.metric {
            metric.original()?;
        }
        if let Some(clock) = &gauges.clock {
            clock.original(&subject.original)?;
        }
        Ok(gauges)
    }
}

const LATENCY: &str = "latency_command";

impl Gauge<'_> {
    /// The original's, which is measured once.
    pub fn original(&self) -> Result<f64, Error> {
        if let Some(&known) = self.original.get() {
            return Ok(known);
        }
        let found = self.again()?;
        Ok(*self.original.get_or_init(|| found))
    }

    /// The original's, measured anew.
    pub fn again(&self) -> Result<f64, Error> {
        self.subject.observer.stage("measuring the original");
        self.number(&self.subject.original, "the original")
    }

    /// That of a smaller model.
    pub fn measure(&self, model: &Model) -> Result<f64, Error> {
        self.subject.observer.stage("measuring the smaller model");
        self.number(model, "the smaller model")
    }

    /// Whether one call measures both models.
    pub fn is_paired(&self) -> bool {
        self.metric.is_paired()
    }

    /// Those of the original and of another model.
    pub fn both(&self, model: &Model) -> Result<[f64; 2], Error> {
        self.subject.observer.stage("measuring both models");
        let folder = Workspace::new().map_err(Error::Workspace)?;
        let [first, second] = ["original.onnx", "model.onnx"].map(|name| folder.path().join(name));
        onnx::save(&self.subject.original, &first)?;
        onnx::save(model, &second)?;
        let stop = self.subject.runtime.stop();
        let paths = [first.as_path(), second.as_path()];
        let found = (self.metric).measure_both(paths, self.option, &|| stop.is_stopped())?;
        let [before, after] = found;
        let before = self.told(before, "the original")?;
        Ok([before, self.told(after, "the smaller model")?])
    }

    fn number(&self, model: &Model, of: &'static str) -> Result<f64, Error> {
        let folder = Workspace::new().map_err(Error::Workspace)?;
        let path = folder.path().join("model.onnx");
        onnx::save(model, &path)?;
        let stop = self.subject.runtime.stop();
        let found = (self.metric).measure(&path, (self.option, of), &|| stop.is_stopped())?;
        self.told(found, of)
    }

    /// A time is above 0.
    fn told(&self, found: f64, of: &'static str) -> Result<f64, Error> {
        if self.option != LATENCY || found > 0.0 {
            return Ok(found);
        }
        let (option, expected) = (self.option, "milliseconds above 0");
        let error = MetricError::NotFinite {
            option,
            expected,
            of,
            found,
        };
        Err(error.into())
    }
}

/// The bounds of quality that a run has to keep.
pub(super) struct Demands<'a> {
    subject: &'a Subject<'a>,
    budgets: Vec<Budget>,
    gauge: Option<&'a Gauge<'a>>,
}

/// What a model is worth.
pub(super) struct Worth {
    /// By the bounds: of an interval, the end that decides.
    pub measured: Vec<f64>,
    /// Of what the bounds allow, how much the one uses that allows the least: 1 is all of it.
    pub used: f64,
    /// How close it is to the original on the held-back samples, where a bound needs that and it
    /// can be told.
    pub comparison: Option<Comparison>,
    /// What the metric is, where a bound needs that.
    pub metric: Option<f64>,
}

impl<'a> Demands<'a> {
    /// Those of the budgets.
    pub fn of(
        subject: &'a Subject<'_>,
        budgets: &[Budget],
        gauge: Option<&'a Gauge<'_>>,
    ) -> Demands<'a> {
        let quality = budgets.iter().filter(|budget| budget.is_quality());
        Demands {
            subject,
            budgets: quality.copied().collect(),
            gauge,
        }
    }

    /// Whether nothing is demanded.
    pub fn is_empty(&self) -> bool {
        self.budgets.is_empty()
    }

    /// Whether any is a bound on the held-back samples.
    pub fn compares(&self) -> bool {
        let mut budgets = self.budgets.iter();
        budgets.any(|budget| !matches!(budget, Budget::Drop(_)))
    }

    /// Whether the held-back samples can tell how far a smaller model is from the original.
    pub fn can_compare(&self) -> bool {
        let samples = &self.subject.samples;
        samples.holds_back() && samples.compared().len() > 1
    }

    /// Refuses what the samples cannot show, whatever the model.
    ///
    /// # Errors
    /// There are too few of them, or none.
    pub fn check(&self) -> Result<(), Error> {
        let samples = &self.subject.samples;
        for budget in &self.budgets {
            let needed = match budget {
                Budget::Agreement(share) => agreement::needed(*share).unwrap_or(usize::MAX),
                Budget::Change(_) => 2,
                _ => continue,
            };
            let held = if samples.is_synthetic() || !self.can_compare() {
                0
            } else {
                samples.compared().len()
            };
            if held < needed {
                return Err(Error::FewSamples {
                    asked: budget.to_string(),
                    needed,
                    held,
                    all: samples.calibration_for(needed),
                });
            }
        }
        Ok(())
    }

    /// What a smaller model is worth.
    ///
    /// # Errors
    /// It cannot be run or measured.
    pub fn measure(&self, model: &Model) -> Result<Worth, Error> {
        let comparison = if self.compares() {
            self.compared(model)?
        } else {
            None
        };
        let mut worth = Worth {
            measured: Vec::new(),
            used: 0.0,
            comparison,
            metric: None,
        };
        for budget in &self.budgets {
            let (measured, used) = self.one(*budget, model, &mut worth)?;
            worth.measured.push(measured);
            // What is no number keeps nothing.
            worth.used = if used <= worth.used { worth.used } else { used };
        }
        Ok(worth)
    }

    fn one(&self, budget: Budget, model: &Model, worth: &mut Worth) -> Result<(f64, f64), Error> {
        Ok(match budget {
            Budget::Agreement(share) => {
                let least = match worth.comparison {
                    Some(found) => found.top1_agreement_low.ok_or(Error::NoScores)?,
                    None => 0.0,
                };
                (least, (1.0 - least) / (1.0 - share))
            }
            Budget::Drop(bound) => {
                let gauge = self.gauge.ok_or(Error::NoMetric)?;
                let original = gauge.original()?;
                let found = gauge.measure(model)?;
                worth.metric = Some(found);
                let drop = gauge.metric.drop(original, found);
                let used = if drop <= 0.0 { 0.0 } else { drop / bound };
                (found, used)
            }
            budget => {
                let found = worth.comparison.and_then(|found| found.divergence);
                let high = found.map_or(f64::INFINITY, |found| found.high);
                (high, high / budget.value())
            }
        })
    }

    /// How close a smaller model is to the original on the held-back samples; `None` where that
    /// cannot be told.
    fn compared(&self, model: &Model) -> Result<Option<Comparison>, Error> {
        let subject = self.subject;
        let mut check = Check::open(&subject.model, &[model], &subject.runtime)?;
        let held_back = subject.samples.batches(subject.samples.compared())?;
        match check.compare(held_back) {
            Err(VerifyError::NotFinite { .. }) => Ok(None),
            found => Ok(found?.pop()),
        }
    }

    /// What a model is expected to use of what is allowed, up to a factor, where the losses of its
    /// groups sum up to this.
    pub fn expected(&self, loss: f64) -> f64 {
        let one = |budget: &Budget| match *budget {
            Budget::Agreement(share) => {
                let held = self.subject.samples.compared().len();
                let unsure = 1.0 - agreement::least(held, held);
                (unsure + DISAGREEMENT * loss.max(0.0).sqrt()) / (1.0 - share)
            }
            Budget::Drop(_) => loss / FIRST_CHANGE,
            budget => loss / budget.value(),
        };
        self.budgets.iter().map(one).fold(0.0, f64::max)
    }

    /// The losses beyond which no model can keep the bounds.
    pub fn reach(&self) -> f64 {
        let one = |budget: &Budget| match *budget {
            Budget::Agreement(share) => REACH * ((1.0 - share) / DISAGREEMENT).powi(2),
            Budget::Drop(_) => f64::INFINITY,
            budget => REACH * budget.value(),
        };
        self.budgets.iter().map(one).fold(f64::INFINITY, f64::min)
    }

    /// The bounds, as the report has them.
    ///
    /// # Errors
    /// The original cannot be measured.
    pub fn bounds(&self) -> Result<Vec<Bound>, Error> {
        let bound = |budget: &Budget| {
            let original = match (budget, self.gauge) {
                (Budget::Drop(_), Some(gauge)) => Some(gauge.original()?),
                _ => None,
            };
            Ok(Bound {
                of: budget.name(),
                bound: budget.value(),
                original,
            })
        };
        self.budgets.iter().map(bound).collect()
    }
}
