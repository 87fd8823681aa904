//! Image files, preprocessed as torchvision does for ImageNet unless told otherwise.

use std::path::Path;

use image::RgbImage;
use image::imageops::{self, FilterType};

use crate::data::DataError;
use crate::data::{Color, Exif, ImageOptions, Layout, convert, picture};
use crate::onnx::DataType;
use crate::runtime::InputSpec;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// How an image file becomes one sample of an input.
#[derive(Debug, Clone)]
pub(super) struct Preprocess {
    dtype: DataType,
    layout: Layout,
    color: Color,
    height: u32,
    width: u32,
    /// Size that the shorter side is resized to.
    resize: u32,
    scale: f32,
    /// One each per channel.
    mean: Vec<f32>,
    std: Vec<f32>,
    pub exif: Exif,
}

fn option_error(option: &'static str, problem: String) -> DataError {
    DataError::Option { option, problem }
}

impl Preprocess {
    /// Chooses what fits an input and says the choices in `notes`.
    pub fn new(
        spec: &InputSpec,
        options: &ImageOptions,
        notes: &mut Vec<String>,
    ) -> Result<Preprocess, DataError> {
        let [_, second, third, fourth] = *spec.shape.as_slice() else {
            let problem = format!(
                "image files need an input of four axes (batch, channels, height, width), but '{}' \
                 has shape {}; give .npy or .npz data",
                spec.name,
                crate::runtime::shape_text(&spec.shape)
            );
            return Err(option_error("`calibration`", problem));
        };
        let layout = Preprocess::layout(spec, options.layout);
        let (channels, height, width) = match layout {
            Layout::Nchw => (second, third, fourth),
            Layout::Nhwc => (fourth, second, third),
        };
        let color = color(options.color, channels)?;
        let (height, width) = (side(height, options.crop)?, side(width, options.crop)?);
        let short = height.min(width);
        let resize = match options.resize {
            Some(size) if size < short => {
                let problem = format!("{size} is less than the {height}x{width} pixels wanted");
                return Err(option_error("`resize`", problem));
            }
            Some(size) => size,
            None => (f64::from(short) * 256.0 / 224.0).round() as u32,
        };
        let mut made = Preprocess {
            dtype: spec.dtype,
            layout,
            color,
            height,
            width,
            resize,
            scale: 1.0,
            mean: Vec::new(),
            std: Vec::new(),
            exif: options.exif,
        };
        made.normalise(options)?;
        notes.push(made.describe(&spec.name));
        Ok(made)
    }

    /// The layout asked for, or that in which the input has one or three channels.
    pub fn layout(spec: &InputSpec, asked: Option<Layout>) -> Layout {
        let is_image = |axis: usize| matches!(spec.shape.get(axis), Some(Some(1 | 3)));
        let guess = if is_image(3) && !is_image(1) {
            Layout::Nhwc
        } else {
            Layout::Nchw
        };
        asked.unwrap_or(guess)
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        [self.height as usize, self.width as usize]
    }

    fn channels(&self) -> usize {
        if self.color == Color::Gray { 1 } else { 3 }
    }

    /// Sets scale, mean and std. ImageNet's values hold when the user gives none of the three.
    fn normalise(&mut self, options: &ImageOptions) -> Result<(), DataError> {
        let count = self.channels();
        if !convert::is_float(self.dtype) {
            let given = options.mean.is_some() || options.std.is_some() || options.scale.is_some();
            if self.dtype != DataType::Uint8 || given {
                let problem = format!(
                    "the input takes {}; image files fit float inputs, or uint8 without `mean`, \
                     `std` and `scale`",
                    self.dtype
                );
                return Err(option_error("`calibration`", problem));
            }
            (self.mean, self.std) = (vec![0.0; count], vec![1.0; count]);
            return Ok(());
        }
        let none = options.mean.is_none() && options.std.is_none() && options.scale.is_none();
        self.scale = options.scale.unwrap_or(1.0 / 255.0);
        if none && count == 3 {
            (self.mean, self.std) = (MEAN.into(), STD.into());
            if self.color == Color::Bgr {
                self.mean.reverse();
                self.std.reverse();
            }
            return Ok(());
        }
        let values = |option, given: &Option<Vec<f32>>, default: f32| match given.as_deref() {
            None => Ok(vec![default; count]),
            Some([one]) => Ok(vec![*one; count]),
            Some(values) if values.len() == count => Ok(values.to_vec()),
            Some(values) => Err(option_error(
                option,
                format!("expected 1 or {count} values, found {}", values.len()),
            )),
        };
        self.mean = values("`mean`", &options.mean, 0.0)?;
        self.std = values("`std`", &options.std, 1.0)?;
        let bad = |v: &f32| !v.is_finite() || *v == 0.0;
        if self.std.iter().any(bad) || bad(&self.scale) || !self.mean.iter().all(|v| v.is_finite())
        {
            let problem = "values must be finite, and `std` and `scale` not 0".into();
            return Err(option_error("`mean`, `std`, `scale`", problem));
        }
        Ok(())
    }

