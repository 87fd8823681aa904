//! Accuracy left on the fixtures: random, L1 and MI selection, without repair and repaired once,
//! at several budgets. Run with `cargo run --release --example accuracy`; docs/results/accuracy.md
//! has the means and says how to keep all of it. With `--all`, L1 and MI on every export of the
//! fixtures.

#[path = "accuracy/baselines.rs"]
mod baselines;
#[path = "accuracy/subject.rs"]
mod subject;

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Parser;
use onnx_mipp::repair::Repair;
use onnx_mipp::runtime::{Device, Runtime, RuntimeOptions};
use onnx_mipp::select::{Budget, Limits, Plan, select, select_at};

use baselines::{l1_scores, random_scores, ranked, uniform};
use subject::Subject;

/// Seeds over which random selection is averaged.
const RANDOM_SEEDS: u64 = 5;

#[derive(Parser)]
struct Arguments {
    /// Models; by default one export of each fixture
    models: Vec<PathBuf>,
    /// Folder with calib.npz and eval.npz
    #[arg(long, default_value = "fixtures")]
    data: PathBuf,
    /// Fractions of the MACs
    #[arg(long, value_delimiter = ',', default_value = "0.75,0.5,0.25")]
    macs: Vec<f64>,
    /// Multiple that widths keep
    #[arg(long, default_value_t = 1)]
    align: usize,
    /// Calibration samples, all by default
    #[arg(long)]
    samples: Option<usize>,
    /// Only MI, for quick trials
    #[arg(long)]
    quick: bool,
    /// L1 and MI only, repaired once and sequentially; by default all models of the data folder
    #[arg(long, conflicts_with = "quick")]
    all: bool,
}

impl Arguments {
    fn models(&self) -> std::io::Result<Vec<PathBuf>> {
        if self.all && self.models.is_empty() {
            let entries = std::fs::read_dir(&self.data)?.map(|entry| Ok(entry?.path()));
            let mut found = entries.collect::<std::io::Result<Vec<_>>>()?;
            found.retain(|path| path.extension().is_some_and(|end| end == "onnx"));
            found.sort();
            return Ok(found);
        }
        if self.models.is_empty() {
            let nets = ["resnet", "vgg", "mobilenet", "densenet"];
            let one = |net| self.data.join(format!("{net}_bn_torchscript.onnx"));
            return Ok(nets.map(one).to_vec());
        }
        Ok(self.models.clone())
    }
}

/// One line of the table.
struct Line {
    method: &'static str,
    macs: f64,
    accuracy: Accuracies,
}

/// Accuracy without repair, repaired once and sequentially; those that were asked for.
type Accuracies = [Option<f64>; 3];

const REPAIRS: [Repair; 3] = [Repair::None, Repair::Once, Repair::Sequential];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let options = RuntimeOptions {
        library: None,
        device: Device::Cpu,
        threads: None,
        ..RuntimeOptions::default()
    };
    let runtime = Runtime::start(&options)?;
    println!("| model | budget | selection | MACs | repair none | repair once | sequential |");
    println!("|---|---|---|---|---|---|---|");
    let mut averages: Vec<(f64, &'static str, Vec<Accuracies>)> = Vec::new();
    for path in &arguments.models()? {
        let subject = Subject::open(path, &arguments.data, arguments.samples, &runtime)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let whole = subject.accuracy(&subject.model)?;
        println!("| {name} | 1 | - | 1.000 | {:.1} | - | - |", 100.0 * whole);
        for &macs in &arguments.macs {
            for line in lines(&subject, macs, &arguments)? {
                let [none, once, sequential] = line.accuracy.map(text);
                let (method, reached) = (line.method, line.macs);
                println!(
                    "| {name} | {macs} | {method} | {reached:.3} | {none} | {once} | {sequential} |"
                );
                match averages
                    .iter_mut()
                    .find(|(m, n, _)| (*m, *n) == (macs, method))
                {
                    Some((_, _, all)) => all.push(line.accuracy),
                    None => averages.push((macs, method, vec![line.accuracy])),
                }
            }
        }
    }
    for (macs, method, all) in averages {
        let [none, once, sequential] = mean(&all).map(text);
        println!(
            "| mean of {} | {macs} | {method} | | {none} | {once} | {sequential} |",
            all.len()
        );
    }
    Ok(())
}

/// An accuracy in percent.
fn text(accuracy: Option<f64>) -> String {
    accuracy.map_or("-".to_owned(), |share| format!("{:.1}", 100.0 * share))
}

/// The means of each accuracy that all have.
fn mean(all: &[Accuracies]) -> Accuracies {
    [0, 1, 2].map(|i| {
        let sum: Option<f64> = all.iter().map(|accuracies| accuracies[i]).sum();
        sum.map(|sum| sum / all.len().max(1) as f64)
    })
}

fn lines(
    subject: &Subject<'_>,
    macs: f64,
    arguments: &Arguments,
) -> Result<Vec<Line>, Box<dyn Error>> {
    let limits = Limits {
        align: arguments.align,
        min_channels: 1,
        best_effort: true,
    };
    let losses = subject.losses(&limits)?;
    let chosen = select(
        subject.scene(),
        &[Budget::Macs(macs)],
        &limits,
        Some(&losses),
    )?;
    let even = uniform(subject, macs, &limits);
    if arguments.all {
        let l1 = ranked(subject, &l1_scores(subject)?, &even);
        let repairs = &REPAIRS[1..];
        return Ok(vec![
            subject.line("L1", &l1, repairs)?,
            subject.line("MI", &chosen.plan, repairs)?,
        ]);
    }
    let mi = subject.line("MI", &chosen.plan, &REPAIRS)?;
    let mi_even = subject.line(
        "MI at equal ratios",
        &select_at(subject.scene(), &even)?.plan,
        &REPAIRS,
    )?;
    if arguments.quick {
        return Ok(vec![mi_even, mi]);
    }
    let mut random = Vec::new();
    for seed in 0..RANDOM_SEEDS {
        random.push(subject.line(
            "random",
            &ranked(subject, &random_scores(subject, seed), &even),
            &REPAIRS,
        )?);
    }
    let accuracies: Vec<_> = random.iter().map(|line| line.accuracy).collect();
    let random = Line {
        method: "random",
        macs: random[0].macs,
        accuracy: mean(&accuracies),
    };
    let scores = l1_scores(subject)?;
    let l1 = subject.line("L1", &ranked(subject, &scores, &even), &REPAIRS)?;
    let l1_there = subject.line(
        "L1 at MI's widths",
        &ranked(subject, &scores, &chosen.plan.widths()),
        &REPAIRS,
    )?;
    Ok(vec![random, l1, mi_even, l1_there, mi])
}

/// The paths that a fixture's data have.
fn data_files(folder: &Path) -> [PathBuf; 2] {
    [folder.join("calib.npz"), folder.join("eval.npz")]
}

impl Subject<'_> {
    fn line(
        &self,
        method: &'static str,
        plan: &Plan,
        repairs: &[Repair],
    ) -> Result<Line, Box<dyn Error>> {
        let mut accuracy = [None; 3];
        let mut macs = 0.0;
        for (accuracy, repair) in accuracy.iter_mut().zip(REPAIRS) {
            if repairs.contains(&repair) {
                let (left, model) = self.pruned(plan, repair)?;
                *accuracy = Some(self.accuracy(&model)?);
                macs = left;
            }
        }
        Ok(Line {
            method,
            macs,
            accuracy,
        })
    }
}
