//! Reads calibration data one batch at a time; memory does not grow with the number of samples.

mod array;
mod convert;
mod error;
mod find;
mod images;
mod padding;
mod picture;
mod recipe;
mod source;

use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::allowance::{Allowance, spanned};
use crate::onnx::Tensor;
use crate::ops::inputs::Values;
use crate::runtime::InputSpec;

pub use error::DataError;
pub(crate) use find::is_data;
pub(crate) use padding::{Padding, is_mask};
use source::{Opened, Source};

/// Number of samples made up when none is asked for.
const SYNTHETIC_SAMPLES: usize = 256;
/// Bytes that an element of a sample takes while it is made or converted.
const PER_ELEMENT: usize = 16;
/// Bytes that a sample takes in lists of samples.
const PER_SAMPLE: usize = 24;
/// Axes of ONNX's `initial_h`.
const STATE_AXES: usize = 3;

/// What to read and how.
#[derive(Debug, Clone, Default)]
pub struct ReaderOptions {
    /// The most samples to use, taken evenly over the data; `None`: all (256 synthetic ones).
    pub samples: Option<usize>,
    /// Preprocessing of image files.
    pub image: ImageOptions,
    /// Full shapes of inputs by name (--shape), which fix the sizes that the model leaves open. The
    /// first size, the batch, is not used.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Seed of synthetic data.
    pub seed: u64,
    /// What the model tells of its inputs' values, by name, which synthetic data follow.
    pub told: BTreeMap<String, Values>,
    /// What samples and batches may take.
    pub allowance: Allowance,
}

/// Preprocessing of image files: a pixel becomes `(pixel * scale - mean) / std`. What is `None` is
/// chosen to fit the model, and said in [`Dataset::notes`].
#[derive(Debug, Clone, Default)]
pub struct ImageOptions {
    /// One value, or one per channel in the tensor's order.
    pub mean: Option<Vec<f32>>,
    /// One value, or one per channel in the tensor's order.
    pub std: Option<Vec<f32>>,
    /// Factor of the pixel's value 0 to 255.
    pub scale: Option<f32>,
    /// Pixels of the shorter side before the crop.
    pub resize: Option<u32>,
    /// Pixels of height and width, where the model leaves them open.
    pub crop: Option<u32>,
    /// Order of the axes.
    pub layout: Option<Layout>,
    /// Order of the colours.
    pub color: Option<Color>,
    /// What is done about a rotation that a file tells of.
    pub exif: Exif,
}

/// What is done about the rotation in an image's EXIF data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Exif {
    /// The pixels stay as they are stored, as PIL and torchvision leave them.
    #[default]
    Ignore,
    /// The image is turned upright, as OpenCV does.
    Apply,
}

/// Order of an image tensor's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Samples, channels, height, width.
    Nchw,
    /// Samples, height, width, channels.
    Nhwc,
}

/// Order of an image tensor's colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red, as OpenCV reads them.
    Bgr,
    /// One channel of brightness.
    Gray,
}

/// One tensor per model input, by name in the model's order; the first axis counts the samples. An
/// input without such an axis gets its value from the batch's first sample.
pub type Batch = Vec<(String, Tensor)>;

/// Calibration data, opened but not read.
#[derive(Debug)]
pub struct Dataset {
    inputs: Vec<InputSpec>,
    parts: Vec<Source>,
    /// Samples before each of them.
    starts: Vec<usize>,
    /// Shape of one sample of each input, without the batch axis.
    shapes: Vec<Vec<usize>>,
    /// Samples in all parts.
    total: usize,
    /// Samples in use.
    used: usize,
    notes: Vec<String>,
    allowance: Allowance,
}

/// Opens the data in `paths`, one after the other: .npy and .npz files, ONNX TensorProto .pb
/// files, images, and folders of these. Headers are read and checked against `inputs` here, values
/// when they are needed.
///
/// # Errors
/// When a path holds no data, an array does not fit its input, or an option does not fit.
pub fn open(
    paths: &[PathBuf],
    inputs: &[InputSpec],
    options: &ReaderOptions,
) -> Result<Dataset, DataError> {
    let inputs = fix_shapes(inputs, &options.shapes)?;
    let mut notes = Vec::new();
    let parts = find::parts(paths, &inputs, &options.image, &mut notes)?;
    let shapes = source::common_shapes(&parts, &inputs)?;
    Dataset::new(inputs, parts, shapes, options, notes)
}

