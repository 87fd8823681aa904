//! The course of a tuning: which samples, how large a step, how often.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::data::Batch;
use crate::onnx::Tensor;
use crate::runtime::Session;
use crate::tune::adam::{self, Learner};
use crate::tune::network::Network;
use crate::tune::samples::Units;
use crate::tune::targets::{self, Target};
use crate::tune::{Progress, TuneError, TuneRequest};

/// No more steps are taken.
const MOST_STEPS: usize = 2000;
/// Samples behind a step, at least.
const SAMPLES_PER_STEP: usize = 16;
/// The largest step as a part of a tensor's root mean square: the first of these that does no harm
/// at the beginning.
const RATES: [f32; 3] = [1e-2, 3e-3, 1e-3];
/// Steps after which that is seen, on so many batches, and by what factor the error may have grown.
const FIRST_STEPS: usize = 20;
const BATCHES_SEEN: usize = 4;
const MOST_GROWTH: f32 = 1.3;
/// Steps until the largest.
const WARM_UP: usize = 10;

/// Both models with the samples.
pub(super) struct Course {
    targets: Vec<Target>,
    /// Makes the targets.
    dense: Session,
    units: Units,
    per_run: usize,
    per_step: usize,
    passes: usize,
    /// Units that are still to be seen in this pass.
    left: Vec<usize>,
    rng: ChaCha8Rng,
}

impl Course {
    pub fn open(
        request: &TuneRequest<'_>,
        targets: Vec<Target>,
        units: Units,
        per_run: usize,
    ) -> Result<Self, TuneError> {
        let model = targets::making(request.model, &targets);
        let runs = units.len() / per_run;
        let of_step = SAMPLES_PER_STEP.div_ceil(per_run * request.unit.max(1));
        Ok(Course {
            targets,
            dense: request.runtime.session(&model)?,
            units,
            per_run,
            per_step: of_step.clamp(1, runs.max(1)),
            passes: request.passes,
            left: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(request.seed),
        })
    }

    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Looks at the variance of the targets.
    pub fn look(&mut self) -> Result<(), TuneError> {
        let names: Vec<String> = self.targets.iter().map(Target::made).collect();
        for run in 0..BATCHES_SEEN {
            let batch = self.seen(run)?;
            let made = self.dense.run(&batch, &names)?;
            for (target, made) in self.targets.iter_mut().zip(&made) {
                target.add(made);
            }
        }
        Ok(())
    }

    /// A batch of samples from all over the data, which are not mixed: the same each time.
    fn seen(&mut self, run: usize) -> Result<Batch, TuneError> {
        let (all, wanted) = (self.units.len(), BATCHES_SEEN * self.per_run);
        let first = run * self.per_run;
        let places = (first..first + self.per_run).map(|place| place * all / wanted);
        Ok(self.units.batch(&places.collect::<Vec<_>>(), None)?)
    }

    /// Takes all steps; `None` where no rate keeps the error a number.
    pub fn follow(
        &mut self,
        mut network: Network,
        progress: &dyn Fn(Progress),
    ) -> Result<Option<Network>, TuneError> {
        let runs = self.passes * (self.units.len() / self.per_run);
        let steps = (runs / self.per_step).clamp(1, MOST_STEPS);
        let first = FIRST_STEPS.min(steps);
        progress(Progress::Steps(steps));
        let start = network.learners.clone();
        let most = self.error(&mut network)? * MOST_GROWTH;
        for rate in RATES {
            network.learners.clone_from(&start);
            let took = self.steps(&mut network, rate, (0..first, steps), &|| ())?;
            let error = self.error(&mut network)?;
            let is_last = RATES.last() == Some(&rate);
            if took && (error <= most || is_last && error.is_finite()) {
                (0..first).for_each(|_| progress(Progress::Done));
                let done = || progress(Progress::Done);
                let took = self.steps(&mut network, rate, (first..steps, steps), &done)?;
                return Ok(took.then_some(network));
            }
        }
        Ok(None)
    }

    /// Takes some of all `steps`; whether all gradients were numbers.
    fn steps(
        &mut self,
        network: &mut Network,
        rate: f32,
        (range, steps): (std::ops::Range<usize>, usize),
        done: &dyn Fn(),
    ) -> Result<bool, TuneError> {
        for step in range {
            let empty = |learner: &Learner| vec![0.0; learner.values.len()];
            let mut sums: Vec<Vec<f32>> = network.learners.iter().map(empty).collect();
            for _ in 0..self.per_step {
                let batch = self.next()?;
                let found = self.run(network, batch)?;
                let gradients = found.get(1..).unwrap_or_default();
                if !adam::add(&mut sums, gradients) {
                    return Ok(false);
                }
            }
            let number = i32::try_from(step + 1).unwrap_or(i32::MAX);
            let rate = rate * part(step, steps);
            adam::step(&mut network.learners, &sums, rate, number);
            done();
        }
        Ok(true)
    }

    /// The next samples, of which some are mixed; all have their turn before one comes again.
    fn next(&mut self) -> Result<Batch, TuneError> {
        if self.left.len() < self.per_run {
            self.left = self.units.shuffled(&mut self.rng);
        }
        let wanted = self.left.split_off(self.left.len() - self.per_run);
        Ok(self.units.batch(&wanted, Some(&mut self.rng))?)
    }

    /// The error on some samples, the same each time.
    fn error(&mut self, network: &mut Network) -> Result<f32, TuneError> {
        let mut sum = 0.0;
        for run in 0..BATCHES_SEEN {
            let batch = self.seen(run)?;
            let found = self.run(network, batch)?;
            let error = found.first().map(Tensor::to_f32).transpose()?;
            sum += error.map_or(f32::NAN, |error| error.sum());
        }
        Ok(sum / BATCHES_SEEN as f32)
    }

    /// The error on a batch, then the gradients of what learns.
    fn run(&mut self, network: &mut Network, batch: Batch) -> Result<Vec<Tensor>, TuneError> {
        let targets = network
            .targets
            .iter()
            .filter_map(|&at| self.targets.get(at));
        let names: Vec<String> = targets.map(Target::made).collect();
        let made = self.dense.run_held(&batch, &names)?;
        let mut feeds = batch;
        feeds.extend(names.into_iter().zip(made));
        for learner in &network.learners {
            let tensor = Tensor::from_f32(&learner.shape, learner.values.clone())?;
            feeds.push((learner.name.clone(), tensor));
        }
        Ok(network.session.run_held(&feeds, &network.outputs)?)
    }
}

/// The part of the largest rate that a step has: it rises first, and falls to 0 as a cosine does
/// (Loshchilov and Hutter, arXiv 1608.03983, equation 5).
fn part(step: usize, steps: usize) -> f32 {
    let done = step as f32 / steps.max(1) as f32;
    let falling = 0.5 * (1.0 + (std::f32::consts::PI * done).cos());
    falling * ((step + 1) as f32 / WARM_UP as f32).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_rise_and_then_fall() {
        assert!((part(0, 1000) - 0.1).abs() < 1e-6);
        assert!((part(500, 1000) - 0.5).abs() < 1e-6);
        assert!(part(999, 1000) < 1e-5);
    }
}
