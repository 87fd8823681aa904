//! One source of samples for all inputs of a model.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::data::DataError;
use crate::data::array::{Array, Pieces};
use crate::data::convert::{self, Conversion};
use crate::data::images::Preprocess;
use crate::data::recipe::Recipe;
use crate::data::{Exif, ReaderOptions, is_whole};
use crate::runtime::{InputSpec, shape_text};

/// A file, or files that belong together, with samples for all inputs.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    len: usize,
    source: Contents,
}

#[derive(Debug)]
enum Contents {
    /// One array per input.
    Arrays(Vec<Samples>),
    Image(Preprocess),
    Synthetic(Vec<Recipe>, u64),
}

/// Takes what is copied to it.
struct Hasher<'a>(&'a mut Sha256);

impl std::io::Write for Hasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An array seen as samples of one input.
#[derive(Debug)]
struct Samples {
    array: Array,
    /// Shape of one sample, without the batch axis.
    shape: Vec<usize>,
    /// Number of samples; `None` for an input without axes, whose one value serves all.
    len: Option<usize>,
}

impl Samples {
    fn new(
        array: Array,
        spec: &InputSpec,
        is_whole: bool,
        notes: &mut Vec<String>,
    ) -> Result<Self, DataError> {
        let fits = |found: &[usize], expected: &[Option<usize>]| {
            found.len() == expected.len()
                && found
                    .iter()
                    .zip(expected)
                    .all(|(f, e)| e.is_none_or(|e| e == *f))
        };
        let found = array.shape.as_slice();
        let (shape, len) = match (found, spec.shape.as_slice()) {
            ([] | [1], []) => (Vec::new(), None),
            (found, expected) if is_whole && fits(found, expected) => (found.to_vec(), None),
            ([len, rest @ ..], expected) if is_whole && fits(rest, expected) => {
                (rest.to_vec(), Some(*len))
            }
            ([len, rest @ ..], [_, expected @ ..]) if fits(rest, expected) => {
                (rest.to_vec(), Some(*len))
            }
            (found, [_, expected @ ..]) if fits(found, expected) => (found.to_vec(), Some(1)),
            _ => {
                let open_batch = spec.shape.iter().enumerate();
                let expected: Vec<_> = open_batch
                    .map(|(axis, size)| size.filter(|_| axis > 0))
                    .collect();
                return Err(DataError::Shape {
                    path: array.path.clone(),
                    input: spec.name.clone(),
                    expected: shape_text(&expected),
                    found: format!("{found:?}"),
                });
            }
        };
        match convert::conversion(array.dtype, spec.dtype) {
            None => {
                return Err(DataError::Dtype {
                    path: array.path.clone(),
                    input: spec.name.clone(),
                    expected: spec.dtype.to_string(),
                    found: array.dtype.to_string(),
                });
            }
            Some(Conversion::Rounded) => notes.push(format!(
                "input '{}': {} data are rounded to {}",
                spec.name, array.dtype, spec.dtype
            )),
            Some(_) => {}
        }
        Ok(Samples { array, shape, len })
    }
}

impl Source {
    /// Arrays for the inputs, in the inputs' order.
    pub fn arrays(
        path: &Path,
        arrays: Vec<Array>,
        inputs: &[InputSpec],
        notes: &mut Vec<String>,
    ) -> Result<Source, DataError> {
        let samples = arrays.into_iter().zip(inputs);
        let samples = samples
            .map(|(array, spec)| Samples::new(array, spec, is_whole(inputs, spec), notes))
            .collect::<Result<Vec<_>, _>>()?;
        let mut counts = samples
            .iter()
            .zip(inputs)
            .filter_map(|(s, i)| Some((s.len?, i)));
        let first = counts.next();
        if let Some((expected, first)) = first
            && let Some((found, input)) = counts.find(|(len, _)| *len != expected)
        {
            return Err(DataError::SampleCounts {
                path: path.into(),
                input: input.name.clone(),
                found,
                first: first.name.clone(),
                expected,
            });
        }
        Ok(Source {
            path: path.into(),
            len: first.map_or(1, |(len, _)| len),
            source: Contents::Arrays(samples),
        })
    }

    /// One image file.
    pub fn image(path: PathBuf, preprocess: Preprocess) -> Source {
        Source {
            path,
            len: 1,
            source: Contents::Image(preprocess),
        }
    }

    /// Made-up samples.
    pub fn synthetic(
        inputs: &[InputSpec],
        len: usize,
        options: &ReaderOptions,
        notes: &mut Vec<String>,
    ) -> Source {
        let recipes = inputs.iter();
        let recipes = recipes.map(|spec| Recipe::new(spec, inputs, options, notes));
        Source {
            path: "synthetic data".into(),
            len,
            source: Contents::Synthetic(recipes.collect(), options.seed),
        }
    }

    /// Whether its samples are made up.
    pub fn is_made_up(&self) -> bool {
        matches!(self.source, Contents::Synthetic(..))
    }

