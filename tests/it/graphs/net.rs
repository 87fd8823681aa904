//! The generator of random graphs.

mod blocks;
mod space;

pub use blocks::BLOCKS;

use crate::builder::{Builder, float, int, ints, text};
use onnx_mipp::onnx::proto::{AttributeProto, ModelProto};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A tensor in the making: its name, its channels and its length along both spatial axes.
#[derive(Clone)]
struct Map {
    name: String,
    channels: usize,
    side: usize,
}

/// The graph in the making, with the random choices of one layer.
pub struct Net {
    b: Builder,
    random: ChaCha8Rng,
    now: Map,
    before: Vec<Map>,
    /// The width of most convolutions, where it is one.
    width: Option<usize>,
}

pub type Layer = fn(&mut Net);
pub const LAYERS: [Layer; 30] = [
    Net::convolve,
    Net::stride,
    Net::group,
    Net::deepen,
    Net::normalise,
    Net::activate,
    Net::slope,
    Net::clip,
    Net::add_shortcut,
    Net::add_projection,
    Net::gate,
    Net::join,
    Net::split_equal,
    Net::split_unequal,
    Net::slice,
    Net::gather,
    Net::pool,
    Net::pad,
    Net::resize,
    Net::turn,
    Net::shuffle,
    Net::view,
    Net::widen,
    Net::transposed,
    Net::space_to_depth,
    Net::depth_to_space,
    Net::block,
    Net::swap_halves,
    Net::scale_by_count,
    Net::normalise_groups,
];

/// A model of these layers behind a convolution, with a classifier or a map as its output.
pub fn random(opset: i64, seed: u64, layers: &[(usize, u64)]) -> ModelProto {
    let layers: Vec<_> = layers
        .iter()
        .map(|&(layer, seed)| (LAYERS[layer], seed))
        .collect();
    of_layers(opset, seed, None, &layers)
}

/// The same of any layers, of which most may have one width.
pub fn of_layers(
    opset: i64,
    seed: u64,
    width: Option<usize>,
    layers: &[(Layer, u64)],
) -> ModelProto {
    let mut b = Builder::seeded(opset, seed);
    b.input("x", &[3, 8, 8]);
    let now = Map {
        name: "x".to_owned(),
        channels: 3,
        side: 8,
    };
    let mut net = Net {
        b,
        random: ChaCha8Rng::seed_from_u64(seed),
        now,
        before: Vec::new(),
        width,
    };
    net.convolve();
    for &(layer, seed) in layers {
        net.before.push(net.now.clone());
        net.random = ChaCha8Rng::seed_from_u64(seed);
        layer(&mut net);
    }
    net.finish()
}

impl Net {
    fn pick(&mut self, low: usize, high: usize) -> usize {
        self.random.random_range(low..=high)
    }

    fn step(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) {
        let input = self.now.name.clone();
        let mut all = vec![input.as_str()];
        all.extend(inputs);
        self.now.name = self.b.node(op, &all, attributes);
    }

    /// A convolution of odd kernel that keeps the side, unless `more` says otherwise.
    fn conv(&mut self, outputs: usize, kernel: usize, group: usize, more: Vec<AttributeProto>) {
        let half = (kernel / 2) as i64;
        let mut attributes = vec![int("group", group as i64)];
        if more.is_empty() {
            attributes.push(ints("pads", &[half; 4]));
        }
        attributes.extend(more);
        let inputs = self.now.channels / group;
        let shape = [outputs, inputs, kernel, kernel];
        let weight = self.b.weight(&shape, inputs * kernel * kernel);
        if self.random.random_bool(0.5) {
            let bias = self.b.uniform(&[outputs], -0.3, 0.3);
            self.step("Conv", &[&weight, &bias], attributes);
        } else {
            self.step("Conv", &[&weight], attributes);
        }
        self.now.channels = outputs;
    }

    fn convolve(&mut self) {
        let (outputs, half) = (2 * self.pick(2, 6), self.pick(0, 1));
        let outputs = self.width.unwrap_or(outputs);
        self.conv(outputs, 1 + 2 * half, 1, vec![]);
    }

