//! What the smaller model is drawn to: values inside the original one, and its outputs.

use std::collections::BTreeMap;

use crate::graph::{Graph, ValueId};
use crate::groups::{Alike, Consumer, Groups, Kept};
use crate::onnx::{DataType, Model, Tensor};
use crate::ops;

/// A value of the original model of which the smaller one has what stays.
pub(super) struct Target {
    /// Its name, in both models.
    pub name: String,
    /// Its shape in the smaller model, of the samples of the observed run.
    pub shape: Vec<usize>,
    /// The axis of the channels.
    pub axis: usize,
    /// Whether it is an output of the model.
    pub is_output: bool,
    /// Per axis of which not all stays, what does.
    picked: Vec<(usize, Vec<usize>)>,
    /// Around the mean of each channel.
    spread: Spread,
}

impl Target {
    /// The name of what the original model makes for it, and of the smaller one's input.
    pub fn made(&self) -> String {
        format!("onnx-mipp/target/{}", self.name)
    }

    /// Adds what the original model made of some samples.
    pub fn add(&mut self, made: &Tensor) {
        if let Ok(values) = made.as_f32() {
            self.spread.add(&values, &made.shape, self.axis);
        }
    }

    /// The mean square around the mean of each channel.
    pub fn variance(&self) -> f64 {
        self.spread.variance()
    }
}

/// The targets: what every layer with a weight makes, or the sum that it goes into, and the
/// model's outputs.
pub(super) fn targets(graph: &Graph, groups: &Groups, kept: &Kept<'_>) -> Vec<Target> {
    let mut axes = BTreeMap::new();
    for consumer in &groups.consumers {
        if consumer.output_axis != Consumer::INNER {
            axes.insert(behind(graph, consumer.output), consumer.output_axis);
        }
    }
    for (id, value) in graph.values.entries() {
        if value.is_output && value.producer.is_some() {
            let rank = value.shape.as_ref().map_or(0, Vec::len);
            axes.entry(id).or_insert(rank.saturating_sub(1));
        }
    }
    let all = axes.into_iter();
    all.filter_map(|(value, axis)| target(graph, kept, value, axis))
        .collect()
}

fn target(graph: &Graph, kept: &Kept<'_>, value: ValueId, axis: usize) -> Option<Target> {
    let known = &graph.values[value];
    let mut shape = known.shape.clone()?;
    let mut picked = Vec::new();
    for (axis, length) in shape.iter_mut().enumerate() {
        let Some(map) = kept.map(value, axis) else {
            continue;
        };
        if map.len() != *length {
            // It was of another batch that the channels were found.
            return None;
        }
        let stays = kept.positions(map);
        if stays.len() < *length {
            *length = stays.len();
            picked.push((axis, stays));
        }
    }
    let is_usable = known.dtype == Some(DataType::Float)
        && axis < shape.len()
        && shape.iter().all(|&length| length > 0);
    is_usable.then(|| Target {
        name: known.name.clone(),
        shape,
        axis,
        is_output: known.is_output,
        picked,
        spread: Spread::default(),
    })
}

/// Where a layer's output is the same channels for the last time: behind what moves and scales
/// them one by one, up to the first sum with something else.
fn behind(graph: &Graph, mut value: ValueId) -> ValueId {
    loop {
        let known = &graph.values[value];
        let [(reader, _)] = *known.readers else {
            return value;
        };
        let view = graph.view(reader);
        let Some(made) = view.output(0).filter(|_| !known.is_output) else {
            return value;
        };
        if ops::of(view.node).other_summand(view, value).is_some() {
            return made;
        }
        let keeps = matches!(ops::alike(view), Some(Alike::Adds | Alike::Scales));
        if !keeps || graph.values[made].shape != known.shape {
            return value;
        }
        value = made;
    }
}

/// The original model, which makes the targets and nothing else.
pub(super) fn making(model: &Model, targets: &[Target]) -> Model {
    let mut model = model.clone();
    if let Some(main) = model.proto.graph.as_mut() {
        main.output.clear();
        for target in targets {
            let mut source = target.name.clone();
            for (number, (axis, stays)) in target.picked.iter().enumerate() {
                let positions = format!("{}/{number}/positions", target.made());
                let made = format!("{}/{number}", target.made());
                let indexes: Vec<i64> = stays.iter().map(|&place| place as i64).collect();
                if let Ok(tensor) = Tensor::from_i64(&[indexes.len()], &indexes) {
                    main.initializer.push(tensor.to_proto(&positions));
                }
                main.node.push(ops::build::pick_node(
                    &source,
                    &positions,
                    *axis as i64,
                    &made,
                ));
                source = made;
            }
            let made = ops::build::identity_node(&source, &target.made());
            main.node.push(made);
            main.output.push(ops::build::bare_output(&target.made()));
        }
    }
    model
}

/// Sums of each channel.
#[derive(Default)]
struct Spread {
    count: f64,
    sums: Vec<[f64; 2]>,
}

impl Spread {
    fn add(&mut self, values: &[f32], shape: &[usize], axis: usize) {
        let channels = shape.get(axis).copied().unwrap_or(0);
        let inner: usize = shape.iter().skip(axis + 1).product();
        if channels == 0 || inner == 0 {
            return;
        }
        self.sums.resize(channels, [0.0; 2]);
        self.count += (values.len() / channels) as f64;
        for (place, run) in values.chunks(inner).enumerate() {
            let Some(sums) = self.sums.get_mut(place % channels) else {
                continue;
            };
            for &value in run {
                sums[0] += f64::from(value);
                sums[1] += f64::from(value).powi(2);
            }
        }
    }

    fn variance(&self) -> f64 {
        let count = self.count.max(1.0);
        let of_channel = |sums: &[f64; 2]| sums[1] / count - (sums[0] / count).powi(2);
        let all: f64 = self.sums.iter().map(of_channel).sum();
        all / self.sums.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_around_the_mean_of_each_channel() {
        let mut spread = Spread::default();
        // Two samples of two channels at two positions: 1 3 5 3 around 3, and 10 alone.
        spread.add(&[1.0, 3.0, 10.0, 10.0], &[1, 2, 2], 1);
        spread.add(&[5.0, 3.0, 10.0, 10.0], &[1, 2, 2], 1);
        assert!((spread.variance() - 1.0).abs() < 1e-12);
    }
}
