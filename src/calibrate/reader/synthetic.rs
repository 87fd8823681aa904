//! Data made up when the user has none: natural-looking noise, better than white noise by far.

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::convert;
use crate::onnx::DataType;
use crate::runtime::InputSpec;

/// Sizes of open axes: height and width of images, and all others.
const IMAGE_SIDE: usize = 224;
const OTHER_SIZE: usize = 64;

/// What is made for one input.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    kind: Kind,
    dtype: DataType,
    /// Shape of one sample, without the batch axis where there is one.
    shape: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Channels, height, width; the flag says that channels come last.
    Image {
        last: bool,
    },
    Gaussian,
    Integers,
    Constant(u8),
}

impl Recipe {
    /// Chooses what fits an input and says in `notes` what was guessed.
    pub fn new(spec: &InputSpec, is_whole: bool, notes: &mut Vec<String>) -> Recipe {
        let name = spec.name.to_lowercase();
        let float = convert::is_float(spec.dtype);
        let kind = match spec.shape.as_slice() {
            [_, channels, _, last] if float && !is_whole => Kind::Image {
                last: matches!(last, Some(1 | 3 | 4)) && !matches!(channels, Some(1 | 3 | 4)),
            },
            _ if float => Kind::Gaussian,
            _ if name.contains("mask") => Kind::Constant(1),
            _ if name.contains("token_type") => Kind::Constant(0),
            _ => Kind::Integers,
        };
        let sizes = spec.shape.iter().enumerate();
        let sizes = sizes.skip(usize::from(!is_whole));
        let shape = sizes
            .map(|(axis, size)| {
                size.unwrap_or_else(|| {
                    let guess = match kind {
                        Kind::Image { last: false } if axis == 1 => 3,
                        Kind::Image { last: true } if axis == 3 => 3,
                        Kind::Image { .. } => IMAGE_SIDE,
                        _ => OTHER_SIZE,
                    };
                    let text = format!(
                        "input '{}': the open size of axis {axis} is taken as {guess} (fix it with \
                         --shape)",
                        spec.name
                    );
                    notes.push(text);
                    guess
                })
            })
            .collect();
        let what = match kind {
            Kind::Image { .. } => "noise with the spectrum of natural images".to_owned(),
            Kind::Gaussian => "Gaussian noise of unit variance".to_owned(),
            Kind::Integers => "random integers from 0 to 99".to_owned(),
            Kind::Constant(value) => format!("the constant {value}"),
        };
        notes.push(format!("input '{}' gets {what}", spec.name));
        Recipe {
            kind,
            dtype: spec.dtype,
            shape,
        }
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes of one sample. Each sample has its own stream of random numbers, so any of them
    /// can be made at any time.
    pub fn sample(&self, seed: u64, input: usize, index: usize) -> Vec<u8> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(((input as u64) << 48) | index as u64);
        let count: usize = self.shape.iter().product();
        match (self.kind, self.shape.as_slice()) {
            (Kind::Image { last: false }, [channels, height, width]) => {
                let planes = image(&mut rng, *channels, *height, *width);
                convert::from_f64(&planes, self.dtype)
            }
            (Kind::Image { last: true }, [height, width, channels]) => {
                let planes = image(&mut rng, *channels, *height, *width);
                let area = height * width;
                let pixels = (0..count).map(|i| planes[(i % channels) * area + i / channels]);
                convert::from_f64(&pixels.collect::<Vec<_>>(), self.dtype)
            }
            (Kind::Gaussian | Kind::Image { .. }, _) => {
                let values: Vec<f64> = (0..count).map(|_| gaussian(&mut rng)).collect();
                convert::from_f64(&values, self.dtype)
            }
            (Kind::Integers, _) => integers(self.dtype, count, || rng.random_range(0..100)),
            (Kind::Constant(value), _) => integers(self.dtype, count, || value),
        }
    }
}

/// Small integers as elements of an integer type or bool.
fn integers(dtype: DataType, count: usize, mut value: impl FnMut() -> u8) -> Vec<u8> {
    let size = dtype.size().unwrap_or(1);
    let mut bytes = vec![0; count * size];
    for element in bytes.chunks_exact_mut(size) {
        let value = value();
        // Little-endian, below 128: the first byte is the value in every integer type.
        element[0] = if dtype == DataType::Bool {
            value % 2
        } else {
            value
        };
    }
    bytes
}

