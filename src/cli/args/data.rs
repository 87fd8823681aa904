//! The calibration data and how they are read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::values::{BATCHES, PIXELS, SAMPLES, SEEDS, finite, shape, whole};
use crate::data::{Color, Exif, ImageOptions, Layout};
use crate::pipeline::Calibration;

#[derive(Debug, Args)]
#[command(next_help_heading = "Calibration data")]
pub struct CalibrationArguments {
    /// Unlabelled samples: .npy, .npz, a folder of .npy files, ONNX test data (.pb), or a folder of
    /// images; may be given several times. Without it, inputs are made up
    #[arg(long, value_name = "PATH")]
    calib: Vec<PathBuf>,
    /// Use at most this many samples
    #[arg(long, value_name = "N", value_parser = whole(SAMPLES))]
    samples: Option<usize>,
    /// Samples per run
    #[arg(long, value_name = "N", value_parser = whole(BATCHES))]
    batch: Option<usize>,
    /// Shape of an input whose dimensions are dynamic, such as input=1,3,224,224
    #[arg(long, value_name = "NAME=D,D,...", value_parser = shape)]
    shape: Vec<(String, Vec<usize>)>,
    /// Images: mean that is subtracted, one number or one per channel
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true, value_parser = finite)]
    mean: Option<Vec<f32>>,
    /// Images: standard deviation to divide by, one number or one per channel
    #[arg(long, value_delimiter = ',', value_parser = finite)]
    std: Option<Vec<f32>>,
    /// Images: factor on pixel values of 0 to 255, before mean and std
    #[arg(long, value_parser = finite)]
    scale: Option<f32>,
    /// Images: pixels of the shorter side after resizing
    #[arg(long, value_name = "N", value_parser = whole(PIXELS))]
    resize: Option<u32>,
    /// Images: pixels of the central square that is used
    #[arg(long, value_name = "N", value_parser = whole(PIXELS))]
    crop: Option<u32>,
    /// Images: order of the axes
    #[arg(long, value_enum)]
    layout: Option<LayoutArgument>,
    /// Images: order of the colours
    #[arg(long, value_enum)]
    color: Option<ColorArgument>,
    /// Images: what becomes of a rotation in the EXIF data; PIL and torchvision ignore it, OpenCV
    /// applies it
    #[arg(long, value_enum, default_value = "ignore")]
    exif: ExifArgument,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole(SEEDS))]
    seed: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LayoutArgument {
    Nchw,
    Nhwc,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ColorArgument {
    Rgb,
    Bgr,
    Gray,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ExifArgument {
    Ignore,
    Apply,
}

impl CalibrationArguments {
    /// The data and how they are read; `statistics` are files of earlier calibrations.
    pub fn calibration(&self, statistics: &[PathBuf]) -> Calibration {
        let mut calibration = Calibration::files(&self.calib)
            .statistics(statistics)
            .images(self.image())
            .seed(self.seed);
        calibration.batch = self.batch;
        calibration.reader.samples = self.samples;
        calibration.reader.shapes = shapes(&self.shape);
        calibration
    }

    fn image(&self) -> ImageOptions {
        ImageOptions {
            mean: self.mean.clone(),
            std: self.std.clone(),
            scale: self.scale,
            resize: self.resize,
            crop: self.crop,
            layout: self.layout.map(|layout| match layout {
                LayoutArgument::Nchw => Layout::Nchw,
                LayoutArgument::Nhwc => Layout::Nhwc,
            }),
            color: self.color.map(|color| match color {
                ColorArgument::Rgb => Color::Rgb,
                ColorArgument::Bgr => Color::Bgr,
                ColorArgument::Gray => Color::Gray,
            }),
            exif: match self.exif {
                ExifArgument::Ignore => Exif::Ignore,
                ExifArgument::Apply => Exif::Apply,
            },
        }
    }
}

/// Sizes by the name of the input.
pub fn shapes(given: &[(String, Vec<usize>)]) -> BTreeMap<String, Vec<usize>> {
    given.iter().cloned().collect()
}
