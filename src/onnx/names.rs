//! Names in use in a model, for new ones that clash with none.

use std::collections::{BTreeMap, BTreeSet};

use super::proto::{GraphProto, ModelProto, NodeProto};

/// Names that are taken.
pub(crate) struct Names {
    taken: BTreeSet<String>,
    /// By name, the number that was given to it last: thousands of nodes may ask for one name.
    numbers: BTreeMap<String, usize>,
}

impl Names {
    /// Those of all values: a new value of the main graph may have no name that a subgraph, at any
    /// depth, has for one of its own, or the subgraph would hide it.
    pub fn of_values(model: &ModelProto) -> Names {
        let mut names = Names::of(BTreeSet::new());
        let training = model.training_info.iter();
        let training = training.flat_map(|t| t.initialization.iter().chain(&t.algorithm));
        for graph in model.graph.iter().chain(training) {
            names.add(graph);
        }
        for function in &model.functions {
            names.taken.extend(function.input.iter().cloned());
            names.add_nodes(&function.node);
        }
        names
    }

    /// Those of the nodes of a graph.
    pub fn of_nodes(graph: &GraphProto) -> Names {
        let names = graph.node.iter().map(|node| node.name().to_owned());
        Names::of(names.collect())
    }

    fn of(taken: BTreeSet<String>) -> Names {
        Names {
            taken,
            numbers: BTreeMap::new(),
        }
    }

    fn add(&mut self, graph: &GraphProto) {
        self.taken.extend(defined(graph).map(str::to_owned));
        let stated = graph.value_info.iter().map(|info| info.name().to_owned());
        self.taken.extend(stated);
        self.add_nodes(&graph.node);
    }

    fn add_nodes(&mut self, nodes: &[NodeProto]) {
        for node in nodes {
            self.taken.extend(node.output.iter().cloned());
            subgraphs(node).for_each(|inner| self.add(inner));
        }
    }

    /// A name that is free, `base` if it can be; it is taken then.
    pub fn fresh(&mut self, base: &str) -> String {
        if self.taken.insert(base.to_owned()) {
            return base.to_owned();
        }
        let number = self.numbers.entry(base.to_owned()).or_insert(1);
        loop {
            *number += 1;
            let name = format!("{base}_{number}");
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// The bodies that a node holds.
pub(super) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    let attributes = node.attribute.iter();
    attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// What a graph defines itself, its nodes' outputs among it.
pub(super) fn defined(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let sparse = graph.sparse_initializer.iter();
    let sparse = sparse.filter_map(|stored| Some(stored.values.as_ref()?.name()));
    let made = graph.node.iter().flat_map(|node| &node.output);
    let inputs = graph.input.iter().map(|input| input.name());
    inputs
        .chain(graph.initializer.iter().map(|stored| stored.name()))
        .chain(sparse)
        .chain(made.map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn names_inside_subgraphs_and_functions_are_taken() {
        let mut names = Names::of_values(&sample::model().proto);
        // An initializer, what a branch makes, what a function makes.
        for taken in ["w", "k", "d"] {
            assert_eq!(names.fresh(taken), format!("{taken}_2"));
        }
        assert_eq!(names.fresh("other"), "other");
        assert_eq!(names.fresh("other"), "other_2");
    }
}
