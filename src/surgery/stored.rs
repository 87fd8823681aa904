//! Weights in the form in which they are stored. What is judged and repaired are the numbers that a
//! node reads; where nodes make these of a stored constant (a Cast, a product with a scale, a
//! Transpose ...), that constant is cut, with all that lies beside it, and a repaired weight is
//! written back the same way: with the scales that it had where they still fit, and otherwise with
//! new ones of the same kind.

use std::collections::BTreeMap;

use crate::graph::{Graph, NodeId, NodeView, ValueId};
use crate::groups::{Carried, ChannelAxes, Dequantizer, Kept, Step, Stored, Use};
use crate::onnx::{DataType, Tensor, TensorError};
use crate::ops;
use crate::surgery::back::Back;
use crate::surgery::quantized;
use crate::surgery::{Changes, SurgeryError};

/// What is stored of a constant, and the nodes that make the constant of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// The nodes, from what is stored on.
    pub chain: Vec<NodeId>,
    /// What these nodes read instead, per input.
    pub tensors: BTreeMap<Use, Tensor>,
}

/// How far a repaired weight may be from what is stored of it, as a share of its norm. Eight bits
/// and a scale for each output take less than a hundredth; a repair moves a weight by more than a
/// tenth.
pub(super) const MOST_ERROR: f64 = 0.05;

/// Finds the forms of the changed constants; `cuts` are the same without repair. Nodes whose
/// repaired weight cannot be stored as it was are cut without repair.
pub(super) fn write(
    graph: &Graph,
    kept: &Kept<'_>,
    cuts: &BTreeMap<Use, Tensor>,
    changes: &mut Changes,
) -> Result<(), SurgeryError> {
    let mut forms = BTreeMap::new();
    for (&at, wanted) in &changes.inputs {
        let failed = |error| SurgeryError::Tensor {
            node: graph.nodes[at.0].name.clone(),
            error,
        };
        let Some(link) = Link::of(graph, kept, at) else {
            continue;
        };
        let Some(form) = link.cut().map_err(failed)? else {
            continue;
        };
        let whole = graph.view(at.0).constant(at.1);
        if cuts.get(&at).or(whole) == Some(wanted) {
            forms.insert(at, form);
        } else if !link.is_quantised_bias() {
            match link.again(form, wanted).map_err(failed)? {
                Ok(form) => drop(forms.insert(at, form)),
                // A list, such as a bias, may become floats: it is small.
                Err(why) if wanted.shape.len() > 1 => drop(changes.unrepaired.insert(at.0, why)),
                Err(_) => {}
            }
        }
    }
    for &node in changes.unrepaired.keys() {
        changes.added.remove(&node);
        let of_node = (node, 0)..(node.next(), 0);
        let slots: Vec<Use> = changes.inputs.range(of_node).map(|(at, _)| *at).collect();
        for at in slots {
            forms.remove(&at);
            match cuts.get(&at) {
                Some(cut) => drop(changes.inputs.insert(at, cut.clone())),
                None => drop(changes.inputs.remove(&at)),
            }
            let form = Link::of(graph, kept, at).map(|link| link.cut()).transpose();
            let form = form.map_err(|error| SurgeryError::Tensor {
                node: graph.nodes[node].name.clone(),
                error,
            })?;
            if let (Some(form), true) = (form.flatten(), cuts.contains_key(&at)) {
                forms.insert(at, form);
            }
        }
    }
    changes.forms = forms;
    Ok(())
}

/// A constant that a node reads, and the way to it from what is stored.
pub(super) struct Link<'a> {
    pub graph: &'a Graph,
    root: ValueId,
    /// The node that fills the root with one number, where that is how it is stored.
    filled: Option<NodeId>,
    pub steps: Vec<(NodeId, Carried)>,
    /// Of the axes of the constant, those that lose positions, with the ones that stay.
    lost: Vec<(usize, Vec<usize>)>,
}

impl<'a> Link<'a> {
    /// `None` where the constant is stored as it is read, or its channels are not known.
    fn of(graph: &'a Graph, kept: &Kept<'_>, at: Use) -> Option<Self> {
        let axes = kept.cut(at.0, at.1)?;
        let stored = Stored::of(graph, graph.view(at.0).input(at.1)?, &ops::RULES);
        let filled = graph.values[stored.root].producer;
        let filled = filled.filter(|&node| ops::of(&graph.nodes[node]).fills());
        let step = |&node: &NodeId| Some((node, Carried::of(graph.view(node), &ops::RULES)?));
        let steps: Vec<_> = stored.chain.iter().map(step).collect::<Option<_>>()?;
        (filled.is_some() || !steps.is_empty()).then(|| Link {
            graph,
            root: stored.root,
            filled,
            steps,
            lost: lost(kept, axes),
        })
    }

