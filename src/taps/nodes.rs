//! The nodes that taps append to a model.

use crate::graph::Graph;
use crate::onnx::{Model, Tensor, proto};
use crate::ops;
use crate::taps::Placed;

impl Placed {
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
    let named = |what: &str| format!("{}/{what}", placed.output);
    let value = &graph.values[placed.tap.value];
    let mut source = &value.name;
    let rank = value.shape.as_ref().map_or(0, Vec::len);
    let (beside, perm) = (named("beside"), placed.tap.side_by_side(rank));
    if let Some(perm) = perm {
        let node = ops::build::transpose_node(source, &beside, perm);
        main.node.push(node);
        source = &beside;
    }
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
    let view = graph.view(placed.pointwise?);
    let source = ops::of(view.node).pointwise(view)?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::groups::{Groups, Scope};
    use crate::runtime::{Runtime, RuntimeOptions};
    use crate::shapes::probe;
    use crate::taps::Tap;

    /// The truth is what a tap of the whole output gathers.
    #[test]
    fn a_pointwise_node_is_repeated_on_the_positions() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fixtures/mobilenet_bn_torchscript.onnx"
        );
        let model = crate::onnx::load(path.as_ref()).unwrap();
        let mut graph = ops::graph(&model).unwrap();
        let runtime = Runtime::start(&RuntimeOptions::default()).unwrap();
        let values: Vec<f32> = (0..2 * 28 * 28).map(|i| (i % 17) as f32).collect();
        let image = Tensor::from_f32(&[2, 1, 28, 28], values).unwrap();
        let mut feeds = vec![("input".to_owned(), image)];
        probe(&model, &mut graph, &runtime, &feeds).unwrap();
        let (mut plain, mut repeated) = (Vec::new(), Vec::new());
        for consumer in Groups::find(&graph, Scope::default(), &ops::RULES).consumers {
            let tap = Tap {
                value: consumer.output,
                axis: consumer.output_axis,
                window: None,
                covered: 1,
                stack: None,
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
            let draw = placed.draw(5, 1, None).unwrap();
            feeds.push((placed.positions.clone(), draw.places.tensor));
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
