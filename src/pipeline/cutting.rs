//! From what the data say to a cut model: what stays, which weights, and the surgery.

use crate::onnx::Model;
use crate::pipeline::options;
use crate::pipeline::work::{Evidence, Work};
use crate::pipeline::{Error, Event, Options};
use crate::repair;
use crate::repair::Repair;
use crate::repair::sequential;
use crate::select::{self, Budget, Plan, Scene, Selection};
use crate::surgery::{self, Repaired};
use crate::verify::Check;

/// What is decided, before anything is cut.
pub(super) struct Chosen {
    selection: Selection,
    asked: String,
    stays: Vec<bool>,
    once: Repaired,
}

/// A model cut and repaired, not yet checked.
pub(super) struct Cut {
    pub model: Model,
    pub selection: Selection,
    pub asked: String,
    /// How its weights were repaired in the end.
    pub repair: Repair,
    /// What the user should know of it.
    pub notes: Vec<String>,
}

impl Work {
    /// The model cut to a budget, by default that of the options or their plan, and repaired.
    pub(super) fn cut(
        &self,
        options: &Options,
        evidence: &Evidence,
        budget: Option<Budget>,
        tell: &dyn Fn(Event),
    ) -> Result<Cut, Error> {
        let chosen = self.choose(options, evidence, budget, tell)?;
        self.finish(options, evidence, chosen, tell)
    }

    /// What stays, and the weights of the repair in one pass: all that the second moments are needed for.
    pub(super) fn choose(
        &self,
        options: &Options,
        evidence: &Evidence,
        budget: Option<Budget>,
        tell: &dyn Fn(Event),
    ) -> Result<Chosen, Error> {
        let (selection, asked) = self.select(options, evidence, budget, tell)?;
        self.prepare(options, evidence, (selection, asked), tell)
    }

    /// The weights of the repair in one pass for what was selected.
    pub(super) fn prepare(
        &self,
        options: &Options,
        evidence: &Evidence,
        (selection, asked): (Selection, String),
        tell: &dyn Fn(Event),
    ) -> Result<Chosen, Error> {
        let stays = selection.plan.stays(&self.groups)?;
        let once = match self.scene(evidence) {
            Some(scene) if options.repair() != Repair::None => {
                tell(Event::Stage("repairing"));
                repair::repair(scene.graph, scene.groups, scene.statistics, &stays)?
            }
            _ => Repaired::default(),
        };
        Ok(Chosen {
            selection,
            asked,
            stays,
            once,
        })
    }

    /// The model cut, and repaired further where the options ask for it.
    pub(super) fn finish(
        &self,
        options: &Options,
        evidence: &Evidence,
        chosen: Chosen,
        tell: &dyn Fn(Event),
    ) -> Result<Cut, Error> {
        let (model, graph) = self.dense(evidence);
        let stays = &chosen.stays;
        if stays.iter().all(|&stays| stays) {
            // A model that loses nothing is the one that it was, to the byte.
            return Ok(Cut {
                model: self.original.clone(),
                selection: chosen.selection,
                asked: chosen.asked,
                repair: options.repair(),
                notes: Vec::new(),
            });
        }
        let cut = |repaired: &Repaired| {
            let cut = surgery::prune_noting(model, graph, &self.groups, stays, repaired);
            cut.map_err(Error::from)
        };
        let (once, of_once) = cut(&chosen.once)?;
        let (model, repair, notes) = match self.scene(evidence) {
            Some(scene) if options.repair() == Repair::Sequential => {
                let fitted =
                    self.repair_layers(options, (model, scene), stays, chosen.once, tell)?;
                let (fitted, of_fitted) = cut(&fitted)?;
                let (model, repair, mut notes) = self.nearer(once, fitted, tell)?;
                notes.extend(if repair == Repair::Once {
                    of_once
                } else {
                    of_fitted
                });
                (model, repair, notes)
            }
            _ => (once, options.repair(), of_once),
        };
        let whole = (model, repair, notes);
        let (model, repair, notes) = self.no_larger(whole, || Ok(cut(&Repaired::default())?.0))?;
        Ok(Cut {
            model,
            selection: chosen.selection,
            asked: chosen.asked,
            repair,
            notes,
        })
    }

