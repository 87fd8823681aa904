//! Taps: nodes appended to a model that hand out sampled positions of inner tensors.
//!
//! For each tensor that a linear consumer reads, the tapped model reshapes it to
//! `[batch, channels, positions]` (or `[batch, positions, channels]`) and gathers the positions
//! that an extra input names. So only the samples leave the device.

mod draw;
mod error;
mod nodes;
mod unpack;

use std::collections::BTreeMap;

use crate::graph::{Graph, NodeId, ValueId};
use crate::groups::{Consumer, Kept, Window};
use crate::onnx::DataType;
use crate::ops;

pub(crate) use draw::{Draw, Positions};
pub use error::TapError;
pub(crate) use nodes::{append, tapped};

/// Rows wanted per input of a tap: with fewer, a covariance is mostly noise; more change little.
const ROWS_PER_INPUT: usize = 12;
/// Rows wanted at least.
const LEAST_ROWS: usize = 8192;

/// What is observed: the channels of a tensor, unfolded by a window where there is one.
/// Consumers with equal taps share their statistics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tap {
    /// The tensor.
    pub value: ValueId,
    /// Its channel axis.
    pub axis: usize,
    /// The unfolding.
    pub window: Option<Window>,
    /// Elements at the end of the tensor that each channel covers.
    pub covered: usize,
    /// An axis whose indexes each make inputs of their own: what the matrices of a stack read.
    pub stack: Option<usize>,
}

impl Tap {
    /// What a consumer wants to know about its input; `None` where that cannot be observed.
    #[must_use]
    pub fn of(consumer: &Consumer) -> Option<Self> {
        Some(Tap {
            value: consumer.input,
            axis: consumer.axis,
            window: consumer.window.clone(),
            covered: consumer.covered?,
            stack: consumer.stack.and_then(|stack| stack.input),
        })
    }

    /// The tensor's shape and channel axis, with the inputs of a stack of matrices side by side.
    fn gathered(&self, graph: &Graph) -> Option<(Vec<usize>, usize)> {
        let shape = graph.values.get(self.value)?.shape.clone()?;
        let Some(stack) = self.stack else {
            return Some((shape, self.axis));
        };
        let count = shape.get(stack)?.checked_mul(*shape.get(self.axis)?)?;
        let others = (0..shape.len()).filter(|axis| ![stack, self.axis].contains(axis));
        let mut gathered: Vec<usize> = others.filter_map(|axis| shape.get(axis)).copied().collect();
        gathered.push(count);
        Some((gathered, shape.len().checked_sub(2)?))
    }

    /// The order of the `rank` axes in which the inputs of a stack of matrices lie side by side;
    /// none where they do.
    fn side_by_side(&self, rank: usize) -> Option<Vec<i64>> {
        let stack = self.stack?;
        let others = (0..rank).filter(|axis| ![stack, self.axis].contains(axis));
        let order = others.chain([stack, self.axis]).map(i64::try_from);
        order.collect::<Result<_, _>>().ok()
    }

    /// Positions that the unfolding reads for one row.
    #[must_use]
    pub fn kernel_positions(&self) -> usize {
        self.window.as_ref().map_or(1, Window::kernel_positions)
    }

    /// Columns of a row for each channel.
    #[must_use]
    pub fn inputs_per_channel(&self) -> usize {
        self.kernel_positions() * self.covered
    }
}

/// A tap with the geometry of its tensor.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub tap: Tap,
    /// Name of the gathered output, and of the input with the positions.
    pub output: String,
    pub positions: String,
    /// Lengths of the tensor's axes; that of the first, the samples, says nothing.
    pub shape: Vec<usize>,
    pub channels: usize,
    /// Positions that a row can stand at, per batch entry.
    pub places: usize,
    /// Whether the channels come last in the gathered tensor.
    pub channels_last: bool,
    /// The node that is repeated on the positions alone, so that its whole output need not be there
    /// as it is: fused nodes make none.
    pub pointwise: Option<NodeId>,
    /// Whether the whole tensor is handed out, in order, so that no positions are asked for.
    pub is_whole: bool,
}

impl Placed {
    /// Where a tap's tensor of `shape` has its rows; `None` for shapes that have no channel axis.
    pub fn new(graph: &Graph, tap: Tap, index: usize) -> Option<Self> {
        let (shape, axis) = tap.gathered(graph)?;
        let channels = *shape.get(axis)? * tap.covered;
        // The first axis is that of the samples.
        let after = shape.get(axis + 1..)?;
        let is_last = after.is_empty() || tap.covered > 1 && tap.window.is_none();
        if axis == 0 || is_last && after.iter().product::<usize>() != tap.covered {
            return None;
        }
        let channels_last = is_last;
        let places: usize = match &tap.window {
            Some(window) => window.output.iter().product(),
            None if channels_last => shape.get(1..axis)?.iter().product(),
            None => shape.get(axis + 1..)?.iter().product(),
        };
        let name = |what: &str| format!("onnx-mipp/tap{index}/{what}");
        Some(Placed {
            output: name("samples"),
            positions: name("positions"),
            shape: shape.clone(),
            channels,
            places,
            channels_last,
            tap,
            pointwise: None,
            is_whole: false,
        })
    }

