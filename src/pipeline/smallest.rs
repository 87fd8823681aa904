//! The default budget: the smallest model whose outputs hardly change on samples that nothing was fitted to.

use crate::onnx::Model;
use crate::pipeline::cutting::Cut;
use crate::pipeline::work::{Evidence, Work};
use crate::pipeline::{Error, Event, Options};
use crate::select::{self, Budget, Candidate, Rung, Search};
use crate::verify::{Check, Divergence, VerifyError};

/// Where the interval ends by this share of the change above it, more samples would make the model smaller.
const WIDE: f64 = 0.5;

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
        let rungs = match self.can_compare() {
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
        cut.notes.extend(self.too_few(&found, is_whole));
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

    /// Whether the held-back samples can tell how far a smaller model is from the original.
    fn can_compare(&self) -> bool {
        self.samples.holds_back() && self.samples.compared().len() > 1
    }

    /// What the user should know where the samples are few, or no candidate keeps the bound.
    fn too_few(&self, found: &[Divergence], is_whole: bool) -> Option<String> {
        if !self.can_compare() {
            return Some(
                "too few samples are held back to tell how a smaller model does on others: the model stays \
                 whole; give a hundred calibration samples or more, or a budget such as --macs 0.8"
                    .to_owned(),
            );
        }
        let held = self.samples.compared().len();
        let known = found.iter().filter(|d| d.mean > 0.0 && d.high.is_finite());
        let excess = known.map(|d| d.high / d.mean - 1.0).reduce(f64::min);
        if let Some(excess) = excess.filter(|excess| *excess > WIDE) {
            let all = self.samples.all().len();
            // It falls with the root of their number.
            let wanted = all as f64 * (excess / WIDE).powi(2);
            return Some(format!(
                "{held} held-back samples tell little of how far the outputs move: with about {wanted:.0} calibration \
                 samples in place of {all} a smaller model may keep the bound"
            ));
        }
        let least = found.iter().map(|d| d.mean).reduce(f64::min);
        least.filter(|_| is_whole).map(|least| {
            format!(
                "the model stays whole: the least change of the outputs that was found is {:.2} %, on {held} held-back \
                 samples; a budget such as --macs 0.8 allows more",
                least * 100.0
            )
        })
    }
}
