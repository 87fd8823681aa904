//! Einsum of two operands: a product with a constant weight, or of two activations.

use std::collections::BTreeSet;

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::{AxisMap, Bias, Consumer, Cost, Elements, Operator, Role, Walk, WeightLayout};
use crate::ops::Entry;
use crate::ops::layout::expand::are_copies;
use crate::ops::weights::activations;
use crate::ops::weights::stack::StackProduct;

pub(in crate::ops) const OPERATORS: &[Entry] = &[Entry::standard(
    &["Einsum"],
    &Einsum,
    "\
        as MatMul, label by label, for two operands without an ellipsis: a constant one reads \
        labels that are summed and makes labels that it alone has; a stack along one label is \
        followed as in a MatMul",
)];

struct Einsum;

impl Operator for Einsum {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let equation = Equation::read(view)?;
        let data = [view.need(0)?, view.need(1)?];
        equation.check(view, data)?;
        let traced = Traced {
            view,
            equation,
            data,
        };
        match (view.constant(0), view.constant(1)) {
            (None, Some(_)) => traced.weigh(walk, 0, 1),
            (Some(_), None) => traced.weigh(walk, 1, 0),
            _ => traced.multiply(walk),
        }
    }

    fn reads_all_slots(&self) -> bool {
        true
    }
}

/// The labels of both operands and of the output, one per axis.
struct Equation {
    operands: [Vec<char>; 2],
    output: Vec<char>,
}

impl Equation {
    fn read(view: NodeView<'_>) -> Result<Self, Freeze> {
        let text: String = view.node.text("equation", "");
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        if text.contains('.') {
            return Err(Freeze::new("its equation has an ellipsis"));
        }
        let (inputs, output) = match text.split_once("->") {
            Some((inputs, output)) => (inputs.to_owned(), Some(output.chars().collect())),
            None => (text, None),
        };
        let operands: Vec<Vec<char>> = inputs
            .split(',')
            .map(|part| part.chars().collect())
            .collect();
        let Ok(operands) = <[Vec<char>; 2]>::try_from(operands) else {
            return Err(Freeze::new("its equation has not two operands"));
        };
        let all: Vec<char> = operands.concat();
        let once = |label: &char| all.iter().filter(|other| *other == label).count() == 1;
        let implied = || -> Vec<char> {
            let sorted: BTreeSet<char> = all.iter().copied().filter(|label| once(label)).collect();
            sorted.into_iter().collect()
        };
        let output = output.unwrap_or_else(implied);
        Ok(Equation { operands, output })
    }

    /// Every label once per operand, one for each axis, of the same length everywhere.
    fn check(&self, view: NodeView<'_>, data: [ValueId; 2]) -> Result<(), Freeze> {
        let mut lengths = std::collections::BTreeMap::new();
        for (labels, value) in self.operands.iter().zip(data) {
            let shape = view.shape(value)?;
            let distinct: BTreeSet<&char> = labels.iter().collect();
            if distinct.len() != labels.len() || labels.len() != shape.len() {
                return Err(Freeze::new("its equation takes a diagonal"));
            }
            for (label, &length) in labels.iter().zip(shape) {
                if *lengths.entry(*label).or_insert(length) != length {
                    return Err(Freeze::new("it repeats an axis"));
                }
            }
        }
        Ok(())
    }

    fn axis(&self, operand: usize, label: char) -> Option<usize> {
        self.operands[operand]
            .iter()
            .position(|other| *other == label)
    }

    fn is_kept(&self, label: char) -> bool {
        self.output.contains(&label)
    }
}

struct Traced<'a> {
    view: NodeView<'a>,
    equation: Equation,
    data: [ValueId; 2],
}

