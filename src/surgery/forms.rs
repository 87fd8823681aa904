//! Putting constants back in the form in which they are stored: into the nodes that make them, or
//! into copies of these where others need them as they were.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, NodeId};
use crate::groups::{Carried, Use};
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::onnx::{Names, Tensor};
use crate::ops;
use crate::surgery::Changes;
use crate::surgery::apply::set_input;
use crate::surgery::stored::Form;

/// What nodes of constants read instead, where all that is made of it changes alike; for the rest,
/// the nodes to put behind others.
pub(super) fn put(
    main: &mut GraphProto,
    graph: &Graph,
    changes: &Changes,
    names: &mut Names,
) -> (BTreeMap<Use, Tensor>, BTreeMap<NodeId, Vec<NodeProto>>) {
    let users = Users::of(changes);
    let mut in_place = BTreeMap::new();
    let mut behind: BTreeMap<NodeId, Vec<NodeProto>> = BTreeMap::new();
    let mut copies: Vec<(&Form, String)> = Vec::new();
    for (&at, form) in &changes.forms {
        if form.chain.iter().all(|&node| users.are_alike(graph, node)) {
            in_place.extend(form.tensors.iter().map(|(at, new)| (*at, new.clone())));
            continue;
        }
        let known = copies.iter().find(|(other, _)| *other == form);
        let name = match known {
            Some((_, name)) => name.clone(),
            None => {
                let (nodes, name) = copy(main, graph, form, names);
                if let Some(&last) = form.chain.last() {
                    behind.entry(last).or_default().extend(nodes);
                }
                copies.push((form, name.clone()));
                name
            }
        };
        set_input(main, at, name);
    }
    (in_place, behind)
}

/// Copies of a form's nodes, which read its tensors, and the name of what the last one makes.
fn copy(
    main: &mut GraphProto,
    graph: &Graph,
    form: &Form,
    names: &mut Names,
) -> (Vec<NodeProto>, String) {
    let mut nodes = Vec::new();
    let mut made: Option<String> = None;
    for &id in &form.chain {
        let Some(mut node) = main.node.get(id.index()).cloned() else {
            continue;
        };
        let view = graph.view(id);
        if let (Some(made), Some(carried)) = (&made, Carried::of(view, &ops::RULES))
            && let Some(input) = node.input.get_mut(carried.slot)
        {
            input.clone_from(made);
        }
        let of_node = (id, 0)..(id.next(), 0);
        for ((_, slot), tensor) in form.tensors.range(of_node) {
            let Some(input) = node.input.get_mut(*slot) else {
                continue;
            };
            let stored = names.fresh(&format!("{input}_pruned"));
            main.initializer.push(tensor.to_proto(&stored));
            *input = stored;
        }
        if let Some(output) = node.output.first_mut() {
            let name = names.fresh(&format!("{output}_pruned"));
            output.clone_from(&name);
            node.name = Some(name.clone());
            made = Some(name);
        }
        nodes.push(node);
    }
    (nodes, made.unwrap_or_default())
}

/// Who makes use of nodes of constants.
struct Users<'a> {
    /// Per node, the forms that it is a part of, with the uses.
    forms: BTreeMap<NodeId, Vec<(Use, &'a Form)>>,
}

impl<'a> Users<'a> {
    fn of(changes: &'a Changes) -> Self {
        let mut forms: BTreeMap<NodeId, Vec<(Use, &Form)>> = BTreeMap::new();
        for (&at, form) in &changes.forms {
            for &node in &form.chain {
                forms.entry(node).or_default().push((at, form));
            }
        }
        Users { forms }
    }

    /// Whether all that reads what the node makes wants it changed in one way.
    fn are_alike(&self, graph: &Graph, node: NodeId) -> bool {
        let Some(forms) = self.forms.get(&node) else {
            return false;
        };
        let tensors = |form: &'a Form| form.tensors.range((node, 0)..(node.next(), 0));
        let is_same = |other: &&(Use, &'a Form)| {
            forms
                .first()
                .is_some_and(|first| tensors(first.1).eq(tensors(other.1)))
        };
        let next = |&(at, form): &(Use, &'a Form)| {
            let place = form.chain.iter().position(|&own| own == node)?;
            let Some(&next) = form.chain.get(place + 1) else {
                return Some(at);
            };
            Some((next, Carried::of(graph.view(next), &ops::RULES)?.slot))
        };
        let readers: BTreeSet<Use> = forms.iter().filter_map(next).collect();
        let made = graph.nodes[node].outputs.iter().flatten();
        forms.iter().all(|form| is_same(&form))
            && made.into_iter().all(|&value| {
                let value = &graph.values[value];
                let mut reads = value.readers.iter();
                !value.is_output && !value.is_captured && reads.all(|at| readers.contains(at))
            })
    }
}
