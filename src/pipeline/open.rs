//! The first stage: a model is read, run once on a few samples where that is needed, and its groups
//! are found.

use crate::allowance::Allowance;
use crate::data::{self, Batch, DataError, Padding};
use crate::graph::Graph;
use crate::groups::{Group, Groups, Scope};
use crate::onnx::Model;
use crate::ops;
use crate::pipeline::calibration::Calibration;
use crate::pipeline::heads::{self, Wish};
use crate::pipeline::observer::Observer;
use crate::pipeline::options::Globs;
use crate::pipeline::samples::Samples;
use crate::pipeline::{Error, batch, checks, hint, sizes, statistics};
use crate::report::Note;
use crate::runtime::{InputSpec, Runtime, RuntimeError, RuntimeOptions};
use crate::select::Limits;
use crate::shapes::{forecast, infer, probe};

/// What opening a model needs to know.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Opening {
    /// The samples, which also tell sizes that the model leaves open.
    pub calibration: Calibration,
    /// What may leave beyond what is exact and whole.
    pub scope: Scope,
    /// Nodes whose output channels may not change.
    pub exclude: Option<Globs>,
    /// Nodes whose output channels alone may change.
    pub only: Option<Globs>,
    /// Where models run.
    pub runtime: RuntimeOptions,
    /// What the whole run may take, ONNX Runtime's part included.
    pub allowance: Allowance,
}

impl Opening {
    /// Opens a model with these samples, and with what is the default of everything else.
    #[must_use]
    pub fn of(calibration: Calibration) -> Self {
        Opening {
            calibration,
            ..Opening::default()
        }
    }
}

/// A model that is open: what the later stages work on.
pub struct Subject<'o> {
    /// The model with its functions in place, what ONNX Runtime fused taken apart, and its nodes in
    /// order.
    pub model: Model,
    /// Its graph, in which every value's shape is known.
    pub graph: Graph,
    /// Which channels leave together, and what holds the others.
    pub groups: Groups,
    /// Where it runs.
    pub runtime: Runtime,
    /// The file as it is.
    pub(super) original: Model,
    pub(super) samples: Samples,
    pub(super) allowance: Allowance,
    pub(super) notes: Vec<Note>,
    pub(super) observer: &'o dyn Observer,
}

impl Subject<'_> {
    /// Whether any group may be pruned.
    #[must_use]
    pub fn is_prunable(&self) -> bool {
        self.groups.groups.iter().any(is_free)
    }

    /// How many samples there are.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.samples.all().len()
    }

    /// All samples, in batches that the model runs.
    ///
    /// # Errors
    /// The data cannot be read.
    pub fn batches(
        &self,
    ) -> Result<impl Iterator<Item = Result<Batch, DataError>> + '_, DataError> {
        self.samples.batches(self.samples.all())
    }
}

fn is_free(group: &Group) -> bool {
    group.frozen.is_empty()
}

/// Opens a model: the stage before all others. With samples, channels inside the heads of an
/// attention leave where they can be combined.
///
/// # Errors
/// The model or the data cannot be read or run, or a pattern matches nothing.
pub fn open<'o>(
    original: Model,
    request: &Opening,
    observer: &'o dyn Observer,
) -> Result<Subject<'o>, Error> {
    let wish = if request.calibration.judges_by_synthetic() {
        Wish::Whole
    } else {
        Wish::Combined(Limits::default().align)
    };
    open_for(original, request, wish, observer)
}

/// Opens a model whose attentions are narrowed as it is wished, where that is left open.
pub(super) fn open_for<'o>(
    original: Model,
    request: &Opening,
    wish: Wish<'_>,
    observer: &'o dyn Observer,
) -> Result<Subject<'o>, Error> {
    original.check_expansion(request.allowance)?;
    let (model, taken_apart) = ops::unfused(original.inlined());
    let model = model.in_order();
    let graph = ops::graph(&model)?;
    let runtime = Runtime::start(&request.runtime)?;
    observer.stage("reading the model");
    let (mut samples, graph) = observed(&model, graph, &runtime, request)?;
    graph.check_demand(request.allowance, &ops::repetitions)?;
    let (mut groups, scope) = heads::groups(&graph, request.scope, wish);
    restrict(&graph, &mut groups, request, scope)?;
    debug_assert_eq!(checks::partition(&groups), Ok(()));
    let kept = statistics::kept(&graph, &groups);
    samples.fit(
        graph.demand(&ops::repetitions).bytes,
        kept,
        request.allowance,
    )?;
    if let Some(together) = groups.batch {
        samples.keep_together(together);
    }
    let said = runtime.notes().iter().map(Note::from);
    let mut notes: Vec<Note> = said.chain(samples.notes().iter().cloned()).collect();
    if !taken_apart.is_empty() && groups.groups.iter().any(is_free) {
        let note = format!(
            "the result has standard operators in the place of {}, which ONNX Runtime fuses again, unless nothing leaves",
            taken_apart.join(", ")
        );
        notes.push(note.into());
    }
    notes.extend(padded(&samples)?);
    observer.notes(&notes);
    Ok(Subject {
        model,
        graph,
        groups,
        runtime,
        original,
        samples,
        allowance: request.allowance,
        notes,
        observer,
    })
}

/// That positions are left out which an input calls padding.
fn padded(samples: &Samples) -> Result<Option<Note>, Error> {
    let specs = samples.first_specs();
    let Some(mask) = specs.iter().find(|spec| data::is_mask(&spec.name)) else {
        return Ok(None);
    };
    let padding = Padding::of(&samples.first_batch()?);
    let note = format!("what '{}' calls padding does not count", mask.name);
    Ok(padding.map(|_| note.into()))
}

/// The samples in sizes that the model takes, and the graph with what every value is then.
fn observed(
    model: &Model,
    graph: Graph,
    runtime: &Runtime,
    request: &Opening,
) -> Result<(Samples, Graph), Error> {
    let specs = match InputSpec::stated(model) {
        Some(specs) => specs,
        None => runtime.session(model)?.inputs(),
    };
    let allowance = request.allowance;
    let calibration = request.calibration.told_by(&graph, allowance);
    let told = batch::told(model, &graph);
    let mut is_tried = sizes::are_guessed(&specs, &calibration);
    batch::open(&specs, &calibration, &told, |samples| {
        let mut seen = graph.clone();
        let tried = (told.as_slice(), is_tried);
        is_tried = true;
        observe(model, &mut seen, runtime, samples, tried, allowance).map(|()| seen)
    })
}

/// Records in `graph` what every value is, by a run only where ONNX Runtime cannot infer it. `told`
/// are numbers inside the model that may fix its batch; that and the sizes of the samples may be
/// ones that are tried.
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

/// Freezes what the patterns take out. One that matches nothing is a slip.
fn restrict(
    graph: &Graph,
    groups: &mut Groups,
    request: &Opening,
    scope: Scope,
) -> Result<(), Error> {
    let producers = groups.groups.iter().flat_map(|group| &group.producers);
    let names: Vec<&str> = producers
        .map(|&node| graph.nodes[node].name.as_str())
        .collect();
    let given = [("exclude", &request.exclude), ("only", &request.only)];
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
    let (exclude, only) = (set(&request.exclude), set(&request.only));
    groups.restrict(graph, exclude.as_ref(), only.as_ref());
    groups.check_hints(graph, scope, &ops::RULES, (exclude.as_ref(), only.as_ref()));
    Ok(())
}
