//! The whole pass, stage after stage: a model file in, a smaller one out.

mod calibration;
mod error;
mod options;

use std::path::Path;

pub use error::Error;
pub use options::{Event, Globs, Options};

use calibration::Samples;

use crate::calibrate::{GatherOptions, Statistics, probe};
use crate::divergence;
use crate::graph::Graph;
use crate::groups::Groups;
use crate::onnx::{self, Model};
use crate::report::{self, Calibration, Change, Inspection, Report};
use crate::runtime::{InputSpec, Runtime};
use crate::select::{self, Budget, CostModel, Losses, Plan, Ranking, Scene, Selection};
use crate::sequential;
use crate::surgery::{self, Repair, Repaired};
use crate::verify;

/// Prunes the model at `input` and writes the result to `output`, which appears only when it is
/// whole and checked. `tell` hears of the progress.
///
/// # Errors
/// Any stage's error; nothing is left behind then.
pub fn prune(
    input: &Path,
    output: &Path,
    options: &Options,
    tell: &dyn Fn(Event),
) -> Result<Report, Error> {
    options::check_targets(input, output, options)?;
    let work = Work::open(input, options, tell)?;
    let prunable = work
        .groups
        .groups
        .iter()
        .any(|group| group.frozen.is_empty());
    let done = if prunable {
        work.prune(options, tell)?
    } else {
        work.unchanged(options)?
    };
    for note in &done.notes {
        tell(Event::Note(note.clone()));
    }
    onnx::save(&done.model, output)?;
    if let Some(path) = &options.plan_out {
        options::write_json(path, &done.selection.plan)?;
    }
    let mut report = work.report(options, &done);
    report.bytes = Change {
        before: onnx::file_bytes(input)?,
        after: onnx::file_bytes(output)?,
    };
    if let Some(path) = &options.report {
        options::write_json(path, &report)?;
    }
    Ok(report)
}

/// Describes the groups of the model at `input`.
///
/// # Errors
/// The model cannot be read or run.
pub fn inspect(input: &Path, options: &Options, tell: &dyn Fn(Event)) -> Result<Inspection, Error> {
    let work = Work::open(input, options, tell)?;
    Ok(report::inspect(&work.graph, &work.groups))
}

/// Freezes what --exclude and --only take out. A pattern that matches nothing is a slip.
fn restrict(graph: &Graph, groups: &mut Groups, options: &Options) -> Result<(), Error> {
    let producers = groups.groups.iter().flat_map(|group| &group.producers);
    let names = producers.map(|&node| graph.nodes[node].name.as_str());
    let given = [("--exclude", &options.exclude), ("--only", &options.only)];
    for (option, globs) in given {
        let idle = globs.as_ref().and_then(|globs| globs.idle(names.clone()));
        if let Some(pattern) = idle {
            return Err(Error::IdleGlob {
                option,
                pattern: pattern.to_owned(),
            });
        }
    }
    let set = |globs: &Option<Globs>| globs.as_ref().map(|globs| globs.set.clone());
    let (exclude, only) = (set(&options.exclude), set(&options.only));
    groups.restrict(graph, exclude.as_ref(), only.as_ref());
    Ok(())
}

/// What is known before anything is decided.
struct Work {
    /// The file as it is.
    original: Model,
    /// The same with its functions in place.
    model: Model,
    graph: Graph,
    groups: Groups,
    runtime: Runtime,
    samples: Samples,
    notes: Vec<String>,
}

/// A finished model with how it came about.
struct Done {
    model: Model,
    selection: Selection,
    comparison: Option<verify::Comparison>,
    latency: Option<Change<f64>>,
    seen: usize,
    asked: String,
    notes: Vec<String>,
}

