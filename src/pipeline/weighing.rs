//! A budget of the file's bytes, which are known when the model is cut.

use crate::groups::Widths;
use crate::onnx;
use crate::pipeline::Error;
use crate::pipeline::cutting::Cut;
use crate::pipeline::evidence::Evidence;
use crate::pipeline::open::Subject;
use crate::select::{self, Budget, CostModel, FileSize, Limits, Scene};
use crate::surgery;

/// So many models are cut and repaired at most. What a repair adds is about the same in the second.
const MOST_CUT: usize = 4;
/// So many times what constants may take is halved.
const MOST_HALVED: usize = 10;
/// What is repaired need not be nearer below the budget, as a share of it.
const SLACK: f64 = 0.02;
/// What is not repaired.
const NEAR: f64 = 0.002;

/// The model that `cut` makes where the bytes of the file follow from the widths as it is told,
/// with so few of them that the file keeps its budget. Where `is_used`, the model is to be as large
/// as it may.
///
/// # Errors
/// Those of `cut`, and a file that stays too large.
pub(super) fn within(
    subject: &Subject<'_>,
    evidence: &Evidence,
    (budgets, limits): (&[Budget], &Limits),
    is_used: bool,
    cut: impl Fn(Option<FileSize>) -> Result<Cut, Error>,
) -> Result<Cut, Error> {
    let Some(budget) = budgets.iter().find(|budget| budget.is_size()) else {
        return cut(None);
    };
    let mut file = foreseen(subject, evidence, *budget, limits)?;
    let most = most(*budget, file);
    let mut best: Option<(Cut, f64)> = None;
    let mut found = 0;
    let mut before: Option<Widths> = None;
    for _ in 0..MOST_CUT {
        let made = cut(Some(file))?;
        found = onnx::written_bytes(&made.model)?;
        let left = most - found as f64;
        if left < 0.0 && limits.best_effort {
            return Ok(made);
        }
        let widths = made.selection.plan.widths();
        let is_last = Some(&widths) == before.as_ref() || widths == subject.groups.widths();
        before = Some(widths);
        if left >= 0.0 && best.as_ref().is_none_or(|(_, least)| left < *least) {
            best = Some((made, left));
        }
        if best.is_some() && (is_last || !is_used || (0.0..SLACK * most).contains(&left)) {
            break;
        }
        let note = format!("the file would have {found} bytes of {most:.0}: cutting again");
        subject.observer.notes(&[note.into()]);
        file.beside -= left;
    }
    let (made, _) = best.ok_or_else(|| Error::FileSize {
        asked: budget.to_string(),
        tried: MOST_CUT,
        found,
    })?;
    Ok(made)
}

fn most(budget: Budget, file: FileSize) -> f64 {
    match budget {
        Budget::Bytes(most) => most,
        budget => budget.value() * file.whole,
    }
}

/// How the bytes of the file follow from the widths near the budget, by models that are cut but not
/// repaired: with nodes that only pass on what they read, all that exporters wrote about these
/// leaves too. What constants may take is halved between what is too much and what is not.
fn foreseen(
    subject: &Subject<'_>,
    evidence: &Evidence,
    budget: Budget,
    limits: &Limits,
) -> Result<FileSize, Error> {
    let seen = evidence.seen().ok_or(Error::NoStatistics)?;
    let scene = seen.scene(subject);
    let file = original(subject);
    let most = most(budget, file);
    let limits = Limits {
        best_effort: true,
        ..*limits
    };
    let stored = CostModel::bytes(scene.graph, scene.groups, 0.0);
    // What constants take and the file has where they may take so much.
    let cut = |allowed: f64| {
        let beside = most - allowed;
        let scene = Scene {
            file: Some(FileSize { beside, ..file }),
            ..scene
        };
        let widths = select::widths(scene, &[budget], &limits, evidence.losses())?;
        let (model, graph, groups) = (&subject.model, &subject.graph, &subject.groups);
        let made = surgery::at_widths(model, graph, groups, &widths)?;
        let bytes = onnx::written_bytes(&made)? as f64;
        Ok::<_, Error>((stored.total(&widths), bytes))
    };
    if file.whole <= most {
        return Ok(file);
    }
    let (least, bytes) = cut(0.0)?;
    if bytes > most {
        let beside = bytes - least;
        return Ok(FileSize { beside, ..file });
    }
    let (mut low, mut high) = (least, stored.total(&scene.groups.widths()));
    for _ in 0..MOST_HALVED {
        if high - low <= NEAR * most {
            break;
        }
        let allowed = (low + high) / 2.0;
        let (taken, bytes) = cut(allowed)?;
        if bytes <= most {
            low = allowed;
        } else {
            // Other widths would take more.
            high = taken.min(allowed);
        }
    }
    let beside = most - low;
    Ok(FileSize { beside, ..file })
}

/// The bytes of the model as it is.
fn original(subject: &Subject<'_>) -> FileSize {
    let whole = subject.original.byte_size() as f64;
    let (graph, groups) = (&subject.graph, &subject.groups);
    let stored = CostModel::bytes(graph, groups, 0.0).total(&groups.widths());
    FileSize {
        whole,
        beside: whole - stored,
    }
}
