//! The gradients that rules give, against central differences of what ONNX Runtime computes: each
//! operator alone in all its forms, and random graphs of several blocks.

mod operators;

use std::cell::RefCell;
use std::collections::BTreeSet;

use onnx_mipp::data::Batch;
use onnx_mipp::graph::ValueId;
use onnx_mipp::onnx::proto::ModelProto;
use onnx_mipp::onnx::{DataType, Model, Tensor};
use onnx_mipp::runtime::Session;
use onnx_mipp::tune::{Drawn, Learning, learning};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::builder::Builder;
use crate::graphs::net::{BLOCKS, of_layers};
use crate::masked::{Found, batch, find, runtime};

/// Half of the step of a difference, and how far a slope may be off, as a part of the gradient's
/// length.
const STEP: f32 = 1e-3;
/// The same through many layers, where a step passes more kinks.
const SMALL_STEP: f32 = 1e-4;
const TOLERANCE: f64 = 0.02;

/// The learning model of a model, with what its inputs are fed.
struct Checked {
    found: Found,
    learning: Learning,
    session: RefCell<Session>,
    feeds: Batch,
}

impl Checked {
    /// All outputs are drawn to random numbers; `None` where nothing learns.
    fn new(proto: ModelProto, samples: usize) -> Option<Self> {
        let found = find(proto);
        let mut feeds = batch(&found.model, samples, 5);
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let mut drawn = Vec::new();
        for (value, known) in found.graph.values.entries() {
            if !known.is_output || known.dtype != Some(DataType::Float) {
                continue;
            }
            let shape = known.shape.clone().unwrap();
            let count: usize = shape.iter().product();
            let numbers = (0..count).map(|_| random.random_range(-1.0..1.0)).collect();
            let target = format!("target/{}", known.name);
            feeds.push((target.clone(), Tensor::from_f32(&shape, numbers).unwrap()));
            let weight = 1.5;
            drawn.push(Drawn {
                value,
                target,
                weight,
            });
        }
        let learning = learning(&found.model, &found.graph, &drawn)?;
        let session = runtime().session(&learning.model).unwrap();
        Some(Checked {
            found,
            session: RefCell::new(session),
            learning,
            feeds,
        })
    }

    fn name(&self, weight: ValueId) -> &str {
        &self.found.graph.values[weight].name
    }

    fn learned(&self) -> BTreeSet<&str> {
        let weights = self.learning.weights.iter();
        weights.map(|&weight| self.name(weight)).collect()
    }

    /// The error and all gradients, with one weight moved by a step times a direction.
    fn run(&self, moved: Option<(ValueId, &[f32], f32)>) -> Vec<Vec<f32>> {
        let outputs = match moved {
            Some(_) => &self.learning.outputs[..1],
            None => &self.learning.outputs,
        };
        let mut feeds = self.feeds.clone();
        for &weight in &self.learning.weights {
            let tensor = self.found.graph.values[weight].constant.clone().unwrap();
            let mut values: Vec<f32> = tensor.to_f32().unwrap().into_iter().collect();
            if let Some((of, direction, step)) = moved
                && of == weight
            {
                let pairs = values.iter_mut().zip(direction);
                pairs.for_each(|(value, part)| *value += step * part);
            }
            let tensor = Tensor::from_f32(&tensor.shape, values).unwrap();
            feeds.push((self.name(weight).to_owned(), tensor));
        }
        let mut session = self.session.borrow_mut();
        let found = session.run(&feeds, outputs).unwrap();
        let values = found
            .iter()
            .map(|t| t.to_f32().unwrap().into_iter().collect());
        values.collect()
    }

