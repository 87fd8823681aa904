//! From what the data say to a cut model: what stays, which weights, and the surgery.

use crate::groups::Widths;
use crate::onnx::Model;
use crate::pipeline::Error;
use crate::pipeline::evidence::{Evidence, Seen};
use crate::pipeline::latency::Clock;
use crate::pipeline::open::Subject;
use crate::pipeline::options::Goal;
use crate::pipeline::{checks, latency};
use crate::repair;
use crate::repair::Repair;
use crate::repair::sequential;
use crate::report::Note;
use crate::select::{self, Budget, FileSize, Limits, Plan, Scene, Selection, Trial};
use crate::surgery::{self, Repaired};
use crate::verify::Check;

/// Which channels stay.
pub(super) struct Choice {
    pub selection: Selection,
    /// What was asked for, in words.
    pub asked: String,
}

/// Which channels stay, with the weights of the repair in one pass: all that the second moments are
/// needed for.
pub(super) struct Fitted {
    choice: Choice,
    stays: Vec<bool>,
    once: Repaired,
}

/// A model cut and repaired, not yet checked.
#[derive(Clone)]
pub(super) struct Cut {
    pub model: Model,
    pub selection: Selection,
    pub asked: String,
    /// How its weights were repaired in the end.
    pub repair: Repair,
    /// What the user should know of it.
    pub notes: Vec<Note>,
    /// What the metric is of it, where that is known.
    pub metric: Option<f64>,
}

/// How a cut model is repaired.
#[derive(Clone, Copy)]
pub(super) struct Repairing {
    pub repair: Repair,
    /// Bytes of samples and activations that are held in memory.
    pub memory: u64,
}

/// How a model is made.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    pub limits: &'a Limits,
    pub clock: Clock<'a>,
    pub repairing: Repairing,
    /// How the bytes of its file follow from the widths, where they have a budget.
    pub file: Option<FileSize>,
}

/// A model with how it was repaired and what is to be said of that.
type Noted = (Model, Repair, Vec<Note>);

/// Which channels stay, by the plan or within the budget.
///
/// # Errors
/// The budget cannot be met, or the statistics cannot be used.
pub(super) fn choose(
    subject: &Subject<'_>,
    evidence: &Evidence,
    goal: &Goal<'_>,
    how: &How<'_>,
) -> Result<Choice, Error> {
    let asked = goal.asked();
    if let Goal::Plan(plan) = goal {
        let selection = given(subject, (*plan).clone());
        return Ok(Choice { selection, asked });
    }
    let seen = evidence.seen().ok_or(Error::NoStatistics)?;
    subject.observer.stage("selecting channels");
    let selection = match fast(subject, evidence, goal, how)? {
        Some((widths, trials)) => Selection {
            trials,
            ..select::select_at(seen.scene(subject), &widths)?
        },
        None => {
            let file = how.file;
            let scene = Scene {
                file,
                ..seen.scene(subject)
            };
            select::select(scene, goal.budgets(), how.limits, evidence.losses())?
        }
    };
    let selection = seen.marked(selection);
    Ok(Choice { selection, asked })
}

/// Widths that keep a budget of the time of a run and those of costs beside it, with what was
/// measured; `None` where the time has no budget.
///
/// # Errors
/// The budgets cannot be met, or a candidate cannot be run.
pub(super) fn fast(
    subject: &Subject<'_>,
    evidence: &Evidence,
    goal: &Goal<'_>,
    how: &How<'_>,
) -> Result<Option<(Widths, Vec<Trial>)>, Error> {
    let wanted = goal.budgets().iter().find(|budget| budget.is_time());
    let (Some(wanted), Evidence::Timed(seen, losses, time)) = (wanted, evidence) else {
        return Ok(None);
    };
    if !matches!(how.clock, Clock::Profile) {
        subject.observer.stage("measuring candidates");
    }
    let costs = goal.budgets().iter();
    let costs: Vec<Budget> = costs
        .filter(|budget| !budget.is_time() && !budget.is_quality())
        .copied()
        .collect();
    let scene = Scene {
        file: how.file,
        ..seen.scene(subject)
    };
    let clock = (how.clock, time);
    let measure = |widths: &Widths| latency::share(subject, widths, clock);
    let asked = latency::asked(subject, *wanted, clock)?;
    let (wanted, model) = ((asked, costs.as_slice()), (Some(losses), time));
    let (widths, mut trials) = select::measured_widths(scene, wanted, how.limits, model, measure)?;
    if let Clock::Profile = how.clock {
        // Nothing was measured.
        trials.clear();
    }
    Ok(Some((widths, trials)))
}

/// A plan that was given, of which nothing is known.
pub(super) fn given(subject: &Subject<'_>, plan: Plan) -> Selection {
    Selection {
        plan,
        scores: vec![None; subject.groups.groups.len()].into(),
        trials: Vec::new(),
        search: None,
    }
}

/// The model of a plan of one's own, without repair.
///
/// # Errors
/// The plan does not fit the model, keeps combinations of channels, or a node cannot follow.
pub fn apply(subject: &Subject<'_>, plan: &Plan) -> Result<Model, Error> {
    if plan.groups.iter().any(|group| group.combined) {
        return Err(Error::UntoldCombinations);
    }
    let (model, graph, groups) = (&subject.model, &subject.graph, &subject.groups);
    let (stays, none) = (plan.stays(groups)?, Repaired::default());
    Ok(surgery::prune(model, graph, groups, &stays, &none)?)
}

