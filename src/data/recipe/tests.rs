use std::collections::BTreeMap;

use super::*;
use crate::data::ImageOptions;

fn spec(name: &str, dtype: DataType, shape: &[Option<usize>]) -> InputSpec {
    InputSpec {
        name: name.into(),
        dtype,
        shape: shape.to_vec(),
    }
}

/// The recipe for the only input, with what is noted.
fn only(spec: &InputSpec, options: &ReaderOptions) -> (Recipe, String) {
    let mut notes = Vec::new();
    let recipe = Recipe::new(spec, std::slice::from_ref(spec), options, &mut notes);
    (recipe, notes.join("\n"))
}

fn made(spec: &InputSpec) -> (Recipe, String) {
    only(spec, &ReaderOptions::default())
}

fn f32s(bytes: &[u8]) -> Vec<f64> {
    let (chunks, _) = bytes.as_chunks::<4>();
    chunks
        .iter()
        .map(|b| f64::from(f32::from_le_bytes(*b)))
        .collect()
}

fn i64s(bytes: &[u8]) -> Vec<i64> {
    let (chunks, _) = bytes.as_chunks::<8>();
    chunks.iter().map(|b| i64::from_le_bytes(*b)).collect()
}

const PHOTO: [Option<usize>; 4] = [None, Some(3), Some(96), Some(96)];

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The figures that ImageNet's photographs have: of the brightness, mean 117 and deviation 55 in
/// the middle; of the colours, a correlation of red and green of about 0.9; and mean squares of the
/// differences d pixels apart that grow about like d^0.6, where white noise keeps them level.
#[test]
fn photographs_have_the_figures_of_photographs() {
    let (recipe, note) = made(&spec("x", DataType::Float, &PHOTO));
    assert!(
        note.contains("made-up photographs") && note.contains("0.485"),
        "{note}"
    );
    const AREA: usize = 96 * 96;
    let (mut means, mut deviations, mut alike) = (Vec::new(), Vec::new(), Vec::new());
    let mut steps = [0.0; 4];
    for index in 0..64 {
        let values = f32s(&recipe.sample(1, 0, index));
        // Back to pixels.
        let plane = |channel: usize, mean: f64, std: f64| -> Vec<f64> {
            let plane = values.iter().skip(channel * AREA).take(AREA);
            plane.map(|v| (v * std + mean) * 255.0).collect()
        };
        let (red, green) = (plane(0, 0.485, 0.229), plane(1, 0.456, 0.224));
        let of_green = mean(&green);
        let variance = mean(
            &green
                .iter()
                .map(|v| (v - of_green).powi(2))
                .collect::<Vec<_>>(),
        );
        let of_red = mean(&red);
        let other = mean(&red.iter().map(|v| (v - of_red).powi(2)).collect::<Vec<_>>());
        let both = red
            .iter()
            .zip(&green)
            .map(|(r, g)| (r - of_red) * (g - of_green));
        alike.push(mean(&both.collect::<Vec<_>>()) / (variance * other).sqrt().max(1e-9));
        means.push(of_green);
        deviations.push(variance.sqrt());
        for (step, sum) in [1, 2, 4, 8].into_iter().zip(&mut steps) {
            let rows = green.chunks_exact(96);
            let pairs = rows.flat_map(|row| row.iter().zip(row.iter().skip(step)));
            let squares: Vec<f64> = pairs.map(|(a, b)| (a - b).powi(2)).collect();
            *sum += mean(&squares) / variance.max(1.0) / 64.0;
        }
        assert!(green.iter().all(|v| (-0.01..=255.01).contains(v)));
    }
    let middle = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let found = [&mut means, &mut deviations, &mut alike].map(middle);
    assert!((105.0..130.0).contains(&found[0]), "mean {found:?}");
    assert!((42.0..66.0).contains(&found[1]), "deviation {found:?}");
    assert!((0.8..0.99).contains(&found[2]), "colours {found:?}");
    for pair in steps.windows(2) {
        let growth = (pair[1] / pair[0]).log2();
        assert!((0.25..1.1).contains(&growth), "{steps:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_samples_differ() {
    for spec in [
        spec("x", DataType::Float, &[None, Some(8)]),
        spec("x", DataType::Float, &PHOTO),
        spec("audio", DataType::Float, &[None, Some(500)]),
        spec("input_ids", DataType::Int64, &[None, Some(16)]),
    ] {
        let (recipe, _) = made(&spec);
        assert_eq!(recipe.sample(7, 0, 3), recipe.sample(7, 0, 3));
        assert_ne!(recipe.sample(7, 0, 3), recipe.sample(7, 0, 4));
        assert_ne!(recipe.sample(7, 0, 3), recipe.sample(8, 0, 3));
    }
    let (recipe, _) = made(&spec("x", DataType::Float, &PHOTO));
    assert_ne!(recipe.sample(7, 0, 3), recipe.sample(7, 1, 3));
}

#[test]
fn open_sizes_are_guessed_and_said() {
    let (recipe, notes) = made(&spec("x", DataType::Float16, &[None, None, None, Some(3)]));
    assert_eq!(recipe.shape(), [224, 224, 3]);
    assert_eq!(recipe.sample(0, 0, 0).len(), 224 * 224 * 3 * 2);
    assert!(notes.contains("axis 2") && notes.contains("224"), "{notes}");
    let (recipe, notes) = made(&spec(
        "x",
        DataType::Float,
        &[None, Some(3), Some(48), None],
    ));
    assert_eq!(recipe.shape(), [3, 48, 320]);
    assert!(notes.contains("lines of writing"), "{notes}");
    let wide = [None, Some(3), Some(48), Some(320)];
    let (_, notes) = made(&spec("x", DataType::Float, &wide));
    assert!(notes.contains("lines of writing"), "{notes}");
    let (recipe, _) = made(&spec("x", DataType::Float, &[None, None, Some(7), None]));
    assert_eq!(recipe.shape(), [3, 7, 320]);
    let (recipe, _) = made(&spec("x", DataType::Float, &[None, Some(16), None, None]));
    assert_eq!(recipe.shape(), [16, 224, 224]);
    let (recipe, _) = made(&spec("audio", DataType::Float, &[None, None]));
    assert_eq!(recipe.shape(), [16_000]);
    let (recipe, _) = made(&spec("ids", DataType::Int64, &[None, None]));
    assert_eq!(recipe.shape(), [64]);
    let values = i64s(&recipe.sample(0, 0, 0));
    assert!(values.len() == 64 && values.iter().all(|v| (0..100).contains(v)));
}

/// What normalises an image: the options, then what the model tells, then ImageNet's values.
#[test]
fn pixels_are_in_the_range_that_is_asked_for() {
    let range = |dtype, channels, told: Option<Values>, image: ImageOptions| {
        let spec = spec("x", dtype, &[None, Some(channels), Some(32), Some(32)]);
        let told = told.map(|told| ("x".to_owned(), told));
        let options = ReaderOptions {
            image,
            told: BTreeMap::from_iter(told),
            ..Default::default()
        };
        let (recipe, _) = only(&spec, &options);
        let samples = (0..8).flat_map(|index| f32s(&recipe.sample(0, 0, index)));
        samples.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (v.min(low), v.max(high))
        })
    };
    let plain = ImageOptions::default;
    let near = |(low, high): (f64, f64), (least, most): (f64, f64)| {
        let slack = (most - least) * 0.2;
        assert!(
            low >= least - 1e-5 && low < least + slack,
            "{low} of {least}"
        );
        assert!(
            high <= most + 1e-5 && high > most - slack,
            "{high} of {most}"
        );
    };
    near(range(DataType::Float, 3, None, plain()), (-2.1179, 2.6401));
    near(
        range(DataType::Float, 3, Some(Values::Bytes), plain()),
        (0.0, 255.0),
    );
    near(
        range(DataType::Float, 3, Some(Values::Shares), plain()),
        (0.0, 1.0),
    );
    near(range(DataType::Float, 1, None, plain()), (-1.0, 1.0));
    let asked = ImageOptions {
        mean: Some(vec![0.5]),
        ..plain()
    };
    near(
        range(DataType::Float, 3, Some(Values::Bytes), asked),
        (-0.5, 0.5),
    );
    let bytes = spec("x", DataType::Uint8, &[None, Some(32), Some(32), Some(3)]);
    let found = made(&bytes).0.sample(0, 0, 0);
    assert!(found.len() == 32 * 32 * 3 && found.iter().any(|v| *v > 100));
}

