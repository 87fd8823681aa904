//! Data made up when the user has none, as like real ones as can be without knowing any.

use image::{Rgb, RgbImage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::data::images::Preprocess;
use crate::data::{Color, Layout, ReaderOptions, convert, is_whole};
use crate::onnx::DataType;
use crate::ops::inputs::Values;
use crate::runtime::InputSpec;
use crate::synthetic::spectrum::Tile;
use crate::synthetic::tokens::{TokenInput, Vocabulary};
use crate::synthetic::{draw, leaves, sound, spectrum, tokens};

/// Sizes of open axes: height and width of images, the width of lines of writing, the length of
/// sounds, and all others.
const IMAGE_SIDE: usize = 224;
const LINE_WIDTH: usize = 320;
const SOUND_LENGTH: usize = 16_000;
const OTHER_SIZE: usize = 64;
/// An image no higher than this that is at least four times as wide, or of any width, may be a line
/// of writing.
const LINE_HEIGHT: usize = 64;
/// A row of so many numbers is taken for a sound.
const LEAST_SOUND: usize = 4000;
/// Of noise that stands for anything: the exponent of the amplitude over the frequency, and the
/// deviation. Shorter rows have no spectrum.
const SMOOTHEST: f32 = 1.5;
const FAINTEST: f32 = 0.01;
const STRONGEST: f32 = 2.0;
const LEAST_SPECTRUM: usize = 16;
/// The stream of random numbers that all inputs of a sample share; those of single inputs come
/// before.
const SHARED: u64 = 0xffff;

/// What is made for one input.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    kind: Kind,
    dtype: DataType,
    /// Shape of one sample, without the batch axis where there is one.
    shape: Vec<usize>,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Photographs, some of them lines of writing where the model may read these.
    Pictures(Preprocess, Subject),
    /// Planes of noise: channels, height, width; the flag says that channels come last.
    Planes {
        last: bool,
    },
    Sound,
    /// Rows of noise, from white to smooth and from faint to strong.
    Noise,
    Sentence(TokenInput, Vocabulary),
    Integers,
    Constant(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Anything,
    Writing,
}

impl Recipe {
    /// Chooses what fits one of the inputs and says in `notes` what was guessed.
    pub fn new(
        spec: &InputSpec,
        inputs: &[InputSpec],
        options: &ReaderOptions,
        notes: &mut Vec<String>,
    ) -> Recipe {
        let is_whole = is_whole(inputs, spec);
        let kind = kind(spec, inputs, options);
        let made = match &kind {
            Kind::Pictures(preprocess, _) => preprocess.shape(),
            _ => Vec::new(),
        };
        let batch = usize::from(!is_whole);
        let sizes = spec.shape.iter().enumerate().skip(batch);
        let shape = sizes.map(|(axis, size)| {
            size.unwrap_or_else(|| {
                let guess = made.get(axis - batch).copied();
                let guess = guess.unwrap_or_else(|| kind.open_size(axis));
                notes.push(format!(
                    "input '{}': the open size of axis {axis} is taken as {guess} (fix it with \
                     `shape`)",
                    spec.name
                ));
                guess
            })
        });
        let shape = shape.collect();
        notes.push(format!("input '{}' gets {}", spec.name, kind.text()));
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
        let stream = |input: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream((input << 48) | index as u64);
            rng
        };
        let rng = &mut stream(input as u64);
        let count: usize = self.shape.iter().product();
        let length = self.shape.last().copied().unwrap_or(1).max(1);
        let rows = 0..count / length;
        match &self.kind {
            Kind::Pictures(preprocess, subject) => {
                preprocess.arrange(&picture(rng, preprocess.size(), *subject))
            }
            Kind::Planes { last } => self.floats(planes(rng, &self.shape, *last)),
            Kind::Sound => self.floats(rows.flat_map(|_| sound::wave(rng, length)).collect()),
            Kind::Noise => self.floats(noise(rng, count / length, length)),
            Kind::Sentence(part, source) => {
                // All inputs of a sample tell of the same sentences.
                let row = |row: usize| {
                    let mut shared = stream(SHARED.saturating_sub(row as u64));
                    tokens::row(&mut shared, *part, *source, length)
                };
                let made: Vec<i64> = rows.flat_map(row).collect();
                convert::from_i64(&made, self.dtype)
            }
            Kind::Integers => {
                let made = (0..count).map(|_| draw::count(rng, 0, 99) as i64);
                convert::from_i64(&made.collect::<Vec<_>>(), self.dtype)
            }
            Kind::Constant(value) => {
                if convert::is_float(self.dtype) {
                    self.floats(vec![*value as f32; count])
                } else {
                    convert::from_i64(&vec![*value; count], self.dtype)
                }
            }
        }
    }

    fn floats(&self, values: Vec<f32>) -> Vec<u8> {
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        convert::from_f64(&values, self.dtype)
    }
}