    fn describe(&self, input: &str) -> String {
        format!(
            "images for input '{input}': shorter side to {}, centre crop {}x{}, {}",
            self.resize,
            self.height,
            self.width,
            self.values()
        )
    }

    /// Colours, layout and range, in words.
    pub fn values(&self) -> String {
        let layout = match self.layout {
            Layout::Nchw => "NCHW",
            Layout::Nhwc => "NHWC",
        };
        let color = match self.color {
            Color::Rgb => "RGB",
            Color::Bgr => "BGR",
            Color::Gray => "gray",
        };
        let values = if convert::is_float(self.dtype) {
            format!(
                "scale {}, mean {:?}, std {:?}",
                self.scale, self.mean, self.std
            )
        } else {
            "raw values 0 to 255".into()
        };
        format!("{color}, {layout}, {values}")
    }

    /// Shape of one sample, without the batch axis.
    pub fn shape(&self) -> Vec<usize> {
        let (height, width) = (self.height as usize, self.width as usize);
        match self.layout {
            Layout::Nchw => vec![self.channels(), height, width],
            Layout::Nhwc => vec![height, width, self.channels()],
        }
    }

    /// Reads an image file; the bytes of one sample.
    pub fn sample(&self, path: &Path) -> Result<Vec<u8>, DataError> {
        let pixels = picture::pixels(path, self.exif)?;
        Ok(self.arrange(&self.crop(&pixels)))
    }

    /// Resizes the shorter side (bilinear with antialiasing, as PIL does) and cuts the centre out.
    /// An image too narrow for the crop is enlarged until it fits.
    fn crop(&self, image: &RgbImage) -> RgbImage {
        let (width, height) = (u64::from(image.width()), u64::from(image.height()));
        let ratios = [
            (u64::from(self.resize), width.min(height)),
            (u64::from(self.width), width),
            (u64::from(self.height), height),
        ];
        // The largest ratio, compared as fractions: floats would lose a pixel now and then.
        let by_value = |a: &&(u64, u64), b: &&(u64, u64)| (a.0 * b.1).cmp(&(b.0 * a.1));
        let (to, from) = *ratios.iter().max_by(by_value).unwrap_or(&(1, 1));
        let resized =
            |side: u64| u32::try_from((side * to / from.max(1)).max(1)).unwrap_or(u32::MAX);
        let (new_width, new_height) = (resized(width), resized(height));
        let resized = imageops::resize(image, new_width, new_height, FilterType::Triangle);
        let start =
            |size: u32, crop: u32| (f64::from(size - crop.min(size)) / 2.0).round_ties_even();
        let (left, top) = (start(new_width, self.width), start(new_height, self.height));
        imageops::crop_imm(&resized, left as u32, top as u32, self.width, self.height).to_image()
    }

    /// Orders colours and axes and normalises.
    pub fn arrange(&self, image: &RgbImage) -> Vec<u8> {
        let channels = self.channels();
        let mut values = vec![0.0; image.width() as usize * image.height() as usize * channels];
        let area = values.len() / channels;
        for (at, pixel) in image.pixels().enumerate() {
            let [r, g, b] = pixel.0.map(f32::from);
            let colors = match self.color {
                Color::Rgb => [r, g, b],
                Color::Bgr => [b, g, r],
                // The weights of PIL and OpenCV (ITU-R 601).
                Color::Gray => [(0.299 * r + 0.587 * g + 0.114 * b).round(), 0.0, 0.0],
            };
            let normal = self.mean.iter().zip(&self.std).zip(colors);
            for (channel, ((mean, std), color)) in normal.enumerate() {
                let place = match self.layout {
                    Layout::Nchw => channel * area + at,
                    Layout::Nhwc => at * channels + channel,
                };
                values[place] = f64::from((color * self.scale - mean) / std);
            }
        }
        if convert::is_float(self.dtype) {
            convert::from_f64(&values, self.dtype)
        } else {
            values.into_iter().map(|value| value as u8).collect()
        }
    }
}

fn color(given: Option<Color>, channels: Option<usize>) -> Result<Color, DataError> {
    match (given, channels) {
        (None, None | Some(3)) => Ok(Color::Rgb),
        (None | Some(Color::Gray), Some(1)) | (Some(Color::Gray), None) => Ok(Color::Gray),
        (Some(color @ (Color::Rgb | Color::Bgr)), None | Some(3)) => Ok(color),
        (given, Some(count)) => {
            let problem = format!(
                "image files have 3 colour channels or 1 (gray), but the model's input has {count} \
                 with `color` {given:?} and this `layout`; give .npy or .npz data or fix the options"
            );
            Err(option_error("`color`", problem))
        }
    }
}

