//! Checks on the pruned model before it appears: it loads, runs, keeps its signature, gives finite
//! numbers, and how far it is from the original.

pub(crate) mod agreement;
mod divergence;
mod error;
mod timing;

use std::time::Instant;

use serde::Serialize;

pub use divergence::Divergence;
use divergence::Moves;
pub use timing::Timing;

use crate::data::{Batch, DataError, Padding};
use crate::onnx::{DataType, Model, Tensor, TensorError};
use crate::runtime::{InputSpec, Runtime, RuntimeError, Session};

/// Why a pruned model is refused.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Another signature.
    #[error(
        "the pruned model has other {what} than the original: expected {expected}, found {found}"
    )]
    Signature {
        /// Inputs or outputs.
        what: &'static str,
        /// The original's.
        expected: String,
        /// The pruned model's.
        found: String,
    },
    /// Values that are not numbers where the original has numbers.
    #[error(
        "the pruned model gives values that are not finite at output '{output}'; ask for a smaller \
         reduction or give more calibration data"
    )]
    NotFinite {
        /// The output.
        output: String,
    },
    /// The output cannot be compared.
    #[error("output '{output}': {error}")]
    Tensor {
        /// The output.
        output: String,
        /// What is wrong with it.
        error: TensorError,
    },
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// One of the models cannot be run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// A figure of the original and of the pruned model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Change<T> {
    /// The original's.
    pub before: T,
    /// The pruned model's.
    pub after: T,
}

/// How close the outputs of the second model are to those of the first on the same samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Comparison {
    /// Samples compared.
    pub samples: usize,
    /// Mean over samples and outputs of the cosine of the angle between both outputs.
    pub cosine: f64,
    /// Norm of the difference over the norm of the first model's outputs, over everything.
    #[cfg_attr(test, schemars(range(min = 0)))]
    pub relative_error: f64,
    /// Share of the samples with the same largest score; `None` for models without an output of
    /// scores per class.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub top1_agreement: Option<f64>,
    /// What that share is at least, with a confidence of 90 %; `None` where it is.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub top1_agreement_low: Option<f64>,
    /// The change: the squared difference over the variance across samples, of the output that
    /// moved the furthest; `None` with fewer than two samples.
    pub divergence: Option<Divergence>,
}

/// The original and pruned models, open.
pub struct Check {
    before: Session,
    after: Vec<Session>,
}

impl Check {
    /// Opens the models.
    ///
    /// # Errors
    /// One of them cannot be run.
    pub fn open(
        original: &Model,
        pruned: &[&Model],
        runtime: &Runtime,
    ) -> Result<Self, RuntimeError> {
        let after = pruned.iter().map(|model| runtime.session(model));
        Ok(Check {
            before: runtime.session(original)?,
            after: after.collect::<Result<_, _>>()?,
        })
    }

    /// Runs all models on the batches and compares each pruned one with the original.
    ///
    /// # Errors
    /// A pruned model differs in its signature, fails, or gives values that are not finite.
    pub fn compare(
        &mut self,
        batches: impl Iterator<Item = Result<Batch, DataError>>,
    ) -> Result<Vec<Comparison>, VerifyError> {
        let names = self.before.outputs();
        for after in &self.after {
            same_signature(&self.before, after)?;
        }
        let mut all: Vec<ComparisonSums> = self
            .after
            .iter()
            .map(|_| ComparisonSums::default())
            .collect();
        for batch in batches {
            let batch = batch?;
            let samples = batch
                .first()
                .and_then(|(_, t)| t.shape.first().copied())
                .unwrap_or(1);
            let padding = Padding::of(&batch);
            let expected = self.before.run(&batch, &names)?;
            for (after, sums) in self.after.iter_mut().zip(&mut all) {
                let found = after.run(&batch, &names)?;
                add(
                    sums,
                    &names,
                    (&expected, &found),
                    (samples, padding.as_ref()),
                )?;
            }
        }
        Ok(all.into_iter().map(ComparisonSums::finish).collect())
    }