/// All inputs of a sample tell of one sentence, in any integer type.
#[test]
fn inputs_of_a_sentence_agree() {
    let inputs = [
        spec("input_ids", DataType::Int64, &[None, None]),
        spec("attention_mask", DataType::Int32, &[None, None]),
        spec("token_type_ids", DataType::Int64, &[None, None]),
    ];
    let options = ReaderOptions {
        told: BTreeMap::from([("input_ids".to_owned(), Values::Rows(30_522))]),
        ..Default::default()
    };
    let recipe = |spec| Recipe::new(spec, &inputs, &options, &mut Vec::new());
    let [ids, mask, types] = inputs.each_ref().map(recipe);
    let mut lengths = Vec::new();
    for index in 0..32 {
        let ids = i64s(&ids.sample(5, 0, index));
        let mask = mask.sample(5, 1, index);
        let words = mask.as_chunks::<4>().0.iter();
        let used = words.filter(|word| i32::from_le_bytes(**word) == 1).count();
        assert_eq!((ids[0], ids[used - 1]), (101, 102));
        assert!(ids.iter().skip(used).all(|id| *id == 0));
        let types = i64s(&types.sample(5, 2, index));
        assert!(types.iter().skip(used).all(|kind| *kind == 0));
        lengths.push(used);
    }
    lengths.sort_unstable();
    assert!(lengths[0] < 16 && lengths[31] > 40, "{lengths:?}");
}