/// One side of the wanted image: the model's, else the crop's, else 224.
fn side(size: Option<usize>, crop: Option<u32>) -> Result<u32, DataError> {
    let crop = crop.map(u64::from);
    let size = size.map(|size| size as u64);
    if let (Some(size), Some(crop)) = (size, crop)
        && size != crop
    {
        let problem =
            format!("the model takes {size} pixels, so leave the option out or give {size}");
        return Err(option_error("`crop`", problem));
    }
    let side = size.or(crop).unwrap_or(224);
    u32::try_from(side)
        .ok()
        .filter(|side| (1..=1 << 16).contains(side))
        .ok_or_else(|| option_error("`crop`", format!("{side} pixels are no size of an image")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dtype: DataType, shape: [Option<usize>; 4]) -> InputSpec {
        InputSpec {
            name: "x".into(),
            dtype,
            shape: shape.into(),
        }
    }

    fn made(shape: [Option<usize>; 4], options: &ImageOptions) -> (Preprocess, String) {
        let mut notes = Vec::new();
        let made = Preprocess::new(&spec(DataType::Float, shape), options, &mut notes).unwrap();
        (made, notes.concat())
    }

    fn f32s(bytes: &[u8]) -> Vec<f32> {
        let (chunks, _) = bytes.as_chunks::<4>();
        chunks.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    #[test]
    fn the_defaults_are_those_of_imagenet() {
        let open = [None, Some(3), None, None];
        let (made, note) = made(open, &ImageOptions::default());
        assert_eq!((made.resize, made.shape()), (256, vec![3, 224, 224]));
        assert!(note.contains("0.485") && note.contains("NCHW"), "{note}");
        let image = RgbImage::from_pixel(300, 500, image::Rgb([255, 0, 51]));
        let values = f32s(&made.arrange(&made.crop(&image)));
        let area = 224 * 224;
        let expected = [(1.0 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225];
        for (channel, value) in expected.into_iter().enumerate() {
            assert!((values[channel * area] - value).abs() < 1e-5);
        }
    }

    #[test]
    fn sizes_follow_torchvision() {
        let (made, _) = made(
            [None, Some(3), Some(192), Some(192)],
            &ImageOptions::default(),
        );
        assert_eq!(made.resize, 219); // round(192 * 256 / 224)
        // Columns 0..640 with their index as value: the crop is the middle of the resized image.
        let image = RgbImage::from_fn(640, 480, |x, _| image::Rgb([(x / 4) as u8, 0, 0]));
        let crop = made.crop(&image);
        assert_eq!(crop.dimensions(), (192, 192));
        // Resized to 292 x 219; columns 50 to 241.
        let middle = f64::from(crop.get_pixel(96, 9).0[0]);
        assert!(
            (middle - (146.5 * 640.0 / 292.0) / 4.0).abs() <= 1.0,
            "{middle}"
        );
    }

    #[test]
    fn narrow_images_are_enlarged_and_layout_and_color_are_obeyed() {
        let options = ImageOptions {
            color: Some(Color::Bgr),
            scale: Some(1.0),
            ..Default::default()
        };
        let (made, note) = made([None, Some(4), Some(8), Some(3)], &options);
        assert!(note.contains("NHWC") && note.contains("BGR"), "{note}");
        let image = RgbImage::from_pixel(2, 90, image::Rgb([1, 2, 3]));
        let values = f32s(&made.arrange(&made.crop(&image)));
        assert_eq!(values.len(), 4 * 8 * 3);
        assert_eq!(values[..6], [3.0, 2.0, 1.0, 3.0, 2.0, 1.0]);
    }

    #[test]
    fn gray_inputs_have_no_mean() {
        let (made, note) = made([None, Some(1), Some(2), Some(2)], &ImageOptions::default());
        assert!(note.contains("mean [0.0], std [1.0]"), "{note}");
        let image = RgbImage::from_pixel(2, 2, image::Rgb([255, 255, 255]));
        assert_eq!(f32s(&made.arrange(&made.crop(&image))), [1.0; 4]);
    }

    #[test]
    fn options_that_do_not_fit_are_errors() {
        let shape = [None, Some(3), Some(224), Some(224)];
        let error = |dtype, shape, options: ImageOptions| {
            let result = Preprocess::new(&spec(dtype, shape), &options, &mut Vec::new());
            result.unwrap_err().to_string()
        };
        let options = ImageOptions::default;
        let crop = ImageOptions {
            crop: Some(128),
            ..options()
        };
        assert!(error(DataType::Float, shape, crop).contains("takes 224"));
        let mean = ImageOptions {
            mean: Some(vec![0.0; 2]),
            ..options()
        };
        assert!(error(DataType::Float, shape, mean).contains("1 or 3 values, found 2"));
        let std = ImageOptions {
            std: Some(vec![0.0]),
            ..options()
        };
        assert!(error(DataType::Float, shape, std).contains("not 0"));
        let four = [None, Some(4), Some(224), Some(224)];
        assert!(error(DataType::Float, four, options()).contains("has 4"));
        assert!(error(DataType::Int64, shape, options()).contains("takes int64"));
    }
}
