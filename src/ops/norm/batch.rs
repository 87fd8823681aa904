//! BatchNormalization: scales and moves each channel on its own.

use crate::graph::{Freeze, NodeView};
use crate::groups::{Alike, Backward, Operator, Shifted, Told, Unscaled, Walk};
use crate::onnx::{DataType, Tensor, TensorError};
use crate::ops::backward::{input, product, reshaped, shape, summed};
use crate::ops::constant::is_weight;
use crate::ops::norm::{ALONE, others, per_channel};
use crate::ops::{Entry, inputs};

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(
    &["BatchNormalization"],
    &BatchNormalization,
    ALONE,
)];

const SCALE: usize = 1;
const BIAS: usize = 2;
const MEAN: usize = 3;
const VARIANCE: usize = 4;

struct BatchNormalization;

fn trains(view: NodeView<'_>) -> bool {
    view.node.int("training_mode", 0) != 0
}

impl Operator for BatchNormalization {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        if trains(view) {
            return Err(Freeze::new("it is in training mode"));
        }
        for axis in others(view)? {
            walk.freeze_axis(
                view.need(0)?,
                axis,
                view.id,
                "it normalises along the tracked axis",
            );
        }
        per_channel(view, walk, 1..5)
    }

    fn alike(&self, view: NodeView<'_>) -> Option<Alike> {
        (!trains(view)).then_some(Alike::Scales)
    }

    fn unscaled(&self, view: NodeView<'_>) -> Option<Result<Unscaled, TensorError>> {
        const SLOTS: [usize; 4] = [SCALE, BIAS, MEAN, VARIANCE];
        let [Some(scale), Some(added), Some(mean), Some(variance)] =
            SLOTS.map(|slot| view.constant(slot))
        else {
            return None;
        };
        let epsilon = f64::from(view.node.float("epsilon", 1e-5));
        let divide = || {
            let factor = scale.to_f64()? / (variance.to_f64()? + epsilon).sqrt();
            let moved = added.to_f64()? - mean.to_f64()? * &factor;
            let filled = |value: f64| ndarray::ArrayD::from_elem(factor.raw_dim(), value);
            let [ones, zeros, rest] = [1.0, 0.0, 1.0 - epsilon].map(filled);
            Ok(Unscaled {
                scale: factor.iter().copied().collect(),
                constants: [
                    (SCALE, Tensor::from_f64(scale.dtype, &ones)?),
                    (BIAS, Tensor::from_f64(added.dtype, &moved)?),
                    (MEAN, Tensor::from_f64(mean.dtype, &zeros)?),
                    (VARIANCE, Tensor::from_f64(variance.dtype, &rest)?),
                ],
                added: BIAS,
            })
        };
        Some(divide())
    }

    fn backward(&self, view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
        let gradient = back.output().filter(|_| !trains(view))?;
        let (channels, rank) = (shape(view, SCALE)?, shape(view, 0)?.len());
        let along: Vec<usize> = (0..rank)
            .map(|axis| {
                if axis == 1 {
                    channels.iter().product()
                } else {
                    1
                }
            })
            .collect();
        let others: Vec<usize> = (0..rank).filter(|&axis| axis != 1).collect();
        let epsilon = f64::from(view.node.float("epsilon", 1e-5));
        let inverse =
            (view.constant(VARIANCE)?.to_f64().ok()? + epsilon).mapv(|v| v.sqrt().recip());
        let inverse = Tensor::from_f64(DataType::Float, &inverse).ok()?;
        let inverse = back.graph.constant(inverse);
        if back.wants(0) {
            let factor = product(back, input(view, SCALE)?, &inverse);
            let factor = reshaped(back, &factor, &along)?;
            let found = product(back, gradient, &factor);
            back.give(0, found);
        }
        if back.wants(SCALE) {
            let mean = reshaped(back, input(view, MEAN)?, &along)?;
            let moved = back.graph.node("Sub", &[input(view, 0)?, &mean], &[]);
            let found = product(back, gradient, &moved);
            let found = summed(back, view.graph.opset, &found, &others)?;
            let found = reshaped(back, &found, channels)?;
            let found = product(back, &found, &inverse);
            back.give(SCALE, found);
        }
        if back.wants(BIAS) {
            let found = summed(back, view.graph.opset, gradient, &others)?;
            let found = reshaped(back, &found, channels)?;
            back.give(BIAS, found);
        }
        Some(())
    }

    fn shifted(&self, view: NodeView<'_>, slot: usize) -> Option<Shifted> {
        let mean = view.constant(MEAN).filter(|_| slot == 0 && !trains(view))?;
        // It subtracts its mean.
        is_weight(mean.dtype).then_some(Shifted {
            slot: MEAN,
            factor: -1.0,
            axis: Some(1),
        })
    }

    fn told(&self, view: NodeView<'_>, slot: usize) -> Told {
        match slot {
            0 => inputs::by_mean(view.constant(MEAN)),
            _ => Told::Nothing,
        }
    }
}
