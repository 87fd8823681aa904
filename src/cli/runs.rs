//! Runs on files: models are read, worked on by the library, and written with all that goes with
//! them.

use std::path::{Path, PathBuf};

use super::files::{Files, Paths};
use crate::flags::with_flags;
use crate::onnx;
use crate::pipeline::{self, Error, Observer, Opening, Options, Pruned, Silent};
use crate::report::{Compared, Inspection, Report, Sweep, SweepEntry};
use crate::select::Budget;
use crate::verify::Change;

/// A run on the model at `input`.
pub struct Run<'a> {
    pub input: &'a Path,
    pub options: Options,
    pub paths: Paths,
    /// The command line, for the report.
    pub line: &'a str,
    pub observer: &'a dyn Observer,
}

impl Run<'_> {
    /// Prunes the model and writes the result to `output`, which appears only when it is whole and
    /// checked. Without `output`, does all but that.
    ///
    /// # Errors
    /// Any stage's; nothing is left behind then.
    pub fn prune(mut self, output: Option<&Path>) -> Result<Report, String> {
        let plan = self.paths.read_plan();
        self.options.plan = plan.map_err(|error| self.named(error))?;
        self.pruned(output).map_err(|error| self.named(error))
    }

    fn pruned(&self, output: Option<&Path>) -> Result<Report, Error> {
        let (input, opening) = (self.input, &self.options.opening);
        let model = onnx::load_within(input, opening.allowance)?;
        let mut files = Files::of(&model, input, opening, &self.paths)?;
        let target = output.map(|output| files.model(output)).transpose()?;
        files.tell(self.observer);
        let before = onnx::file_bytes(&model, input)?;
        let (pruned, staged) =
            pipeline::prune(model, &self.options, files.statistics(), self.observer)?;
        let after = match target {
            Some(target) => files.stage(&pruned.model, &target)?,
            None => pruned.report.bytes.after,
        };
        files.add(staged);
        files.plan(&pruned.plan)?;
        let report = self.told(pruned, Change { before, after });
        files.report(&report, || report.html())?;
        files.publish()?;
        Ok(report)
    }

    /// Prunes the model to each of the budgets and writes one model each into `folder`, named after
    /// the input and the budget, all when all are made and checked.
    ///
    /// # Errors
    /// Any stage's for any budget; nothing is left behind then.
    pub fn sweep(self, folder: &Path, budgets: &[Budget]) -> Result<Sweep, String> {
        let sweep = self.swept(folder, budgets);
        sweep.map_err(|error| self.named(error))
    }

    fn swept(&self, folder: &Path, budgets: &[Budget]) -> Result<Sweep, Error> {
        let (input, opening) = (self.input, &self.options.opening);
        let model = onnx::load_within(input, opening.allowance)?;
        let mut files = Files::of(&model, input, opening, &self.paths)?;
        let paths = budgets.iter().map(|budget| place(input, folder, budget));
        let targets = paths.map(|path| Ok((files.model(&path)?, path)));
        let targets: Vec<_> = targets.collect::<Result<_, Error>>()?;
        files.tell(self.observer);
        let before = onnx::file_bytes(&model, input)?;
        let keep = files.statistics();
        let (all, staged) = pipeline::sweep(model, budgets, &self.options, keep, self.observer)?;
        let mut entries = Vec::new();
        for (pruned, (target, path)) in all.into_iter().zip(targets) {
            let after = files.stage(&pruned.model, &target)?;
            let report = self.told(pruned, Change { before, after });
            let path = Some(path);
            entries.push(SweepEntry { path, report });
        }
        let sweep = Sweep { entries };
        files.add(staged);
        files.report(&sweep, || sweep.html())?;
        files.publish()?;
        Ok(sweep)
    }

    /// The report with what only the command knows.
    fn told(&self, pruned: Pruned, bytes: Change<u64>) -> Report {
        let mut report = pruned.report;
        report.command = Some(self.line.to_owned());
        report.input = Some(self.input.display().to_string());
        report.bytes = bytes;
        if let Some(plan) = &self.paths.plan {
            report.asked = format!("--plan {}", plan.display());
        }
        report
    }

    fn named(&self, error: Error) -> String {
        named(error, self.input, self.paths.plan.as_deref())
    }
}

/// Describes the groups of the model at `input`.
///
/// # Errors
/// The model cannot be read or run.
pub fn inspect(input: &Path, opening: &Opening) -> Result<Inspection, String> {
    let model = onnx::load_within(input, opening.allowance).map_err(Error::from);
    let found = model.and_then(|model| pipeline::inspect(model, opening, &Silent));
    found.map_err(|error| named(error, input, None))
}

/// Runs the models of two files on the same data.
///
/// # Errors
/// A model or the data cannot be read or run, or the models differ in inputs or outputs.
pub fn compare(
    original: &Path,
    other: &Path,
    opening: &Opening,
    observer: &dyn Observer,
) -> Result<Compared, String> {
    let compared = || -> Result<Compared, Error> {
        let load = |path| onnx::load_within(path, opening.allowance);
        let [first, second] = [load(original)?, load(other)?];
        let mut found = pipeline::compare(&first, &second, opening, observer)?;
        found.original = Some(original.to_owned());
        found.other = Some(other.to_owned());
        found.bytes = Change {
            before: onnx::file_bytes(&first, original)?,
            after: onnx::file_bytes(&second, other)?,
        };
        Ok(found)
    };
    compared().map_err(|error| with_flags(&error.between(original, other).to_string()).into_owned())
}

/// The error in the words of the command line, with the file that it is about.
fn named(error: Error, input: &Path, plan: Option<&Path>) -> String {
    with_flags(&error.about(input, plan).to_string()).into_owned()
}

/// "net.macs-0.5.onnx" for `--macs 0.5` of "net.onnx".
fn place(input: &Path, folder: &Path, budget: &Budget) -> PathBuf {
    let stem = input.file_stem().unwrap_or_default().to_string_lossy();
    let budget = budget.to_string().replace('`', "").replace(' ', "-");
    folder.join(format!("{stem}.{budget}.onnx"))
}
