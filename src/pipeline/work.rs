//! A model under work, from its first look to the finished result.

use crate::calibrate::{GatherOptions, Statistics, probe};
use crate::divergence;
use crate::graph::Graph;
use crate::groups::Groups;
use crate::onnx::Model;
use crate::pipeline::calibration::Samples;
use crate::pipeline::hint;
use crate::pipeline::options::{self, Globs};
use crate::pipeline::{Error, Event, Options};
use crate::report::{Calibration, Change, Report, source};
use crate::runtime::{InputSpec, Runtime};
use crate::select::{self, Budget, CostModel, Losses, Plan, Ranking, Scene, Selection};
use crate::sequential;
use crate::surgery::{self, Repair, Repaired};
use crate::verify;

/// What is known before anything is decided.
pub(super) struct Work {
    /// The file as it is.
    original: Model,
    /// The same with its functions in place.
    pub model: Model,
    pub graph: Graph,
    pub groups: Groups,
    pub runtime: Runtime,
    pub samples: Samples,
    notes: Vec<String>,
}

/// A finished model with how it came about.
pub(super) struct Done {
    pub model: Model,
    pub selection: Selection,
    comparison: Option<verify::Comparison>,
    latency: Option<Change<f64>>,
    seen: usize,
    asked: String,
    pub notes: Vec<String>,
}

impl Work {
    pub fn open(original: Model, options: &Options, tell: &dyn Fn(Event)) -> Result<Self, Error> {
        let model = original.inlined();
        let mut graph = Graph::build(&model)?;
        let runtime = Runtime::start(&options.runtime)?;
        tell(Event::Stage("reading the model"));
        let specs = match InputSpec::stated(&model) {
            Some(specs) => specs,
            None => runtime.session(&model)?.inputs(),
        };
        let samples = Samples::open(&specs, options)?;
        let probed = probe(&model, &mut graph, &runtime, &samples.first_batch()?);
        match probed {
            // A batch that is open in name only: such a model runs single samples and nothing else.
            Err(_) if samples.is_single() => {
                probe(&model, &mut graph, &runtime, &samples.one()?)?;
            }
            probed => probed?,
        }
        let mut groups = Groups::find(&graph);
        restrict(&graph, &mut groups, options)?;
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

    /// Whether any group may be pruned.
    pub fn is_prunable(&self) -> bool {
        let mut groups = self.groups.groups.iter();
        groups.any(|group| group.frozen.is_empty())
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
        let consumers = &self.groups.consumers;
        Ok(Statistics::gather(
            &self.model,
            &self.graph,
            consumers,
            &self.runtime,
            batches,
            &gather,
        )?)
    }

    pub fn prune(&self, options: &Options, tell: &dyn Fn(Event)) -> Result<Done, Error> {
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
        let models = (&self.model, &self.runtime);
        let progress = |groups: usize| tell(Event::Advance(groups));
        let found = divergence::measure(
            scene,
            &ranking,
            &options.limits,
            models,
            &batches,
            &progress,
        )?;
        Ok(ranking.all_losses(scene, &options.limits, &found))
    }

    pub fn unchanged(&self, options: &Options) -> Result<Done, Error> {
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

    pub fn report(&self, options: &Options, done: &Done) -> Report {
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
                source: source(&options.calibration),
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
                before: self.original.byte_size(),
                after: done.model.byte_size(),
            },
            latency_ms: done.latency,
            groups: Report::groups(&self.graph, &self.groups, &left, &done.selection.scores),
            comparison: done.comparison,
            held_back: self.samples.holds_back(),
            notes,
        }
    }
}

/// Freezes what --exclude and --only take out. A pattern that matches nothing is a slip.
fn restrict(graph: &Graph, groups: &mut Groups, options: &Options) -> Result<(), Error> {
    let producers = groups.groups.iter().flat_map(|group| &group.producers);
    let names: Vec<&str> = producers
        .map(|&node| graph.nodes[node].name.as_str())
        .collect();
    let given = [("--exclude", &options.exclude), ("--only", &options.only)];
    for (option, globs) in given {
        let idle = globs.as_ref().and_then(|globs| globs.idle(&names));
        if let Some(pattern) = idle {
            return Err(Error::IdleGlob {
                option,
                pattern: pattern.to_owned(),
                hint: hint::of(pattern, &names, graph),
            });
        }
    }
    let set = |globs: &Option<Globs>| globs.as_ref().map(|globs| globs.set.clone());
    let (exclude, only) = (set(&options.exclude), set(&options.only));
    groups.restrict(graph, exclude.as_ref(), only.as_ref());
    Ok(())
}
