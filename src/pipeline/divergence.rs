//! The default budget: the smallest model whose outputs hardly change on samples that nothing was fitted to.

use crate::onnx::Model;
use crate::pipeline::cutting::Cut;
use crate::pipeline::work::{Evidence, Work};
use crate::pipeline::{Error, Event, Options};
use crate::select::{self, Budget, Candidate, Rung, Search};
use crate::verify::{Check, Divergence, VerifyError};

/// The interval costs a size where the mean change of a candidate that is refused is below this share of the bound.
const FAR: f64 = 2.0 / 3.0;

impl Work {
    /// The smallest of the candidates whose outputs change by no more than `bound` on the held-back samples, by the upper
    /// end of the interval.
    pub(super) fn smallest(
        &self,
        options: &Options,
        evidence: &Evidence,
        bound: f64,
        tell: &dyn Fn(Event),
    ) -> Result<Cut, Error> {
        let scene = self.scene(evidence).ok_or(Error::NoStatistics)?;
        let losses = evidence.losses.as_ref().ok_or(Error::NoStatistics)?;
        let rungs = match self.samples.holds_back() {
            true => select::ladder(scene, &options.limits, losses, bound),
            // Nothing can be measured.
            false => vec![Rung::whole(scene)],
        };
        let expected: Vec<f64> = rungs.iter().map(|rung| rung.loss).collect();
        let (mut best, mut found) = (None, Vec::new());
        let measured = select::smallest(&expected, bound, |place| {
            let rung = &rungs[place];
            tell(Event::Note(format!("at {:.3} of the MACs:", rung.macs)));
            let cut = self.cut_at(options, evidence, (rung, bound), tell)?;
            let divergence = self.divergence(&cut.model)?;
            found.push(divergence);
            if divergence.high <= bound {
                best = Some(cut);
            }
            Ok::<f64, Error>(divergence.high)
        })?;
        let is_whole = best.is_none();
        let mut cut = match best {
            Some(cut) => cut,
            None => self.cut_at(options, evidence, (&Rung::whole(scene), bound), tell)?,
        };
        cut.notes.extend(self.too_few(bound, &found, is_whole));
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
        &self,
        options: &Options,
        evidence: &Evidence,
        (rung, bound): (&Rung, f64),
        tell: &dyn Fn(Event),
    ) -> Result<Cut, Error> {
        let scene = self.scene(evidence).ok_or(Error::NoStatistics)?;
        tell(Event::Stage("selecting channels"));
        let selection = evidence.marked(select::select_at(scene, &rung.widths)?);
        let asked = Budget::Divergence(bound).to_string();
        let chosen = self.prepare(options, evidence, (selection, asked), tell)?;
        self.finish(options, evidence, chosen, tell)
    }

    /// How far the outputs of a smaller model are from the original's on the held-back samples: infinitely far where that
    /// cannot be told.
    fn divergence(&self, model: &Model) -> Result<Divergence, Error> {
        let mut check = Check::open(&self.model, &[model], &self.runtime)?;
        let found = match check.compare(self.samples.batches(self.samples.compared())?) {
            Err(VerifyError::NotFinite { .. }) => None,
            found => found?.pop().and_then(|comparison| comparison.divergence),
        };
        Ok(found.unwrap_or(Divergence::UNKNOWN))
    }

    /// What the user should know where more samples would let more channels leave, or none left.
    fn too_few(&self, bound: f64, found: &[Divergence], is_whole: bool) -> Option<String> {
        let held = self.samples.compared().len();
        if !self.samples.holds_back() {
            return Some(format!(
                "{held} calibration samples are too few to hold some back, so that nothing tells how a smaller model does on others: \
                 the model stays whole; give a hundred or more, or a budget such as --macs 0.8"
            ));
        }
        let unsure = found
            .iter()
            .filter(|d| d.high > bound && d.mean < bound * FAR);
        // Of the interval's width, so many times the samples leave the root.
        let times = unsure.map(|d| ((d.high - d.mean) / (bound - d.mean)).powi(2));
        if let Some(times) = times.reduce(f64::min) {
            let share = self.samples.all().len() as f64 * times;
            return Some(format!(
                "{held} held-back samples tell little of how much the outputs change: with about {share:.0} calibration samples in \
                 place of {} a smaller model could do",
                self.samples.all().len()
            ));
        }
        let least = found.iter().map(|d| d.mean).reduce(f64::min);
        least.filter(|_| is_whole).map(|least| {
            format!(
                "the model stays whole: the least change of the outputs that was found is {:.2} %, on {held} held-back samples; \
                 ask for a budget such as --macs 0.8 to allow more", least * 100.0
            )
        })
    }
}
