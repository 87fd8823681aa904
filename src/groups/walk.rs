//! The walk that carries channel atoms through the graph.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use petgraph::unionfind::UnionFind;

use crate::graph::{Freeze, Graph, NodeId, NodeView, Table, ValueId};
use crate::groups::consumer::{Consumer, Cost, Elements};
use crate::groups::lengths::Size;
use crate::groups::splits::{Choices, Splits};
use crate::groups::{Atom, Axes, AxisMap, Operator, Rules, Scope, UNKNOWN, Use};

/// Why atoms must stay.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// The node that holds them; none where the model's interface or the user does.
    pub node: Option<NodeId>,
    /// One clause that completes "stays because".
    pub text: String,
}

impl Reason {
    pub(super) fn of(node: NodeId, text: &str) -> Self {
        Reason {
            node: Some(node),
            text: text.to_owned(),
        }
    }
}

/// The state of the walk: atoms so far, what unites and what freezes them.
pub struct Walk<'a> {
    pub(super) graph: &'a Graph,
    pub(super) rules: &'a dyn Rules,
    /// What is known of each node's operator.
    operators: Rc<Table<NodeId, &'a dyn Operator>>,
    pub(super) united: UnionFind<Atom>,
    pub(super) origins: Vec<NodeId>,
    pub(super) frozen: Vec<(Atom, usize)>,
    /// Every reason with its number.
    pub(super) reasons: BTreeMap<Reason, usize>,
    pub(super) values: Table<ValueId, Axes>,
    pub(super) uses: BTreeMap<Use, Axes>,
    pub(super) entries: BTreeMap<(Use, usize), AxisMap>,
    pub(super) consumers: Vec<Consumer>,
    pub(super) costs: Vec<Cost>,
    /// Where weights are read.
    pub(super) weights: BTreeSet<Use>,
    /// Nodes that no rule covers, and why.
    pub(super) refused: BTreeMap<NodeId, String>,
    /// Where nodes read numbers that follow from channel counts, with the atoms counted: these
    /// must stay the numbers that they were.
    pub(super) counts: BTreeMap<Use, Vec<AxisMap>>,
    pub(super) sizes: BTreeMap<ValueId, Vec<Size>>,
    /// The atoms that the entries of a tensor of sizes count, directly or not.
    pub(super) counted: BTreeMap<ValueId, Vec<AxisMap>>,
    /// The parts that sequences of tensors hold.
    sequences: BTreeMap<ValueId, Vec<Axes>>,
    /// Entries of constants that something reads that does not follow the channels.
    pub(super) pinned: Vec<((Use, usize), Reason)>,
    /// Entries that become a number which leaves the length open, and whose lengths those are.
    pub(super) open: BTreeMap<(Use, usize), (i64, Vec<AxisMap>)>,
    pub(super) splits: Splits,
    pub(super) scope: Scope,
    /// Samples in the observed run.
    pub(super) samples: usize,
    pub(super) mixes_samples: bool,
}

impl<'a> Walk<'a> {
    /// Walks every node of `graph` in topological order, twice where channels may be split in
    /// several ways.
    pub(super) fn over(graph: &'a Graph, scope: Scope, rules: &'a dyn Rules) -> Self {
        let operators: Table<_, _> = graph.nodes.iter().map(|node| rules.of(node)).collect();
        let operators = Rc::new(operators);
        let first = Walk::once(graph, scope, (rules, operators.clone()), None);
        if !first.splits.is_open {
            return first;
        }
        let choices = first.choices();
        Walk::once(graph, scope, (rules, operators), Some(choices))
    }

    fn once(
        graph: &'a Graph,
        scope: Scope,
        (rules, operators): (&'a dyn Rules, Rc<Table<NodeId, &'a dyn Operator>>),
        chosen: Option<Choices>,
    ) -> Self {
        let rank = |value: &crate::graph::Value| value.shape.as_ref().map_or(0, Vec::len);
        let mut walk = Walk {
            graph,
            rules,
            operators,
            united: UnionFind::new_empty(),
            origins: Vec::new(),
            frozen: Vec::new(),
            reasons: BTreeMap::new(),
            values: graph
                .values
                .iter()
                .map(|value| vec![None; rank(value)])
                .collect(),
            uses: BTreeMap::new(),
            entries: BTreeMap::new(),
            consumers: Vec::new(),
            costs: Vec::new(),
            weights: BTreeSet::new(),
            refused: BTreeMap::new(),
            counts: BTreeMap::new(),
            sizes: BTreeMap::new(),
            counted: BTreeMap::new(),
            sequences: BTreeMap::new(),
            pinned: Vec::new(),
            open: BTreeMap::new(),
            splits: Splits {
                exploring: chosen.is_none(),
                chosen: chosen.unwrap_or_default(),
                ..Splits::default()
            },
            scope,
            samples: samples(graph),
            mixes_samples: false,
        };
        for &id in &graph.order {
            walk.visit(graph.view(id));
        }
        walk.tie_weights();
        walk.freeze_outputs();
        for (entry, reason) in std::mem::take(&mut walk.pinned) {
            if let Some(map) = walk.entries.get(&entry).cloned() {
                walk.hold(&map, reason);
            }
        }
        walk
    }

