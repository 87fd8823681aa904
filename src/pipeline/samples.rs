//! Which samples the statistics see and which are held back for the comparison.

use crate::allowance::{Allowance, OverLimit};
use crate::data::{self, Dataset, ReaderOptions};
use crate::data::{Batch, DataError};
use crate::pipeline::calibration::Calibration;
use crate::report::Note;
use crate::runtime::InputSpec;

/// One sample in this many is held back.
const HOLD_BACK: usize = 8;
/// No more samples than this are compared, unless a budget needs them.
pub(super) const MOST_COMPARED: usize = 256;
/// Elements of all inputs in one batch, about.
const BATCH_ELEMENTS: usize = 1 << 20;
/// No more samples than this in one batch, unless asked for.
const MOST_BATCH: usize = 64;

/// The calibration data, divided.
pub(super) struct Samples {
    dataset: Dataset,
    /// Every sample in use once, in order: whole batches of a fixed size.
    all: Vec<usize>,
    seen: Vec<usize>,
    compared: Vec<usize>,
    /// Samples that must stay together: the model's fixed batch size, or 1.
    unit: usize,
    batch: usize,
    /// The batch that was asked for.
    asked: Option<usize>,
    /// How the samples are read, for their digest.
    reading: String,
    seed: u64,
    /// Whether the model leaves its batch open.
    is_open: bool,
    /// Samples of the probing run where it does.
    probed: usize,
    notes: Vec<Note>,
    is_synthetic: bool,
}

impl Samples {
    /// Opens the data for a model that runs batches of `found` samples only, or of those that its
    /// inputs state.
    pub fn open(
        specs: &[InputSpec],
        calibration: &Calibration,
        found: Option<usize>,
    ) -> Result<Self, DataError> {
        let is_synthetic = calibration.is_synthetic();
        let fixed = found.or_else(|| data::stated_batch(specs));
        let unit = fixed.unwrap_or(1).max(1);
        let dataset = if is_synthetic {
            made_up(specs, &calibration.reader, unit)?
        } else {
            data::open(&calibration.files, specs, &calibration.reader)?
        };
        // A model of a fixed batch size reads whole batches only.
        let count = dataset.len() / unit * unit;
        if count == 0 {
            return Err(DataError::Samples(format!(
                "expected at least {unit} samples, which the model runs at a time, found {}: give more",
                dataset.len()
            )));
        }
        let (seen, compared) = divide(count, unit, calibration.compared.max(MOST_COMPARED));
        let mut notes: Vec<Note> = dataset.notes().iter().map(Note::from).collect();
        if is_synthetic {
            notes.insert(0, warning(calibration));
        } else if count < dataset.len() {
            let all = dataset.len();
            let note = format!("uses {count} of {all} samples: the model runs {unit} at a time");
            notes.push(note.into());
        }
        let mut samples = Samples {
            dataset,
            all: (0..count).collect(),
            seen,
            compared,
            unit,
            batch: unit,
            asked: calibration.batch,
            reading: format!("{:?} {unit}", calibration.reader.image),
            seed: calibration.reader.seed,
            is_open: fixed.is_none(),
            probed: 2,
            notes,
            is_synthetic,
        };
        if samples.is_open {
            samples.batch = samples.asked.unwrap_or_else(|| samples.fitting_batch());
        }
        Ok(samples)
    }

    /// Has the probing run take so many samples, where the model leaves its batch open.
    pub fn probe_with(&mut self, samples: usize) {
        self.probed = samples;
    }

    /// Whether the model leaves its batch open.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Adds something that the user should know.
    pub fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// As many samples as keep the inputs of a batch small.
    fn fitting_batch(&self) -> usize {
        let elements = |spec: &InputSpec| {
            let sizes = spec.shape.iter().flatten();
            sizes.fold(1_usize, |n, &size| n.saturating_mul(size))
        };
        let one = self.dataset.specs(self.unit);
        let all = one.iter().map(elements).fold(0, usize::saturating_add);
        (BATCH_ELEMENTS / all.max(1)).clamp(1, MOST_BATCH)
    }

