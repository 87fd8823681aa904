//! Blocks as they come several in a row: what a repair layer by layer walks through.

use crate::builder::{int, ints};
use crate::graphs::net::{Layer, Map, Net};

pub const BLOCKS: [Layer; 13] = [
    Net::basic,
    Net::row,
    Net::long_row,
    Net::before_activation,
    Net::separable,
    Net::grouped,
    Net::dense,
    Net::far,
    Net::two_branches,
    Net::gated_branch,
    Net::shuffled_by_its_shape,
    Net::mixed_positions,
    Net::down_and_up,
];

impl Net {
    fn rectify(&mut self) {
        match self.pick(0, 2) {
            0 => self.clip(),
            _ => self.step("Relu", &[], vec![]),
        }
    }

    /// As wide as the present tensor.
    fn same(&mut self, kernel: usize) {
        self.conv(self.now.channels, kernel, 1, vec![]);
        if self.pick(0, 2) == 0 {
            self.normalise();
        }
    }

    fn add(&mut self, shortcut: &Map) {
        self.step("Add", &[&shortcut.name], vec![]);
    }

    fn basic(&mut self) {
        let now = self.now.clone();
        self.same(3);
        self.rectify();
        self.same(3);
        self.add(&now);
        self.rectify();
    }

    /// Two convolutions of one width with nothing between them.
    fn row(&mut self) {
        let now = self.now.clone();
        self.same(3);
        self.same(1);
        self.add(&now);
        if self.pick(0, 1) == 0 {
            self.rectify();
        }
    }

    fn long_row(&mut self) {
        let now = self.now.clone();
        for kernel in [1, 3, 1] {
            self.same(kernel);
        }
        self.add(&now);
    }

    fn before_activation(&mut self) {
        let now = self.now.clone();
        for _ in 0..2 {
            self.normalise();
            self.rectify();
            self.same(3);
        }
        self.add(&now);
    }

    /// Wider inside, with one filter for each channel there.
    fn separable(&mut self) {
        let (now, times) = (self.now.clone(), self.pick(1, 2));
        self.conv(now.channels * times, 1, 1, vec![]);
        self.rectify();
        self.conv(now.channels * times, 3, now.channels * times, vec![]);
        self.rectify();
        self.conv(now.channels, 1, 1, vec![]);
        self.add(&now);
    }

    fn grouped(&mut self) {
        let now = self.now.clone();
        let group = (2..=4).find(|group| now.channels.is_multiple_of(*group));
        self.same(1);
        self.conv(now.channels, 3, group.unwrap_or(1), vec![]);
        self.rectify();
        self.same(1);
        self.add(&now);
        self.rectify();
    }

    /// Beside what was there, and then as wide as before.
    fn dense(&mut self) {
        let now = self.now.clone();
        self.same(3);
        self.rectify();
        self.step("Concat", &[&now.name], vec![int("axis", 1)]);
        self.now.channels += now.channels;
        self.conv(now.channels, 1, 1, vec![]);
    }

    /// A shortcut from far behind, which others have too.
    fn far(&mut self) {
        let now = self.now.clone();
        let fits = |map: &&Map| map.side == now.side && map.channels == now.channels;
        let Some(other) = self.before.iter().find(fits).cloned() else {
            return self.basic();
        };
        self.same(3);
        if other.name != "x" {
            self.add(&other);
        }
        self.rectify();
    }

    /// Both summands are made here.
    fn two_branches(&mut self) {
        let now = self.now.clone();
        self.same(3);
        self.same(1);
        let left = self.now.clone();
        self.now = now;
        self.same(1);
        self.add(&left);
        self.rectify();
    }

    fn gated_branch(&mut self) {
        let now = self.now.clone();
        self.same(3);
        self.gate();
        self.same(1);
        self.add(&now);
    }

    /// Channels shuffled by numbers that nodes compute from the tensor's shape, as exporters write
    /// it.
    fn shuffled_by_its_shape(&mut self) {
        if !self.now.channels.is_multiple_of(2) {
            return self.basic();
        }
        let shape = self.b.node("Shape", &[&self.now.name], vec![]);
        let length = |net: &mut Net, axis: i64| {
            let at = net.b.ints(&[axis]);
            net.b.node("Gather", &[&shape, &at], vec![])
        };
        let [batch, channels, height, width] = [0, 1, 2, 3].map(|axis| length(self, axis));
        let two = self.b.ints(&[2]);
        let half = self.b.node("Div", &[&channels, &two], vec![]);
        let join =
            |net: &mut Net, parts: &[&str]| net.b.node("Concat", parts, vec![int("axis", 0)]);
        let apart = join(self, &[&batch, &two, &half, &height, &width]);
        let whole = self.b.node("Mul", &[&half, &two], vec![]);
        let back = join(self, &[&batch, &whole, &height, &width]);
        self.step("Reshape", &[&apart], vec![]);
        self.step("Transpose", &[], vec![ints("perm", &[0, 2, 1, 3, 4])]);
        self.step("Reshape", &[&back], vec![]);
        self.basic();
    }

    /// A matrix over the positions, between two over the channels.
    fn mixed_positions(&mut self) {
        let (now, side) = (self.now.clone(), self.now.side as i64);
        if side > 8 {
            return self.basic();
        }
        let flat = self.b.ints(&[0, 0, -1]);
        let back = self.b.ints(&[0, 0, side, side]);
        self.step("Reshape", &[&flat], vec![]);
        let places = now.side * now.side;
        let hidden = self.pick(3, 9);
        let first = self.b.weight(&[places, hidden], places);
        let second = self.b.weight(&[hidden, places], hidden);
        self.step("MatMul", &[&first], vec![]);
        self.rectify();
        self.step("MatMul", &[&second], vec![]);
        self.step("Reshape", &[&back], vec![]);
        self.add(&now);
    }

    /// Narrower in space and back, beside the way that stays.
    fn down_and_up(&mut self) {
        let now = self.now.clone();
        if now.side < 4 || !now.side.is_multiple_of(2) {
            return self.basic();
        }
        self.same(3);
        let more = vec![ints("strides", &[2, 2])];
        self.conv(now.channels, 2, 1, more);
        self.now.side = now.side / 2;
        self.rectify();
        self.same(3);
        self.transposed();
        self.now.side = now.side;
        self.conv(now.channels, 1, 1, vec![]);
        self.add(&now);
        self.rectify();
    }
}
