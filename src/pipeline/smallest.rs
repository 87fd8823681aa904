//! Budgets of quality, of which the default is one: the smallest model that keeps them, by what is
//! measured of candidates.

use std::time::Instant;

use crate::pipeline::Error;
use crate::pipeline::cutting::{self, Choice, Cut, How};
use crate::pipeline::evidence::Evidence;
use crate::pipeline::open::Subject;
use crate::pipeline::options::{Goal, in_words};
use crate::pipeline::quality::{Demands, Worth};
use crate::report::{self, Note};
use crate::select::{self, Budget, Candidate, Patience, Rung, Scene, Search, Target, Trial};
use crate::verify::Divergence;

/// For the change of the outputs by default, and where the user asks for it: a smooth measure.
const DEFAULT: Patience = Patience { most: 5, misses: 3 };
const SMOOTH: Patience = Patience { most: 8, misses: 3 };
/// For what counts samples, or nobody knows.
const ROUGH: Patience = Patience { most: 8, misses: 1 };
/// Where the interval ends by this share of the change above it, more samples would make the model
/// smaller.
const WIDE: f64 = 0.5;
/// What may be asked for instead.
const LOOSER: &str = "`macs` 0.8";

/// A search for the smallest model.
pub(super) struct Smallest<'a> {
    pub subject: &'a Subject<'a>,
    pub evidence: &'a Evidence,
    pub goal: &'a Goal<'a>,
    pub demands: &'a Demands<'a>,
    pub how: How<'a>,
}

/// A candidate that was measured.
struct Tried {
    rung: Rung,
    worth: Worth,
}

