//! Accuracy left on the fixtures: random, L1 and MI selection, without repair and repaired once,
//! at several budgets. Run with `cargo run --release --example accuracy`; docs/results.md has the
//! table and says how to read it.

#[path = "accuracy/baselines.rs"]
mod baselines;
#[path = "accuracy/subject.rs"]
mod subject;

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Parser;
use onnx_mipp::runtime::{Device, Runtime, RuntimeOptions};
use onnx_mipp::select::{Budget, Limits, Plan, select, select_at};
use onnx_mipp::surgery::Repair;

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
}

/// One line of the table.
struct Line {
    method: &'static str,
    macs: f64,
    accuracy: [f64; 3],
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let options = RuntimeOptions {
        library: None,
        device: Device::Cpu,
        threads: None,
    };
    let runtime = Runtime::start(&options)?;
    let models = if arguments.models.is_empty() {
        let nets = ["resnet", "vgg", "mobilenet", "densenet"];
        nets.map(|net| arguments.data.join(format!("{net}_bn_torchscript.onnx")))
            .to_vec()
    } else {
        arguments.models.clone()
    };
    println!("| model | budget | selection | MACs | repair none | repair once | sequential |");
    println!("|---|---|---|---|---|---|---|");
    let mut averages: Vec<(f64, &'static str, Vec<[f64; 3]>)> = Vec::new();
    for path in &models {
        let subject = Subject::open(path, &arguments.data, arguments.samples, &runtime)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let whole = subject.accuracy(&subject.model)?;
        println!("| {name} | 1 | - | 1.000 | {:.1} | - | - |", 100.0 * whole);
        for &macs in &arguments.macs {
            for line in lines(&subject, macs, &arguments)? {
                let [none, once, sequential] = line.accuracy.map(|accuracy| 100.0 * accuracy);
                let (method, reached) = (line.method, line.macs);
                println!(
                    "| {name} | {macs} | {method} | {reached:.3} | {none:.1} | {once:.1} | {sequential:.1} |"
                );
                match averages
                    .iter_mut()
                    .find(|(m, n, _)| (*m, *n) == (macs, method))
                {
                    Some((_, _, all)) => all.push([none, once, sequential]),
                    None => averages.push((macs, method, vec![[none, once, sequential]])),
                }
            }
        }
    }
    for (macs, method, all) in averages {
        let mean = |i: usize| all.iter().map(|pair| pair[i]).sum::<f64>() / all.len() as f64;
        println!(
            "| mean of {} | {macs} | {method} | | {:.1} | {:.1} | {:.1} |",
            all.len(),
            mean(0),
            mean(1),
            mean(2)
        );
    }
    Ok(())
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
    let chosen = select(subject.scene(), Budget::Macs(macs), &limits, Some(&losses))?;
    let mi = subject.line("MI", &chosen.plan)?;
    let even = uniform(subject, macs, &limits);
    let mi_even = subject.line(
        "MI at equal ratios",
        &select_at(subject.scene(), &even)?.plan,
    )?;
    if arguments.quick {
        return Ok(vec![mi_even, mi]);
    }
    let mut random = Vec::new();
    for seed in 0..RANDOM_SEEDS {
        random.push(subject.line(
            "random",
            &ranked(subject, &random_scores(subject, seed), &even),
        )?);
    }
    let mean =
        |i: usize| random.iter().map(|line| line.accuracy[i]).sum::<f64>() / random.len() as f64;
    let random = Line {
        method: "random",
        macs: random[0].macs,
        accuracy: [mean(0), mean(1), mean(2)],
    };
    let scores = l1_scores(subject)?;
    let l1 = subject.line("L1", &ranked(subject, &scores, &even))?;
    let l1_there = subject.line(
        "L1 at MI's widths",
        &ranked(subject, &scores, &chosen.plan.widths()),
    )?;
    Ok(vec![random, l1, mi_even, l1_there, mi])
}

/// The paths that a fixture's data have.
fn data_files(folder: &Path) -> [PathBuf; 2] {
    [folder.join("calib.npz"), folder.join("eval.npz")]
}

impl Subject<'_> {
    fn line(&self, method: &'static str, plan: &Plan) -> Result<Line, Box<dyn Error>> {
        let mut accuracy = [0.0; 3];
        let mut macs = 0.0;
        let repairs = [Repair::None, Repair::Once, Repair::Sequential];
        for (accuracy, repair) in accuracy.iter_mut().zip(repairs) {
            let (left, model) = self.pruned(plan, repair)?;
            *accuracy = self.accuracy(&model)?;
            macs = left;
        }
        Ok(Line {
            method,
            macs,
            accuracy,
        })
    }
}
