//! Taps: nodes appended to a model that hand out sampled positions of inner tensors.
//!
//! For each tensor that a linear consumer reads, the tapped model reshapes it to
//! `[batch, channels, positions]` (or `[batch, positions, channels]`) and gathers the positions
//! that an extra input names. So only the samples leave the device.

use std::borrow::Cow;
use std::collections::BTreeMap;

use faer::Mat;
use faer::traits::ComplexField;
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::calibrate::StatisticsError;
use crate::graph::{Graph, NodeId, ValueId};
use crate::groups::{Consumer, Window};
use crate::onnx::{DataType, Model, Tensor, proto};
use crate::ops;

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
        })
    }

    /// Positions that the unfolding reads for one row.
    #[must_use]
    pub fn taps(&self) -> usize {
        self.window.as_ref().map_or(1, Window::taps)
    }

    /// Columns of a row for each channel.
    #[must_use]
    pub fn inputs_per_channel(&self) -> usize {
        self.taps() * self.covered
    }
}

/// A tap with the geometry of its tensor.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub tap: Tap,
    /// Name of the gathered output, and of the input with the positions.
    pub output: String,
    pub positions: String,
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

/// One choice of positions for a tap.
pub(crate) struct Draw {
    /// The positions that rows stand at.
    pub places: Tensor,
    /// What the model gathers: `taps` entries per row; padding reads position 0.
    pub indices: Tensor,
    /// Which of these entries are padding.
    pub padding: Vec<bool>,
}

impl Placed {
    /// Where a tap's tensor of `shape` has its rows; `None` for shapes that have no channel axis.
    pub fn new(graph: &Graph, tap: Tap, index: usize) -> Option<Self> {
        let shape = graph.values.get(tap.value)?.shape.as_ref()?;
        let channels = *shape.get(tap.axis)? * tap.covered;
        // The first axis is that of the samples.
        let after = shape.get(tap.axis + 1..)?;
        let is_last = after.is_empty() || tap.covered > 1 && tap.window.is_none();
        if tap.axis == 0 || is_last && after.iter().product::<usize>() != tap.covered {
            return None;
        }
        let channels_last = is_last;
        let places: usize = match &tap.window {
            Some(window) => window.output.iter().product(),
            None if channels_last => shape.get(1..tap.axis)?.iter().product(),
            None => shape.get(tap.axis + 1..)?.iter().product(),
        };
        let name = |what: &str| format!("onnx-mipp/tap{index}/{what}");
        Some(Placed {
            output: name("samples"),
            positions: name("positions"),
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
            let source = ops::pointwise(graph.view(node));
            let shape = source.and_then(|source| graph.values[source].shape.as_ref());
            let fewer = shape.and_then(|shape| shape.get(1)) < Some(&self.channels);
            fewer && shape.is_some() && self.tap.axis == 1 && self.tap.window.is_none()
        });
        Placed {
            pointwise: node,
            ..self
        }
    }