    /// Where the axes of the constant that lose positions are before each step, and at the root;
    /// `None` where one of them is not to be found.
    fn places(&self) -> Option<Vec<Vec<usize>>> {
        let mut axes: Vec<usize> = self.lost.iter().map(|(axis, _)| *axis).collect();
        let mut all = vec![axes.clone()];
        for (_, carried) in self.steps.iter().rev() {
            let before = axes
                .iter()
                .map(|&axis| carried.axes.get(axis).copied().flatten());
            axes = before.collect::<Option<_>>()?;
            all.push(axes.clone());
        }
        all.reverse();
        Some(all)
    }

    /// The form of the constant without what left; `None` where an axis of what is stored does not
    /// follow.
    fn cut(&self) -> Result<Option<Form>, TensorError> {
        let root = self.graph.values[self.root].constant.as_ref();
        let (Some(places), Some(whole)) = (self.places(), root) else {
            return Ok(None);
        };
        // Some of several numbers in a byte cannot be taken.
        if whole.dtype.size().is_none() {
            return Ok(None);
        }
        let mut form = Form {
            chain: self.steps.iter().map(|(node, _)| *node).collect(),
            tensors: BTreeMap::new(),
        };
        for ((node, carried), axes) in self.steps.iter().zip(places.iter().skip(1)) {
            for (slot, tensor) in self.beside(*node, carried, axes)? {
                form.tensors.insert((*node, slot), tensor);
            }
        }
        let root = places.first().map(Vec::as_slice).unwrap_or_default();
        if let Some(node) = self.filled {
            let Some(shape) = self.graph.view(node).constant(0) else {
                return Ok(None);
            };
            let mut sizes = shape.to_i64()?;
            for (&axis, (_, positions)) in root.iter().zip(&self.lost) {
                if let Some(size) = sizes.get_mut(axis) {
                    *size = positions.len() as i64;
                }
            }
            form.chain.insert(0, node);
            let shape = Tensor::from_i64(&[sizes.len()], &sizes)?;
            form.tensors.insert((node, 0), shape);
            return Ok(Some(form));
        }
        let mut left = whole.clone();
        for (&axis, (_, positions)) in root.iter().zip(&self.lost) {
            left = left.take(axis, positions)?;
        }
        if let Some((node, carried)) = self.steps.first() {
            form.tensors.insert((*node, carried.slot), left);
        }
        Ok(Some(form))
    }

    /// The constants beside the one that a step hands on that follow its channels, which lie along
    /// `axes` of what it makes.
    fn beside(
        &self,
        node: NodeId,
        carried: &Carried,
        axes: &[usize],
    ) -> Result<Vec<(usize, Tensor)>, TensorError> {
        let view = self.graph.view(node);
        let made = view
            .output(0)
            .and_then(|value| self.graph.values[value].shape.as_ref());
        let made = made.map(Vec::as_slice).unwrap_or_default();
        let mut found = Vec::new();
        let mut take = |slot: usize, first: usize| -> Result<(), TensorError> {
            let Some(whole) = view.constant(slot) else {
                return Ok(());
            };
            let mut left = whole.clone();
            for (&axis, (_, positions)) in axes.iter().zip(&self.lost) {
                let own = axis.checked_sub(first);
                let own = own.filter(|&own| {
                    left.shape.get(own) == made.get(axis) && left.shape.get(own) > Some(&1)
                });
                if let Some(own) = own {
                    left = left.take(own, positions)?;
                }
            }
            if left != *whole {
                found.push((slot, left));
            }
            Ok(())
        };
        match &carried.step {
            Step::Scaled { by, .. } | Step::Moved { by, .. } => {
                let rank = view.constant(*by).map_or(0, |tensor| tensor.shape.len());
                take(*by, made.len().saturating_sub(rank))?;
            }
            Step::Dequantized(stored) => {
                if let Some(axis) = stored.scale_axis(made.len()) {
                    take(stored.scale, axis)?;
                    take(stored.zero_point, axis)?;
                }
            }
            Step::Reshaped => {
                found.extend(self.reshaped(view, axes)?);
            }
            Step::Cast | Step::Transposed(_) | Step::LookedUp => {}
        }
        Ok(found)
    }

