//! The default budget: the smallest model whose outputs hardly change on samples that nothing was
//! fitted to.

use crate::onnx::Model;
use crate::pipeline::Error;
use crate::pipeline::cutting::{self, Choice, Cut, Repairing};
use crate::pipeline::evidence::Evidence;
use crate::pipeline::open::Subject;
use crate::report::Note;
use crate::select::{self, Budget, Candidate, Limits, Rung, Search};
use crate::verify::{Check, Divergence, VerifyError};

/// Where the interval ends by this share of the change above it, more samples would make the model
/// smaller.
const WIDE: f64 = 0.5;
/// What may be asked for instead.
const LOOSER: &str = "`macs` 0.8";

/// The smallest of the candidates whose outputs change by no more than `bound` on the held-back
/// samples, by the upper end of the interval.
///
/// # Errors
/// Those of the stages that each candidate goes through.
pub(super) fn smallest(
    subject: &Subject<'_>,
    evidence: &Evidence,
    bound: f64,
    (limits, repairing): (&Limits, Repairing),
) -> Result<Cut, Error> {
    let scene = evidence.seen().ok_or(Error::NoStatistics)?.scene(subject);
    let losses = evidence.losses().ok_or(Error::NoStatistics)?;
    let rungs = if can_compare(subject) {
        select::ladder(scene, limits, losses, bound)
    } else {
        vec![Rung::whole(scene)]
    };
    let expected: Vec<f64> = rungs.iter().map(|rung| rung.loss).collect();
    let (mut best, mut found) = (None, Vec::new());
    let measured = select::smallest(&expected, bound, |place| {
        let rung = &rungs[place];
        let note = format!("at {:.3} of the MACs:", rung.macs);
        subject.observer.notes(&[note.into()]);
        let cut = cut_at(subject, evidence, (rung, bound), repairing)?;
        let divergence = divergence(subject, &cut.model)?;
        found.push(divergence);
        if divergence.high <= bound {
            best = Some(cut);
        }
        Ok::<f64, Error>(divergence.high)
    })?;
    let is_whole = best.is_none();
    let mut cut = match best {
        Some(cut) => cut,
        None => cut_at(subject, evidence, (&Rung::whole(scene), bound), repairing)?,
    };
    cut.notes.extend(too_few(subject, &found, is_whole));
    let candidate = |(place, measured): (usize, f64)| Candidate {
        macs: rungs[place].macs,
        expected: rungs[place].loss,
        measured,
    };
    cut.selection.search = Some(Search {
        bound,
        candidates: measured.into_iter().map(candidate).collect(),
    });
    Ok(cut)
}

fn cut_at(
    subject: &Subject<'_>,
    evidence: &Evidence,
    (rung, bound): (&Rung, f64),
    repairing: Repairing,
) -> Result<Cut, Error> {
    let seen = evidence.seen().ok_or(Error::NoStatistics)?;
    subject.observer.stage("selecting channels");
    let selection = select::select_at(seen.scene(subject), &rung.widths)?;
    let choice = Choice {
        selection: seen.marked(selection),
        asked: Budget::Divergence(bound).to_string(),
    };
    let fitted = cutting::fit(subject, evidence, choice, repairing.repair)?;
    cutting::cut(subject, evidence, fitted, repairing)
}

/// How far the outputs of a smaller model are from the original's on the held-back samples:
/// infinitely far where that cannot be told.
fn divergence(subject: &Subject<'_>, model: &Model) -> Result<Divergence, Error> {
    let mut check = Check::open(&subject.model, &[model], &subject.runtime)?;
    let held_back = subject.samples.batches(subject.samples.compared())?;
    let found = match check.compare(held_back) {
        Err(VerifyError::NotFinite { .. }) => None,
        found => found?.pop().and_then(|comparison| comparison.divergence),
    };
    Ok(found.unwrap_or(Divergence::UNKNOWN))
}

/// Whether the held-back samples can tell how far a smaller model is from the original.
fn can_compare(subject: &Subject<'_>) -> bool {
    subject.samples.holds_back() && subject.samples.compared().len() > 1
}

/// What the user should know where the samples are few, or no candidate keeps the bound.
fn too_few(subject: &Subject<'_>, found: &[Divergence], is_whole: bool) -> Option<Note> {
    if !can_compare(subject) {
        let note = format!(
            "too few samples are held back to tell how a smaller model does on others: the model stays whole; give \
             a hundred calibration samples or more, or a budget such as {LOOSER}"
        );
        return Some(note.into());
    }
    let held = subject.samples.compared().len();
    let known = found.iter().filter(|d| d.mean > 0.0 && d.high.is_finite());
    let excess = known.map(|d| d.high / d.mean - 1.0).reduce(f64::min);
    if let Some(excess) = excess.filter(|excess| *excess > WIDE) {
        let all = subject.samples.all().len();
        // It falls with the root of their number.
        let wanted = all as f64 * (excess / WIDE).powi(2);
        let note = format!(
            "{held} held-back samples tell little of how far the outputs move: with about {wanted:.0} calibration \
             samples in place of {all} a smaller model may keep the bound"
        );
        return Some(note.into());
    }
    let least = found.iter().map(|d| d.mean).reduce(f64::min);
    least.filter(|_| is_whole).map(|least| {
        let note = format!(
            "the model stays whole: the least change of the outputs that was found is {:.2} %, on {held} held-back \
             samples; a budget such as {LOOSER} allows more",
            least * 100.0
        );
        note.into()
    })
}