    /// The same, handed out whole where so many rows read most of it: ONNX Runtime gathers along the last
    /// axis element by element.
    pub fn whole_for(self, graph: &Graph, rows: usize) -> Self {
        let value = &graph.values[self.tap.value];
        let inner = value
            .shape
            .as_ref()
            .and_then(|s| s.get(self.tap.axis + 1..));
        let positions: usize = inner.unwrap_or_default().iter().product();
        let is_float = value.dtype == Some(DataType::Float);
        let reads = rows.min(self.places).saturating_mul(self.tap.taps());
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

    /// The same of a tensor that has another number of channels.
    pub fn with_channels(self, channels: usize) -> Self {
        Placed { channels, ..self }
    }

    /// The shape of three axes under which positions lie along one axis.
    fn shape(&self, graph: &Graph) -> Option<[i64; 3]> {
        let channels = i64::try_from(self.channels).ok()?;
        if self.channels_last {
            return Some([0, -1, channels]);
        }
        if self.tap.axis == 1 {
            return Some([0, channels, -1]);
        }
        let shape = graph.values.get(self.tap.value)?.shape.as_ref()?;
        let inner: usize = shape.get(self.tap.axis + 1..)?.iter().product();
        Some([-1, channels, i64::try_from(inner).ok()?])
    }

    /// Rows to draw per sample for a covariance of `inputs`.
    pub fn rows(&self, inputs: usize, samples: usize) -> usize {
        let wanted = (ROWS_PER_INPUT * inputs).max(LEAST_ROWS);
        wanted.div_ceil(samples.max(1)).clamp(1, self.places.max(1))
    }

    /// Gathered samples as a matrix: a row per batch entry and drawn position, a column per channel
    /// and tap; `padding` names the entries that read zeros. Errors speak of the tensor as `name`.
    ///
    /// # Errors
    /// When the tensor has another shape, or holds NaN or infinities.
    pub fn unpack<T: ComplexField + Copy + From<f32> + Into<f64>>(
        &self,
        name: &str,
        tensor: &Tensor,
        padding: &[bool],
    ) -> Result<Mat<T>, StatisticsError> {
        let matrix = self.rows_of(tensor, padding);
        let matrix = matrix.ok_or_else(|| StatisticsError::Shape {
            tensor: name.to_owned(),
            shape: tensor.shape.clone(),
        })?;
        // Whole columns first, without an end inside them.
        let is_finite = |column: &&[T]| {
            let all = column.iter();
            all.fold(true, |finite, &value| finite & value.into().is_finite())
        };
        let mut columns = (0..matrix.ncols()).map(|j| matrix.col_as_slice(j));
        let found = columns.find(|column| !is_finite(column));
        let mut values = found.into_iter().flatten().map(|&value| value.into());
        match values.find(|value: &f64| !value.is_finite()) {
            Some(value) => Err(StatisticsError::NotFinite {
                tensor: name.to_owned(),
                value,
            }),
            None => Ok(matrix),
        }
    }

    /// All elements of a tensor that was gathered whole, with channels before positions.
    ///
    /// # Errors
    /// As [`Placed::unpack`].
    pub fn values<'t>(
        &self,
        name: &str,
        tensor: &'t Tensor,
        elements: usize,
    ) -> Result<Cow<'t, [f32]>, StatisticsError> {
        let fits = matches!(tensor.shape.as_slice(), &[_, channels, found]
            if channels == self.channels && found == elements);
        let values = tensor.as_f32().ok().filter(|_| fits);
        let values = values.ok_or_else(|| StatisticsError::Shape {
            tensor: name.to_owned(),
            shape: tensor.shape.clone(),
        })?;
        match values.iter().find(|value| !value.is_finite()) {
            Some(&value) => Err(StatisticsError::NotFinite {
                tensor: name.to_owned(),
                value: value.into(),
            }),
            None => Ok(values),
        }
    }

    fn rows_of<T: ComplexField + Copy + From<f32>>(
        &self,
        tensor: &Tensor,
        padding: &[bool],
    ) -> Option<Mat<T>> {
        let &[first, second, third] = tensor.shape.as_slice() else {
            return None;
        };
        let (channels, entries) = if self.channels_last {
            (third, second)
        } else {
            (second, third)
        };
        if channels != self.channels || entries != padding.len() {
            return None;
        }
        let values = tensor.as_f32().ok()?;
        let taps = self.tap.taps().max(1);
        let rows = entries / taps;
        let (of_channel, of_entry) = if self.channels_last {
            (1, channels)
        } else {
            (entries, 1)
        };
        let mut matrix = Mat::zeros(first * rows, channels * taps);
        for column in 0..channels * taps {
            let (channel, tap) = (column / taps, column % taps);
            let targets = matrix
                .col_as_slice_mut(column)
                .chunks_exact_mut(rows.max(1));
            let samples = values.chunks_exact((channels * entries).max(1));
            for (target, sample) in targets.zip(samples) {
                let first = channel * of_channel + tap * of_entry;
                let found = sample.iter().skip(first).step_by(taps * of_entry);
                let padding = padding.iter().skip(tap).step_by(taps);
                for ((to, &value), &is_padding) in target.iter_mut().zip(found).zip(padding) {
                    if !is_padding {
                        *to = T::from(value);
                    }
                }
            }
        }
        Some(matrix)
    }

    /// Draws all of so many elements of a channel.
    pub fn draw_elements(&self, elements: usize) -> Option<Draw> {
        let all: Vec<i64> = (0..i64::try_from(elements).ok()?).collect();
        let all = Tensor::from_i64(&[elements], &all).ok()?;
        Some(Draw {
            places: all.clone(),
            indices: all,
            padding: vec![false; elements],
        })
    }

    /// Draws `rows` positions without replacement, all where there are no more.
    pub fn draw(&self, rows: usize, seed: u64) -> Option<Draw> {
        let places: Vec<usize> = if rows >= self.places {
            (0..self.places).collect()
        } else {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut drawn = index::sample(&mut rng, self.places, rows).into_vec();
            drawn.sort_unstable();
            drawn
        };
        let reads: Vec<Option<usize>> = match &self.tap.window {
            Some(window) => places
                .iter()
                .flat_map(|&place| window.reads(place))
                .collect(),
            None => places.iter().copied().map(Some).collect(),
        };
        let ints = |all: &mut dyn Iterator<Item = usize>| -> Option<Tensor> {
            let ints: Option<Vec<i64>> = all.map(|at| i64::try_from(at).ok()).collect();
            let ints = ints?;
            Tensor::from_i64(&[ints.len()], &ints).ok()
        };
        Some(Draw {
            places: ints(&mut places.iter().copied())?,
            indices: ints(&mut reads.iter().map(|read| read.unwrap_or(0)))?,
            padding: reads.iter().map(Option::is_none).collect(),
        })
    }
}

/// The model with the taps' nodes, inputs and outputs, and nothing else as output.
pub(crate) fn tapped(model: &Model, graph: &Graph, taps: &[Placed]) -> Model {
    let mut model = model.clone();
    if let Some(main) = model.proto.graph.as_mut() {
        main.output.clear();
        for placed in taps {
            append(main, graph, placed);
        }
    }
    model
}