    fn stride(&mut self) {
        if self.now.side < 5 {
            return self.convolve();
        }
        let outputs = self.pick(3, 9);
        let side = self.now.side;
        if self.random.random_bool(0.5) {
            self.conv(outputs, 2, 1, vec![ints("strides", &[2, 2])]);
            self.now.side = (side - 2) / 2 + 1;
        } else {
            let more = vec![ints("dilations", &[2, 2]), ints("pads", &[1, 2, 2, 1])];
            self.conv(outputs, 3, 1, more);
            self.now.side = side - 1;
        }
    }

    fn group(&mut self) {
        match (2..=4)
            .find(|group| self.now.channels.is_multiple_of(*group) && self.now.channels > *group)
        {
            Some(group) => {
                let outputs = group * self.pick(1, 4);
                self.conv(outputs, 3, group, vec![]);
            }
            None => self.convolve(),
        }
    }

    fn deepen(&mut self) {
        let (channels, multiplier) = (self.now.channels, self.pick(1, 2));
        if channels > 1 {
            self.conv(channels * multiplier, 3, channels, vec![]);
        }
    }

    fn normalise(&mut self) {
        let shape = [self.now.channels];
        let (scale, shift) = (
            self.b.uniform(&shape, 0.5, 1.5),
            self.b.uniform(&shape, -0.5, 0.5),
        );
        let (mean, variance) = (
            self.b.uniform(&shape, -0.5, 0.5),
            self.b.uniform(&shape, 0.5, 1.5),
        );
        let inputs = [scale.as_str(), &shift, &mean, &variance];
        self.step("BatchNormalization", &inputs, vec![float("epsilon", 1e-3)]);
    }

    fn activate(&mut self) {
        let ops = [
            "LeakyRelu",
            "Tanh",
            "Sigmoid",
            "Softplus",
            "Elu",
            "HardSigmoid",
        ];
        let op = ops[self.pick(0, ops.len() - 1)];
        self.step(op, &[], vec![]);
    }

    fn slope(&mut self) {
        let channels = self.now.channels;
        let slope = self.b.uniform(&[channels, 1, 1], 0.1, 0.5);
        self.step("PRelu", &[&slope], vec![]);
    }

    fn clip(&mut self) {
        let low = self.b.floats(&[], vec![-2.0]);
        let high = self.b.floats(&[], vec![3.0]);
        self.step("Clip", &[&low, &high], vec![]);
    }

    /// An earlier tensor of the same side, made as wide as the present one.
    fn add_projection(&mut self) {
        let now = self.now.clone();
        let fits = |map: &&Map| map.side == now.side;
        let Some(source) = self.before.iter().find(fits).cloned() else {
            return self.convolve();
        };
        self.now = source;
        self.conv(now.channels, 1, 1, vec![]);
        self.step("Add", &[&now.name], vec![]);
    }

    /// A branch around the present tensor.
    fn add_shortcut(&mut self) {
        let now = self.now.clone();
        self.convolve();
        self.activate();
        self.conv(now.channels, 1, 1, vec![]);
        self.step("Add", &[&now.name], vec![]);
    }

    fn gate(&mut self) {
        let now = self.now.clone();
        if self.b.opset < 18 && self.random.random_bool(0.5) {
            self.step("ReduceMean", &[], vec![ints("axes", &[-1, 2])]);
        } else {
            self.step("GlobalAveragePool", &[], vec![]);
        }
        let narrow = self.pick(2, 4);
        self.conv(narrow, 1, 1, vec![]);
        self.step("LeakyRelu", &[], vec![]);
        self.conv(now.channels, 1, 1, vec![]);
        self.step("Sigmoid", &[], vec![]);
        self.step("Mul", &[&now.name], vec![]);
    }

    /// Beside an earlier tensor or the constant channels of a shortcut.
    fn join(&mut self) {
        let now = self.now.clone();
        let fits = |map: &&Map| map.side == now.side && map.channels + now.channels < 24;
        match self.before.iter().rev().find(fits).cloned() {
            Some(other) => {
                self.step("Concat", &[&other.name], vec![int("axis", 1)]);
                self.now.channels += other.channels;
            }
            None => self.convolve(),
        }
    }

