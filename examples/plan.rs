//! Surgery alone: a plan of one's own, whatever it was chosen by, applied to a model. Here every
//! second channel leaves. `cargo run --example plan -- IN.onnx OUT.onnx`
//!
//! Nothing is repaired; `onnx-mipp IN.onnx OUT.onnx --plan FILE.json --calib DATA` applies the same plan,
//! written as JSON, with repair.

use std::error::Error;
use std::path::{Path, PathBuf};

use onnx_mipp::data::{self, ReaderOptions};
use onnx_mipp::groups::{Groups, Scope};
use onnx_mipp::onnx;
use onnx_mipp::ops;
use onnx_mipp::runtime::{Runtime, RuntimeOptions, restart_without_telemetry};
use onnx_mipp::select::Plan;
use onnx_mipp::shapes::probe;
use onnx_mipp::surgery::{self, Repaired};

fn main() -> Result<(), Box<dyn Error>> {
    restart_without_telemetry()?;
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(input), Some(output)) = (arguments.next(), arguments.next()) else {
        return Err("usage: plan IN.onnx OUT.onnx".into());
    };
    let plan = halve(&input, &output)?;
    for group in &plan.groups {
        let (kept, channels) = (group.kept.len(), group.channels);
        println!("{}: {kept} of {channels}", group.name);
    }
    Ok(())
}

/// Writes the model without every second channel of its free groups; returns what was kept.
pub fn halve(input: &Path, output: &Path) -> Result<Plan, Box<dyn Error>> {
    let model = onnx::load(input)?.inlined().in_order();
    let mut graph = ops::graph(&model)?;

    // Shapes are observed in one run, of two samples of noise.
    let runtime = Runtime::start(&RuntimeOptions::default())?;
    let inputs = runtime.session(&model)?.inputs();
    let noise = data::synthetic(&inputs, &ReaderOptions::default())?;
    let mut batches = noise.batches(&[0, 1], 2)?;
    let batch = batches.next().ok_or("the model takes no samples")??;
    probe(&model, &mut graph, &runtime, &batch)?;
    let groups = Groups::find(&graph, Scope::default(), &ops::RULES);

    // Start from the plan that keeps everything; a frozen group must stay whole.
    let mut plan = Plan::of(&groups, &vec![true; groups.channel_count]);
    for (planned, group) in plan.groups.iter_mut().zip(&groups.groups) {
        if group.frozen.is_empty() {
            planned.kept.retain(|channel| channel % 2 == 0);
        }
    }

    // The plan is checked against the groups, the result against the format.
    let stays = plan.stays(&groups)?;
    let pruned = surgery::prune(&model, &graph, &groups, &stays, &Repaired::default())?;
    onnx::save(&pruned, output)?;
    Ok(plan)
}