#[test]
fn what_fits_is_told_by_type_shape_and_name() {
    use DataType::{Bool, Float, Int32, Int64};
    for (name, dtype, shape, text) in [
        (
            "x",
            Float,
            [None, Some(64), Some(14), Some(14)].as_slice(),
            "spectrum",
        ),
        ("x", Float, &[None, Some(80), Some(300)], "noise of any"),
        ("x", Float, &[None, Some(16_000)], "sounds"),
        ("waveform", Float, &[None, Some(1), None], "sounds"),
        ("attention_mask", Float, &[None, Some(8)], "constant 1"),
        ("mask", Bool, &[None, Some(8)], "ones"),
        ("position_ids", Int64, &[None, Some(8)], "places"),
        ("sr", Int64, &[], "constant 16000"),
        ("n", Int32, &[None, Some(8)], "random integers"),
        (
            "x",
            Int32,
            &[None, Some(3), Some(8), Some(8)],
            "random integers",
        ),
    ] {
        let (recipe, note) = made(&spec(name, dtype, shape));
        assert!(note.contains(text), "{name}: {note}");
        assert!(!recipe.sample(0, 0, 0).is_empty());
    }
}

/// White rows differ from their neighbours by twice their variance, smooth ones by much less.
#[test]
fn noise_that_stands_for_anything_is_faint_and_strong_white_and_smooth() {
    let (recipe, _) = made(&spec("x", DataType::Float, &[None, Some(2), Some(512)]));
    let figures = |index| {
        let values = f32s(&recipe.sample(0, 0, index));
        let row = &values[..512];
        let variance = mean(&row.iter().map(|v| v * v).collect::<Vec<_>>());
        let steps = row.windows(2).map(|pair| (pair[1] - pair[0]).powi(2));
        let share = mean(&steps.collect::<Vec<_>>()) / variance;
        (variance.sqrt(), share)
    };
    let (mut sizes, mut shares): (Vec<f64>, Vec<f64>) = (0..64).map(figures).unzip();
    sizes.sort_by(f64::total_cmp);
    shares.sort_by(f64::total_cmp);
    assert!(sizes[0] >= 0.01 && sizes[6] < 0.03, "{sizes:?}");
    assert!(sizes[57] > 0.9 && sizes[63] <= 2.0, "{sizes:?}");
    assert!(shares[0] < 0.1 && shares[63] > 1.0, "{shares:?}");
}

/// Rows that are too short for a spectrum are normal: no row is zero.
#[test]
fn short_rows_of_noise_are_normal() {
    let (recipe, _) = made(&spec("x", DataType::Float, &[None, Some(64), Some(1)]));
    for index in 0..16 {
        let values = f32s(&recipe.sample(0, 0, index));
        let variance = mean(&values.iter().map(|v| v * v).collect::<Vec<_>>());
        let fourth = mean(&values.iter().map(|v| v.powi(4)).collect::<Vec<_>>());
        assert!(
            (1.5..8.0).contains(&(fourth / variance.powi(2))),
            "{values:?}"
        );
    }
}