    fn split(&mut self, sizes: &[usize], stated: bool) {
        let count = sizes.len();
        let mut attributes = vec![int("axis", 1)];
        let mut inputs = vec![self.now.name.clone()];
        let lengths: Vec<i64> = sizes.iter().map(|&n| n as i64).collect();
        match (stated, self.b.opset) {
            (true, ..13) => attributes.push(ints("split", &lengths)),
            (true, _) => inputs.push(self.b.ints(&lengths)),
            (false, 18..) => attributes.push(int("num_outputs", count as i64)),
            (false, _) => {}
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let parts = self.b.nodes("Split", &inputs, count, attributes);
        let side = self.now.side;
        let mut maps: Vec<Map> = parts
            .into_iter()
            .zip(sizes)
            .map(|(name, &channels)| Map {
                name,
                channels,
                side,
            })
            .collect();
        self.now = maps.remove(0);
        self.before.extend(maps);
    }

    fn split_equal(&mut self) {
        let half = self.now.channels / 2;
        if !self.now.channels.is_multiple_of(2) {
            return self.convolve();
        }
        self.split(&[half, half], false);
        // The halves meet again, scaled by each other or end to end.
        let other = self.before.last().unwrap().clone();
        if self.random.random_bool(0.5) {
            self.step("Mul", &[&other.name], vec![]);
        } else {
            self.convolve();
            self.step("Concat", &[&other.name], vec![int("axis", 1)]);
            self.now.channels += half;
        }
    }

    fn split_unequal(&mut self) {
        let channels = self.now.channels;
        if channels < 4 {
            return self.convolve();
        }
        let first = self.pick(1, channels - 2);
        self.split(&[first, channels - first], true);
        let other = self.before.last().unwrap().clone();
        self.step("Concat", &[&other.name], vec![int("axis", -3)]);
        self.now.channels = channels;
    }

    fn slice(&mut self) {
        let channels = self.now.channels;
        if channels < 3 {
            return self.convolve();
        }
        let (start, cut) = (self.pick(0, channels / 3), self.pick(1, channels / 3));
        let (starts, ends) = (self.b.ints(&[start as i64]), self.b.ints(&[-(cut as i64)]));
        let axes = self.b.ints(&[1]);
        self.step("Slice", &[&starts, &ends, &axes], vec![]);
        self.now.channels -= start + cut;
    }

    fn gather(&mut self) {
        let channels = self.now.channels;
        let count = self.pick(channels.div_ceil(2), channels + 2);
        let indices: Vec<i64> = (0..count)
            .map(|_| self.pick(0, 2 * channels - 1) as i64 - channels as i64)
            .collect();
        let indices = self.b.ints(&indices);
        self.step("Gather", &[&indices], vec![int("axis", 1)]);
        self.now.channels = count;
    }

    fn pool(&mut self) {
        if self.now.side < 4 {
            return self.activate();
        }
        let ops = ["MaxPool", "AveragePool"];
        let (op, kernel) = (ops[self.pick(0, 1)], self.pick(2, 3));
        let attributes = vec![
            ints("kernel_shape", &[kernel as i64; 2]),
            ints("strides", &[2, 2]),
        ];
        self.step(op, &[], attributes);
        self.now.side = (self.now.side - kernel) / 2 + 1;
    }

    fn pad(&mut self) {
        let (before, after, edge) = (self.pick(0, 2), self.pick(0, 2), self.pick(0, 1));
        let (first, last, edge_ints) = (before as i64, after as i64, edge as i64);
        let pads = self
            .b
            .ints(&[0, first, edge_ints, 0, 0, last, 0, edge_ints]);
        let value = self.b.floats(&[], vec![0.3]);
        self.step("Pad", &[&pads, &value], vec![]);
        self.now.channels += before + after;
        self.now.side += edge;
    }

    fn resize(&mut self) {
        if self.now.side > 8 {
            return self.pool();
        }
        let roi = self.b.floats(&[0], vec![]);
        let attributes = vec![text("mode", "nearest")];
        if self.random.random_bool(0.5) {
            let scales = self.b.floats(&[4], vec![1.0, 1.0, 2.0, 2.0]);
            self.step("Resize", &[&roi, &scales], attributes);
            self.now.side *= 2;
            return;
        }
        let shape = self.b.node("Shape", &[&self.now.name], vec![]);
        let (starts, ends) = (self.b.ints(&[0]), self.b.ints(&[2]));
        let front = self.b.node("Slice", &[&shape, &starts, &ends], vec![]);
        let side = self.b.ints(&[6, 6]);
        let sizes = self
            .b
            .node("Concat", &[&front, &side], vec![int("axis", 0)]);
        let none = self.b.floats(&[0], vec![]);
        self.step("Resize", &[&roi, &none, &sizes], attributes);
        self.now.side = 6;
    }

    /// Channels last for a matrix and back.
    fn turn(&mut self) {
        let (inputs, outputs) = (self.now.channels, self.pick(3, 8));
        self.step("Transpose", &[], vec![ints("perm", &[0, 2, 3, 1])]);
        let weight = self.b.weight(&[inputs, outputs], inputs);
        let bias = self.b.uniform(&[outputs], -0.5, 0.5);
        self.step("MatMul", &[&weight], vec![]);
        self.step("Add", &[&bias], vec![]);
        self.step("Transpose", &[], vec![ints("perm", &[0, 3, 1, 2])]);
        self.now.channels = outputs;
    }

    fn shuffle(&mut self) {
        let (channels, side) = (self.now.channels as i64, self.now.side as i64);
        let Some(groups) = (2..=4).find(|groups| channels % groups == 0) else {
            return self.convolve();
        };
        let apart = self.b.ints(&[0, groups, channels / groups, side, side]);
        let back = self.b.ints(&[0, -1, side, side]);
        self.step("Reshape", &[&apart], vec![]);
        self.step("Transpose", &[], vec![ints("perm", &[0, 2, 1, 3, 4])]);
        self.step("Reshape", &[&back], vec![]);
    }

    /// Space flattened and restored with the channel count in a computed shape.
    fn view(&mut self) {
        let shape = self.b.node("Shape", &[&self.now.name], vec![]);
        let zero = self.b.ints(&[0]);
        let batch = self.b.node("Gather", &[&shape, &zero], vec![]);
        let channels = self.now.channels as i64;
        let (flat, whole) = (self.b.ints(&[channels, -1]), self.b.ints(&[channels]));
        let side = self.b.ints(&[self.now.side as i64; 2]);
        let flat = self
            .b
            .node("Concat", &[&batch, &flat], vec![int("axis", 0)]);
        let inputs = [batch.as_str(), &whole, &side];
        let whole = self.b.node("Concat", &inputs, vec![int("axis", 0)]);
        self.step("Reshape", &[&flat], vec![]);
        self.step("Tanh", &[], vec![]);
        self.step("Reshape", &[&whole], vec![]);
    }

    /// Constant channels beside the present ones, by an Expand of them to the present space.
    fn widen(&mut self) {
        let (side, count) = (self.now.side, self.pick(1, 3));
        let mean = self.b.node("GlobalMaxPool", &[&self.now.name], vec![]);
        let target = self.b.ints(&[1, 1, side as i64, side as i64]);
        let wide = self.b.node("Expand", &[&mean, &target], vec![]);
        let now = self.now.clone();
        self.now.name = wide;
        self.conv(count, 1, 1, vec![]);
        self.step("Concat", &[&now.name], vec![int("axis", 1)]);
        self.now.channels = now.channels + count;
    }

    fn transposed(&mut self) {
        if self.now.side > 8 {
            return self.pool();
        }
        let (inputs, outputs) = (self.now.channels, self.pick(2, 6));
        let weight = self.b.weight(&[inputs, outputs, 2, 2], inputs);
        self.step("ConvTranspose", &[&weight], vec![ints("strides", &[2, 2])]);
        self.now.channels = outputs;
        self.now.side *= 2;
    }

    /// A map, or a classifier behind a flattened or averaged tensor.
    fn finish(mut self) -> ModelProto {
        let kind = self.pick(0, 2);
        let mut inputs = self.now.channels;
        if kind == 0 {
            self.conv(4, 1, 1, vec![]);
            self.b.output(&self.now.name, 4);
            return self.b.finish();
        }
        if kind == 1 {
            self.step("GlobalAveragePool", &[], vec![]);
            self.step("Flatten", &[], vec![]);
        } else {
            inputs *= self.now.side * self.now.side;
            let target = self.b.ints(&[-1, inputs as i64]);
            self.step("Reshape", &[&target], vec![]);
        }
        let (weight, bias) = (
            self.b.weight(&[6, inputs], inputs),
            self.b.uniform(&[6], -0.5, 0.5),
        );
        self.step("Gemm", &[&weight, &bias], vec![int("transB", 1)]);
        self.step("Tanh", &[], vec![]);
        let weight = self.b.weight(&[6, 4], 6);
        self.step("MatMul", &[&weight], vec![]);
        self.b.output(&self.now.name, 2);
        self.b.finish()
    }
}
