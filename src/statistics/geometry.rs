//! Which products of elements the positions of a kernel have in common.
//!
//! Two kernel positions read the products of two elements wherever these lie at the kernel
//! positions' distance, but for the borders. So pairs of kernel positions at one distance share
//! their products: the elements are divided into cells, rectangles that a pair reads as a whole or
//! not at all.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::groups::Window;

/// Elements along one axis: `start`, `start + step` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub start: usize,
    pub step: usize,
    pub count: usize,
}

/// Elements of a grid, and as many others at one distance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub left: [Run; 2],
    pub right: [Run; 2],
}

/// Cells, and pairs of kernel positions that read some of them.
#[derive(Debug, Clone)]
pub(super) struct Distance {
    pub cells: Vec<Cell>,
    /// Two kernel positions, the first not after the second, and their cells.
    pub pairs: Vec<(usize, usize, Vec<usize>)>,
    /// Whether the elements are their own partners.
    pub is_none: bool,
}

/// How a kernel position reads an axis: at position `p` the element `stride * (p + first) + rest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Offset {
    rest: i64,
    first: i64,
}

/// Along one axis, the rests of both kernel positions and how far apart they read.
type Gap = (i64, i64, i64);

/// Two kernel positions, and the elements that both read, along both axes.
type Pair = (usize, usize, [Range<i64>; 2]);

/// An axis of a window.
#[derive(Debug, Clone, Copy)]
struct Axis {
    input: i64,
    output: i64,
    stride: i64,
    dilation: i64,
    pad: i64,
}

impl Cell {
    /// Pairs of elements.
    pub fn len(&self) -> usize {
        self.left[0].count * self.left[1].count
    }
}

/// The distances between the kernel positions of a window over two axes; `None` for others.
pub(super) fn distances(window: &Window) -> Option<Vec<Distance>> {
    let axes = [Axis::of(window, 0)?, Axis::of(window, 1)?];
    let &[_, width] = window.kernel.as_slice() else {
        return None;
    };
    let offsets = |position: usize| [position / width.max(1), position % width.max(1)];
    let kernel = window.kernel_positions();
    let mut found: BTreeMap<[Gap; 2], Vec<Pair>> = BTreeMap::new();
    for left in 0..kernel {
        for right in left..kernel {
            let (at_left, at_right) = (offsets(left), offsets(right));
            let shared = [0, 1].map(|axis: usize| {
                let one = &axes[axis];
                one.shared(one.offset(at_left[axis]), one.offset(at_right[axis]))
            });
            let key = [&shared[0].0, &shared[1].0].map(|key| *key);
            let [(_, rows), (_, columns)] = shared;
            let pairs = found.entry(key).or_default();
            pairs.push((left, right, [rows, columns]));
        }
    }
    let made = found.into_iter();
    made.map(|(key, pairs)| distance(key, &pairs, &axes))
        .collect()
}

/// Whether products by distance are clearly fewer than those of all pairs of kernel positions at so
/// many places.
pub(super) fn saves(distances: &[Distance], kernel: usize, places: usize) -> bool {
    let of = |one: &Distance| {
        let pairs: usize = one.cells.iter().map(Cell::len).sum();
        // A triangle is half of a square.
        if one.is_none { pairs } else { 2 * pairs }
    };
    let all: usize = distances.iter().map(of).sum();
    10 * all < 9 * kernel * kernel * places
}

fn distance(key: [Gap; 2], pairs: &[Pair], axes: &[Axis; 2]) -> Option<Distance> {
    let segments = [0, 1].map(|axis: usize| {
        let mut cuts: Vec<i64> = pairs
            .iter()
            .flat_map(|(_, _, read)| [read[axis].start, read[axis].end])
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        let ends = cuts.iter().zip(cuts.iter().skip(1));
        ends.map(|(&start, &end)| start..end)
            .collect::<Vec<Range<i64>>>()
    });
    let mut found = Distance {
        cells: Vec::new(),
        pairs: Vec::new(),
        is_none: key.iter().all(|(a, b, apart)| a == b && *apart == 0),
    };
    let mut of_pair = vec![Vec::new(); pairs.len()];
    for rows in &segments[0] {
        for columns in &segments[1] {
            let reads = |read: &[Range<i64>; 2]| {
                let within = |of: &Range<i64>, part: &Range<i64>| {
                    of.start <= part.start && part.end <= of.end
                };
                within(&read[0], rows) && within(&read[1], columns)
            };
            let before = found.cells.len();
            for (cells, (_, _, read)) in of_pair.iter_mut().zip(pairs) {
                if reads(read) {
                    cells.push(before);
                }
            }
            if of_pair.iter().any(|cells| cells.last() == Some(&before)) {
                let down = axes[0].runs(key[0], rows)?;
                let across = axes[1].runs(key[1], columns)?;
                let (left, right) = ([down.0, across.0], [down.1, across.1]);
                found.cells.push(Cell { left, right });
            }
        }
    }
    let named = pairs.iter().zip(of_pair);
    found.pairs = named
        .map(|(&(left, right, _), cells)| (left, right, cells))
        .collect();
    Some(found)
}

impl Axis {
    fn of(window: &Window, axis: usize) -> Option<Self> {
        let at = |lengths: &[usize]| i64::try_from(*lengths.get(axis)?).ok();
        let found = Axis {
            input: at(&window.input)?,
            output: at(&window.output)?,
            stride: at(&window.strides)?,
            dilation: at(&window.dilations)?,
            pad: at(&window.pads)?,
        };
        (window.input.len() == 2 && found.stride > 0).then_some(found)
    }

    fn offset(&self, position: usize) -> Offset {
        let offset = i64::try_from(position).unwrap_or(i64::MAX) * self.dilation - self.pad;
        Offset {
            rest: offset.rem_euclid(self.stride),
            first: offset.div_euclid(self.stride),
        }
    }

    /// What pairs at the same distance have in common, and the elements of the left kernel
    /// position, in steps of the stride from its rest, that both read.
    fn shared(&self, left: Offset, right: Offset) -> ((i64, i64, i64), Range<i64>) {
        let apart = right.first - left.first;
        // Elements with that rest.
        let length = |rest: i64| (self.input - rest + self.stride - 1).div_euclid(self.stride);
        let start = left.first.max(0).max(-apart);
        let end = (self.output + left.first)
            .min(length(left.rest))
            .min(length(right.rest) - apart);
        ((left.rest, right.rest, apart), start..end.max(start))
    }

    fn runs(&self, (left, right, apart): (i64, i64, i64), part: &Range<i64>) -> Option<(Run, Run)> {
        let run = |first: i64, rest: i64| {
            Some(Run {
                start: usize::try_from(first * self.stride + rest).ok()?,
                step: usize::try_from(self.stride).ok()?,
                count: usize::try_from(part.end - part.start).ok()?,
            })
        };
        Some((run(part.start, left)?, run(part.start + apart, right)?))
    }
}
