//! A model under work, from its first look to the finished result.

use crate::allowance::Allowance;
use crate::combine::Combined;
use crate::graph::Graph;
use crate::groups::{Group, Groups};
use crate::onnx::Model;
use crate::ops;
use crate::outputs::Staged;
use crate::pipeline::calibration::Samples;
use crate::pipeline::cutting::Cut;
use crate::pipeline::options::{self, Globs};
use crate::pipeline::{Error, Event, Options, batch, hint, sizes, statistics};
use crate::repair::Repair;
use crate::report::{self, Calibration, Report, source};
use crate::runtime::{InputSpec, Runtime, RuntimeError};
use crate::select::{
    self, Budget, CostModel, Losses, Plan, Ranking, Scene, Selection, Sensitivities, TradeOff,
};
use crate::shapes::{forecast, infer, probe};
use crate::statistics::Statistics;
use crate::trials::{self, Effort};
use crate::verify::{self, Change, Check, Runs};

/// What is known before anything is decided.
pub(super) struct Work {
    /// The file as it is.
    pub original: Model,
    /// The same with its functions in place, and what ONNX Runtime fused taken apart.
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
    repair: Repair,
    pub notes: Vec<String>,
}

/// What the data say about a model.
#[derive(Default)]
pub(super) struct Evidence {
    pub statistics: Option<Statistics>,
    /// The model in the channels that the statistics speak of, where these are combinations.
    pub combined: Option<Combined>,
    pub losses: Option<Losses>,
    /// The time of a run as a function of the widths, where a budget needs it.
    pub time: Option<CostModel>,
    trade_off: Vec<TradeOff>,
    /// The file of the statistics, which waits beside its place.
    pub staged: Option<Staged>,
}

impl Evidence {
    /// Samples that the statistics saw.
    pub fn seen(&self) -> usize {
        self.statistics
            .as_ref()
            .map_or(0, |statistics| statistics.samples)
    }
}

/// Records in `graph` what every value is, by a run only where ONNX Runtime cannot infer it. `told` are
/// numbers inside the model that may fix its batch; that and the sizes of the samples may be ones that are tried.
fn observe(
    model: &Model,
    graph: &mut Graph,
    runtime: &Runtime,
    samples: &Samples,
    (told, is_tried): (&[usize], bool),
    allowance: Allowance,
) -> Result<(), Error> {
    // Only a run shows that a batch which is open in name does not run, or that another does.
    let is_sure = !is_tried && (!samples.is_open() || told.is_empty());
    let specs = samples.first_specs();
    if !is_sure {
        forecast(model, graph, runtime, &specs, allowance)?;
    } else if infer(model, graph, runtime, &specs, allowance)? {
        return Ok(());
    }
    probe(model, graph, runtime, &samples.first_batch()?)?;
    let many = specs.into_iter().next();
    let many = many.and_then(|spec| spec.shape.first().copied().flatten());
    match many {
        Some(many) if samples.is_open() && told.contains(&1) && !keeps_samples(graph, many) => {
            Err(RuntimeError::Run {
                problem: "no output of the model grows with the batch".to_owned(),
                advice: "",
            }
            .into())
        }
        _ => Ok(()),
    }
}

/// Whether an output of the model holds its samples, `many` of them, along the first axis.
fn keeps_samples(graph: &Graph, many: usize) -> bool {
    let outputs = graph.values.iter().filter(|value| value.is_output);
    let mut first = outputs.filter_map(|value| value.shape.as_ref()?.first().copied());
    first.any(|length| length > 0 && length.is_multiple_of(many))
}