/// The weights of the repair in one pass.
///
/// # Errors
/// The plan does not fit the model, or its weights cannot be fitted.
pub(super) fn fit(
    subject: &Subject<'_>,
    evidence: &Evidence,
    choice: Choice,
    repair: Repair,
) -> Result<Fitted, Error> {
    let stays = choice.selection.plan.stays(&subject.groups)?;
    debug_assert_eq!(checks::widths(&subject.groups, &choice.selection), Ok(()));
    let once = match evidence.seen() {
        Some(seen) if repair != Repair::None => {
            subject.observer.stage("repairing");
            let scene = seen.scene(subject);
            repair::repair(scene.graph, scene.groups, scene.statistics, &stays)?
        }
        _ => Repaired::default(),
    };
    Ok(Fitted {
        choice,
        stays,
        once,
    })
}

/// The model cut, and repaired further where that is asked for.
///
/// # Errors
/// A node cannot follow, or the model cannot be run.
pub(super) fn cut(
    subject: &Subject<'_>,
    evidence: &Evidence,
    fitted: Fitted,
    request: Repairing,
) -> Result<Cut, Error> {
    let Fitted {
        choice: Choice { selection, asked },
        stays,
        once,
    } = fitted;
    let (model, repair, notes) = if stays.iter().all(|&stays| stays) {
        (subject.original.clone(), request.repair, Vec::new())
    } else {
        narrowed(subject, evidence, (&stays, once), request)?
    };
    debug_assert_eq!(checks::model(&model), Ok(()));
    Ok(Cut {
        model,
        selection,
        asked,
        repair,
        notes,
        metric: None,
    })
}

fn narrowed(
    subject: &Subject<'_>,
    evidence: &Evidence,
    (stays, once): (&[bool], Repaired),
    request: Repairing,
) -> Result<Noted, Error> {
    let (model, graph) = match evidence.seen() {
        Some(seen) => seen.dense(subject),
        None => (&subject.model, &subject.graph),
    };
    let cut = |repaired: &Repaired| {
        let (cut, notes) = surgery::prune_noting(model, graph, &subject.groups, stays, repaired)?;
        let notes: Vec<Note> = notes.into_iter().map(Note::from).collect();
        Ok::<_, Error>((cut, notes))
    };
    let (cut_once, of_once) = cut(&once)?;
    let repaired = match evidence.seen() {
        Some(seen) if matches!(request.repair, Repair::Sequential | Repair::Tuned) => {
            let fitted = repair_layers(subject, seen, (stays, once), request.memory)?;
            let (fitted, of_fitted) = cut(&fitted)?;
            let (model, repair, mut notes) = nearer(subject, cut_once, fitted)?;
            notes.extend(match repair {
                Repair::Once => of_once,
                _ => of_fitted,
            });
            (model, repair, notes)
        }
        _ => (cut_once, request.repair, of_once),
    };
    let before = subject.original.byte_size();
    no_larger(before, repaired, || Ok(cut(&Repaired::default())?.0))
}

/// The repaired model, or, where it is larger than the original and that without repair is not, the
/// latter.
fn no_larger(
    before: u64,
    (model, repair, mut notes): Noted,
    plain: impl FnOnce() -> Result<Model, Error>,
) -> Result<Noted, Error> {
    if model.byte_size() <= before {
        return Ok((model, repair, notes));
    }
    let plain = plain()?;
    if plain.byte_size() <= before {
        let note =
            "the repaired model would be larger than the original: it is written without repair";
        return Ok((plain, Repair::None, vec![note.into()]));
    }
    let note = "the model is larger than the original: weights that it computes had to be stored";
    notes.push(note.into());
    Ok((model, repair, notes))
}

/// Of the models repaired in one pass and layer by layer, the one that is nearer to the original on
/// the samples that both were fitted to: layers that each fit best need not be the best model
/// together.
fn nearer(subject: &Subject<'_>, once: Model, sequential: Model) -> Result<Noted, Error> {
    if once == sequential {
        return Ok((sequential, Repair::Sequential, Vec::new()));
    }
    subject.observer.stage("comparing both repairs");
    let mut check = Check::open(&subject.model, &[&once, &sequential], &subject.runtime)?;
    let samples = subject.samples.fitted();
    let errors = check.squared_errors(subject.samples.batches(&samples)?)?;
    match *errors {
        [of_once, of_sequential] if of_sequential > of_once => {
            let note = format!(
                "repaired layer by layer, the outputs would be further from the original's on {} of the \
                 calibration samples than repaired in one pass (squared error over the variance {of_sequential:.3} \
                 and {of_once:.3}): the repair in one pass was kept",
                samples.len()
            );
            Ok((once, Repair::Once, vec![note.into()]))
        }
        _ => Ok((sequential, Repair::Sequential, Vec::new())),
    }
}

/// Weights and biases fitted layer by layer, from those of the repair in one pass.
fn repair_layers(
    subject: &Subject<'_>,
    seen: &Seen,
    (stays, once): (&[bool], Repaired),
    memory: u64,
) -> Result<Repaired, Error> {
    let (model, graph) = seen.dense(subject);
    let setting = sequential::RepairRequest {
        model,
        graph,
        groups: &subject.groups,
        statistics: &seen.statistics,
        stays,
        runtime: &subject.runtime,
        memory,
        seed: subject.samples.seed(),
    };
    let samples = subject.samples.seen();
    let batches = subject.samples.batches(samples)?;
    let observer = subject.observer;
    let progress = |step| match step {
        sequential::Progress::Levels(total) => {
            observer.counting("repairing layer by layer", total, "layers");
        }
        sequential::Progress::Done => observer.advance(1),
    };
    let repaired = sequential::repair(setting, once, samples.len(), batches, &progress)?;
    Ok(repaired)
}