    /// The file and the choice for it, where the part is an image.
    pub fn image_file(&self) -> Option<(&Path, Exif)> {
        match &self.source {
            Contents::Image(preprocess) => Some((&self.path, preprocess.exif)),
            _ => None,
        }
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds what the samples are made from: the bytes of the files, or the recipes.
    pub fn digest(&self, hash: &mut Sha256) -> Result<(), DataError> {
        let mut file = |path: &Path| -> Result<(), DataError> {
            let io = |source| DataError::Io {
                path: path.into(),
                source,
            };
            let mut file = crate::regular::open(path).map_err(io)?;
            std::io::copy(&mut file, &mut Hasher(hash)).map_err(io)?;
            Ok(())
        };
        match &self.source {
            Contents::Arrays(samples) => {
                let mut paths: Vec<&Path> = Vec::new();
                for path in samples.iter().map(|samples| samples.array.path.as_path()) {
                    if !paths.contains(&path) {
                        paths.push(path);
                        file(path)?;
                    }
                }
            }
            Contents::Image(_) => file(&self.path)?,
            Contents::Synthetic(recipes, seed) => {
                hash.update(format!("{recipes:?} {seed} {}", self.len));
            }
        }
        Ok(())
    }

    /// The shape of one sample of each input.
    fn shapes(&self) -> Vec<Vec<usize>> {
        match &self.source {
            Contents::Arrays(arrays) => {
                arrays.iter().map(|samples| samples.shape.clone()).collect()
            }
            Contents::Image(preprocess) => vec![preprocess.shape()],
            Contents::Synthetic(recipes, _) => recipes.iter().map(|r| r.shape().to_vec()).collect(),
        }
    }

    /// Opens the part's files.
    pub fn open<'a>(&'a self, inputs: &'a [InputSpec]) -> Result<Opened<'a>, DataError> {
        let pieces = match &self.source {
            Contents::Arrays(arrays) => arrays.iter().map(|samples| {
                let elements: usize = samples.shape.iter().product();
                let size = samples.array.dtype.size().unwrap_or(1);
                samples.array.open(elements * size)
            }),
            _ => {
                return Ok(Opened {
                    part: self,
                    inputs,
                    pieces: Vec::new(),
                });
            }
        };
        let pieces = pieces.collect::<Result<_, _>>()?;
        Ok(Opened {
            part: self,
            inputs,
            pieces,
        })
    }
}

/// The shape of one sample of each input, the same in all parts.
pub(super) fn common_shapes(
    parts: &[Source],
    inputs: &[InputSpec],
) -> Result<Vec<Vec<usize>>, DataError> {
    let Some((first, rest)) = parts.split_first() else {
        return Ok(Vec::new());
    };
    let shapes = first.shapes();
    for part in rest {
        let found = part.shapes();
        let mut pairs = inputs.iter().zip(shapes.iter().zip(found));
        if let Some((input, (expected, found))) = pairs.find(|(_, (a, b))| *a != b) {
            return Err(DataError::DifferentShapes {
                path: part.path.clone(),
                input: input.name.clone(),
                first: first.path.clone(),
                expected: expected.as_slice().into(),
                found: found.into(),
            });
        }
    }
    Ok(shapes)
}

/// A part whose files are open.
pub(super) struct Opened<'a> {
    part: &'a Source,
    inputs: &'a [InputSpec],
    pieces: Vec<Pieces>,
}

impl Opened<'_> {
    /// The bytes of sample `index` for each input; indexes must ascend from call to call.
    pub fn sample(&mut self, index: usize) -> Result<Vec<Vec<u8>>, DataError> {
        match &self.part.source {
            Contents::Image(preprocess) => Ok(vec![preprocess.sample(&self.part.path)?]),
            Contents::Synthetic(recipes, seed) => {
                let recipes = recipes.iter().enumerate();
                Ok(recipes
                    .map(|(i, recipe)| recipe.sample(*seed, i, index))
                    .collect())
            }
            Contents::Arrays(arrays) => {
                let sources = arrays.iter().zip(&mut self.pieces).zip(self.inputs);
                sources
                    .map(|((samples, pieces), spec)| read(samples, pieces, spec, index))
                    .collect()
            }
        }
    }
}

/// One sample of one input, converted and checked.
fn read(
    samples: &Samples,
    pieces: &mut Pieces,
    spec: &InputSpec,
    index: usize,
) -> Result<Vec<u8>, DataError> {
    let array = &samples.array;
    let raw = match samples.len {
        Some(_) => pieces.get(index)?,
        None => pieces.first()?,
    };
    let bytes =
        convert::convert(raw, array.dtype, spec.dtype).map_err(|value| DataError::Dtype {
            path: array.path.clone(),
            input: spec.name.clone(),
            expected: spec.dtype.to_string(),
            found: format!(
                "the value {value} in sample {index} of type {}",
                array.dtype
            ),
        })?;
    if !convert::is_finite(&bytes, spec.dtype) {
        return Err(DataError::NotFinite {
            path: array.path.clone(),
            input: spec.name.clone(),
            sample: index,
        });
    }
    Ok(bytes)
}