impl Kind {
    /// What is made, in words.
    fn text(&self) -> String {
        match self {
            Kind::Pictures(preprocess, subject) => {
                let what = match subject {
                    Subject::Anything => "made-up photographs",
                    Subject::Writing => "made-up lines of writing and photographs",
                };
                format!("{what}, {}", preprocess.values())
            }
            Kind::Planes { .. } => "noise with the spectrum of natural images".to_owned(),
            Kind::Sound => format!("made-up sounds of {SOUND_LENGTH} values per second"),
            Kind::Noise => "noise of any smoothness and strength".to_owned(),
            Kind::Sentence(part, source) => tokens::text(*part, *source),
            Kind::Integers => "random integers from 0 to 99".to_owned(),
            Kind::Constant(value) => format!("the constant {value}"),
        }
    }

    /// What an axis is taken for that the model leaves open.
    fn open_size(&self, axis: usize) -> usize {
        match self {
            Kind::Planes { last } if axis == if *last { 3 } else { 1 } => 3,
            Kind::Planes { .. } => IMAGE_SIDE,
            Kind::Sound => SOUND_LENGTH,
            _ => OTHER_SIZE,
        }
    }
}

/// What fits an input, by its type, its shape, its name and what the model tells of it.
fn kind(spec: &InputSpec, inputs: &[InputSpec], options: &ReaderOptions) -> Kind {
    let is_whole = is_whole(inputs, spec);
    let name = spec.name.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let told = options.told.get(&spec.name).copied();
    let is_float = convert::is_float(spec.dtype);
    let is_mask = has(&["mask"]) || spec.dtype == DataType::Bool;
    if let [_, second, _, fourth] = *spec.shape.as_slice()
        && !is_whole
        && !is_mask
    {
        let planes = is_float.then_some(Kind::Planes {
            last: is_few(fourth) && !is_few(second),
        });
        if let Some(kind) = pictures(spec, told, options).or(planes) {
            return kind;
        }
    }
    // A mask of floats, or of pairs of tokens, hides nothing.
    if is_mask && (is_float || spec.shape.len() > 2) {
        return Kind::Constant(1);
    }
    if is_float {
        return match *spec.shape.as_slice() {
            [_, last] | [_, Some(1), last] if !is_whole && is_sound(last, &name) => Kind::Sound,
            _ => Kind::Noise,
        };
    }
    if name == "sr" || has(&["sample_rate", "sampling_rate"]) {
        return Kind::Constant(SOUND_LENGTH as i64);
    }
    let rows = match told {
        Some(Values::Rows(rows)) => Some(rows),
        _ => None,
    };
    let part = match () {
        () if is_mask => TokenInput::Mask,
        () if has(&["token_type", "segment"]) => TokenInput::Types,
        () if has(&["position"]) => TokenInput::Positions,
        () if rows.is_some() || has(&["token", "input_ids"]) => TokenInput::Ids,
        () => return Kind::Integers,
    };
    let is_masked = inputs.iter().any(|input| {
        let name = input.name.to_lowercase();
        name.contains("mask") && input.shape.len() == 2 && !convert::is_float(input.dtype)
    });
    Kind::Sentence(part, Vocabulary { rows, is_masked })
}

fn is_few(channels: Option<usize>) -> bool {
    matches!(channels, Some(1 | 3 | 4))
}

/// Whether a row of floats of that length, or of any, is a sound.
fn is_sound(length: Option<usize>, name: &str) -> bool {
    let is_named = ["audio", "wave", "speech", "pcm"]
        .iter()
        .any(|part| name.contains(part));
    is_named || length.is_some_and(|length| length >= LEAST_SOUND)
}