/// Makes data up for `inputs`: photographs of things that hide each other, sentences, sounds,
/// noise of any strength for other numbers and small integers for other integers. The same seed
/// gives the same bytes.
///
/// # Errors
/// When --shape does not fit the inputs, or no samples are asked for.
pub fn synthetic(inputs: &[InputSpec], options: &ReaderOptions) -> Result<Dataset, DataError> {
    let inputs = fix_shapes(inputs, &options.shapes)?;
    let mut notes = Vec::new();
    let count = options.samples.unwrap_or(SYNTHETIC_SAMPLES);
    let part = Source::synthetic(&inputs, count, options, &mut notes);
    let shapes = source::common_shapes(std::slice::from_ref(&part), &inputs)?;
    Dataset::new(inputs, vec![part], shapes, options, notes)
}

/// The inputs with the open sizes that the user fixed.
fn fix_shapes(
    inputs: &[InputSpec],
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Vec<InputSpec>, DataError> {
    let bad = |problem: String| DataError::Option {
        option: "`shape`",
        problem,
    };
    let mut inputs = inputs.to_vec();
    for (name, shape) in shapes {
        let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
        let Some(input) = inputs.iter_mut().find(|input| input.name == *name) else {
            return Err(bad(format!(
                "the model has no input '{name}', only {names:?}"
            )));
        };
        let fits = input.shape.len() == shape.len()
            && input
                .shape
                .iter()
                .zip(shape)
                .skip(1)
                .all(|(a, b)| a.is_none_or(|a| a == *b));
        if !fits || shape.contains(&0) {
            let expected = crate::runtime::shape_text(&input.shape);
            return Err(bad(format!(
                "{shape:?} does not fit input '{name}' of shape {expected}"
            )));
        }
        for (size, fixed) in input.shape.iter_mut().zip(shape).skip(1) {
            *size = Some(*fixed);
        }
    }
    Ok(inputs)
}

/// Whether an input has no axis of samples: it has no axes at all, or the model fixes its first one
/// at another length than that of its first input, or where that leaves its own open and the input
/// has the axes of a recurrent layer's state: directions or layers, samples, units. One value
/// serves a whole batch.
fn is_whole(inputs: &[InputSpec], spec: &InputSpec) -> bool {
    let batch = inputs.iter().find_map(|input| input.shape.first().copied());
    match (spec.shape.first(), batch) {
        (None, _) => true,
        (Some(Some(own)), Some(Some(batch))) => *own != batch,
        (Some(Some(own)), Some(None)) => *own > 1 && spec.shape.len() == STATE_AXES,
        _ => false,
    }
}

/// The batch that the inputs state.
#[must_use]
pub fn stated_batch(inputs: &[InputSpec]) -> Option<usize> {
    let with_samples = inputs.iter().filter(|spec| !is_whole(inputs, spec));
    with_samples
        .filter_map(|spec| spec.shape.first().copied().flatten())
        .next()
}

/// The states of recurrent layers among the inputs, where the others leave the batch open: they
/// have one value for a whole batch, whose second axis may be that of its samples.
pub fn states(inputs: &[InputSpec]) -> impl Iterator<Item = &InputSpec> {
    let is_open = stated_batch(inputs).is_none();
    let all = inputs.iter().filter(move |_| is_open);
    all.filter(|spec| spec.shape.len() == STATE_AXES && is_whole(inputs, spec))
}

/// The shape of a batch of so many samples of an input whose samples have the `shape`.
fn batch_shape(
    inputs: &[InputSpec],
    spec: &InputSpec,
    shape: &[usize],
    samples: usize,
) -> impl Iterator<Item = usize> {
    let batch = (!is_whole(inputs, spec)).then_some(samples);
    batch.into_iter().chain(shape.iter().copied())
}

impl Dataset {
    fn new(
        inputs: Vec<InputSpec>,
        parts: Vec<Source>,
        shapes: Vec<Vec<usize>>,
        options: &ReaderOptions,
        mut notes: Vec<String>,
    ) -> Result<Dataset, DataError> {
        let mut starts = Vec::with_capacity(parts.len());
        let mut total = 0_usize;
        for part in &parts {
            starts.push(total);
            total = total.saturating_add(part.len());
        }
        let used = options.samples.unwrap_or(total).min(total);
        if used == 0 {
            let text = "there is no sample, or `samples` is 0; give at least one".into();
            return Err(DataError::Samples(text));
        }
        if used < total {
            notes.push(format!("uses {used} of {total} samples, taken evenly"));
        }
        let mut dataset = Dataset {
            inputs,
            parts,
            starts,
            shapes,
            total,
            used,
            notes,
            allowance: options.allowance,
        };
        dataset.check_sizes()?;
        dataset.check_images()?;
        Ok(dataset)
    }

    /// Refuses numbers of samples, and samples, that take more than is allowed.
    fn check_sizes(&self) -> Result<(), DataError> {
        const ADVICE: &str = "fix sizes with `shape`, or give data that the model was made for";
        for (spec, shape) in self.inputs.iter().zip(&self.shapes) {
            let what = || format!("a sample of input '{}', of shape {shape:?},", spec.name);
            let asked = spanned(shape, PER_ELEMENT);
            self.allowance.bytes(asked, what, ADVICE)?;
        }
        let names = || format!("a list of {} samples", self.used);
        let asked = spanned(&[self.used], PER_SAMPLE);
        self.allowance.bytes(asked, names, "use fewer: `samples`")?;
        Ok(())
    }

    /// Refuses images in use that are not whole, and says what is done about those that carry a
    /// rotation.
    fn check_images(&mut self) -> Result<(), DataError> {
        let mut images = Vec::new();
        let (total, used) = (self.total as u128, self.used as u128);
        let mut begin = 0;
        for part in &self.parts {
            let end = begin + part.len() as u128;
            // The first sample in use from `begin` on, as `place` takes them.
            let first = (begin * used).div_ceil(total.max(1));
            if first < used && first * total / used < end {
                images.extend(part.image_file());
            }
            begin = end;
        }
        let found = images.par_iter().map(|(path, _)| picture::is_turned(path));
        // The first one that is not whole, whichever is met first.
        let found: Vec<Result<bool, DataError>> = found.collect();
        let found: Vec<bool> = found.into_iter().collect::<Result<_, _>>()?;
        let turned = found.iter().filter(|turned| **turned).count();
        let Some((_, exif)) = images.first().filter(|_| turned > 0) else {
            return Ok(());
        };
        let all = images.len();
        let what = match exif {
            Exif::Ignore => {
                "is left out, as PIL and torchvision do; `exif` apply turns the images, as OpenCV does"
            }
            Exif::Apply => {
                "is applied, as OpenCV does; `exif` ignore leaves it out, as PIL and torchvision do"
            }
        };
        let note = format!("{turned} of {all} images carry an EXIF rotation, which {what}");
        self.notes.push(note);
        Ok(())
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Never: a data set has at least one sample.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Choices that were made for the user, to be said in the output.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The inputs as a batch of so many samples has them: no size is open.
    pub fn specs(&self, samples: usize) -> Vec<InputSpec> {
        let inputs = self.inputs.iter().zip(&self.shapes);
        inputs
            .map(|(spec, shape)| InputSpec {
                shape: batch_shape(&self.inputs, spec, shape, samples)
                    .map(Some)
                    .collect(),
                ..spec.clone()
            })
            .collect()
    }

    /// SHA-256 in hexadecimal digits of all bytes that the samples are made from, of `reading` (how
    /// they are read), and of which samples are in use.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn digest(&self, reading: &str) -> Result<String, DataError> {
        let mut hash = Sha256::new();
        for part in &self.parts {
            part.digest(&mut hash)?;
        }
        let Dataset {
            total,
            used,
            shapes,
            ..
        } = self;
        hash.update(format!("{total} {used} {shapes:?} {reading}"));
        Ok(crate::digest::hex(hash))
    }

    /// The samples of the `wanted` indexes (ascending, below [`Dataset::len`]) in batches of
    /// `batch` samples, the last one smaller. May be called again for another pass.
    ///
    /// # Errors
    /// When indexes or batch size are out of range; the iterator ends after its first error.
    pub fn batches<'a>(
        &'a self,
        wanted: &'a [usize],
        batch: usize,
    ) -> Result<impl Iterator<Item = Result<Batch, DataError>> + 'a, DataError> {
        let ascending = wanted.windows(2).all(|pair| pair.first() < pair.last());
        if batch == 0 || !ascending || wanted.last().is_some_and(|last| *last >= self.used) {
            return Err(DataError::Samples(format!(
                "expected a batch size from 1 on and ascending indexes below {}, found batch size \
                 {batch} and indexes up to {:?}",
                self.used,
                wanted.iter().max()
            )));
        }
        for spec in self.specs(batch.min(wanted.len())) {
            let shape: Vec<usize> = spec.shape.iter().flatten().copied().collect();
            let what = || format!("a batch of input '{}', of shape {shape:?},", spec.name);
            let asked = spanned(&shape, spec.dtype.size().unwrap_or(1));
            let advice = "run fewer samples at a time: `batch`";
            self.allowance.bytes(asked, what, advice)?;
        }
        let mut open = None;
        let mut failed = false;
        Ok(wanted.chunks(batch).map_while(move |indexes| {
            if failed {
                return None;
            }
            let result = self.batch(indexes, &mut open);
            failed = result.is_err();
            Some(result)
        }))
    }

    fn batch<'a>(
        &'a self,
        indexes: &[usize],
        open: &mut Option<(usize, Opened<'a>)>,
    ) -> Result<Batch, DataError> {
        let mut bytes: Vec<Vec<u8>> = vec![Vec::new(); self.inputs.len()];
        let mut add = |sample: Vec<Vec<u8>>| {
            for ((all, one), spec) in bytes.iter_mut().zip(sample).zip(&self.inputs) {
                if all.is_empty() || !is_whole(&self.inputs, spec) {
                    all.extend_from_slice(&one);
                }
            }
        };
        if let [part] = self.parts.as_slice()
            && part.is_made_up()
        {
            // Making them up takes longer than reading, and each can be made alone.
            let inside = |&index: &usize| self.place(index).1;
            let samples = indexes.par_iter().map(inside);
            let samples = samples.map(|inside| part.open(&self.inputs)?.sample(inside));
            let samples: Vec<_> = samples.collect::<Result<_, _>>()?;
            samples.into_iter().for_each(&mut add);
        } else {
            for index in indexes {
                let (number, inside) = self.place(*index);
                if open.as_ref().is_none_or(|(current, _)| *current != number) {
                    let Some(part) = self.parts.get(number) else {
                        continue; // `place` gives parts that exist
                    };
                    *open = Some((number, part.open(&self.inputs)?));
                }
                if let Some((_, part)) = open {
                    add(part.sample(inside)?);
                }
            }
        }
        let tensors = self.inputs.iter().zip(&self.shapes).zip(bytes);
        Ok(tensors
            .map(|((spec, shape), bytes)| {
                let tensor = Tensor {
                    dtype: spec.dtype,
                    shape: batch_shape(&self.inputs, spec, shape, indexes.len()).collect(),
                    bytes: bytes.into(),
                };
                (spec.name.clone(), tensor)
            })
            .collect())
    }

    /// The part that holds sample `index`, and the index in it.
    fn place(&self, index: usize) -> (usize, usize) {
        let place = (index as u128 * self.total as u128 / self.used.max(1) as u128) as usize;
        // Of parts without samples, which start where the next does, the last that starts there.
        let after = self.starts.partition_point(|&start| start <= place);
        let number = after.saturating_sub(1);
        let start = self.starts.get(number).copied().unwrap_or_default();
        (number, place - start)
    }
}

#[cfg(test)]
mod tests;