    /// Makes batches so small that what a run holds, of which the probing run's samples held so
    /// many `bytes`, stays within what is allowed beside the bytes that are `kept` all the time.
    /// Half of that is left to the rest.
    ///
    /// # Errors
    /// The batch is asked for, and too large.
    pub fn fit(&mut self, bytes: u64, kept: u64, allowance: Allowance) -> Result<(), OverLimit> {
        let one = bytes / (self.first_size().min(self.all.len()).max(1) as u64);
        if !self.is_open {
            return Ok(());
        }
        if let Some(batch) = self.asked {
            let what = || format!("a run of the model with batches of {batch} samples");
            let asked = one.saturating_mul(batch as u64);
            return allowance.bytes(asked, what, "lower `batch`");
        }
        let most = allowance.bytes.saturating_sub(kept) / 2 / one.max(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        self.batch = self.batch.min(most);
        Ok(())
    }

    /// Makes every batch of the statistics one of that many samples, where the model leaves that
    /// open.
    pub fn keep_together(&mut self, samples: usize) {
        let whole = self.seen.len() / samples.max(1) * samples.max(1);
        if self.is_open && whole > 0 {
            self.batch = samples;
            self.seen.truncate(whole);
        }
    }

    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    pub fn is_synthetic(&self) -> bool {
        self.is_synthetic
    }

    /// Samples for the statistics.
    pub fn seen(&self) -> &[usize] {
        &self.seen
    }

    /// The seed of everything random.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Tells these samples, read and divided like this, from others.
    pub fn digest(&self) -> Result<String, DataError> {
        self.dataset.digest(&self.reading)
    }

    /// Samples for the comparison.
    pub fn compared(&self) -> &[usize] {
        &self.compared
    }

    /// Samples of which so many are held back.
    pub fn calibration_for(&self, held: usize) -> usize {
        held.saturating_mul(HOLD_BACK).max(HOLD_BACK * self.unit)
    }

    /// Every sample once, in order.
    pub fn all(&self) -> &[usize] {
        &self.all
    }

    /// Whether no statistics see the compared samples.
    pub fn holds_back(&self) -> bool {
        self.seen.first() != self.compared.first()
    }

    /// Samples that the model runs at least.
    pub fn unit(&self) -> usize {
        self.unit
    }

    /// The samples for the statistics, each unit of them alone.
    pub fn units(&self) -> Result<impl Iterator<Item = Result<Batch, DataError>> + '_, DataError> {
        self.dataset.batches(&self.seen, self.unit)
    }

    pub fn batches<'a>(
        &'a self,
        wanted: &'a [usize],
    ) -> Result<impl Iterator<Item = Result<Batch, DataError>> + 'a, DataError> {
        self.dataset.batches(wanted, self.batch)
    }

    /// The smallest batch that the model runs.
    pub fn one(&self) -> Result<Batch, DataError> {
        self.take(self.unit)
    }

    /// So many samples, spread over those of the comparison, for trials of single groups: on
    /// samples that the repair was fitted to, a trial would not see what it gets wrong elsewhere.
    pub fn trials(&self, count: usize) -> Result<Vec<Batch>, DataError> {
        self.batches(&self.spread(&self.compared, count))?.collect()
    }

    /// Samples of the statistics, spread over all of them, to choose between repairs that were
    /// fitted to these.
    pub fn fitted(&self) -> Vec<usize> {
        self.spread(&self.seen, MOST_COMPARED.min(self.seen.len()))
    }

    /// So many of some samples, spread over them, of which some stay together.
    fn spread(&self, of: &[usize], count: usize) -> Vec<usize> {
        let units = of.len() / self.unit;
        let wanted = (count / self.unit).clamp(1, units.max(1));
        let picked = (0..wanted).map(|index| index * units / wanted);
        let places = picked.flat_map(|unit| unit * self.unit..(unit + 1) * self.unit);
        places.filter_map(|place| of.get(place).copied()).collect()
    }

    /// A batch for the probing run: some samples where the model leaves its batch open, so that the
    /// batch is not mistaken for an axis of length one, even if single samples fill a batch.
    pub fn first_batch(&self) -> Result<Batch, DataError> {
        self.take(self.first_size())
    }

    /// The inputs as that batch has them.
    pub fn first_specs(&self) -> Vec<InputSpec> {
        self.dataset.specs(self.first_size().min(self.all.len()))
    }

    /// Samples of the probing run.
    pub fn first_size(&self) -> usize {
        if self.is_open { self.probed } else { self.unit }
    }

    fn take(&self, samples: usize) -> Result<Batch, DataError> {
        let all = self.seen.len().max(self.compared.len());
        let wanted: Vec<usize> = (0..samples.min(all)).collect();
        let size = wanted.len().max(1);
        let first = self.dataset.batches(&wanted, size)?.next();
        first.unwrap_or_else(|| Err(DataError::Samples("the data hold no sample".to_owned())))
    }
}

/// Samples that are made up, of which there are enough for a batch.
fn made_up(
    specs: &[InputSpec],
    options: &ReaderOptions,
    unit: usize,
) -> Result<Dataset, DataError> {
    let mut options = options.clone();
    options.samples = options.samples.map(|samples| samples.max(unit));
    let made = data::synthetic(specs, &options)?;
    if made.len() >= unit {
        return Ok(made);
    }
    options.samples = Some(unit);
    data::synthetic(specs, &options)
}

/// That inputs are made up.
fn warning(calibration: &Calibration) -> Note {
    let is_told = !calibration.judges_by_synthetic();
    let text = if is_told {
        "WARNING: no calibration data given: only the statistics are of real data, trials run on made-up inputs, \
         and nothing is known about the quality of the result. Give `calibration` with the data of one of the files \
         of `statistics`"
    } else {
        "WARNING: no calibration data given: inputs are made up, and nothing is known about the quality of the \
         result. Give `calibration` with a few hundred real samples"
    };
    text.into()
}

