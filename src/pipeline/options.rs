//! What a run is asked to do.

use std::io::Write;
use std::path::{Path, PathBuf};

use globset::GlobSet;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::calibrate::reader::ReaderOptions;
use crate::pipeline::Error;
use crate::runtime::RuntimeOptions;
use crate::select::{Budget, Limits};
use crate::surgery::Repair;

/// Share of every group's MI that is kept when no budget is given. Chosen on the fixtures, which
/// lose less than a point of accuracy with it (docs/results.md).
const DEFAULT_MI: f64 = 0.96;
/// The same without calibration data: so careful that little can break.
const DEFAULT_MI_SYNTHETIC: f64 = 0.99;

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Calibration data; empty for synthetic inputs.
    pub calibration: Vec<PathBuf>,
    /// How the data are read.
    pub reader: ReaderOptions,
    /// Samples per run; `None`: as many as fit a modest amount of memory.
    pub batch: Option<usize>,
    /// The budget; `None`: the default share of MI.
    pub budget: Option<Budget>,
    /// Limits on widths.
    pub limits: Limits,
    /// Nodes whose output channels may not change.
    pub exclude: Option<GlobSet>,
    /// Nodes whose output channels alone may change.
    pub only: Option<GlobSet>,
    /// How weights are repaired.
    pub repair: Repair,
    /// Where models run.
    pub runtime: RuntimeOptions,
    /// A plan to apply instead of selecting.
    pub plan: Option<PathBuf>,
    /// Where to write the plan.
    pub plan_out: Option<PathBuf>,
    /// Where to write the report as JSON.
    pub report: Option<PathBuf>,
}

/// What a run tells while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A stage begins.
    Stage(&'static str),
    /// A stage that counts samples begins.
    Samples {
        /// Its name.
        stage: &'static str,
        /// Samples that will come.
        total: usize,
    },
    /// That many samples are done.
    Advance(usize),
    /// Something that the user should know.
    Note(String),
}

impl Options {
    pub(super) fn budget(&self, is_synthetic: bool) -> Budget {
        let default = if is_synthetic {
            DEFAULT_MI_SYNTHETIC
        } else {
            DEFAULT_MI
        };
        self.budget.unwrap_or(Budget::MutualInformation(default))
    }
}

/// Refuses a target that is the input or that cannot be written, before any work is done.
pub(super) fn check_target(input: &Path, output: &Path) -> Result<(), Error> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    if real(input).is_some_and(|input| real(output) == Some(input)) {
        return Err(Error::SamePath {
            path: output.to_owned(),
        });
    }
    let failed = |error| Error::Target {
        path: output.to_owned(),
        error,
    };
    if output.is_dir() {
        return Err(failed(std::io::Error::from(
            std::io::ErrorKind::IsADirectory,
        )));
    }
    tempfile::Builder::new()
        .tempfile_in(folder(output))
        .map_err(failed)?;
    Ok(())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes a value as JSON, aside and then renamed.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let failed = |error| Error::Target {
        path: path.to_owned(),
        error,
    };
    let mut text = serde_json::to_string_pretty(value).map_err(|e| failed(e.into()))?;
    text.push('\n');
    let mut file = tempfile::Builder::new()
        .tempfile_in(folder(path))
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Reads a value from JSON.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let failed = |error: String| Error::Json {
        path: path.to_owned(),
        error,
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
}
