//! Sizes of made-up images and sounds, where the model leaves them open and does not run with the
//! usual ones.

use crate::pipeline::calibration::Calibration;
use crate::runtime::InputSpec;

/// Lines of writing for recognisers, then larger images.
const TRIED: [[usize; 2]; 5] = [[48, 320], [32, 320], [32, 100], [256, 256], [640, 640]];
/// Samples of a sound, tried in their turn: what detectors of speech take at a time, seconds.
const LENGTHS: [usize; 5] = [512, 256, 1600, 16_000, 64_000];
/// Channels where these are open too.
const COLORS: usize = 3;

/// Whether sizes are guessed: only a run shows that the model takes them.
pub(super) fn are_guessed(specs: &[InputSpec], calibration: &Calibration) -> bool {
    let inner = |spec: &InputSpec| spec.shape.iter().skip(1).any(Option::is_none);
    let is_open =
        |spec: &&InputSpec| !calibration.reader.shapes.contains_key(&spec.name) && inner(spec);
    calibration.is_synthetic() && specs.iter().any(|spec| is_open(&spec))
}

/// The calibration with other sizes for the images that are made up, and what these sizes are.
pub(super) fn others(specs: &[InputSpec], calibration: &Calibration) -> Vec<(Calibration, String)> {
    if !are_guessed(specs, calibration) {
        return Vec::new();
    }
    let of_size = |(size, &length): (&[usize; 2], &usize)| {
        let mut tried = calibration.clone();
        let mut names = Vec::new();
        for spec in specs {
            if let Some(shape) = sized(spec, *size, length)
                .filter(|_| !calibration.reader.shapes.contains_key(&spec.name))
            {
                names.push(format!("'{}' {shape:?}", spec.name));
                tried.reader.shapes.insert(spec.name.clone(), shape);
            }
        }
        (!names.is_empty()).then(|| (tried, names.join(", ")))
    };
    TRIED.iter().zip(&LENGTHS).filter_map(of_size).collect()
}

/// The shape of one image of that height and width, or a sound of that length; `None` of what is
/// neither or states other sizes.
fn sized(spec: &InputSpec, [height, width]: [usize; 2], length: usize) -> Option<Vec<usize>> {
    let (second, third, fourth) = match *spec.shape.as_slice() {
        [_, None] => return Some(vec![1, length]),
        [_, second, third, fourth] => (second, third, fourth),
        _ => return None,
    };
    let is_color = |size: Option<usize>| matches!(size, Some(1 | 3 | 4));
    let is_last = is_color(fourth) && !is_color(second);
    let (colors, sizes) = if is_last {
        (fourth, [second, third])
    } else {
        (second, [third, fourth])
    };
    let fits = |stated: Option<usize>, size: usize| stated.is_none_or(|stated| stated == size);
    let is_open = sizes.contains(&None) && fits(sizes[0], height) && fits(sizes[1], width);
    let colors = colors.unwrap_or(COLORS);
    is_open.then(|| {
        if is_last {
            vec![1, height, width, colors]
        } else {
            vec![1, colors, height, width]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::DataType;

    fn spec(shape: [Option<usize>; 4]) -> InputSpec {
        InputSpec {
            name: "x".to_owned(),
            dtype: DataType::Float,
            shape: shape.to_vec(),
        }
    }

    #[test]
    fn open_heights_and_widths_of_images_are_filled() {
        let first = spec([None, Some(3), None, None]);
        assert_eq!(sized(&first, [48, 320], 1), Some(vec![1, 3, 48, 320]));
        let last = spec([None, None, None, Some(1)]);
        assert_eq!(sized(&last, [32, 100], 1), Some(vec![1, 32, 100, 1]));
        let lines = spec([None, Some(3), Some(48), None]);
        assert_eq!(sized(&lines, [48, 320], 1), Some(vec![1, 3, 48, 320]));
        assert_eq!(sized(&lines, [32, 320], 1), None);
        assert_eq!(
            sized(&spec([None, Some(3), Some(48), Some(64)]), [48, 64], 1),
            None
        );
    }
}