    fn visit(&mut self, view: NodeView<'a>) {
        for &value in &view.node.captured {
            self.freeze_value(value, view.id, "a subgraph of the node reads the tensor");
        }
        let outputs: Vec<ValueId> = view.node.outputs.iter().flatten().copied().collect();
        if !outputs.is_empty() && outputs.iter().all(|&v| self.graph.values[v].is_constant) {
            return;
        }
        let operator = self.operator(view.id);
        if !operator.is_followed() {
            let text = format!("operator {} has no rule", view.node.full_name());
            return self.refuse(view, text);
        }
        self.follow_counts(view, operator);
        let atoms = self.origins.len();
        if let Err(Freeze(text)) = operator.trace(view, self) {
            // Atoms that the rule made before it gave up belong to no whole tensor.
            let made: AxisMap = (atoms..self.origins.len()).map(to_atom).collect();
            self.freeze(&made, view.id, &text);
            self.refuse(view, text);
            for output in outputs {
                self.values[output].fill(None);
            }
        }
    }

    /// What is known of a node's operator.
    pub(super) fn operator(&self, node: NodeId) -> &'a dyn Operator {
        self.operators.get(node).copied().unwrap_or(UNKNOWN)
    }

    /// Leaves a node as it is, with all that it reads.
    fn refuse(&mut self, view: NodeView<'_>, text: String) {
        self.freeze_inputs(view, &text);
        let is_told = self.costs.last().is_some_and(|cost| cost.node == view.id);
        if !is_told {
            let known = self.operator(view.id).cost(view, self);
            self.costs.extend(known);
        }
        self.refused.insert(view.id, text);
    }

    fn freeze_outputs(&mut self) {
        for value in self.graph.values.ids() {
            if self.graph.values[value].is_output {
                let text = format!(
                    "'{}' is an output of the model",
                    self.graph.values[value].name
                );
                self.hold_value(value, &Reason { node: None, text });
            }
        }
    }

    /// The atoms of every axis of a value.
    #[must_use]
    pub fn axes(&self, value: ValueId) -> Axes {
        self.values[value].clone()
    }

    /// The atoms along one axis of a value, if it is tracked.
    #[must_use]
    pub fn axis(&self, value: ValueId, axis: usize) -> Option<AxisMap> {
        self.values[value].get(axis).cloned().flatten()
    }

    /// Whether any axis of the value is tracked.
    #[must_use]
    pub fn is_tracked(&self, value: ValueId) -> bool {
        self.values[value].iter().any(Option::is_some)
    }

    /// Says which atoms lie along the axes of a value that the node makes.
    ///
    /// # Errors
    /// A map's length is not the axis's length.
    pub fn set(&mut self, value: ValueId, axes: Axes) -> Result<(), Freeze> {
        let known = &self.graph.values[value];
        if known.shape.is_none() && !known.is_used() {
            return Ok(());
        }
        let shape = known.shape.as_deref().unwrap_or_default();
        let fits = axes.len() == shape.len()
            && axes
                .iter()
                .zip(shape)
                .all(|(map, &n)| map.as_ref().is_none_or(|m| m.len() == n));
        if !fits {
            return Err(Freeze::new(
                "its output has not the shape that its inputs give it",
            ));
        }
        self.values[value] = axes;
        Ok(())
    }

    /// The atoms of the parts of a sequence, where they are tracked.
    #[must_use]
    pub fn sequence(&self, value: ValueId) -> Option<Vec<Axes>> {
        self.sequences.get(&value).cloned()
    }

    /// Says which atoms lie along the axes of the parts of a sequence.
    pub fn set_sequence(&mut self, value: ValueId, parts: Vec<Axes>) {
        self.sequences.insert(value, parts);
    }

    /// How many channels `pairs` of atoms would leave of those in `map` if they were united.
    #[must_use]
    pub fn classes_with(&self, map: &AxisMap, pairs: impl Iterator<Item = (Atom, Atom)>) -> usize {
        let mut roots: Vec<Atom> = map.iter().map(|&atom| self.united.find(atom)).collect();
        roots.sort_unstable();
        roots.dedup();
        let place = |atom| roots.binary_search(&self.united.find(atom)).ok();
        let mut trial = UnionFind::<usize>::new(roots.len());
        let mut left = roots.len();
        for (a, b) in pairs {
            if let (Some(a), Some(b)) = (place(a), place(b)) {
                left -= usize::from(trial.union(a, b));
            }
        }
        left
    }

    /// New atoms, one per output position of a node's weight.
    pub fn fresh(&mut self, node: NodeId, length: usize) -> AxisMap {
        let first = self.origins.len();
        for _ in 0..length {
            self.united.new_set();
            self.origins.push(node);
        }
        (first..first + length).map(to_atom).collect()
    }

    /// The node that made an atom.
    #[must_use]
    pub fn origin(&self, atom: Atom) -> NodeId {
        self.origins.get(atom as usize).copied().unwrap_or_default()
    }

    /// New atoms that must stay.
    pub fn fixed(&mut self, node: NodeId, length: usize, text: &str) -> AxisMap {
        let map = self.fresh(node, length);
        self.freeze(&map, node, text);
        map
    }

    /// Unites two maps position by position.
    ///
    /// # Errors
    /// The maps differ in length.
    pub fn tie(&mut self, left: &AxisMap, right: &AxisMap) -> Result<(), Freeze> {
        if left.len() != right.len() {
            return Err(Freeze::new(format!(
                "{} channels meet {} channels",
                left.len(),
                right.len()
            )));
        }
        for (&a, &b) in left.iter().zip(right.iter()) {
            self.united.union(a, b);
        }
        Ok(())
    }

    /// Freezes the atoms of a map, with the node that needs them whole.
    pub fn freeze(&mut self, map: &AxisMap, node: NodeId, text: &str) {
        self.hold(map, Reason::of(node, text));
    }

    pub(super) fn hold(&mut self, map: &AxisMap, reason: Reason) {
        let next = self.reasons.len();
        let index = *self.reasons.entry(reason).or_insert(next);
        self.frozen.extend(map.iter().map(|&atom| (atom, index)));
    }

    /// Freezes the atoms of one axis of a value, if it is tracked.
    pub fn freeze_axis(&mut self, value: ValueId, axis: usize, node: NodeId, text: &str) {
        if let Some(map) = self.axis(value, axis) {
            self.freeze(&map, node, text);
        }
    }

    fn freeze_value(&mut self, value: ValueId, node: NodeId, text: &str) {
        self.hold_value(value, &Reason::of(node, text));
    }

    /// Holds the channels of a value, and those that it counts if it is a tensor of sizes.
    pub(super) fn hold_value(&mut self, value: ValueId, reason: &Reason) {
        let parts = self.sequences.get(&value).cloned().unwrap_or_default();
        let all = std::iter::once(self.values[value].clone()).chain(parts);
        for map in all.flatten().flatten() {
            self.hold(&map, reason.clone());
        }
        for size in self.sizes.get(&value).cloned().unwrap_or_default() {
            self.hold_size(&size, reason);
        }
        for map in self.counted.get(&value).cloned().unwrap_or_default() {
            self.hold(&map, reason.clone());
        }
    }

    pub(super) fn hold_map(&mut self, map: &AxisMap, reason: &Reason) {
        self.hold(map, reason.clone());
    }

    fn freeze_inputs(&mut self, view: NodeView<'_>, text: &str) {
        for value in view.node.inputs.iter().flatten().copied() {
            self.freeze_value(value, view.id, text);
        }
    }

    /// Says that a constant is cut along `axis` with the atoms of `map` where the node reads it.
    ///
    /// # Errors
    /// The constant has no such axis, or another length there.
    pub fn cut(&mut self, at: Use, axis: usize, map: &AxisMap) -> Result<(), Freeze> {
        let view = self.graph.view(at.0);
        let shape = view.shape(view.need(at.1)?)?;
        if shape.get(axis) != Some(&map.len()) {
            return Err(Freeze::new(format!(
                "input {} does not fit its channels",
                at.1
            )));
        }
        let axes = self
            .uses
            .entry(at)
            .or_insert_with(|| vec![None; shape.len()]);
        if let Some(slot) = axes.get_mut(axis) {
            *slot = Some(map.clone());
        }
        Ok(())
    }

    /// Records a linear consumer of channels.
    pub fn consume(&mut self, consumer: Consumer) {
        self.consumers.push(consumer);
    }

    /// Records the two factors of a product of activations: each is what weighs the other.
    pub fn consume_both(&mut self, mut left: Consumer, mut right: Consumer) {
        let place = self.consumers.len();
        left.partner = Some(place + 1);
        right.partner = Some(place);
        self.consumers.extend([left, right]);
    }

    /// What the user allows.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// How many of `count` things of the observed run belong to one sample.
    #[must_use]
    pub fn per_sample(&self, count: u64) -> f64 {
        let samples = self.samples as u64;
        if count.is_multiple_of(samples) {
            count as f64 / samples as f64
        } else {
            count as f64
        }
    }

    /// Says that samples lie along another axis than the first in some tensors.
    pub fn mix_samples(&mut self) {
        self.mixes_samples = true;
    }

    /// Records where a node reads a weight, or a table that is as much as one.
    pub fn weigh(&mut self, at: Use) {
        self.weights.insert(at);
    }

    /// Records what a node with a constant weight costs.
    pub fn cost(&mut self, cost: Cost) {
        if let Elements::Weight(slot) = cost.of {
            self.weigh((cost.node, slot));
        }
        self.costs.push(cost);
    }
}

/// The first axis of the first input that has data.
fn samples(graph: &Graph) -> usize {
    let mut inputs = graph.values.iter().filter(|value| {
        value.producer.is_none() && value.constant.is_none() && value.shape.is_some()
    });
    let first = inputs
        .next()
        .and_then(|value| value.shape.as_ref()?.first());
    first.copied().unwrap_or(1).max(1)
}

fn to_atom(index: usize) -> Atom {
    Atom::try_from(index).unwrap_or(Atom::MAX)
}