    /// Each weight's gradient along a random direction and the slope of the error there, both as
    /// parts of the gradient's length.
    fn slopes(&self, step: f32) -> Vec<(&str, [f64; 2])> {
        let gradients = self.run(None);
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let weights = self.learning.weights.iter().zip(&gradients[1..]);
        let slopes = weights.map(|(&weight, gradient)| {
            let known = self.found.graph.values[weight].constant.as_ref().unwrap();
            assert_eq!(gradient.len(), known.len(), "{}", self.name(weight));
            let sign = |_: &f32| if random.random::<bool>() { 1.0 } else { -1.0 };
            let direction: Vec<f32> = gradient.iter().map(sign).collect();
            let at = |step: f32| f64::from(self.run(Some((weight, &direction, step)))[0][0]);
            let slope = (at(step) - at(-step)) / f64::from(2.0 * step);
            let pairs = gradient.iter().zip(&direction);
            let along: f64 = pairs.map(|(g, d)| f64::from(g * d)).sum();
            let squares = gradient.iter().map(|&g| f64::from(g).powi(2));
            let length = squares.sum::<f64>().sqrt();
            assert!(length > 0.0, "{} has no gradient", self.name(weight));
            (self.name(weight), [along / length, slope / length])
        });
        slopes.collect()
    }

    /// Compares the two of every weight.
    fn check(&self, what: &str) {
        for (weight, [along, slope]) in self.slopes(STEP) {
            let off = (slope - along).abs();
            assert!(
                off < TOLERANCE,
                "{what}: {weight}: slope {slope}, gradient {along}"
            );
        }
    }
}

/// Every weight of what is made of known rules learns, through several blocks. A step passes kinks
/// there and the error is rounded, so a few slopes may differ.
#[test]
fn random_graphs_of_blocks() {
    let (mut right, mut all) = (0, 0);
    for seed in 0..40 {
        let opset = [13, 17][usize::from(seed % 2 == 0)];
        let layers: Vec<_> = (0..3)
            .map(|at| (BLOCKS[(seed * 7 + at) as usize % BLOCKS.len()], seed + at))
            .collect();
        let proto = of_layers(opset, seed, Some(8), &layers);
        let Some(checked) = Checked::new(proto, 2) else {
            continue;
        };
        if !checked.learning.ends.is_empty() {
            continue;
        }
        for (_, [along, slope]) in checked.slopes(SMALL_STEP) {
            all += 1;
            right += usize::from((slope - along).abs() < 0.1);
        }
    }
    assert!(all > 200, "{all}");
    assert!(right * 100 > all * 95, "{right} of {all}");
}

/// A weight of which one reader's gradient is not known must not move for the other's sake.
#[test]
fn what_is_read_in_unknown_ways_does_not_learn() {
    let mut b = Builder::new(17);
    let x = b.input("x", &[2, 3, 6, 6]);
    let shared = b.uniform(&[3, 1, 1], 0.5, 1.5);
    let own = b.uniform(&[3, 1, 1], 0.5, 1.5);
    let known = b.node("Mul", &[&x, &shared], vec![]);
    let unknown = b.node("Mul", &[&known, &own], vec![]);
    let unknown = b.node("Softplus", &[&unknown], vec![]);
    let read = b.node("Softplus", &[&shared], vec![]);
    let made = b.node("Add", &[&known, &unknown], vec![]);
    let made = b.node("Add", &[&made, &read], vec![]);
    b.output(&made, 4);
    assert!(Checked::new(b.finish(), 2).is_none());
}

/// The model with weights as inputs is the model.
#[test]
fn a_learning_model_makes_what_the_model_makes() {
    let proto = of_layers(17, 3, Some(8), &[(BLOCKS[0], 1), (BLOCKS[1], 2)]);
    let checked = Checked::new(proto, 2).unwrap();
    let found = &checked.found;
    let made = crate::masked::run(&found.model, &batch(&found.model, 2, 5));
    let targets = checked
        .feeds
        .iter()
        .filter(|(name, _)| name.starts_with("target/"));
    let errors = made.iter().zip(targets).map(|(made, (_, target))| {
        let (made, target) = (made.to_f64().unwrap(), target.to_f64().unwrap());
        1.5 * (made - target).mapv(|d| d * d).mean().unwrap()
    });
    let expected: f64 = errors.sum();
    let error = f64::from(checked.run(None)[0][0]);
    assert!(
        (error - expected).abs() < 1e-4 * expected,
        "{error} {expected}"
    );
    let _: &Model = &found.model;
}