pub(crate) fn append(main: &mut proto::GraphProto, graph: &Graph, placed: &Placed) {
    let Some(shape) = placed.shape(graph) else {
        return;
    };
    let source = &graph.values[placed.tap.value].name;
    let named = |what: &str| format!("{}/{what}", placed.output);
    if let Ok(tensor) = Tensor::from_i64(&[3], &shape) {
        main.initializer.push(tensor.to_proto(&named("shape")));
    }
    main.output.push(ops::build::bare_output(&placed.output));
    if placed.is_whole {
        let node = ops::build::reshape_node(source, &named("shape"), &placed.output);
        return main.node.push(node);
    }
    main.input
        .push(ops::build::positions_input(&placed.positions));
    let nodes = pointwise_nodes(main, graph, placed).unwrap_or_else(|| {
        let axis = if placed.channels_last { 1 } else { 2 };
        let shape = named("shape");
        ops::build::gather_nodes(source, &shape, &placed.positions, &placed.output, axis).into()
    });
    main.node.extend(nodes);
}

/// The nodes that repeat the tapped tensor's own on the positions.
fn pointwise_nodes(
    main: &mut proto::GraphProto,
    graph: &Graph,
    placed: &Placed,
) -> Option<Vec<proto::NodeProto>> {
    let source = ops::pointwise(graph.view(placed.pointwise?))?;
    let shape = graph.values[source].shape.as_ref()?;
    let mut grid = vec![1; shape.len()];
    let channels = i64::try_from(*shape.get(1)?).ok()?;
    let flat = [0, channels, -1];
    grid.get_mut(..3)?.copy_from_slice(&flat);
    let name = &graph.values[placed.tap.value].name;
    let is_maker = |node: &&proto::NodeProto| node.output.first() == Some(name);
    let node = main.node.iter().find(is_maker)?;
    let named = |what: &str| format!("{}/{what}", placed.output);
    let (before, inner) = (named("shape_before"), named("grid"));
    let shapes = [before.as_str(), &inner, &named("shape")];
    let nodes = ops::build::pointwise_nodes(node, shapes, &placed.positions, &placed.output);
    for (name, shape) in [(&before, flat.as_slice()), (&inner, &grid)] {
        let tensor = Tensor::from_i64(&[shape.len()], shape).ok()?;
        main.initializer.push(tensor.to_proto(name));
    }
    Some(nodes)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::calibrate::probe;
    use crate::groups::{Groups, Scope};
    use crate::runtime::{Runtime, RuntimeOptions};

    /// The truth is what a tap of the whole output gathers.
    #[test]
    fn a_pointwise_node_is_repeated_on_the_positions() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fixtures/mobilenet_bn_torchscript.onnx"
        );
        let model = crate::onnx::load(path.as_ref()).unwrap();
        let mut graph = Graph::build(&model).unwrap();
        let runtime = Runtime::start(&RuntimeOptions::default()).unwrap();
        let values: Vec<f32> = (0..2 * 28 * 28).map(|i| (i % 17) as f32).collect();
        let image = Tensor::from_f32(&[2, 1, 28, 28], values).unwrap();
        let mut feeds = vec![("input".to_owned(), image)];
        probe(&model, &mut graph, &runtime, &feeds).unwrap();
        let (mut plain, mut repeated) = (Vec::new(), Vec::new());
        for consumer in Groups::find(&graph, Scope::default()).consumers {
            let tap = Tap {
                value: consumer.output,
                axis: consumer.output_axis,
                window: None,
                covered: 1,
            };
            let place = || Placed::new(&graph, tap.clone(), plain.len() + repeated.len());
            let (Some(first), Some(second)) = (place(), place()) else {
                continue;
            };
            let second = second.before_pointwise(&graph);
            if second.pointwise.is_some() {
                plain.push(first);
                let output = format!("{}/again", second.output);
                let positions = format!("{}/again", second.positions);
                repeated.push(Placed {
                    output,
                    positions,
                    ..second
                });
            }
        }
        assert!(plain.len() > 2, "{}", plain.len());
        let all: Vec<Placed> = plain.iter().chain(&repeated).cloned().collect();
        for placed in &all {
            let draw = placed.draw(5, 1).unwrap();
            feeds.push((placed.positions.clone(), draw.places));
        }
        let names: Vec<String> = all.iter().map(|placed| placed.output.clone()).collect();
        let mut session = runtime.session(&tapped(&model, &graph, &all)).unwrap();
        let found = session.run(&feeds, &names).unwrap();
        let (expected, again) = found.split_at(plain.len());
        for (expected, again) in expected.iter().zip(again) {
            assert_eq!(expected.shape, again.shape);
            let pairs = expected.to_f64().unwrap().into_iter();
            let mut pairs = pairs.zip(again.to_f64().unwrap());
            assert!(pairs.all(|(a, b)| (a - b).abs() <= 1e-4 * (1.0 + a.abs())));
        }
    }
}
