//! One model with its groups, statistics and labelled data.

use onnx_mipp::repair;
use std::error::Error;
use std::path::Path;

use onnx_mipp::data::Batch;
use onnx_mipp::data::{self, Dataset, ReaderOptions};
use onnx_mipp::graph::Graph;
use onnx_mipp::groups::Groups;
use onnx_mipp::onnx::{DataType, Model};
use onnx_mipp::repair::Repair;
use onnx_mipp::repair::sequential;
use onnx_mipp::runtime::{Device, InputSpec, Runtime};
use onnx_mipp::select::{CostModel, Limits, Losses, Plan, Ranking, Scene};
use onnx_mipp::stages::{self, Opening};
use onnx_mipp::statistics::{Estimator, GatherOptions, Statistics};
use onnx_mipp::surgery::{self, Repaired};
use onnx_mipp::trials::{self, Effort};
use onnx_mipp::{Calibration, Silent};

const BATCH: usize = 50;
/// As the program: one sample in this many is held back, for the trials.
const HOLD_BACK: usize = 8;

pub struct Subject<'a> {
    pub model: Model,
    pub graph: Graph,
    pub groups: Groups,
    pub macs: CostModel,
    statistics: Statistics,
    runtime: &'a Runtime,
    calibration: Dataset,
    seen: Vec<usize>,
    held: Vec<usize>,
    images: Dataset,
    labels: Vec<i64>,
}

impl<'a> Subject<'a> {
    pub fn open(
        path: &Path,
        data: &Path,
        samples: Option<usize>,
        runtime: &'a Runtime,
    ) -> Result<Self, Box<dyn Error>> {
        let [calibration, evaluation] = crate::data_files(data);
        let mut opening = Opening::of(Calibration::files([calibration.clone()]));
        opening.runtime.device = Device::Cpu;
        let stages::Subject {
            model,
            graph,
            groups,
            ..
        } = stages::open(Model::load(path)?, &opening, &Silent)?;
        let inputs = runtime.session(&model)?.inputs();
        let options = ReaderOptions {
            samples,
            ..ReaderOptions::default()
        };
        let calibration = data::open(&[calibration], &inputs, &options)?;
        let all: Vec<usize> = (0..calibration.len()).collect();
        let is_held = |index: &usize| index % HOLD_BACK == HOLD_BACK - 1;
        let (held, seen): (Vec<usize>, Vec<usize>) = all.into_iter().partition(is_held);
        let held = if held.is_empty() { seen.clone() } else { held };
        let gather = GatherOptions {
            samples: seen.len(),
            seed: 0,
            estimator: Estimator::Gaussian,
            progress: &|_| {},
        };
        let batches = calibration.batches(&seen, BATCH)?;
        let statistics = Statistics::gather(&model, &graph, &groups, runtime, batches, &gather)?;
        let macs = CostModel::macs(&graph, &groups);
        let images = data::open(
            std::slice::from_ref(&evaluation),
            &inputs,
            &ReaderOptions::default(),
        )?;
        let labels = labels(&evaluation)?;
        Ok(Subject {
            model,
            graph,
            groups,
            macs,
            statistics,
            runtime,
            calibration,
            seen,
            held,
            images,
            labels,
        })
    }

    pub fn scene(&self) -> Scene<'_> {
        Scene {
            graph: &self.graph,
            groups: &self.groups,
            statistics: &self.statistics,
            file: None,
        }
    }

    /// What the outputs lose at the widths of every group.
    pub fn losses(&self, limits: &Limits) -> Result<Losses, Box<dyn Error>> {
        let ranking = Ranking::of(self.scene())?;
        let setting = trials::TrialRequest {
            model: &self.model,
            scene: self.scene(),
            ranking: &ranking,
            limits,
            runtime: self.runtime,
            memory: 1 << 30,
        };
        let effort = Effort::worth(setting, self.seen.len())?;
        let wanted = effort.samples.min(self.held.len());
        let spread = |index: usize| self.held[index * self.held.len() / wanted];
        let picked: Vec<usize> = (0..wanted).map(spread).collect();
        let trials = self.calibration.batches(&picked, BATCH)?;
        let trials = trials.collect::<Result<Vec<Batch>, _>>()?;
        let found = trials::measure(setting, effort, &trials, &|_| {})?;
        Ok(ranking.all_losses(self.scene(), limits, &found))
    }

    /// The share of the MACs left and the model cut by the plan.
    pub fn pruned(&self, plan: &Plan, repair: Repair) -> Result<(f64, Model), Box<dyn Error>> {
        let stays = plan.stays(&self.groups)?;
        let mut repaired = Repaired::default();
        if repair != Repair::None {
            repaired = repair::repair(&self.graph, &self.groups, &self.statistics, &stays)?;
        }
        if repair == Repair::Sequential {
            let setting = sequential::RepairRequest {
                model: &self.model,
                graph: &self.graph,
                groups: &self.groups,
                statistics: &self.statistics,
                stays: &stays,
                runtime: self.runtime,
                memory: 1 << 30,
                seed: 0,
            };
            let batches = self.calibration.batches(&self.seen, BATCH)?;
            repaired = sequential::repair(setting, repaired, self.seen.len(), batches, &|_| {})?;
        }
        let model = surgery::prune(&self.model, &self.graph, &self.groups, &stays, &repaired)?;
        let whole = self.groups.widths();
        Ok((
            self.macs.total(&plan.widths()) / self.macs.total(&whole),
            model,
        ))
    }

    /// Top-1 accuracy on the labelled images.
    pub fn accuracy(&self, model: &Model) -> Result<f64, Box<dyn Error>> {
        let mut session = self.runtime.session(model)?;
        let outputs = session.outputs();
        let all: Vec<usize> = (0..self.images.len()).collect();
        let (mut right, mut label) = (0, self.labels.iter());
        for batch in self.images.batches(&all, BATCH)? {
            let scores = session.run(&batch?, &outputs)?.remove(0).to_f32()?;
            for row in scores.rows() {
                let best =
                    (0..row.len()).reduce(|best, i| if row[i] > row[best] { i } else { best });
                right += usize::from(best.map(|b| b as i64) == label.next().copied());
            }
        }
        Ok(right as f64 / self.labels.len() as f64)
    }
}

/// Labels are read like an input of that name.
fn labels(path: &Path) -> Result<Vec<i64>, Box<dyn Error>> {
    let spec = InputSpec {
        name: "labels".to_owned(),
        dtype: DataType::Int64,
        shape: vec![None],
    };
    let data = data::open(&[path.to_owned()], &[spec], &ReaderOptions::default())?;
    let all: Vec<usize> = (0..data.len()).collect();
    let mut labels = Vec::new();
    for batch in data.batches(&all, BATCH)? {
        for (_, tensor) in batch? {
            labels.extend(tensor.to_i64()?);
        }
    }
    Ok(labels)
}