    /// Milliseconds of one run on the batch, of the original and of each pruned model, measured in
    /// turns.
    ///
    /// # Errors
    /// One of the models cannot be run.
    pub fn latency(&mut self, batch: &Batch, runs: Runs) -> Result<Vec<Timing>, RuntimeError> {
        let sessions = std::iter::once(&mut self.before).chain(&mut self.after);
        let mut timed: Vec<(&mut Session, Vec<f64>)> = sessions.map(|s| (s, Vec::new())).collect();
        let begin = Instant::now();
        for run in 0..=runs.most {
            for (session, times) in &mut timed {
                let outputs = session.outputs();
                let start = Instant::now();
                session.run(batch, &outputs)?;
                // The first run allocates and is not counted, unless it is all there is.
                if run > 0 {
                    times.push(start.elapsed().as_secs_f64() * 1000.0);
                }
            }
            if run >= runs.least && begin.elapsed().as_secs_f64() > runs.seconds {
                break;
            }
        }
        let mut all = timed.into_iter().map(|(_, times)| times);
        let before = all.next().unwrap_or_default();
        Ok(all.map(|after| Timing::of(&before, &after)).collect())
    }
}

/// Adds one batch's outputs. What stands at padding of the samples does not count.
fn add(
    sums: &mut ComparisonSums,
    names: &[String],
    (expected, found): (&[Tensor], &[Tensor]),
    (samples, padding): (usize, Option<&Padding>),
) -> Result<(), VerifyError> {
    sums.moves.resize_with(names.len(), Moves::default);
    let outputs = names.iter().zip(expected).zip(found);
    for (place, ((name, expected), found)) in outputs.enumerate() {
        let failed = |error| VerifyError::Tensor {
            output: name.clone(),
            error,
        };
        if (expected.dtype, &expected.shape) != (found.dtype, &found.shape) {
            return Err(VerifyError::Signature {
                what: "types or shapes of output tensors",
                expected: format!("{} {:?} for '{name}'", expected.dtype, expected.shape),
                found: format!("{} {:?}", found.dtype, found.shape),
            });
        }
        if is_decision(expected) {
            sums.count(place, expected, found, samples);
            continue;
        }
        if !is_number(expected) {
            continue;
        }
        let mut left = floats(expected).map_err(failed)?;
        let right = floats(found).map_err(failed)?;
        if let Some(padding) = padding {
            padding.fill(&mut left, &expected.shape, f64::NAN);
        }
        let mut pairs = left.iter().zip(&right);
        if !pairs.all(|(l, r)| r.is_finite() || !l.is_finite()) {
            return Err(VerifyError::NotFinite {
                output: name.clone(),
            });
        }
        sums.add(place, (&left, &right), samples, expected.shape.len() == 2);
    }
    sums.samples += samples;
    Ok(())
}

/// Whether differences of the elements tell how close they are: floats, and what quantized models
/// give.
fn is_number(tensor: &Tensor) -> bool {
    use DataType::{Int8, Int16, Uint8, Uint16};
    let is_quantized = [Int8, Int16, Uint8, Uint16].contains(&tensor.dtype);
    is_quantized || crate::ops::constant::is_weight(tensor.dtype)
}

/// Whether the elements are the same or not, and nothing between: classes, tokens, truth values.
fn is_decision(tensor: &Tensor) -> bool {
    [DataType::Int32, DataType::Int64, DataType::Bool].contains(&tensor.dtype)
}

fn floats(tensor: &Tensor) -> Result<Vec<f64>, TensorError> {
    Ok(tensor.to_f64()?.iter().copied().collect())
}

#[derive(Default)]
struct ComparisonSums {
    samples: usize,
    cosines: f64,
    compared: usize,
    difference: f64,
    norm: f64,
    classified: usize,
    agreed: usize,
    /// Of every output.
    moves: Vec<Moves>,
}

