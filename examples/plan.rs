//! Surgery alone: a plan of one's own, whatever it was chosen by, applied to a model. Here every
//! second channel leaves. `cargo run --example plan -- IN.onnx OUT.onnx`
//!
//! Nothing is repaired; `onnx-mipp IN.onnx OUT.onnx --plan FILE.json --calib DATA` applies the same
//! plan, written as JSON, with repair, and so does `Prune::plan`.

use std::error::Error;
use std::path::{Path, PathBuf};

use onnx_mipp::stages::{Opening, apply, open, restart_without_telemetry};
use onnx_mipp::{Model, Plan, Silent};

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
    let subject = open(Model::load(input)?, &Opening::default(), &Silent)?;
    let groups = &subject.groups;

    // Start from the plan that keeps everything; a frozen group must stay whole.
    let mut plan = Plan::of(groups, &vec![true; groups.channel_count]);
    for (planned, group) in plan.groups.iter_mut().zip(&groups.groups) {
        if group.frozen.is_empty() {
            planned.kept.retain(|channel| channel % 2 == 0);
        }
    }

    // The plan is checked against the groups, the result against the format.
    apply(&subject, &plan)?.save(output)?;
    Ok(plan)
}