    /// The target shape of a node that reshapes, where it states lengths that change.
    fn reshaped(
        &self,
        view: NodeView<'_>,
        axes: &[usize],
    ) -> Result<Option<(usize, Tensor)>, TensorError> {
        let mut target: Option<(usize, Vec<i64>)> = None;
        for (&axis, (_, positions)) in axes.iter().zip(&self.lost) {
            let Some((slot, entry)) = ops::of(view.node).stated_length(view, axis) else {
                continue;
            };
            if target.is_none() {
                let stated = view.constant(slot).map(Tensor::to_i64).transpose()?;
                target = stated.map(|sizes| (slot, sizes));
            }
            if let Some(size) = target.as_mut().and_then(|(_, sizes)| sizes.get_mut(entry)) {
                *size = positions.len() as i64;
            }
        }
        let Some((slot, sizes)) = target else {
            return Ok(None);
        };
        Ok(Some((slot, Tensor::from_i64(&[sizes.len()], &sizes)?)))
    }

    /// Whether it is a bias of integers behind the node that scales them: its scale follows from
    /// others.
    fn is_quantised_bias(&self) -> bool {
        let root = self.graph.values[self.root].constant.as_ref();
        let is_wide = root.is_some_and(|tensor| tensor.dtype == DataType::Int32);
        is_wide
            && matches!(
                self.steps.as_slice(),
                [(
                    _,
                    Carried {
                        step: Step::Dequantized(_),
                        ..
                    }
                )]
            )
    }

    /// The form, which is that of the cut, with other numbers; or why it cannot have these.
    fn again(&self, form: Form, wanted: &Tensor) -> Result<Result<Form, String>, TensorError> {
        if self.filled.is_some() {
            return Ok(Err("is filled with one number".to_owned()));
        }
        let Some(root) = &self.graph.values[self.root].constant else {
            return Ok(Err("is not known".to_owned()));
        };
        let mut back = Back {
            link: self,
            form,
            limits: quantized::limits(root.dtype),
            root,
            values: wanted.to_f64()?,
            error: 0.0,
        };
        let places = self.places().unwrap_or_default();
        for at in (0..self.steps.len()).rev() {
            let before = places.get(at).map(Vec::as_slice).unwrap_or_default();
            if !back.undo(at, before)? {
                return Ok(Err(format!("cannot be written as {} again", root.dtype)));
            }
        }
        let Back {
            values,
            error,
            mut form,
            limits,
            ..
        } = back;
        if error > MOST_ERROR {
            let (percent, most) = (100.0 * error, 100.0 * MOST_ERROR);
            return Ok(Err(format!(
                "would be {percent:.0} % off as {}, more than the {most:.0} % that are allowed",
                root.dtype
            )));
        }
        let numbers = match limits {
            Some(_) => quantized::integers(root.dtype, &values.mapv(f64::round_ties_even)),
            None => Tensor::from_f64(root.dtype, &values),
        };
        // Too large for floats of fewer bits.
        let Ok(numbers) = numbers else {
            return Ok(Err(format!("has numbers beyond {}", root.dtype)));
        };
        if let Some((node, carried)) = self.steps.first() {
            form.tensors.insert((*node, carried.slot), numbers);
        }
        Ok(Ok(form))
    }

    /// The shape of what a step reads, without what left.
    pub fn shape_before(&self, at: usize, axes: &[usize]) -> Vec<usize> {
        let input = self
            .steps
            .get(at)
            .and_then(|(node, carried)| self.graph.view(*node).input(carried.slot));
        let shape = input.and_then(|value| self.graph.values[value].shape.clone());
        let mut shape = shape.unwrap_or_default();
        for (&axis, (_, positions)) in axes.iter().zip(&self.lost) {
            if let Some(length) = shape.get_mut(axis) {
                *length = positions.len();
            }
        }
        shape
    }
}

/// The axes that lose positions, with the positions that stay.
fn lost(kept: &Kept<'_>, axes: &ChannelAxes) -> Vec<(usize, Vec<usize>)> {
    let tracked = axes.iter().enumerate();
    let tracked = tracked.filter_map(|(axis, map)| Some((axis, map.as_ref()?)));
    let losing = tracked.filter(|(_, map)| kept.count(map) < map.len());
    losing
        .map(|(axis, map)| (axis, kept.positions(map)))
        .collect()
}

/// The node that a constant is directly unpacked by, if it scales integers.
pub(super) fn unpacker(graph: &Graph, at: Use) -> Option<(NodeId, Dequantizer)> {
    let maker = graph.values[graph.view(at.0).input(at.1)?].producer?;
    let node = &graph.nodes[maker];
    Some((maker, ops::of(node).dequantizer(node)?))
}
