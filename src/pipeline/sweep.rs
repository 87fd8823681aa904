//! Several budgets in one run: calibration and trials are shared, selection and repair are not.

use std::path::{Path, PathBuf};

use crate::onnx;
use crate::pipeline::files::Files;
use crate::pipeline::work::Work;
use crate::pipeline::{Error, Event, Options};
use crate::report::{Sweep, SweepEntry};
use crate::select::Budget;
use crate::verify::Change;

/// Prunes the model at `input` to each of the budgets and writes one model each into `folder`, named
/// after the input and the budget, all when all are made and checked.
///
/// # Errors
/// Any stage's error for any budget; nothing is left behind then.
pub fn sweep(
    input: &Path,
    folder: &Path,
    budgets: &[Budget],
    options: &Options,
    tell: &dyn Fn(Event),
) -> Result<Sweep, Error> {
    let model = onnx::load_within(input, options.allowance)?;
    let mut files = Files::of(&model, input, options)?;
    let paths = budgets.iter().map(|budget| target(input, folder, budget));
    let targets = paths.map(|path| Ok((files.model(&path)?, path)));
    let targets: Vec<_> = targets.collect::<Result<_, Error>>()?;
    files.tell(tell);
    let before = onnx::file_bytes(&model, input)?;
    let work = Work::open(model, options, tell)?;
    if !work.is_prunable() {
        return Err(Error::NothingToPrune);
    }
    let mut evidence = work.evidence(options, budgets, tell)?;
    let mut cuts = Vec::new();
    for budget in budgets {
        tell(Event::Note(format!("for {budget}:")));
        cuts.push(work.cut(options, &evidence, Some(*budget), tell)?);
    }
    let done = work.judge(cuts, &evidence, tell)?;
    let mut entries = Vec::new();
    for (done, (target, path)) in done.iter().zip(targets) {
        for note in &done.notes {
            tell(Event::Note(note.clone()));
        }
        let mut report = work.report(options, done, &evidence);
        report.input = Some(input.display().to_string());
        report.bytes = Change {
            before,
            after: files.stage(&done.model, &target)?,
        };
        entries.push(SweepEntry { path, report });
    }
    let sweep = Sweep { entries };
    files.add(evidence.staged.take());
    files.report(&sweep, || sweep.html())?;
    files.publish()?;
    Ok(sweep)
}

/// "net.macs-0.5.onnx" for `--macs 0.5` of "net.onnx".
fn target(input: &Path, folder: &Path, budget: &Budget) -> PathBuf {
    let stem = input.file_stem().unwrap_or_default().to_string_lossy();
    let budget = budget.to_string().trim_start_matches('-').replace(' ', "-");
    folder.join(format!("{stem}.{budget}.onnx"))
}