impl Work {
    pub fn open(original: Model, options: &Options, tell: &dyn Fn(Event)) -> Result<Self, Error> {
        original.check_expansion(options.allowance)?;
        let (model, taken_apart) = ops::unfused(original.inlined());
        let model = model.in_order();
        let graph = ops::graph(&model)?;
        let runtime = Runtime::start(&options.runtime)?;
        tell(Event::Stage("reading the model"));
        let specs = match InputSpec::stated(&model) {
            Some(specs) => specs,
            None => runtime.session(&model)?.inputs(),
        };
        let options = &options.told_by(&graph);
        let told = batch::told(&model, &graph);
        let mut is_tried = sizes::are_guessed(&specs, options);
        let (mut samples, graph) = batch::open(&specs, options, &told, |samples| {
            let mut seen = graph.clone();
            let allowance = options.allowance;
            let observed = observe(
                &model,
                &mut seen,
                &runtime,
                samples,
                (&told, is_tried),
                allowance,
            );
            is_tried = true;
            observed.map(|()| seen)
        })?;
        graph.check_demand(options.allowance, &ops::repetitions)?;
        let mut groups = Groups::find(&graph, options.scope, &ops::RULES);
        restrict(&graph, &mut groups, options)?;
        let kept = statistics::kept(&graph, &groups);
        samples.fit(graph.demand(&ops::repetitions).bytes, kept, options)?;
        if let Some(together) = groups.batch {
            samples.keep_together(together);
        }
        let mut notes = runtime.notes().to_vec();
        notes.extend_from_slice(samples.notes());
        let is_free = |group: &Group| group.frozen.is_empty();
        if !taken_apart.is_empty() && groups.groups.iter().any(is_free) {
            notes.push(format!(
                "the result has standard operators in the place of {}, which ONNX Runtime fuses again, unless nothing leaves",
                taken_apart.join(", ")
            ));
        }
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

    /// One run from the statistics to the checked result.
    pub fn prune(
        &self,
        options: &Options,
        tell: &dyn Fn(Event),
    ) -> Result<(Done, Evidence), Error> {
        let budgets: Vec<Budget> = match options.plan {
            Some(_) => Vec::new(),
            None => vec![self.budget(options)],
        };
        let mut evidence = self.evidence(options, &budgets, tell)?;
        let cut = match budgets.first() {
            Some(Budget::Divergence(bound)) => self.smallest(options, &evidence, *bound, tell)?,
            _ => {
                let chosen = self.choose(options, &evidence, None, tell)?;
                // They take most of the memory, and the repair layer by layer makes its own.
                if let Some(statistics) = &mut evidence.statistics {
                    statistics.drop_moments();
                }
                self.finish(options, &evidence, chosen, tell)?
            }
        };
        // Who asks for no budget asks for nothing worse in any way.
        let asks_nothing = options.budget.is_none() && options.plan.is_none();
        if asks_nothing && cut.model.byte_size() > self.original.byte_size() {
            let note = "what may leave would make the file larger: the model is written unchanged";
            let whole = self.whole(options, note.to_owned());
            let staged = evidence.staged;
            return Ok((
                whole,
                Evidence {
                    staged,
                    ..Evidence::default()
                },
            ));
        }
        let done = self.judge(vec![cut], &evidence, tell)?;
        let done = done.into_iter().next().ok_or(Error::NoStatistics)?;
        Ok((done, evidence))
    }

    /// What the data say, as far as the budgets need it.
    pub fn evidence(
        &self,
        options: &Options,
        budgets: &[Budget],
        tell: &dyn Fn(Event),
    ) -> Result<Evidence, Error> {
        let needs_statistics = options.plan.is_none()
            || options.repair() != Repair::None
            || options.stats_out.is_some()
            || self.plans_combinations(options)?;
        if !needs_statistics {
            return Ok(Evidence::default());
        }
        let (mut statistics, staged) = self.statistics(options, tell)?;
        let mut evidence = Evidence {
            combined: self.combined(options, &mut statistics)?,
            staged,
            ..Evidence::default()
        };
        let scene = Scene {
            graph: self.dense(&evidence).1,
            groups: &self.groups,
            statistics: &statistics,
        };
        let losses = match budgets.iter().any(Budget::is_shared) {
            true => Some(self.losses(self.dense(&evidence).0, scene, options, tell)?),
            false => None,
        };
        let needs_time = |budget: &Budget| matches!(budget, Budget::Latency(_));
        let time = match budgets.iter().any(needs_time) {
            true => Some(self.time_model(tell)?),
            false => None,
        };
        // Made-up inputs do not tell what a budget costs.
        let is_told = options.wants_page() && !self.samples.is_synthetic();
        let trade_off = match is_told && !scene.prunable().is_empty() {
            true => self.trade_off(scene, options, losses.as_ref())?,
            false => Vec::new(),
        };
        evidence.statistics = Some(statistics);
        evidence.losses = losses;
        evidence.time = time;
        evidence.trade_off = trade_off;
        Ok(evidence)
    }

    /// Checks cut models and compares them with the original, all in one pass over the data.
    pub fn judge(
        &self,
        cuts: Vec<Cut>,
        evidence: &Evidence,
        tell: &dyn Fn(Event),
    ) -> Result<Vec<Done>, Error> {
        tell(Event::Stage("checking the result"));
        let models: Vec<&Model> = cuts.iter().map(|cut| &cut.model).collect();
        let mut check = Check::open(&self.model, &models, &self.runtime)?;
        let compared = self.samples.batches(self.samples.compared())?;
        let comparisons = check.compare(compared)?;
        // On made-up inputs, that shows only whether the models run and give numbers.
        let is_told = !self.samples.is_synthetic();
        let is_measured = cuts.iter().any(|cut| !cut.selection.trials.is_empty());
        let runs = if is_measured { Runs::MANY } else { Runs::FEW };
        let times = check.latency(&self.samples.one()?, runs)?;
        let all = cuts.into_iter().zip(comparisons).zip(times);
        let done = all.map(|((cut, comparison), latency)| Done {
            model: cut.model,
            selection: cut.selection,
            comparison: is_told.then_some(comparison),
            latency: Some(latency),
            seen: evidence.seen(),
            asked: cut.asked,
            repair: cut.repair,
            notes: cut.notes,
        });
        Ok(done.collect())
    }

    pub(super) fn scene<'a>(&'a self, evidence: &'a Evidence) -> Option<Scene<'a>> {
        Some(Scene {
            graph: self.dense(evidence).1,
            groups: &self.groups,
            statistics: evidence.statistics.as_ref()?,
        })
    }

    pub(super) fn budget(&self, options: &Options) -> Budget {
        options.budget(self.judges_by_synthetic(options))
    }

    /// Whether the statistics are of made-up inputs.
    fn judges_by_synthetic(&self, options: &Options) -> bool {
        self.samples.is_synthetic() && options.stats.is_empty()
    }

    /// What other budgets would lose: by the trials, or by the layers' own losses without any.
    fn trade_off(
        &self,
        scene: Scene<'_>,
        options: &Options,
        losses: Option<&Losses>,
    ) -> Result<Vec<TradeOff>, Error> {
        let own = match losses {
            Some(_) => None,
            None => {
                let untried = Sensitivities(vec![Vec::new(); self.groups.groups.len()]);
                Some(Ranking::of(scene)?.all_losses(scene, &options.limits, &untried))
            }
        };
        let losses = losses.or(own.as_ref());
        Ok(losses.map_or_else(Vec::new, |losses| {
            select::trade_off(scene, &options.limits, losses)
        }))
    }

    /// What the outputs lose at the widths of every group: measured trials on a few samples.
    fn losses(
        &self,
        model: &Model,
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
        let setting = trials::TrialRequest {
            model,
            scene,
            ranking: &ranking,
            limits: &options.limits,
            runtime: &self.runtime,
            memory: options.memory,
        };
        let progress = |groups: usize| tell(Event::Advance(groups));
        let effort = Effort::worth(setting, self.samples.seen().len())?;
        let batches = self.samples.trials(effort.samples)?;
        let found = trials::measure(setting, effort, &batches, &progress)?;
        Ok(ranking.all_losses(scene, &options.limits, &found))
    }

    pub fn unchanged(&self, options: &Options) -> Result<Done, Error> {
        if let Some(path) = &options.plan {
            let plan: Plan = options::read_json(path)?;
            plan.stays(&self.groups)?;
        }
        let count = self.groups.groups.len();
        let missed = match options.budget {
            Some(budget) if options.plan.is_none() => format!("; {budget} is not reached"),
            _ => String::new(),
        };
        let why = match (count, report::ungrouped(&self.graph, &self.groups).len()) {
            (0, 0) => "no convolution or matrix product with a constant weight makes channels",
            (0, _) => {
                "no layer with weights makes channels that may leave (see `onnx-mipp inspect`)"
            }
            _ => "all its groups are frozen (see `onnx-mipp inspect`)",
        };
        let note = format!("nothing to prune: {why}; the model is written unchanged{missed}");
        Ok(self.whole(options, note))
    }

    /// The model as it was.
    fn whole(&self, options: &Options, note: String) -> Done {
        let stays = vec![true; self.groups.channel_count];
        Done {
            model: self.original.clone(),
            selection: Selection {
                plan: Plan::of(&self.groups, &stays),
                scores: vec![None; self.groups.groups.len()],
                trials: Vec::new(),
                search: None,
            },
            comparison: None,
            latency: None,
            seen: 0,
            asked: match &options.plan {
                Some(path) => format!("--plan {}", path.display()),
                None => self.budget(options).to_string(),
            },
            repair: options.repair(),
            notes: vec![note],
        }
    }

    pub fn report(&self, options: &Options, done: &Done, evidence: &Evidence) -> Report {
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
            command: options.command.clone(),
            input: None,
            calibration: Calibration {
                source: source(&options.calibration),
                synthetic: self.judges_by_synthetic(options),
                samples: done.seen,
                compared: done.comparison.map_or(0, |comparison| comparison.samples),
            },
            asked: done.asked.clone(),
            repair: match done.repair {
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
            candidates: done.selection.trials.clone(),
            search: done.selection.search.clone(),
            groups: Report::groups(
                &self.graph,
                &self.groups,
                &done.selection,
                evidence.statistics.as_ref(),
                self.judges_by_synthetic(options),
            ),
            ungrouped: report::ungrouped(&self.graph, &self.groups),
            trade_off: evidence.trade_off.clone(),
            layers: report::layers(&self.graph, &self.groups, &left),
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
    groups.check_hints(
        graph,
        options.scope,
        &ops::RULES,
        (exclude.as_ref(), only.as_ref()),
    );
    Ok(())
}