/// Pictures, where the input is one of one or three channels of floats or bytes.
fn pictures(spec: &InputSpec, told: Option<Values>, options: &ReaderOptions) -> Option<Kind> {
    let mut image = options.image.clone();
    let layout = Preprocess::layout(spec, image.layout);
    let (channels, height, width) = match layout {
        Layout::Nchw => (1, 2, 3),
        Layout::Nhwc => (3, 1, 2),
    };
    let is_gray = spec.shape.get(channels) == Some(&Some(1)) || image.color == Some(Color::Gray);
    let is_given = image.mean.is_some() || image.std.is_some() || image.scale.is_some();
    if convert::is_float(spec.dtype) && !is_given {
        match told {
            Some(Values::Bytes) => image.scale = Some(1.0),
            Some(Values::Shares) => image.scale = Some(1.0 / 255.0),
            // Grey images are normalised in many ways; this is in between.
            _ if is_gray => (image.mean, image.std) = (Some(vec![0.5]), Some(vec![0.5])),
            _ => {}
        }
    }
    let [high, wide] = [height, width].map(|axis| spec.shape.get(axis).copied().flatten());
    let subject = match (high, wide) {
        (Some(high @ 1..=LINE_HEIGHT), wide) if wide.is_none_or(|wide| wide / high >= 4) => {
            Subject::Writing
        }
        _ => Subject::Anything,
    };
    let open = match (image.crop, subject) {
        (Some(crop), _) => crop as usize,
        (None, Subject::Writing) => LINE_WIDTH,
        (None, Subject::Anything) => IMAGE_SIDE,
    };
    let mut fixed = spec.clone();
    for axis in [height, width] {
        fixed.shape.get_mut(axis)?.get_or_insert(open);
    }
    (image.crop, image.resize) = (None, None);
    let preprocess = Preprocess::new(&fixed, &image, &mut Vec::new()).ok()?;
    Some(Kind::Pictures(preprocess, subject))
}

fn picture(rng: &mut ChaCha8Rng, [height, width]: [usize; 2], subject: Subject) -> RgbImage {
    let pixels = match subject {
        Subject::Writing if draw::chance(rng, 0.6) => leaves::line_of_writing(rng, height, width),
        _ => leaves::picture(rng, height, width),
    };
    // Preprocessing has sizes of 32 bits.
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let pixel = pixels.get(y as usize * width + x as usize);
        Rgb(pixel.map_or([0; 3], |pixel| pixel.map(|value| value.round() as u8)))
    })
}

/// Rows of noise with amplitude 1/f^a, of one a and one deviation for all of them: nothing is known
/// of the values, and what only a faint or only a smooth row makes active must not seem dead.
fn noise(rng: &mut ChaCha8Rng, rows: usize, length: usize) -> Vec<f32> {
    let exponent = draw::uniform(rng, 0.0, SMOOTHEST);
    let deviation = draw::log_uniform(rng, FAINTEST, STRONGEST);
    let row = |_| {
        if length < LEAST_SPECTRUM {
            (0..length).map(|_| draw::normal(rng)).collect()
        } else {
            spectrum::line(rng, length, exponent)
        }
    };
    let values: Vec<f32> = (0..rows).flat_map(row).collect();
    values.into_iter().map(|value| value * deviation).collect()
}

/// Planes of noise with amplitude 1/f^1.5, of zero mean and unit variance, that are four fifths
/// common to all channels.
fn planes(rng: &mut ChaCha8Rng, shape: &[usize], last: bool) -> Vec<f32> {
    let (channels, height, width) = match *shape {
        [height, width, channels] if last => (channels, height, width),
        [channels, height, width] => (channels, height, width),
        _ => return vec![0.0; shape.iter().product()],
    };
    let side = height.max(width);
    let common = spectrum::tile(rng, side, 1.5);
    let own: Vec<Tile> = (0..channels)
        .map(|_| spectrum::tile(rng, side, 1.5))
        .collect();
    let at = |channel: usize, y: usize, x: usize| {
        let own = own.get(channel).map_or(0.0, |own| own.at(y, x));
        0.8 * common.at(y, x) + 0.6 * own
    };
    let places = 0..channels * height * width;
    let place = |index: usize| {
        if last {
            (
                index % channels,
                index / channels / width,
                index / channels % width,
            )
        } else {
            (
                index / (height * width),
                index / width % height,
                index % width,
            )
        }
    };
    places
        .map(place)
        .map(|(channel, y, x)| at(channel, y, x))
        .collect()
}

#[cfg(test)]
mod tests;
