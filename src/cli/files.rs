//! The files of a run: which it reads, and which it writes, all at its end.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::data;
use crate::onnx::{self, Model};
use crate::outputs::{Inputs, Outputs, Staged, Target};
use crate::pipeline::{Error, Event, Observer, Opening, STATISTICS};
use crate::select::Plan;

/// The files beside models and data that a command line names.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    /// A plan to apply instead of selecting.
    pub plan: Option<PathBuf>,
    /// Where to write the plan.
    pub plan_out: Option<PathBuf>,
    /// Where to write the report: as HTML to a name that ends in .html, else as JSON.
    pub report: Option<PathBuf>,
    /// Where to write the statistics of the calibration.
    pub stats_out: Option<PathBuf>,
    /// The file that options came from: it stays as it is.
    pub config: Option<PathBuf>,
}

impl Paths {
    /// Whether the report is a page, which shows more.
    pub fn wants_page(&self) -> bool {
        self.report.as_deref().is_some_and(is_page)
    }

    /// Reads the plan, if there is one.
    pub fn read_plan(&self) -> Result<Option<Plan>, Error> {
        self.plan.as_ref().map(Plan::load).transpose()
    }
}

/// What a run writes beside models.
pub struct Files {
    outputs: Outputs,
    plan: Option<Target>,
    report: Option<Target>,
    statistics: Option<Target>,
}

impl Files {
    /// The files of a run on the model that was read from `input`. No place is taken yet, but all
    /// are looked at before any work is done.
    pub fn of(
        model: &Model,
        input: &Path,
        opening: &Opening,
        paths: &Paths,
    ) -> Result<Files, Error> {
        let mut outputs = Outputs::of(inputs(model, input, opening, paths));
        let mut target = |path: &Option<_>, what| {
            let path: Option<&PathBuf> = path.as_ref();
            path.map(|path| outputs.target(path, what)).transpose()
        };
        Ok(Files {
            plan: target(&paths.plan_out, "plan")?,
            report: target(&paths.report, "report")?,
            statistics: target(&paths.stats_out, STATISTICS)?,
            outputs,
        })
    }

    /// The place of the statistics, where they are kept.
    pub fn statistics(&self) -> Option<&Target> {
        self.statistics.as_ref()
    }

    /// The place of a model.
    pub fn model(&mut self, path: &Path) -> Result<Target, Error> {
        Ok(self.outputs.target(path, "model")?)
    }

    /// Tells what lies around in the folders of all places that were named so far.
    pub fn tell(&self, observer: &dyn Observer) {
        for note in self.outputs.notes() {
            observer.hear(Event::Note(note.clone().into()));
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

    /// Writes the report aside, where it was asked for: as the page `html` or as JSON, as its name
    /// asks.
    pub fn report(
        &mut self,
        report: &impl Serialize,
        html: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        let Some(target) = &self.report else {
            return Ok(());
        };
        let text = if is_page(&target.path) {
            html()
        } else {
            json(report, target)?
        };
        Ok(self.outputs.document(target, &text)?)
    }

    /// Puts all into place.
    pub fn publish(self) -> Result<(), Error> {
        Ok(self.outputs.publish(onnx::locations_in)?)
    }
}

/// Whether a report goes there as a page.
fn is_page(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str());
    end.is_some_and(|end| ["html", "htm"].contains(&end.to_ascii_lowercase().as_str()))
}

fn inputs(model: &Model, input: &Path, opening: &Opening, paths: &Paths) -> Inputs {
    let mut inputs = Inputs::default();
    let mut files = onnx::files(model, input).into_iter();
    files
        .next()
        .iter()
        .for_each(|path| inputs.add(path, "input"));
    files.for_each(|path| inputs.add(&path, "input's data"));
    for path in &opening.calibration.files {
        inputs.add_all(path, "calibration data", data::is_data);
    }
    for path in &opening.calibration.statistics {
        inputs.add(path, "file of statistics that is read");
    }
    let single = [
        (&paths.plan, "plan that is read"),
        (&paths.config, "file of options"),
        (&opening.runtime.library, "ONNX Runtime library"),
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
