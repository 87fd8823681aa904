//! Combinations of channels instead of channels, where nothing but linear layers touches them.
//!
//! Between a convolution without an activation and the ones that read it, as in the narrow streams
//! of inverted residual blocks, channels may be turned into any other orthogonal basis: with `T`
//! along every axis of every constant on which they lie, the model computes what it did. In the
//! basis of those directions that tell most about the consumers' outputs, a few of them tell more
//! than as many channels do. So the stage hands on a model, its graph and its statistics in that
//! basis, and all that follows prunes them as it would prune any channels (docs/method/groups.md).
//! What is inside an attention's heads has such a basis for each head.

mod heads;
mod linear;
mod places;
mod positions;
mod scaling;
mod turn;

use std::collections::BTreeMap;

use crate::graph::{Graph, GroupId, Table, ValueId};
use crate::groups::Groups;
use crate::linalg::LinalgError;
use crate::onnx::{Model, Tensor, TensorError};
use crate::select::{Scene, SelectError};
use crate::statistics::Statistics;
use heads::Head;
use linear::Linear;
use turn::Turn;

/// Why channels could not be combined.
#[derive(Debug, thiserror::Error)]
pub enum CombineError {
    /// What the consumers see of a group could not be read.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The directions of a group could not be found.
    #[error("combining the channels of '{group}': {error}")]
    Directions {
        /// The group.
        group: String,
        /// What went wrong.
        error: LinalgError,
    },
    /// A constant that channels lie on could not be turned.
    #[error("combining the channels of '{group}': tensor '{tensor}': {error}")]
    Constant {
        /// The group.
        group: String,
        /// The constant.
        tensor: String,
        /// What went wrong.
        error: TensorError,
    },
}

/// A model that computes what the original does, in other channels.
#[derive(Debug, Clone)]
pub struct Combined {
    /// The model.
    pub model: Model,
    /// Its graph: the original's but for constants.
    pub graph: Graph,
    /// Per group, whether its channels are combinations of the original's.
    pub groups: Table<GroupId, bool>,
}

/// Per group, whether its channels may be combined: nothing but linear layers touches them.
#[must_use]
pub fn combinable(graph: &Graph, groups: &Groups) -> Table<GroupId, bool> {
    let mut combinable = Table::from(vec![false; groups.groups.len()]);
    for index in turnable(graph, groups).into_keys() {
        combinable[index] = true;
    }
    combinable
}

/// A group whose channels may be turned.
enum Turnable {
    /// All in one basis.
    Linear(Linear),
    /// Each head's in its own.
    Heads(Vec<Head>),
}

/// The groups that may be turned.
fn turnable(graph: &Graph, groups: &Groups) -> BTreeMap<GroupId, Turnable> {
    let places = places::places(groups);
    let heads = heads::find(graph, groups, &places).into_iter();
    let heads = heads.map(|(index, heads)| (index, Turnable::Heads(heads)));
    let mut all: BTreeMap<GroupId, Turnable> = heads.collect();
    let linear = linear::find(graph, groups, &places).into_iter();
    all.extend(linear.map(|(index, linear)| (index, Turnable::Linear(linear))));
    all
}

/// Turns the channels of the groups that are `wanted`, may be combined and pruned, and can be
/// judged; the statistics turn with them. `None` where there is no such group.
///
/// # Errors
/// Statistics or constants that cannot be read.
pub fn combine(
    model: &Model,
    graph: &Graph,
    groups: &Groups,
    statistics: &mut Statistics,
    wanted: &dyn Fn(GroupId) -> bool,
) -> Result<Option<Combined>, CombineError> {
    let scene = Scene {
        graph,
        groups,
        statistics,
        file: None,
    };
    let mut turnable = turnable(graph, groups);
    let mut turns = BTreeMap::new();
    for group in scene.prunable().into_iter().filter(|&group| wanted(group)) {
        if let Some(found) = turnable.remove(&group) {
            turns.insert(group, Turn::of(scene, group, found)?);
        }
    }
    if turns.is_empty() {
        return Ok(None);
    }
    let mut combined = Combined {
        model: model.clone(),
        graph: graph.clone(),
        groups: vec![false; groups.groups.len()].into(),
    };
    for (group, turn) in turns {
        combined.turn(&turn, &groups.groups[group].name)?;
        combined.groups[group] = true;
        statistics.turn(&turn.readers, &turn.bases);
    }
    Ok(Some(combined))
}

impl Combined {
    /// Turns the constants that the channels of one group lie on.
    fn turn(&mut self, turn: &Turn, group: &str) -> Result<(), CombineError> {
        for (&value, tensor) in &turn.prepared {
            self.put(value, tensor.clone());
        }
        for (&(value, axis), parts) in &turn.parts {
            let place = &self.graph.values[value];
            let failed = |error| CombineError::Constant {
                group: group.to_owned(),
                tensor: place.name.clone(),
                error,
            };
            let Some(tensor) = &place.constant else {
                continue;
            };
            let turned = turn::along(tensor, axis, parts, &turn.bases).map_err(failed)?;
            self.put(value, turned);
        }
        Ok(())
    }

    /// Replaces the data of an initializer.
    fn put(&mut self, value: ValueId, tensor: Tensor) {
        let place = &mut self.graph.values[value];
        let main = self.model.proto.graph.iter_mut();
        let mut stored = main.flat_map(|main| &mut main.initializer);
        if let Some(stored) = stored.find(|stored| stored.name() == place.name) {
            tensor.store(stored);
        }
        place.constant = Some(tensor);
    }
}
