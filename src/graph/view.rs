use crate::graph::{Freeze, Graph, Node, NodeId, ValueId};
use crate::onnx::Tensor;

/// A node together with the graph it stands in: what an operator's rule reads.
#[derive(Clone, Copy)]
pub struct NodeView<'a> {
    /// The graph around the node.
    pub graph: &'a Graph,
    /// The node's index.
    pub id: NodeId,
    /// The node.
    pub node: &'a Node,
}

impl<'a> NodeView<'a> {
    pub(super) fn new(graph: &'a Graph, id: NodeId) -> Self {
        NodeView {
            graph,
            id,
            node: &graph.nodes[id],
        }
    }

    /// The value in an input slot, if the slot is filled.
    #[must_use]
    pub fn input(&self, slot: usize) -> Option<ValueId> {
        self.node.inputs.get(slot).copied().flatten()
    }

    /// The value in an input slot.
    ///
    /// # Errors
    /// The slot is empty.
    pub fn need(&self, slot: usize) -> Result<ValueId, Freeze> {
        self.input(slot)
            .ok_or_else(|| Freeze::new(format!("input {slot} is missing")))
    }

    /// The value in an output slot, if the slot is filled.
    #[must_use]
    pub fn output(&self, slot: usize) -> Option<ValueId> {
        self.node.outputs.get(slot).copied().flatten()
    }

    /// Shape of any value in the observed run.
    ///
    /// # Errors
    /// The value was not seen in the run.
    pub fn shape(&self, value: ValueId) -> Result<&'a [usize], Freeze> {
        let value = &self.graph.values[value];
        value
            .shape
            .as_deref()
            .ok_or_else(|| Freeze::new(format!("the shape of '{}' is not known", value.name)))
    }

    /// Shape of the first output.
    ///
    /// # Errors
    /// There is none, or it was not seen in the run.
    pub fn output_shape(&self) -> Result<&'a [usize], Freeze> {
        let output = self
            .output(0)
            .ok_or_else(|| Freeze::new("it has no output"))?;
        self.shape(output)
    }

    /// Data of a constant input, if it is one.
    #[must_use]
    pub fn constant(&self, slot: usize) -> Option<&'a Tensor> {
        self.graph.values[self.input(slot)?].constant.as_ref()
    }

    /// Data of an input that is a constant or was a count in the observed run. Only where the walk
    /// found all entries of a count to be fixed do they hold in every run.
    #[must_use]
    pub fn constant_or_count(&self, slot: usize) -> Option<&'a Tensor> {
        let value = &self.graph.values[self.input(slot)?];
        value.constant.as_ref().or(value.observed.as_ref())
    }

    /// Integers of a constant input; `None` where the slot is empty.
    ///
    /// # Errors
    /// The input is filled, but not constant or not of integers.
    pub fn constant_ints(&self, slot: usize) -> Result<Option<Vec<i64>>, Freeze> {
        let Some(value) = self.input(slot) else {
            return Ok(None);
        };
        let name = &self.graph.values[value].name;
        let Some(tensor) = self.constant(slot) else {
            return Err(Freeze::new(format!(
                "'{name}' is computed while the model runs"
            )));
        };
        match tensor.to_i64() {
            Ok(ints) => Ok(Some(ints)),
            Err(_) => Err(Freeze::new(format!("'{name}' does not hold integers"))),
        }
    }

    /// A list of integers that is an attribute in older opsets and an input in newer ones.
    ///
    /// # Errors
    /// The input is filled, but not constant or not of integers.
    pub fn ints(&self, attribute: &str, slot: usize) -> Result<Option<Vec<i64>>, Freeze> {
        match self.node.ints(attribute) {
            Some(ints) => Ok(Some(ints.to_vec())),
            None => self.constant_ints(slot),
        }
    }
}

/// An axis that may count from the end, as an index into `rank` axes.
///
/// # Errors
/// The axis is outside the shape.
pub fn normalize_axis(axis: i64, rank: usize) -> Result<usize, Freeze> {
    let length = i64::try_from(rank).unwrap_or(i64::MAX);
    let index = if axis < 0 {
        axis.saturating_add(length)
    } else {
        axis
    };
    match usize::try_from(index) {
        Ok(index) if index < rank => Ok(index),
        _ => Err(Freeze::new(format!(
            "axis {axis} is outside a tensor of {rank} axes"
        ))),
    }
}
