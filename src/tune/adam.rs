//! Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1), with steps in proportion to the root mean
//! square of each tensor (as in Shazeer and Stern, arXiv 1804.04235, section 8), so that one rate
//! serves all layers.

use rayon::prelude::*;

use crate::onnx::Tensor;

const MEAN_DECAY: f32 = 0.9;
const SQUARE_DECAY: f32 = 0.99;
const EPSILON: f32 = 1e-12;
/// Tensors of which all is nearly 0, such as new biases, move by at least this times the rate.
const LEAST_SCALE: f32 = 1e-2;

/// A tensor that learns.
#[derive(Clone)]
pub(super) struct Learner {
    /// Its name in the model.
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
    scale: f32,
    mean: Vec<f32>,
    square: Vec<f32>,
}

impl Learner {
    pub fn new(name: String, shape: Vec<usize>, values: Vec<f32>) -> Self {
        let squares: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
        let scale = (squares / values.len().max(1) as f64).sqrt() as f32;
        Learner {
            name,
            shape,
            scale: scale.max(LEAST_SCALE),
            mean: vec![0.0; values.len()],
            square: vec![0.0; values.len()],
            values,
        }
    }

    /// One step of size `rate` along the gradient; `step` counts from 1.
    fn step(&mut self, gradient: &[f32], rate: f32, step: i32) {
        let (mean_left, square_left) = (1.0 - MEAN_DECAY.powi(step), 1.0 - SQUARE_DECAY.powi(step));
        let all = self.values.iter_mut().zip(gradient);
        let moments = self.mean.iter_mut().zip(&mut self.square);
        for ((value, &gradient), (mean, square)) in all.zip(moments) {
            *mean += (1.0 - MEAN_DECAY) * (gradient - *mean);
            *square += (1.0 - SQUARE_DECAY) * (gradient * gradient - *square);
            let deviation = (*square / square_left).sqrt() + EPSILON;
            *value -= rate * self.scale * (*mean / mean_left) / deviation;
        }
    }
}

/// Moves all tensors by one step, each along the sum of its gradients, whose length does not count.
pub(super) fn step(learners: &mut [Learner], sums: &[Vec<f32>], rate: f32, step: i32) {
    let all = learners.par_iter_mut().zip(sums);
    all.for_each(|(learner, gradient)| learner.step(gradient, rate, step));
}

/// Adds the elements of float tensors to sums.
pub(super) fn add(sums: &mut [Vec<f32>], gradients: &[Tensor]) -> bool {
    sums.iter_mut().zip(gradients).all(|(sum, gradient)| {
        let Ok(found) = gradient.as_f32() else {
            return false;
        };
        let fits = found.len() == sum.len() && found.iter().all(|value| value.is_finite());
        if fits {
            sum.iter_mut()
                .zip(found.iter())
                .for_each(|(sum, &found)| *sum += found);
        }
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first step has the same length everywhere, whatever the gradient's.
    #[test]
    fn the_first_step_is_a_part_of_the_root_mean_square() {
        let mut learners = [Learner::new("w".to_owned(), vec![2], vec![3.0, -4.0])];
        step(&mut learners, &[vec![0.5, -1e-3]], 0.01, 1);
        let length = 0.01 * (12.5_f32).sqrt();
        let expected = [3.0 - length, -4.0 + length];
        let found = &learners[0].values;
        let mut pairs = found.iter().zip(expected);
        assert!(
            pairs.all(|(found, expected)| (found - expected).abs() < 1e-5),
            "{found:?}"
        );
    }

    #[test]
    fn it_finds_the_least_of_a_square() {
        let start = vec![1.0, -2.0];
        let mut learners = [Learner::new("w".to_owned(), vec![2], start)];
        for number in 1..=2000 {
            let values = &learners[0].values;
            let slope = vec![values[0] - 0.5, 100.0 * (values[1] - 0.25)];
            let rate = 0.01 * (1.0 - number as f32 / 2000.0);
            step(&mut learners, &[slope], rate, number);
        }
        let found = &learners[0].values;
        assert!(
            (found[0] - 0.5).abs() < 1e-2 && (found[1] - 0.25).abs() < 1e-2,
            "{found:?}"
        );
    }

    #[test]
    fn what_is_no_number_is_not_added() {
        let mut sums = vec![vec![1.0, 2.0]];
        let tensor = |values: [f32; 2]| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            Tensor {
                dtype: crate::onnx::DataType::Float,
                shape: vec![2],
                bytes: bytes.collect::<Vec<u8>>().into(),
            }
        };
        assert!(add(&mut sums, &[tensor([0.5, -2.0])]));
        assert_eq!(sums, [[1.5, 0.0]]);
        assert!(!add(&mut sums, &[tensor([0.5, f32::NAN])]));
    }
}
