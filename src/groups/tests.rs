//! Groups of graphs whose operators are made up: what the walk does with whatever rules say.

#![allow(clippy::unwrap_used)]

use crate::graph::{Freeze, Graph, GroupId, Node, NodeId, NodeView, ValueId};
use crate::groups::{
    Axes, Bias, Consumer, Cost, Elements, Groups, Operator, Rules, Scope, UNKNOWN, Walk,
    WeightLayout, mark,
};
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use crate::onnx::{Model, Tensor};

/// Makes columns of others through a weight.
struct Weigh;
/// Hands all that it reads on as it is.
struct Pass;
/// Adds what it reads.
struct Meet;

fn output(view: NodeView<'_>) -> Result<ValueId, Freeze> {
    view.output(0).ok_or_else(|| Freeze::new("no output"))
}

impl Operator for Weigh {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let (data, made) = (view.need(0)?, output(view)?);
        let &[out, _] = view.shape(view.need(1)?)? else {
            return Err(Freeze::new("no matrix"));
        };
        walk.cost(Cost {
            node: view.id,
            of: Elements::Weight(1),
            positions: 1.0,
        });
        let columns = walk.fresh(view.id, out);
        walk.cut((view.id, 1), 0, &columns)?;
        if let Some(read) = walk.axis(data, 1) {
            walk.cut((view.id, 1), 1, &read)?;
            walk.consume(Consumer {
                node: view.id,
                input: data,
                axis: 1,
                output: made,
                output_axis: 1,
                window: None,
                covered: Some(1),
                weight: 1,
                layout: WeightLayout {
                    out_axes: vec![0],
                    in_axis: 1,
                    kernel_axes: Vec::new(),
                    blocks: 1,
                    block_axis: 0,
                },
                bias: Bias::None,
                gain: 1.0,
                partner: None,
                stack: None,
            });
        }
        walk.set(made, vec![None, Some(columns)])
    }
}

impl Operator for Pass {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let axes = walk.axes(view.need(0)?);
        walk.set(output(view)?, axes)
    }
}

impl Operator for Meet {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        let (left, right): (Axes, Axes) = (walk.axes(view.need(0)?), walk.axes(view.need(1)?));
        for (left, right) in left.iter().flatten().zip(right.iter().flatten()) {
            walk.tie(left, right)?;
        }
        walk.set(output(view)?, left)
    }
}

struct Fake;

impl Rules for Fake {
    fn of(&self, node: &Node) -> &dyn Operator {
        match node.op_type.as_str() {
            "Weigh" => &Weigh,
            "Pass" => &Pass,
            "Meet" => &Meet,
            _ => UNKNOWN,
        }
    }

    fn draws(&self, node: &NodeProto) -> bool {
        node.op_type() == "Draw"
    }
}

/// Nodes as operator, inputs and output; the first input is `x`, what starts with `w` is a weight
/// of that many rows and columns, and `y` is the output. All else has 3 rows and as many columns as
/// its name has letters.
fn graph(nodes: &[(&str, &[&str], &str)]) -> Graph {
    let value = |name: &str| ValueInfoProto {
        name: Some(name.to_owned()),
        ..Default::default()
    };
    let node = |&(op, inputs, output): &(&str, &[&str], &str)| NodeProto {
        op_type: Some(op.to_owned()),
        name: Some(format!("make {output}")),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    };
    let names = nodes.iter().flat_map(|(_, inputs, _)| inputs.iter());
    let mut weights: Vec<&str> = names.copied().filter(|n| n.starts_with('w')).collect();
    weights.sort_unstable();
    weights.dedup();
    let stored = |name: &&str| {
        let shape: Vec<usize> = name[1..].split('x').map(|n| n.parse().unwrap()).collect();
        let count: usize = shape.iter().product();
        let values = (0..count).map(|i| i as f32).collect();
        Tensor::from_f32(&shape, values).unwrap().to_proto(name)
    };
    let main = GraphProto {
        input: vec![value("x")],
        output: vec![value("y")],
        initializer: weights.iter().map(stored).collect(),
        node: nodes.iter().map(node).collect(),
        ..Default::default()
    };
    let proto = ModelProto {
        graph: Some(main),
        ..Default::default()
    };
    let model = Model { proto };
    let mut graph = Graph::unmarked(&model).unwrap();
    mark(&mut graph, &model, &Fake).unwrap();
    graph.observe_shape("x", vec![3, 1]);
    for (_, _, output) in nodes {
        graph.observe_shape(output, vec![3, output.len()]);
    }
    graph
}

