//! The files of a run: which it reads, and which it writes, all at its end.

use std::path::Path;

use serde::Serialize;

use crate::data;
use crate::onnx::{self, Model};
use crate::outputs::{Inputs, Outputs, Staged, Target};
use crate::pipeline::options::is_page;
use crate::pipeline::{Error, Event, Options};

/// What a run writes beside models.
pub(super) struct Files {
    outputs: Outputs,
    plan: Option<Target>,
    report: Option<Target>,
}

impl Files {
    /// The files of a run on the model that was read from `input`. No place is taken yet, but all are
    /// looked at before any work is done.
    pub fn of(model: &Model, input: &Path, options: &Options) -> Result<Files, Error> {
        let mut outputs = Outputs::of(inputs(model, input, options));
        let mut target = |path: &Option<_>, what| {
            let path: Option<&std::path::PathBuf> = path.as_ref();
            path.map(|path| outputs.target(path, what)).transpose()
        };
        let plan = target(&options.plan_out, "plan")?;
        let report = target(&options.report, "report")?;
        target(&options.stats_out, STATISTICS)?;
        Ok(Files {
            outputs,
            plan,
            report,
        })
    }

    /// The place of a model.
    pub fn model(&mut self, path: &Path) -> Result<Target, Error> {
        Ok(self.outputs.target(path, "model")?)
    }

    /// Tells what lies around in the folders of all places that were named so far.
    pub fn tell(&self, tell: &dyn Fn(Event)) {
        for note in self.outputs.notes() {
            tell(Event::Note(note.clone()));
        }
    }

    /// Writes a model aside; returns the bytes of its files.
    pub fn stage(&mut self, model: &Model, target: &Target) -> Result<u64, Error> {
        Ok(onnx::stage(model, target, &mut self.outputs)?)
    }

    /// Takes a file that is written already.
    pub fn add(&mut self, staged: Option<Staged>) {
        if let Some(staged) = staged {
            self.outputs.add(staged);
        }
    }

    /// Writes the plan aside, where it was asked for.
    pub fn plan(&mut self, plan: &impl Serialize) -> Result<(), Error> {
        match &self.plan {
            Some(target) => Ok(self.outputs.document(target, &json(plan, target)?)?),
            None => Ok(()),
        }
    }

    /// Writes the report aside, where it was asked for: as the page `html` or as JSON, as its name asks.
    pub fn report(
        &mut self,
        report: &impl Serialize,
        html: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        let Some(target) = &self.report else {
            return Ok(());
        };
        let text = match is_page(&target.path) {
            true => html(),
            false => json(report, target)?,
        };
        Ok(self.outputs.document(target, &text)?)
    }

    /// Puts all into place.
    pub fn publish(self) -> Result<(), Error> {
        Ok(self.outputs.publish(onnx::locations_in)?)
    }
}

/// What a file of statistics is called in messages.
const STATISTICS: &str = "file of statistics";

/// The place of the statistics.
pub(super) fn statistics(path: &Path) -> Result<Target, Error> {
    Ok(Target::new(path, STATISTICS)?)
}

/// Puts statistics alone into place.
pub(super) fn publish(staged: Option<Staged>) -> Result<(), Error> {
    let mut outputs = Outputs::default();
    staged.into_iter().for_each(|staged| outputs.add(staged));
    Ok(outputs.publish(onnx::locations_in)?)
}

fn inputs(model: &Model, input: &Path, options: &Options) -> Inputs {
    let mut inputs = Inputs::default();
    let mut files = onnx::files(model, input).into_iter();
    files
        .next()
        .iter()
        .for_each(|path| inputs.add(path, "input"));
    files.for_each(|path| inputs.add(&path, "input's data"));
    for path in &options.calibration {
        inputs.add_all(path, "calibration data", data::is_data);
    }
    for path in &options.stats {
        inputs.add(path, "file of statistics that is read");
    }
    let single = [
        (&options.plan, "plan that is read"),
        (&options.config, "file of options"),
        (&options.runtime.library, "ONNX Runtime library"),
    ];
    for (path, what) in single {
        path.iter().for_each(|path| inputs.add(path, what));
    }
    inputs
}

fn json(value: &impl Serialize, target: &Target) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| target.refused(&format!("it cannot be made ({error})")))?;
    Ok(text + "\n")
}