impl Work {
    fn open(input: &Path, options: &Options, tell: &dyn Fn(Event)) -> Result<Self, Error> {
        let original = onnx::load(input)?;
        let model = original.inlined().in_order();
        let mut graph = Graph::build(&model)?;
        let runtime = Runtime::start(&options.runtime)?;
        tell(Event::Stage("reading the model"));
        let specs = match InputSpec::stated(&model) {
            Some(specs) => specs,
            None => runtime.session(&model)?.inputs(),
        };
        let mut samples = Samples::open(&specs, options)?;
        let probed = probe(&model, &mut graph, &runtime, &samples.first_batch()?);
        match probed {
            // A batch that is open in name only: such a model runs single samples and nothing else.
            Err(_) if samples.is_single() => {
                probe(&model, &mut graph, &runtime, &samples.one()?)?;
            }
            probed => probed?,
        }
        let mut groups = Groups::find(&graph, options.scope);
        restrict(&graph, &mut groups, options)?;
        if let Some(together) = groups.batch {
            samples.keep_together(together);
        }
        let mut notes = runtime.notes().to_vec();
        notes.extend_from_slice(samples.notes());
        for note in &notes {
            tell(Event::Note(note.clone()));
        }
        Ok(Work {
            original,
            model,
            graph,
            groups,
            runtime,
            samples,
            notes,
        })
    }

    fn statistics(&self, options: &Options, tell: &dyn Fn(Event)) -> Result<Statistics, Error> {
        let wanted = self.samples.seen();
        tell(Event::Counting {
            stage: "calibrating",
            total: wanted.len(),
            what: "samples",
        });
        let progress = |done: usize| tell(Event::Advance(done));
        let gather = GatherOptions {
            samples: wanted.len(),
            seed: options.reader.seed,
            progress: &progress,
        };
        let batches = self.samples.batches(wanted)?;
        Ok(Statistics::gather(
            &self.model,
            &self.graph,
            &self.groups,
            &self.runtime,
            batches,
            &gather,
        )?)
    }

    fn prune(&self, options: &Options, tell: &dyn Fn(Event)) -> Result<Done, Error> {
        let needs_statistics = options.plan.is_none() || options.repair() != Repair::None;
        let statistics = if needs_statistics {
            Some(self.statistics(options, tell)?)
        } else {
            None
        };
        let (selection, asked) = self.select(options, statistics.as_ref(), tell)?;
        let stays = selection.plan.stays(&self.groups)?;
        let repaired = match &statistics {
            Some(statistics) => self.repair(options, statistics, &stays, tell)?,
            None => Repaired::default(),
        };
        let model = surgery::prune(&self.model, &self.graph, &self.groups, &stays, &repaired)?;
        tell(Event::Stage("checking the result"));
        let compared = self.samples.batches(self.samples.compared())?;
        let comparison = verify::compare(&self.model, &model, &self.runtime, compared)?;
        let one = self.samples.one()?;
        let [before, after] = verify::latency([&self.model, &model], &self.runtime, &one)?;
        Ok(Done {
            model,
            selection,
            comparison: Some(comparison),
            latency: Some(Change { before, after }),
            seen: statistics.map_or(0, |statistics| statistics.samples),
            asked,
            notes: Vec::new(),
        })
    }

    /// Weights and biases rebuilt as the options ask for.
    fn repair(
        &self,
        options: &Options,
        statistics: &Statistics,
        stays: &[bool],
        tell: &dyn Fn(Event),
    ) -> Result<Repaired, Error> {
        if options.repair() == Repair::None {
            return Ok(Repaired::default());
        }
        tell(Event::Stage("repairing"));
        let once = surgery::repair(&self.graph, &self.groups, statistics, stays)?;
        if options.repair() == Repair::Once {
            return Ok(once);
        }
        let setting = sequential::Setting {
            model: &self.model,
            graph: &self.graph,
            groups: &self.groups,
            statistics,
            stays,
            runtime: &self.runtime,
            memory: options.memory,
            seed: options.reader.seed,
        };
        let seen = self.samples.seen();
        let batches = self.samples.batches(seen)?;
        let progress = |step| match step {
            sequential::Step::Levels(total) => tell(Event::Counting {
                stage: "repairing layer by layer",
                total,
                what: "layers",
            }),
            sequential::Step::Done => tell(Event::Advance(1)),
        };
        let repaired = sequential::repair(setting, once, seen.len(), batches, &progress)?;
        Ok(repaired)
    }