fn find(nodes: &[(&str, &[&str], &str)]) -> Groups {
    Groups::find(&graph(nodes), Scope::default(), &Fake)
}

/// Of each group, how many channels it has and why it stays.
fn told(groups: &Groups) -> Vec<(usize, Vec<&str>)> {
    let groups = groups.groups.iter();
    groups
        .map(|group| {
            let reasons = group.frozen.iter().map(|reason| reason.text.as_str());
            (group.channels.len(), reasons.collect())
        })
        .collect()
}

const OUTPUT: &str = "'y' is an output of the model";

#[test]
fn what_is_handed_on_is_one_group_that_its_reader_judges() {
    let groups = find(&[
        ("Weigh", &["x", "w4x1"], "aaaa"),
        ("Pass", &["aaaa"], "bbbb"),
        ("Weigh", &["bbbb", "w1x4"], "y"),
    ]);
    assert_eq!(told(&groups), [(4, vec![]), (1, vec![OUTPUT])]);
    assert_eq!(groups.groups[GroupId::from(0)].name, "make aaaa");
    assert_eq!(groups.groups[GroupId::from(0)].producers, [NodeId::from(0)]);
    assert_eq!(groups.groups[GroupId::from(0)].consumers, [0]);
    assert_eq!(
        (groups.consumers[0].node, groups.judges()),
        (NodeId::from(2), vec![true])
    );
}

#[test]
fn what_meets_leaves_together() {
    let groups = find(&[
        ("Weigh", &["x", "w4x1"], "aaaa"),
        ("Weigh", &["x", "w4x1"], "bbbb"),
        ("Meet", &["aaaa", "bbbb"], "cccc"),
        ("Weigh", &["cccc", "w1x4"], "y"),
    ]);
    assert_eq!(told(&groups), [(4, vec![]), (1, vec![OUTPUT])]);
    assert_eq!(
        groups.groups[GroupId::from(0)].producers,
        [0, 1].map(NodeId::from)
    );
}

#[test]
fn a_rule_that_gives_up_holds_what_the_node_reads() {
    // Five channels meet four.
    let groups = find(&[
        ("Weigh", &["x", "w4x1"], "aaaa"),
        ("Weigh", &["x", "w5x1"], "bbbbb"),
        ("Meet", &["aaaa", "bbbbb"], "cccc"),
        ("Weigh", &["cccc", "w1x4"], "y"),
    ]);
    let text = "4 channels meet 5 channels";
    let expected = [(4, vec![text]), (5, vec![text]), (1, vec![OUTPUT])];
    assert_eq!(told(&groups), expected);
    assert_eq!(groups.refused[&NodeId::from(2)], text);
}

#[test]
fn an_operator_without_a_rule_holds_what_it_reads() {
    let groups = find(&[
        ("Weigh", &["x", "w4x1"], "aaaa"),
        ("Odd", &["aaaa"], "bbbb"),
        ("Weigh", &["bbbb", "w5x4"], "ccccc"),
        ("Weigh", &["ccccc", "w1x5"], "y"),
    ]);
    let text = "operator Odd has no rule";
    let expected = [(4, vec![text]), (5, vec![]), (1, vec![OUTPUT])];
    assert_eq!(told(&groups), expected);
}

#[test]
fn what_is_made_of_constants_is_constant_unless_it_is_drawn() {
    let graph = graph(&[
        ("Pass", &["w4x1"], "a"),
        ("Draw", &["w4x1"], "b"),
        ("Pass", &["b"], "c"),
        ("Meet", &["a", "x"], "y"),
    ]);
    let is_constant = |name: &str| graph.values[graph.find(name).unwrap()].is_constant;
    let names = ["w4x1", "a", "b", "c", "x", "y"];
    assert_eq!(
        names.map(is_constant),
        [true, true, false, false, false, false]
    );
}