/// Every eighth batch of `unit` samples is held back, as long as enough are left to see; of these
/// at most so many samples are compared, from all of the data.
fn divide(count: usize, unit: usize, compared: usize) -> (Vec<usize>, Vec<usize>) {
    let units = count / unit;
    let is_held = |index: &usize| index % HOLD_BACK == HOLD_BACK - 1;
    let spread = |picked: Vec<usize>| -> Vec<usize> {
        picked
            .into_iter()
            .flat_map(|index| index * unit..(index + 1) * unit)
            .collect()
    };
    let (held, seen): (Vec<usize>, Vec<usize>) = (0..units).partition(is_held);
    if held.is_empty() {
        return (spread(seen.clone()), spread(seen));
    }
    let most = (compared / unit).clamp(1, held.len());
    let picked = (0..most).filter_map(|index| held.get(index * held.len() / most));
    let picked = picked.copied().collect();
    (spread(seen), spread(picked))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::onnx::DataType;

    /// Samples of the probing run of a model with one input of that shape.
    fn probed(shape: &[Option<usize>], batch: Option<usize>, samples: usize) -> usize {
        opened(shape, batch, samples).first_batch().unwrap()[0]
            .1
            .shape[0]
    }

    /// Noise for a model with one input of that shape.
    fn opened(shape: &[Option<usize>], batch: Option<usize>, samples: usize) -> Samples {
        let (spec, calibration) = asked(shape, batch, samples);
        Samples::open(&[spec], &calibration, None).unwrap()
    }

    fn asked(
        shape: &[Option<usize>],
        batch: Option<usize>,
        samples: usize,
    ) -> (InputSpec, Calibration) {
        let spec = InputSpec {
            name: "x".to_owned(),
            dtype: DataType::Float,
            shape: shape.to_vec(),
        };
        let mut calibration = Calibration::default().samples(samples);
        calibration.batch = batch;
        (spec, calibration)
    }

    #[test]
    fn an_open_batch_is_probed_with_two_samples() {
        let small = [None, Some(1), Some(4), Some(4)];
        assert_eq!(probed(&small, None, 8), 2);
        assert_eq!(probed(&small, Some(1), 8), 2);
        // A sample so large that each runs alone.
        let large = [None, Some(1 << 22)];
        assert_eq!(probed(&large, None, 8), 2);
        // There is only one.
        assert_eq!(probed(&small, None, 1), 1);
    }

    #[test]
    fn a_fixed_batch_is_probed_as_it_is() {
        assert_eq!(probed(&[Some(1), Some(4)], None, 8), 1);
        assert_eq!(probed(&[Some(4), Some(4)], None, 8), 4);
    }

    #[test]
    fn there_is_always_a_made_up_batch() {
        assert_eq!(probed(&[Some(200), Some(4)], None, 2), 200);
        let (spec, _) = asked(&[Some(200), Some(4)], None, 2);
        let samples = Samples::open(&[spec], &Calibration::default(), None).unwrap();
        assert_eq!(samples.all().len(), 200);
    }

    #[test]
    fn one_in_eight_is_held_back() {
        let (seen, compared) = divide(16, 1, 256);
        assert_eq!(compared, [7, 15]);
        assert_eq!(seen.len(), 14);
        assert!(compared.iter().all(|index| !seen.contains(index)));
    }

    /// Trials see what the repair does not.
    #[test]
    fn trials_run_on_samples_held_back() {
        let values = |batches: Vec<Batch>| -> Vec<f32> {
            let tensors = batches.iter().map(|batch| &batch[0].1);
            let values = tensors.flat_map(|tensor| tensor.to_f32().unwrap().into_iter());
            values.collect()
        };
        let samples = opened(&[None, Some(3)], None, 32);
        let read = |wanted: &[usize]| {
            let batches = samples.batches(wanted).unwrap();
            values(batches.collect::<Result<_, _>>().unwrap())
        };
        assert_eq!(samples.compared(), [7, 15, 23, 31]);
        assert_eq!(values(samples.trials(2).unwrap()), read(&[7, 23]));
        assert_eq!(
            values(samples.trials(16).unwrap()),
            read(samples.compared())
        );
    }

    #[test]
    fn whole_batches_stay_together() {
        let (seen, compared) = divide(32, 4, 256);
        assert_eq!(compared, [28, 29, 30, 31]);
        assert_eq!(seen.len(), 28);
    }

    #[test]
    fn few_samples_are_seen_and_compared() {
        assert_eq!(divide(3, 1, 256), (vec![0, 1, 2], vec![0, 1, 2]));
        // Of many that are held back those are compared that lie all over the data.
        assert_eq!(divide(4800, 1, 3).1, [7, 1607, 3207]);
        assert_eq!(divide(4800, 1, 600).1.len(), 600);
    }
}