    /// The same, of a pointwise node's output gathered before it where that is less.
    pub fn before_pointwise(self, graph: &Graph) -> Self {
        let node = graph.values[self.tap.value].producer.filter(|&node| {
            let source = ops::of(&graph.nodes[node]).pointwise(graph.view(node));
            let shape = source.and_then(|source| graph.values[source].shape.as_ref());
            let fewer = shape.and_then(|shape| shape.get(1)) < Some(&self.channels);
            fewer && shape.is_some() && self.tap.axis == 1 && self.tap.window.is_none()
        });
        Placed {
            pointwise: node,
            ..self
        }
    }

    /// The same, handed out whole where so many rows read most of it: ONNX Runtime gathers along
    /// the last axis element by element.
    pub fn whole_for(self, graph: &Graph, rows: usize) -> Self {
        let value = &graph.values[self.tap.value];
        let inner = value
            .shape
            .as_ref()
            .and_then(|s| s.get(self.tap.axis + 1..));
        let positions: usize = inner.unwrap_or_default().iter().product();
        let is_float = value.dtype == Some(DataType::Float);
        let reads = rows
            .min(self.places)
            .saturating_mul(self.tap.kernel_positions());
        let most = match self.pointwise {
            Some(_) => reads >= positions,
            None => 2 * reads >= positions,
        };
        let is_whole = is_float && !self.channels_last && self.tap.covered == 1 && most;
        Placed {
            pointwise: self.pointwise.filter(|_| !is_whole),
            is_whole,
            ..self
        }
    }

    /// The same tensor observed position by position.
    pub fn without_window(self, graph: &Graph) -> Self {
        let tap = Tap {
            window: None,
            ..self.tap
        };
        let shape = graph
            .values
            .get(tap.value)
            .and_then(|value| value.shape.as_ref());
        let inner = shape
            .and_then(|shape| shape.get(tap.axis + 1..))
            .unwrap_or_default();
        Placed {
            places: inner.iter().product(),
            tap,
            ..self
        }
    }

    /// The same in the model that has the `kept` channels alone; `None` where positions of rows
    /// leave with others.
    pub fn narrowed(self, kept: &Kept<'_>) -> Option<Self> {
        let mut shape = self.shape;
        for (axis, length) in shape.iter_mut().enumerate() {
            let left = kept.length(self.tap.value, axis, *length);
            if left != *length && axis != self.tap.axis {
                return None;
            }
            *length = left;
        }
        Some(Placed {
            channels: shape.get(self.tap.axis)? * self.tap.covered,
            shape,
            ..self
        })
    }

    /// The same of some of the channels.
    pub fn with_channels(self, channels: usize) -> Self {
        Placed { channels, ..self }
    }

    /// The tensor that the tap reads in a model, and its shape there.
    pub fn reads(&self, graph: &Graph) -> (ValueId, Vec<usize>) {
        let before = self.pointwise.and_then(|node| {
            let source = ops::of(&graph.nodes[node]).pointwise(graph.view(node))?;
            Some((source, graph.values[source].shape.clone()?))
        });
        before.unwrap_or_else(|| (self.tap.value, self.shape.clone()))
    }

    /// Rows to draw per sample for a covariance of `inputs`.
    pub fn rows(&self, inputs: usize, samples: usize) -> usize {
        let wanted = (ROWS_PER_INPUT * inputs).max(LEAST_ROWS);
        wanted.div_ceil(samples.max(1)).clamp(1, self.places.max(1))
    }
}

/// Taps of the wanted consumers, each once, with the consumers that share it.
pub(crate) fn place(
    graph: &Graph,
    consumers: &[Consumer],
    wanted: &[bool],
) -> Vec<(Placed, Vec<usize>)> {
    let mut sharing: BTreeMap<Tap, Vec<usize>> = BTreeMap::new();
    for (index, consumer) in consumers.iter().enumerate() {
        if !wanted.get(index).copied().unwrap_or(false) {
            continue;
        }
        let dtype = graph.values[consumer.input].dtype;
        if dtype.is_none_or(ops::constant::is_weight)
            && let Some(tap) = Tap::of(consumer)
        {
            sharing.entry(tap).or_default().push(index);
        }
    }
    let placed = sharing.into_iter().enumerate();
    placed
        .filter_map(|(index, (tap, users))| Some((Placed::new(graph, tap, index)?, users)))
        .collect()
}

/// A seed for one tap and batch: splitmix64 of the three numbers.
pub(crate) fn seed(seed: u64, tap: u64, batch: u64) -> u64 {
    let mut state = seed ^ tap.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ batch.rotate_left(32);
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}