    /// The repaired model, or, where it is larger than the original and that without repair is not, the latter.
    fn no_larger(
        &self,
        (model, repair, mut notes): (Model, Repair, Vec<String>),
        plain: impl FnOnce() -> Result<Model, Error>,
    ) -> Result<(Model, Repair, Vec<String>), Error> {
        let before = self.original.byte_size();
        if model.byte_size() <= before {
            return Ok((model, repair, notes));
        }
        let plain = plain()?;
        if plain.byte_size() <= before {
            let note = "the repaired model would be larger than the original: it is written without repair";
            return Ok((plain, Repair::None, vec![note.to_owned()]));
        }
        let note =
            "the model is larger than the original: weights that it computes had to be stored";
        notes.push(note.to_owned());
        Ok((model, repair, notes))
    }

    /// Of the models repaired in one pass and layer by layer, the one that is nearer to the original on the samples
    /// that both were fitted to: layers that each fit best need not be the best model together.
    fn nearer(
        &self,
        once: Model,
        sequential: Model,
        tell: &dyn Fn(Event),
    ) -> Result<(Model, Repair, Vec<String>), Error> {
        if once == sequential {
            return Ok((sequential, Repair::Sequential, Vec::new()));
        }
        tell(Event::Stage("comparing both repairs"));
        let mut check = Check::open(&self.model, &[&once, &sequential], &self.runtime)?;
        let samples = self.samples.fitted();
        let errors = check.squared_errors(self.samples.batches(&samples)?)?;
        match *errors {
            [of_once, of_sequential] if of_sequential > of_once => {
                let note = format!(
                    "repaired layer by layer, the outputs would be further from the original's on {} of the \
                     calibration samples than repaired in one pass (squared error over the variance {of_sequential:.3} \
                     and {of_once:.3}): the repair in one pass was kept",
                    samples.len()
                );
                Ok((once, Repair::Once, vec![note]))
            }
            _ => Ok((sequential, Repair::Sequential, Vec::new())),
        }
    }

    /// Weights and biases fitted layer by layer, from those of the repair in one pass.
    fn repair_layers(
        &self,
        options: &Options,
        (model, scene): (&Model, Scene<'_>),
        stays: &[bool],
        once: Repaired,
        tell: &dyn Fn(Event),
    ) -> Result<Repaired, Error> {
        let setting = sequential::RepairRequest {
            model,
            graph: scene.graph,
            groups: scene.groups,
            statistics: scene.statistics,
            stays,
            runtime: &self.runtime,
            memory: options.memory,
            seed: options.reader.seed,
        };
        let seen = self.samples.seen();
        let batches = self.samples.batches(seen)?;
        let progress = |step| match step {
            sequential::Progress::Levels(total) => tell(Event::Counting {
                stage: "repairing layer by layer",
                total,
                what: "layers",
            }),
            sequential::Progress::Done => tell(Event::Advance(1)),
        };
        let repaired = sequential::repair(setting, once, seen.len(), batches, &progress)?;
        Ok(repaired)
    }

    fn select(
        &self,
        options: &Options,
        evidence: &Evidence,
        budget: Option<Budget>,
        tell: &dyn Fn(Event),
    ) -> Result<(Selection, String), Error> {
        if let Some(path) = &options.plan {
            let plan: Plan = options::read_json(path)?;
            let selection = Selection {
                plan,
                scores: vec![None; self.groups.groups.len()],
                trials: Vec::new(),
                search: None,
            };
            return Ok((selection, format!("--plan {}", path.display())));
        }
        let budget = budget.unwrap_or_else(|| self.budget(options));
        let scene = self.scene(evidence).ok_or(Error::NoStatistics)?;
        tell(Event::Stage("selecting channels"));
        let losses = evidence.losses.as_ref();
        let limits = &options.limits;
        let selection = match (budget, &evidence.time) {
            (Budget::Latency(asked), Some(time)) => {
                tell(Event::Stage("measuring candidates"));
                let measure = |widths: &[usize]| self.share_of_latency(widths);
                select::select_measured(scene, asked, limits, (losses, time), measure)?
            }
            _ => select::select(scene, budget, limits, losses)?,
        };
        Ok((evidence.marked(selection), budget.to_string()))
    }
}

impl Evidence {
    /// The selection with the groups marked that keep combinations.
    pub(super) fn marked(&self, mut selection: Selection) -> Selection {
        let combined = self.combined.iter().flat_map(|combined| &combined.groups);
        for (planned, &combined) in selection.plan.groups.iter_mut().zip(combined) {
            planned.combined = combined && planned.kept.len() < planned.channels;
        }
        selection
    }
}