impl Traced<'_> {
    /// One operand is a constant: labels that only it has are made.
    fn weigh(&self, walk: &mut Walk<'_>, data: usize, weight: usize) -> Result<(), Freeze> {
        let (view, equation) = (self.view, &self.equation);
        let own = &equation.operands[weight];
        let made: Vec<char> = own
            .iter()
            .copied()
            .filter(|&label| equation.axis(data, label).is_none())
            .collect();
        if made.iter().any(|&label| !equation.is_kept(label)) {
            return Err(Freeze::new("it sums its weight alone"));
        }
        let shape = view.shape(self.data[weight])?;
        let length = |label: &char| {
            let axis = equation.axis(weight, *label);
            axis.and_then(|axis| shape.get(axis)).copied().unwrap_or(1)
        };
        let lengths: Vec<usize> = made.iter().map(length).collect();
        let total: usize = lengths.iter().product();
        let flat = walk.fresh(view.id, total);
        let new = walk.split((view.id, 0), &flat, &lengths)?;
        let outputs: u64 = view.output_shape()?.iter().map(|&n| n as u64).product();
        walk.cost(Cost {
            node: view.id,
            of: Elements::Weight(weight),
            positions: walk.per_sample(outputs / (total as u64).max(1) / self.stack(weight, data)?),
        });
        let mut axes = vec![None; equation.output.len()];
        for (label, map) in made.iter().zip(&new) {
            if let Some(map) = map {
                self.cut(walk, weight, *label, map)?;
                self.lay(&mut axes, *label, map);
            }
        }
        self.pass(walk, data, weight, &mut axes)?;
        self.read(walk, data, weight, (&made, &new))?;
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        walk.set(output, axes)
    }

    /// How many positions of the output share no weight: those of labels that all three have.
    fn stack(&self, weight: usize, data: usize) -> Result<u64, Freeze> {
        let equation = &self.equation;
        let shape = self.view.shape(self.data[weight])?;
        let shared = equation.operands[weight].iter().zip(shape);
        let shared = shared.filter(|(label, _)| {
            equation.axis(data, **label).is_some() && equation.is_kept(**label)
        });
        Ok(shared
            .map(|(_, &length)| length as u64)
            .product::<u64>()
            .max(1))
    }

    /// Labels that the output keeps of the data; the weight is cut where it has them too.
    fn pass(
        &self,
        walk: &mut Walk<'_>,
        data: usize,
        weight: usize,
        axes: &mut [Option<AxisMap>],
    ) -> Result<(), Freeze> {
        for (axis, &label) in self.equation.operands[data].iter().enumerate() {
            let Some(map) = walk.axis(self.data[data], axis) else {
                continue;
            };
            if self.equation.is_kept(label) {
                self.cut(walk, weight, label, &map)?;
                self.lay(axes, label, &map);
            } else if self.equation.axis(weight, label).is_none() {
                walk.freeze(&map, self.view.id, "it reduces over the channels");
            }
        }
        Ok(())
    }

    /// The labels that the weight is summed over with the data.
    fn read(
        &self,
        walk: &mut Walk<'_>,
        data: usize,
        weight: usize,
        (made, new): (&[char], &[Option<AxisMap>]),
    ) -> Result<(), Freeze> {
        let view = self.view;
        let summed = self.summed(data, weight);
        let mut tracked = summed
            .iter()
            .filter_map(|&(axis, label)| Some((axis, label, walk.axis(self.data[data], axis)?)));
        let (Some((axis, label, map)), None) = (tracked.next(), tracked.next()) else {
            let is_tracked =
                |&(axis, _): &(usize, char)| walk.axis(self.data[data], axis).is_some();
            if summed.iter().any(is_tracked) {
                return Err(Freeze::new("it sums over two axes of channels"));
            }
            return Ok(());
        };
        if self.stack(weight, data)? > 1 {
            return match self.stack_product(walk, (data, weight), made, summed.len(), axis) {
                Some(stack) => stack.read(view, walk, &map),
                None => {
                    let text = "its constant factor is a stack of matrices";
                    walk.freeze(&map, view.id, text);
                    Ok(())
                }
            };
        }
        self.cut(walk, weight, label, &map)?;
        walk.consume(self.consumer((data, weight), (axis, label), &summed, (made, new))?);
        Ok(())
    }

    /// Labels of the data that it sums over with the weight, with their axes.
    fn summed(&self, data: usize, weight: usize) -> Vec<(usize, char)> {
        let equation = &self.equation;
        let labels = equation.operands[data].iter().copied().enumerate();
        labels
            .filter(|&(_, label)| {
                !equation.is_kept(label) && equation.axis(weight, label).is_some()
            })
            .collect()
    }

    /// What reads the label on an axis of the data, and sums over others.
    fn consumer(
        &self,
        (data, weight): (usize, usize),
        (axis, label): (usize, char),
        summed: &[(usize, char)],
        (made, new): (&[char], &[Option<AxisMap>]),
    ) -> Result<Consumer, Freeze> {
        let (view, equation) = (self.view, &self.equation);
        let place = |label: char| equation.axis(weight, label).unwrap_or(0);
        // The axis with the channels first, then the others that one channel covers.
        let mut outs: Vec<usize> = (0..made.len()).collect();
        outs.sort_by_key(|&index| new.get(index).is_none_or(Option::is_none));
        let is_in_order = outs.windows(2).all(|pair| pair[0] < pair[1]);
        let places: Vec<usize> = made
            .iter()
            .filter_map(|label| equation.output.iter().position(|other| other == label))
            .collect();
        let is_one_run = places.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let taps: Vec<(usize, char)> = summed.iter().copied().filter(|&(a, _)| a != axis).collect();
        let shape = view.shape(self.data[data])?;
        // Channels with all that they cover come last in the data, or are not observed.
        let is_last = taps
            .iter()
            .enumerate()
            .all(|(i, &(a, _))| a == axis + 1 + i)
            && (taps.is_empty() || axis + 1 + taps.len() == shape.len());
        Ok(Consumer {
            node: view.id,
            input: self.data[data],
            axis,
            output: view.output(0).unwrap_or(self.data[data]),
            output_axis: outs
                .first()
                .and_then(|&first| places.get(first))
                .copied()
                .unwrap_or(Consumer::INNER),
            window: None,
            covered: is_last.then(|| taps.iter().filter_map(|&(a, _)| shape.get(a)).product()),
            weight,
            layout: WeightLayout {
                out_axes: outs.iter().map(|&index| place(made[index])).collect(),
                in_axis: place(label),
                kernel_axes: taps.iter().map(|&(_, label)| place(label)).collect(),
                blocks: 1,
                block_axis: outs.first().map_or(0, |&index| place(made[index])),
            },
            bias: if is_in_order && is_one_run && !made.is_empty() {
                Bias::Added
            } else {
                Bias::None
            },
            gain: 1.0,
            partner: None,
            stack: None,
        })
    }

    /// The product with a stack of matrices along one label, which sums over the last axis of the
    /// data.
    fn stack_product(
        &self,
        walk: &Walk<'_>,
        (data, weight): (usize, usize),
        made: &[char],
        summed: usize,
        axis: usize,
    ) -> Option<StackProduct> {
        let equation = &self.equation;
        let own = equation.operands[weight].iter();
        let mut stacked =
            own.filter(|&&label| equation.axis(data, label).is_some() && equation.is_kept(label));
        let (Some(&stack), None, &[made]) = (stacked.next(), stacked.next(), made) else {
            return None;
        };
        let label = *equation.operands[data].get(axis)?;
        let place = |label: char| equation.output.iter().position(|&other| other == label);
        let parts = equation.axis(data, stack)?;
        let is_last = axis + 1 == equation.operands[data].len();
        let graph = self.view.graph;
        let own = walk.axis(self.data[data], parts);
        let is_plain = own.is_none_or(|map| are_copies(graph, walk, &map));
        (summed == 1 && is_last && is_plain).then_some(StackProduct {
            data,
            weight,
            stack_axis: equation.axis(weight, stack)?,
            in_axis: equation.axis(weight, label)?,
            out_axis: equation.axis(weight, made)?,
            own: Some(parts),
            made_stack: place(stack)?,
            made_axis: place(made)?,
        })
    }

    /// Both operands are computed.
    fn multiply(&self, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let (view, equation) = (self.view, &self.equation);
        let output = view
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        let mut axes = vec![None; equation.output.len()];
        let mut spans: Vec<_> = (0..axes.len()).map(|axis| (output, axis)).collect();
        let labels: BTreeSet<char> = equation.operands.concat().into_iter().collect();
        for label in labels {
            let places = [equation.axis(0, label), equation.axis(1, label)];
            let map = |side: usize| walk.axis(self.data[side], places[side]?);
            let maps = [map(0), map(1)];
            let role = match (places, equation.is_kept(label)) {
                ([Some(_), Some(_)], true) => Role::Stack,
                _ => Role::Matrix,
            };
            maps.iter().flatten().for_each(|map| walk.see(map, role));
            if !equation.is_kept(label)
                && let Some(axis) = places[0]
            {
                spans.push((self.data[0], axis));
            }
            if let Some(map) = self.meet(walk, label, places, maps)?
                && equation.is_kept(label)
            {
                self.lay(&mut axes, label, &map);
            }
        }
        let length = |&(value, axis): &(ValueId, usize)| {
            let shape = view.graph.values[value].shape.as_deref();
            shape
                .and_then(|shape| shape.get(axis))
                .copied()
                .unwrap_or(1) as u64
        };
        let all = spans.iter().map(length).fold(1u64, u64::saturating_mul);
        walk.cost(Cost {
            node: view.id,
            of: Elements::Axes(spans),
            positions: walk.per_sample(all) / all.max(1) as f64,
        });
        walk.set(output, axes)
    }

    /// One label of two computed operands.
    fn meet(
        &self,
        walk: &mut Walk<'_>,
        label: char,
        places: [Option<usize>; 2],
        maps: [Option<AxisMap>; 2],
    ) -> Result<Option<AxisMap>, Freeze> {
        let (view, is_kept) = (self.view, self.equation.is_kept(label));
        Ok(match (places, maps) {
            ([Some(left), Some(right)], [Some(a), Some(b)]) => {
                walk.tie(&a, &b)?;
                if !is_kept {
                    let rows = |side: usize| self.free(side);
                    walk.consume_both(
                        activations::consumer(view, (0, self.data[0]), left, rows(0)),
                        activations::consumer(view, (1, self.data[1]), right, rows(1)),
                    );
                }
                Some(a)
            }
            ([Some(_), Some(_)], [Some(map), None] | [None, Some(map)]) => {
                let text = "it multiplies the channels with others that are not pruned";
                walk.freeze(&map, view.id, text);
                Some(map)
            }
            ([Some(_), None], [Some(map), _]) | ([None, Some(_)], [_, Some(map)]) => {
                if !is_kept {
                    walk.freeze(&map, view.id, "it reduces over the channels");
                }
                Some(map)
            }
            _ => None,
        })
    }

    /// The axis of an operand that the other one has not.
    fn free(&self, side: usize) -> usize {
        let labels = &self.equation.operands[side];
        let free = |label: &char| self.equation.axis(1 - side, *label).is_none();
        labels.iter().position(free).unwrap_or(0)
    }

    fn cut(
        &self,
        walk: &mut Walk<'_>,
        slot: usize,
        label: char,
        map: &AxisMap,
    ) -> Result<(), Freeze> {
        match self.equation.axis(slot, label) {
            Some(axis) => walk.cut((self.view.id, slot), axis, map),
            None => Ok(()),
        }
    }

    fn lay(&self, axes: &mut [Option<AxisMap>], label: char, map: &AxisMap) {
        let place = self
            .equation
            .output
            .iter()
            .position(|other| *other == label);
        if let Some(slot) = place.and_then(|place| axes.get_mut(place)) {
            *slot = Some(map.clone());
        }
    }
}