impl ComparisonSums {
    fn add(
        &mut self,
        place: usize,
        (left, right): (&[f64], &[f64]),
        samples: usize,
        is_scores: bool,
    ) {
        let size = (left.len() / samples.max(1)).max(1);
        for (left, right) in left.chunks(size).zip(right.chunks(size)) {
            if let Some(moves) = self.moves.get_mut(place) {
                moves.add(left, right);
            }
            let pairs = left.iter().zip(right).filter(|(left, _)| left.is_finite());
            let (mut ll, mut rr, mut lr) = (0.0, 0.0, 0.0);
            for (left, right) in pairs {
                ll += left * left;
                rr += right * right;
                lr += left * right;
            }
            let same = ll == 0.0 && rr == 0.0;
            self.cosines += if same {
                1.0
            } else {
                lr / (ll * rr).sqrt().max(f64::MIN_POSITIVE)
            };
            self.compared += 1;
            self.difference += (ll + rr - 2.0 * lr).max(0.0);
            self.norm += ll;
            if is_scores && size > 1 {
                self.classified += 1;
                self.agreed += usize::from(largest(left) == largest(right));
            }
        }
    }

    /// Adds an output of decisions.
    fn count(&mut self, place: usize, left: &Tensor, right: &Tensor, samples: usize) {
        let size = left.bytes.len() / left.len().max(1);
        let one = left.bytes.len() / samples.max(1);
        let Some(moves) = self.moves.get_mut(place).filter(|_| size > 0 && one > 0) else {
            return;
        };
        for (left, right) in left.bytes.chunks(one).zip(right.bytes.chunks(one)) {
            let pairs = left.chunks(size).zip(right.chunks(size));
            moves.add_decisions(pairs.filter(|(l, r)| l != r).count(), one / size);
        }
    }

    fn finish(self) -> Comparison {
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let divergences = self.moves.iter().filter_map(Moves::divergence);
        let agreement =
            (self.classified > 0).then(|| share(self.agreed as f64, self.classified as f64));
        // Outputs of one sample are not independent.
        let low = |agreement: f64| {
            let agreed = (agreement * self.samples as f64 + 1e-9).floor();
            agreement::least(agreed as usize, self.samples)
        };
        Comparison {
            samples: self.samples,
            cosine: share(self.cosines, self.compared as f64),
            relative_error: share(self.difference, self.norm).sqrt(),
            top1_agreement: agreement,
            top1_agreement_low: agreement.map(low),
            divergence: divergences.max_by(|a, b| a.high.total_cmp(&b.high)),
        }
    }
}

fn largest(values: &[f64]) -> Option<usize> {
    (0..values.len()).reduce(|best, i| if values[i] > values[best] { i } else { best })
}

fn same_signature(before: &Session, after: &Session) -> Result<(), VerifyError> {
    let inputs = |session: &Session| -> Vec<String> {
        let text = |spec: &InputSpec| format!("{} {} {:?}", spec.name, spec.dtype, spec.shape);
        session.inputs().iter().map(text).collect()
    };
    let check = |what, expected: Vec<String>, found: Vec<String>| {
        if expected == found {
            return Ok(());
        }
        Err(VerifyError::Signature {
            what,
            expected: expected.join(", "),
            found: found.join(", "),
        })
    };
    check("inputs", inputs(before), inputs(after))?;
    // A cut puts numbers where the original computed them, so more lengths may be known.
    if after.has_outputs_of(before) {
        Ok(())
    } else {
        check("outputs", before.output_types(), after.output_types())
    }
}

/// How often each model runs to be timed: as often as the seconds allow, within limits.
#[derive(Debug, Clone, Copy)]
pub struct Runs {
    most: usize,
    least: usize,
    seconds: f64,
}

impl Runs {
    /// For a first idea of the latency.
    pub const FEW: Runs = Runs {
        most: 40,
        least: 5,
        seconds: 0.5,
    };
    /// Where latency is what was asked for.
    pub const MANY: Runs = Runs {
        most: 401,
        least: 1,
        seconds: 4.0,
    };
}

/// A number from 0 on, in the schemas of figures that are no less.
#[cfg(test)]
#[derive(schemars::JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "the schema is of its type alone")]
pub(crate) struct Measure(#[schemars(range(min = 0))] f64);
