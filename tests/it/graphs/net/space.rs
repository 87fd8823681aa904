//! Layers that move channels into space, compute with their number, or tie them in blocks.

use super::Net;
use crate::builder::{float, int, ints};

impl Net {
    pub(super) fn space_to_depth(&mut self) {
        if !self.now.side.is_multiple_of(2) {
            return self.activate();
        }
        self.step("SpaceToDepth", &[], vec![int("blocksize", 2)]);
        self.now.channels *= 4;
        self.now.side /= 2;
        self.convolve();
    }

    pub(super) fn depth_to_space(&mut self) {
        let outputs = 4 * self.pick(2, 4);
        self.conv(outputs, 1, 1, vec![]);
        self.step("DepthToSpace", &[], vec![int("blocksize", 2)]);
        self.now.channels /= 4;
        self.now.side *= 2;
        if self.now.side > 8 {
            self.step(
                "MaxPool",
                &[],
                vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])],
            );
            self.now.side /= 2;
        }
    }

    /// A grouped convolution of many small blocks.
    pub(super) fn block(&mut self) {
        let blocks = self.pick(4, 6);
        self.conv(2 * blocks, 1, 1, vec![]);
        let outputs = blocks * self.pick(1, 3);
        self.conv(outputs, 3, blocks, vec![]);
    }

    /// The halves change places, by bounds that the model computes.
    pub(super) fn swap_halves(&mut self) {
        let whole = self.now.name.clone();
        let shape = self.b.node("Shape", &[&whole], vec![]);
        let [zero, one, two] = [0, 1, 2].map(|int| self.b.ints(&[int]));
        let count = self.b.node("Gather", &[&shape, &one], vec![]);
        let half = self.b.node("Div", &[&count, &two], vec![]);
        let left = self.b.node("Slice", &[&whole, &zero, &half, &one], vec![]);
        let right = self.b.node("Slice", &[&whole, &half, &count, &one], vec![]);
        if self.now.channels > 1 {
            self.now.name = self
                .b
                .node("Concat", &[&right, &left], vec![int("axis", 1)]);
        }
    }

    /// A division by the root of the number of channels.
    pub(super) fn scale_by_count(&mut self) {
        let shape = self.b.node("Shape", &[&self.now.name], vec![]);
        let one = self.b.ints(&[1]);
        let count = self.b.node("Gather", &[&shape, &one], vec![]);
        let count = self.b.node("Cast", &[&count], vec![int("to", 1)]);
        let root = self.b.node("Sqrt", &[&count], vec![]);
        self.step("Mul", &[&root], vec![]);
    }

    /// A norm over groups of channels, written as an instance norm between two Reshapes.
    pub(super) fn normalise_groups(&mut self) {
        let groups = self.pick(2, 5);
        let channels = groups * self.pick(1, 3);
        self.conv(channels, 1, 1, vec![]);
        let shape = self.b.node("Shape", &[&self.now.name], vec![]);
        let apart = self.b.ints(&[0, groups as i64, -1]);
        let ones = self.b.floats(&[groups], vec![1.0; groups]);
        let zeros = self.b.floats(&[groups], vec![0.0; groups]);
        self.step("Reshape", &[&apart], vec![]);
        let inputs = [ones.as_str(), &zeros];
        self.step(
            "InstanceNormalization",
            &inputs,
            vec![float("epsilon", 1e-2)],
        );
        self.step("Reshape", &[&shape], vec![]);
        let scale = self.b.uniform(&[channels, 1, 1], 0.5, 1.5);
        self.step("Mul", &[&scale], vec![]);
    }
}