    fn select(
        &self,
        options: &Options,
        statistics: Option<&Statistics>,
        tell: &dyn Fn(Event),
    ) -> Result<(Selection, String), Error> {
        if let Some(path) = &options.plan {
            let plan: Plan = options::read_json(path)?;
            let selection = Selection {
                plan,
                scores: vec![None; self.groups.groups.len()],
            };
            return Ok((selection, format!("--plan {}", path.display())));
        }
        let budget = options.budget(self.samples.is_synthetic());
        let Some(statistics) = statistics else {
            return Err(Error::NoStatistics);
        };
        let scene = Scene {
            graph: &self.graph,
            groups: &self.groups,
            statistics,
        };
        let losses = match budget {
            Budget::Macs(_) | Budget::Params(_) => Some(self.losses(scene, options, tell)?),
            Budget::Ratio(_) | Budget::MutualInformation(_) => None,
        };
        tell(Event::Stage("selecting channels"));
        Ok((
            select::select(scene, budget, &options.limits, losses.as_ref())?,
            budget.to_string(),
        ))
    }

    /// What the outputs lose at the widths of every group: measured trials on a few samples.
    fn losses(
        &self,
        scene: Scene<'_>,
        options: &Options,
        tell: &dyn Fn(Event),
    ) -> Result<Losses, Error> {
        tell(Event::Counting {
            stage: "trying narrower widths",
            total: scene.prunable().len(),
            what: "groups",
        });
        let ranking = Ranking::of(scene)?;
        let batches = self.samples.trials()?;
        let setting = divergence::Setting {
            model: &self.model,
            scene,
            ranking: &ranking,
            limits: &options.limits,
            runtime: &self.runtime,
            memory: options.memory,
        };
        let progress = |groups: usize| tell(Event::Advance(groups));
        let found = divergence::measure(setting, &batches, &progress)?;
        Ok(ranking.all_losses(scene, &options.limits, &found))
    }

    fn unchanged(&self, options: &Options) -> Result<Done, Error> {
        if let Some(path) = &options.plan {
            let plan: Plan = options::read_json(path)?;
            plan.stays(&self.groups)?;
        }
        let stays = vec![true; self.groups.channel_count];
        let count = self.groups.groups.len();
        let note = if count == 0 {
            "nothing to prune: no convolution or matrix product with a constant weight makes \
             channels; the model is written unchanged"
                .to_owned()
        } else {
            "nothing to prune: all its groups are frozen (see `onnx-mipp inspect`); the model is \
             written unchanged"
                .to_owned()
        };
        Ok(Done {
            model: self.original.clone(),
            selection: Selection {
                plan: Plan::of(&self.groups, &stays),
                scores: vec![None; count],
            },
            comparison: None,
            latency: None,
            seen: 0,
            asked: "nothing".to_owned(),
            notes: vec![note],
        })
    }

    fn report(&self, options: &Options, done: &Done) -> Report {
        let whole: Vec<usize> = self
            .groups
            .groups
            .iter()
            .map(|g| g.channels.len())
            .collect();
        let left = done.selection.plan.widths();
        let change = |model: &CostModel| Change {
            before: model.total(&whole),
            after: model.total(&left),
        };
        let mut notes = self.notes.clone();
        notes.extend(done.notes.clone());
        Report {
            version: env!("CARGO_PKG_VERSION"),
            device: self.runtime.device().to_owned(),
            onnxruntime: self.runtime.version().to_owned(),
            calibration: Calibration {
                source: options
                    .calibration
                    .iter()
                    .map(|p| p.display().to_string())
                    .collect(),
                samples: done.seen,
                compared: done.comparison.map_or(0, |comparison| comparison.samples),
            },
            asked: done.asked.clone(),
            repair: match options.repair() {
                Repair::None => "none",
                Repair::Once => "once",
                Repair::Sequential => "sequential",
            },
            macs: change(&CostModel::macs(&self.graph, &self.groups)),
            parameters: change(&CostModel::parameters(&self.graph, &self.groups)),
            bytes: Change {
                before: 0,
                after: 0,
            },
            latency_ms: done.latency,
            groups: Report::groups(&self.graph, &self.groups, &left, &done.selection.scores),
            comparison: done.comparison,
            held_back: self.samples.holds_back(),
            notes,
        }
    }
}