impl Smallest<'_> {
    /// The smallest of the candidates that keeps the bounds of quality, and budgets of costs beside
    /// them. Where the run is interrupted after one was found, that one.
    ///
    /// # Errors
    /// Those of the stages that each candidate goes through, and budgets that no model keeps all
    /// of.
    pub fn find(&self) -> Result<Cut, Error> {
        let scene = self.evidence.seen().ok_or(Error::NoStatistics)?;
        let scene = scene.scene(self.subject);
        let losses = self.evidence.losses().ok_or(Error::NoStatistics)?;
        let bounds = self.demands.bounds()?;
        let is_open = !self.demands.compares() || self.demands.can_compare();
        let (costs, trials) = self.costs()?;
        let rungs = if is_open {
            let reach = (costs.as_slice(), self.demands.reach());
            select::ladder(scene, self.how.limits, losses, reach)
        } else {
            vec![Rung::whole(scene)]
        };
        let (mut best, mut tried) = (None, Vec::new());
        let mut notes = Vec::new();
        let done = self.search(&rungs, &mut best, &mut tried);
        let stop = self.subject.runtime.stop();
        stop.set_result(false);
        // Also when what was asked to stop was done already.
        if best.is_some() && stop.is_stopped() {
            stop.resume();
            notes.push("interrupted: this is the smallest model that was found until then".into());
        } else {
            done?;
        }
        let is_whole = best.is_none();
        let mut cut = match best {
            Some(cut) => cut,
            None => self.first(&rungs, &mut tried)?,
        };
        notes.extend(self.note(&tried, is_whole));
        cut.notes.extend(notes);
        cut.selection.trials = trials;
        cut.selection.search = Some(Search {
            bounds,
            candidates: tried.iter().map(Tried::candidate).collect(),
        });
        Ok(cut)
    }

    /// What the candidates may cost at most, with what was measured to know that.
    fn costs(&self) -> Result<(Vec<Target>, Vec<Trial>), Error> {
        let (subject, evidence) = (self.subject, self.evidence);
        let seen = evidence.seen().ok_or(Error::NoStatistics)?;
        let file = self.how.file;
        let scene = Scene {
            file,
            ..seen.scene(subject)
        };
        let mut costs = select::targets(scene, self.goal.budgets());
        let fast = cutting::fast(subject, evidence, self.goal, &self.how)?;
        let (Some((widths, trials)), Evidence::Timed(.., time)) = (fast, evidence) else {
            return Ok((costs, Vec::new()));
        };
        // What should be faster than a model that is fast enough need not be measured.
        costs.push(Target {
            cost: time.clone(),
            most: time.total(&widths),
        });
        Ok((costs, trials))
    }

    fn search(
        &self,
        rungs: &[Rung],
        best: &mut Option<Cut>,
        tried: &mut Vec<Tried>,
    ) -> Result<(), Error> {
        let expected = |rung: &Rung| self.demands.expected(rung.loss);
        let expected: Vec<f64> = rungs.iter().map(expected).collect();
        let is_change =
            |budget: &Budget| !budget.is_quality() || matches!(budget, Budget::Change(_));
        let patience = match self.goal {
            Goal::Default(_) => DEFAULT,
            goal if goal.budgets().iter().all(is_change) => SMOOTH,
            _ => ROUGH,
        };
        select::smallest(&expected, (1.0, patience), |place| {
            let rung = &rungs[place];
            let (cut, worth) = self.attempt(rung, patience.most - tried.len() - 1)?;
            let used = worth.used;
            if used <= 1.0 {
                *best = Some(cut);
                self.subject.runtime.stop().set_result(true);
            }
            let rung = rung.clone();
            tried.push(Tried { rung, worth });
            Ok::<f64, Error>(used)
        })?;
        Ok(())
    }

    /// A candidate, cut, repaired and measured; at most so many more will be.
    fn attempt(&self, rung: &Rung, more: usize) -> Result<(Cut, Worth), Error> {
        let begin = Instant::now();
        let observer = self.subject.observer;
        observer.notes(&[format!("at {:.3} of the MACs:", rung.macs).into()]);
        let mut cut = self.cut_at(rung)?;
        let worth = self.demands.measure(&cut.model)?;
        cut.metric = worth.metric;
        if !matches!(self.goal, Goal::Default(_)) {
            let bounds = self.demands.bounds()?;
            let found = report::measured(&bounds, &worth.measured);
            let answer = if worth.used <= 1.0 { "kept" } else { "missed" };
            let seconds = begin.elapsed().as_secs_f64();
            let note = format!(
                "{answer}: {found} ({seconds:.0} s; at most {more} more, {:.0} s)",
                seconds * more as f64
            );
            observer.notes(&[note.into()]);
        }
        Ok((cut, worth))
    }

    /// The largest of the candidates, where no smaller one keeps the bounds.
    fn first(&self, rungs: &[Rung], tried: &mut Vec<Tried>) -> Result<Cut, Error> {
        let scene = self.evidence.seen().ok_or(Error::NoStatistics)?;
        let whole = Rung::whole(scene.scene(self.subject));
        let first = match rungs.first() {
            Some(first) if first.widths != whole.widths => first,
            _ => return self.cut_at(&whole),
        };
        let (cut, worth) = self.attempt(first, 0)?;
        if worth.used > 1.0 && !self.how.limits.best_effort {
            let costs = self.goal.budgets().iter();
            let costs: Vec<Budget> = costs.filter(|b| !b.is_quality()).copied().collect();
            return Err(Error::Contradiction {
                costs: in_words(&costs),
                measured: report::measured(&self.demands.bounds()?, &worth.measured),
            });
        }
        let rung = first.clone();
        tried.push(Tried { rung, worth });
        Ok(cut)
    }

    fn cut_at(&self, rung: &Rung) -> Result<Cut, Error> {
        let seen = self.evidence.seen().ok_or(Error::NoStatistics)?;
        self.subject.observer.stage("selecting channels");
        let selection = select::select_at(seen.scene(self.subject), &rung.widths)?;
        let choice = Choice {
            selection: seen.marked(selection),
            asked: self.goal.asked(),
        };
        let repairing = self.how.repairing;
        let fitted = cutting::fit(self.subject, self.evidence, choice, repairing.repair)?;
        cutting::cut(self.subject, self.evidence, fitted, repairing)
    }

    /// What the user should know where the samples are few, or no candidate keeps the bounds.
    fn note(&self, tried: &[Tried], is_whole: bool) -> Option<Note> {
        let samples = &self.subject.samples;
        if self.demands.compares() && !self.demands.can_compare() {
            let note = format!(
                "too few samples are held back to tell how a smaller model does on others: the model stays whole; \
                 give a hundred calibration samples or more, or a budget such as {LOOSER}"
            );
            return Some(note.into());
        }
        let held = samples.compared().len();
        let found: Vec<Divergence> = tried.iter().filter_map(Tried::divergence).collect();
        let is_change = |budget: &Budget| matches!(budget, Budget::Change(_));
        let excess = found.iter().filter(|d| d.mean > 0.0 && d.high.is_finite());
        let excess = excess.map(|d| d.high / d.mean - 1.0).reduce(f64::min);
        let decides = self.goal.budgets().iter().any(is_change);
        if let Some(excess) = excess.filter(|excess| decides && *excess > WIDE) {
            let all = samples.all().len();
            // It falls with the root of their number.
            let wanted = all as f64 * (excess / WIDE).powi(2);
            let note = format!(
                "{held} held-back samples tell little of how far the outputs move: with about {wanted:.0} \
                 calibration samples in place of {all} a smaller model may keep the bound"
            );
            return Some(note.into());
        }
        if !is_whole {
            return None;
        }
        if !matches!(self.goal, Goal::Default(_)) {
            let note = "no candidate that was tried keeps the quality that is asked for: the model is the largest \
                        that may be";
            return Some(note.into());
        }
        let least = found.iter().map(|d| d.mean).reduce(f64::min);
        least.map(|least| {
            let note = format!(
                "the model stays whole: the least change of the outputs that was found is {:.2} %, on {held} \
                 held-back samples; a budget such as {LOOSER} allows more",
                least * 100.0
            );
            note.into()
        })
    }
}

impl Tried {
    fn divergence(&self) -> Option<Divergence> {
        self.worth.comparison?.divergence
    }

    fn candidate(&self) -> Candidate {
        Candidate {
            macs: self.rung.macs,
            expected: self.rung.loss,
            measured: self.worth.measured.clone(),
            kept: self.worth.used <= 1.0,
        }
    }
}
