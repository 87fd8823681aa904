//! LSTM, GRU and RNN: hidden units leave from the gates, the recurrence and all states together.

use crate::graph::{Freeze, NodeView, ValueId};
use crate::groups::{
    AxisMap, Bias, Consumer, Cost, Edit, Elements, Kept, Operator, Walk, WeightLayout,
};
use crate::ops::Entry;

const DATA: usize = 0;
const WEIGHT: usize = 1;
const RECURRENCE: usize = 2;
const BIAS: usize = 3;
const HIDDEN_STATE: usize = 5;
const CELL_STATE: usize = 6;
const PEEPHOLES: usize = 7;

const CHANNELS: &str = "\
    read channels through the weight of the gates and make hidden units, which leave from all \
    gates, the recurrence, biases, peepholes and states together; both directions of one node \
    share them. `hidden_size` follows";

pub(super) const OPERATORS: &[Entry] = &[
    Entry::standard(&["LSTM"], &Recurrent { gates: 4 }, CHANNELS),
    Entry::standard(&["GRU"], &Recurrent { gates: 3 }, CHANNELS),
    Entry::standard(&["RNN"], &Recurrent { gates: 1 }, CHANNELS),
];

/// One of the three, told apart by the rows of the weight that each hidden unit has.
struct Recurrent {
    gates: usize,
}

impl Operator for Recurrent {
    fn trace(&self, view: NodeView<'_>, walk: &mut Walk<'_>) -> Result<(), Freeze> {
        for slot in [WEIGHT, RECURRENCE, BIAS, PEEPHOLES] {
            if view.input(slot).is_some() && view.constant(slot).is_none() {
                return Err(Freeze::new("its weight is computed while the model runs"));
            }
        }
        let data = view.need(DATA)?;
        let recurrence = view.shape(view.need(RECURRENCE)?)?;
        let (&[directions, rows, units], &[steps, samples, _]) = (recurrence, view.shape(data)?)
        else {
            return Err(Freeze::new("its inputs have not three axes"));
        };
        if units.checked_mul(self.gates) != Some(rows) {
            return Err(Freeze::new("its weights do not fit its hidden units"));
        }
        if view.node.int("layout", 0) == 0 {
            walk.mix_samples();
        }
        for axis in 0..2 {
            walk.freeze_axis(data, axis, view.id, "it runs along the tracked axis");
        }
        let hidden = walk.fresh(view.id, units);
        self.cut(view, walk, &hidden)?;
        for slot in [HIDDEN_STATE, CELL_STATE] {
            start(view, walk, slot, &hidden)?;
        }
        for slot in [WEIGHT, RECURRENCE] {
            walk.cost(Cost {
                node: view.id,
                of: Elements::Weight(slot),
                positions: walk.per_sample((steps as u64).saturating_mul(samples as u64)),
            });
        }
        for output in view.node.outputs.iter().flatten() {
            let rank = view.shape(*output)?.len();
            let mut axes = vec![None; rank.saturating_sub(1)];
            axes.push(Some(hidden.clone()));
            walk.set(*output, axes)?;
        }
        self.consume(view, walk, directions)
    }

    fn rewrite(&self, view: NodeView<'_>, kept: &Kept<'_>) -> Result<Vec<Edit>, Freeze> {
        let cut = kept.cut(view.id, RECURRENCE).and_then(|axes| axes.get(2));
        let Some(Some(hidden)) = cut else {
            return Ok(Vec::new());
        };
        let left = kept.count(hidden);
        let units = i64::try_from(left).map_err(|_| Freeze::new("too many hidden units"))?;
        let changes = left != hidden.len();
        Ok(changes
            .then_some(Edit::Int("hidden_size", units))
            .into_iter()
            .collect())
    }
}

impl Recurrent {
    /// Rows of the gates lie one gate after the other.
    fn cut(&self, view: NodeView<'_>, walk: &mut Walk<'_>, hidden: &AxisMap) -> Result<(), Freeze> {
        let gates = |times: usize| -> AxisMap {
            let all = std::iter::repeat_n(hidden, times);
            all.flat_map(|map| map.iter().copied()).collect()
        };
        walk.cut((view.id, WEIGHT), 1, &gates(self.gates))?;
        walk.cut((view.id, RECURRENCE), 1, &gates(self.gates))?;
        walk.cut((view.id, RECURRENCE), 2, hidden)?;
        if view.input(BIAS).is_some() {
            // Those of the weight, then those of the recurrence.
            walk.cut((view.id, BIAS), 1, &gates(2 * self.gates))?;
        }
        if view.input(PEEPHOLES).is_some() {
            walk.cut((view.id, PEEPHOLES), 1, &gates(3))?;
        }
        if let Some(map) = walk.axis(view.need(DATA)?, 2) {
            walk.cut((view.id, WEIGHT), 2, &map)?;
        }
        Ok(())
    }

    fn consume(
        &self,
        view: NodeView<'_>,
        walk: &mut Walk<'_>,
        directions: usize,
    ) -> Result<(), Freeze> {
        let consumer = |input: ValueId, axis: usize, weight: usize, bias: Bias| Consumer {
            node: view.id,
            input,
            axis,
            output: input,
            output_axis: Consumer::INNER,
            window: None,
            covered: Some(1),
            weight,
            layout: WeightLayout {
                out_axes: vec![1, 0],
                in_axis: 2,
                kernel_axes: Vec::new(),
                blocks: 1,
                block_axis: 1,
            },
            bias,
            gain: 1.0,
            partner: None,
            stack: None,
        };
        let data = view.need(DATA)?;
        if walk.axis(data, 2).is_some() {
            let bias = Bias::Rows {
                slot: BIAS,
                after: 0,
            };
            walk.consume(consumer(data, 2, WEIGHT, bias));
        }
        // What the recurrence reads is the output one step earlier. Both directions share the
        // hidden units, but neither reads what the other made.
        let read = view.node.outputs.iter().flatten().next();
        if let Some(&read) = read {
            let axis = view.shape(read)?.len().saturating_sub(1);
            let is_plain = self.gates != 3 || view.node.int("linear_before_reset", 0) != 0;
            let bias = if is_plain && directions == 1 {
                Bias::Rows {
                    slot: BIAS,
                    after: 1,
                }
            } else {
                Bias::None
            };
            walk.consume(consumer(read, axis, RECURRENCE, bias));
        }
        Ok(())
    }
}

/// The state that the node starts from.
fn start(
    view: NodeView<'_>,
    walk: &mut Walk<'_>,
    slot: usize,
    hidden: &AxisMap,
) -> Result<(), Freeze> {
    let Some(value) = view.input(slot) else {
        return Ok(());
    };
    let last = view.shape(value)?.len().saturating_sub(1);
    for axis in 0..last {
        walk.freeze_axis(value, axis, view.id, "it runs along the tracked axis");
    }
    if view.constant(slot).is_some() {
        return walk.cut((view.id, slot), last, hidden);
    }
    match walk.axis(value, last) {
        Some(map) => walk.tie(&map, hidden),
        None => {
            let name = &view.graph.values[value].name;
            let text = format!("it starts from '{name}', which is not pruned");
            walk.freeze(hidden, view.id, &text);
            Ok(())
        }
    }
}