/// A standard normal number (Box and Muller).
fn gaussian(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// Channel planes of noise with amplitude 1/f^1.5, of zero mean and unit variance over all images.
/// A plane is four fifths common to all channels, as colours of photographs are.
fn image(rng: &mut ChaCha8Rng, channels: usize, height: usize, width: usize) -> Vec<f64> {
    let common = plane(rng, height, width);
    let mut planes = Vec::with_capacity(channels * common.len());
    for _ in 0..channels {
        let own = plane(rng, height, width);
        planes.extend(common.iter().zip(own).map(|(c, o)| 0.8 * c + 0.6 * o));
    }
    planes
}

/// A sum of octaves: each is a coarse grid of random numbers, interpolated. An octave of cells of
/// s pixels has variance s, which makes the amplitude fall as 1/f^1.5 in two dimensions.
fn plane(rng: &mut ChaCha8Rng, height: usize, width: usize) -> Vec<f64> {
    let mut sum = vec![0.0; height * width];
    let mut variance = 0.0;
    let mut cell = 1;
    loop {
        let columns = width.div_ceil(cell) + 2;
        let rows = height.div_ceil(cell) + 2;
        let grid: Vec<f64> = (0..rows * columns).map(|_| gaussian(rng)).collect();
        let weight = (cell as f64).sqrt();
        let (top, left) = (rng.random_range(0..cell), rng.random_range(0..cell));
        for (i, value) in sum.iter_mut().enumerate() {
            let (y, x) = (i / width + top, i % width + left);
            let (row, column) = (y / cell, x / cell);
            let (v, u) = (
                (y % cell) as f64 / cell as f64,
                (x % cell) as f64 / cell as f64,
            );
            let at = row * columns + column;
            let upper = grid[at] * (1.0 - u) + grid[at + 1] * u;
            let lower = grid[at + columns] * (1.0 - u) + grid[at + columns + 1] * u;
            *value += weight * (upper * (1.0 - v) + lower * v);
        }
        // Mean of (1-t)^2 + t^2 over the phases t = k / cell, once per axis.
        let phases = (0..cell).map(|k| k as f64 / cell as f64);
        let shrink = phases.map(|t| (1.0 - t).powi(2) + t * t).sum::<f64>() / cell as f64;
        variance += cell as f64 * shrink * shrink;
        if cell >= height.max(width) {
            break;
        }
        cell *= 2;
    }
    sum.iter_mut()
        .for_each(|value| *value /= f64::sqrt(variance));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DataType, shape: &[Option<usize>]) -> InputSpec {
        InputSpec {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
        }
    }

    fn f32s(bytes: &[u8]) -> Vec<f64> {
        let (chunks, _) = bytes.as_chunks::<4>();
        chunks
            .iter()
            .map(|b| f64::from(f32::from_le_bytes(*b)))
            .collect()
    }

    #[test]
    fn images_are_smooth_coloured_alike_and_of_unit_variance() {
        let spec = spec("x", DataType::Float, &[None, Some(3), Some(64), Some(64)]);
        let recipe = Recipe::new(&spec, false, &mut Vec::new());
        let (mut sum, mut squares, mut steps, mut colours) = (0.0, 0.0, 0.0, 0.0);
        for index in 0..64 {
            let values = f32s(&recipe.sample(1, 0, index));
            sum += values.iter().sum::<f64>();
            squares += values.iter().map(|v| v * v).sum::<f64>();
            steps += values
                .windows(2)
                .map(|w| (w[0] - w[1]).powi(2))
                .sum::<f64>();
            let (red, rest) = values.split_at(64 * 64);
            colours += red.iter().zip(rest).map(|(r, g)| r * g).sum::<f64>();
        }
        let count = 64.0 * 3.0 * 64.0 * 64.0;
        assert!((sum / count).abs() < 0.25, "{}", sum / count);
        assert!((squares / count - 1.0).abs() < 0.3, "{}", squares / count);
        assert!(
            steps / count < 0.2,
            "neighbours are close: {}",
            steps / count
        );
        let correlation = colours / (count / 3.0) / (squares / count);
        assert!((0.5..0.8).contains(&correlation), "{correlation}");
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_samples_differ() {
        let spec = spec("x", DataType::Float, &[None, Some(8)]);
        let recipe = Recipe::new(&spec, false, &mut Vec::new());
        assert_eq!(recipe.sample(7, 0, 3), recipe.sample(7, 0, 3));
        assert_ne!(recipe.sample(7, 0, 3), recipe.sample(7, 0, 4));
        assert_ne!(recipe.sample(7, 0, 3), recipe.sample(8, 0, 3));
        assert_ne!(recipe.sample(7, 0, 3), recipe.sample(7, 1, 3));
    }

    #[test]
    fn open_sizes_are_guessed_and_said() {
        let mut notes = Vec::new();
        let spec1 = spec("x", DataType::Float16, &[None, None, None, Some(3)]);
        let recipe = Recipe::new(&spec1, false, &mut notes);
        assert_eq!(recipe.shape(), [224, 224, 3]);
        assert_eq!(recipe.sample(0, 0, 0).len(), 224 * 224 * 3 * 2);
        assert!(
            notes
                .iter()
                .any(|n| n.contains("axis 2") && n.contains("224")),
            "{notes:?}"
        );
        let spec2 = spec("ids", DataType::Int64, &[None, None]);
        let recipe = Recipe::new(&spec2, false, &mut notes);
        assert_eq!(recipe.shape(), [64]);
        let bytes = recipe.sample(0, 0, 0);
        let (values, _) = bytes.as_chunks::<8>();
        let in_range = |b: &[u8; 8]| (0..100).contains(&i64::from_le_bytes(*b));
        assert!(values.len() == 64 && values.iter().all(in_range));
    }
}
