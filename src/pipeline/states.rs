//! States of recurrent layers that a model reads, whose second axis is the batch: they fix it for
//! the whole run.

use crate::data;
use crate::pipeline::calibration::Calibration;
use crate::runtime::InputSpec;

/// The batches that states may be of, the likeliest first: what their second axis says, or one
/// sample where it is open, and the first, where that is the batch after all. None without states.
pub(super) fn batches(specs: &[InputSpec], calibration: &Calibration) -> Vec<usize> {
    let asked = |spec: &InputSpec| calibration.reader.shapes.get(&spec.name)?.get(1).copied();
    let second = |spec: &InputSpec| spec.shape.get(1).copied().flatten();
    let inside = data::states(specs).map(|spec| asked(spec).or(second(spec)).unwrap_or(1));
    let first = data::states(specs).filter_map(|spec| spec.shape.first().copied().flatten());
    inside.chain(first).collect()
}

/// The calibration with states of that many samples, where the model leaves nothing else of them
/// open.
pub(super) fn sized(specs: &[InputSpec], calibration: &Calibration, batch: usize) -> Calibration {
    let mut sized = calibration.clone();
    let shapes = &mut sized.reader.shapes;
    for spec in data::states(specs).filter(|spec| spec.shape.get(1) == Some(&None)) {
        let sizes = spec.shape.iter().enumerate();
        let filled = sizes.map(|(axis, &size)| if axis == 1 { Some(batch) } else { size });
        if let Some(shape) = filled.collect() {
            shapes.entry(spec.name.clone()).or_insert(shape);
        }
    }
    sized
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::DataType;

    fn spec(name: &str, shape: &[Option<usize>]) -> InputSpec {
        InputSpec {
            name: name.to_owned(),
            dtype: DataType::Float,
            shape: shape.to_vec(),
        }
    }

    #[test]
    fn states_are_told_from_inputs_with_samples() {
        let names = |specs: &[InputSpec]| -> Vec<String> {
            data::states(specs).map(|spec| spec.name.clone()).collect()
        };
        let sound = spec("sound", &[None, Some(80)]);
        let open = spec("h", &[Some(2), None, Some(64)]);
        let fixed = spec("c", &[Some(2), Some(1), Some(64)]);
        let rate = spec("rate", &[]);
        let all = [sound, open, fixed, rate];
        assert_eq!(names(&all), ["h", "c"]);
        assert_eq!(data::stated_batch(&all), None);
        // With a batch that is stated, nothing is open.
        let stated = [
            spec("x", &[Some(4), Some(3)]),
            spec("h", &[Some(2), Some(4), Some(8)]),
        ];
        assert!(names(&stated).is_empty());
        assert_eq!(data::stated_batch(&stated), Some(4));
        // Another number of axes than a state has: the batch is what is fixed.
        let pair = [spec("x", &[None, Some(3)]), spec("y", &[Some(4), Some(3)])];
        assert!(names(&pair).is_empty());
        assert_eq!(data::stated_batch(&pair), Some(4));
        // One row for all may be broadcast: it is a batch of one.
        let row = [spec("x", &[None, Some(3)]), spec("y", &[Some(1), Some(3)])];
        assert!(names(&row).is_empty());
        assert_eq!(data::stated_batch(&row), Some(1));
    }
}
