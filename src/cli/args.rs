//! The command line: the commands, and what each asks of the library.

mod budget;
mod data;

use std::path::PathBuf;

use crate::allowance::Allowance;
use crate::groups::{Heads, Scope};
use crate::pipeline::{Calibration, DEFAULT_MEMORY, Globs, Opening, Options};
use crate::repair::Repair;
use crate::runtime::{Device, RuntimeOptions, Stop};
use crate::select::Budget;
use crate::statistics::Estimator;
use clap::{Args, Parser, Subcommand, ValueEnum};
use globset::Glob;

use super::files::Paths;
use super::values::{MEMORY, MEMORY_LIMIT, THREADS, shape, whole};
use budget::{
    BudgetLists, LimitArguments, MetricArguments, QualityArguments, SizeArguments, budgets,
};
use data::{CalibrationArguments, shapes};

/// Makes a trained ONNX model smaller, without retraining: keeps the channels that carry the
/// information which the next layers use, and rebuilds the rest from them.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub prune: PruneArguments,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the groups of channels of a model and what freezes them
    Inspect(InspectArguments),
    /// Run two models on the same data: how close their outputs are, sizes and latency
    Compare(CompareArguments),
    /// Prune to several budgets, calibrating once: one table and one model each
    Sweep(Box<SweepArguments>),
    /// Print a script that completes this program's command line in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write those of all commands into a folder
    Man {
        /// A folder that exists
        folder: Option<PathBuf>,
    },
    /// Fetch the official ONNX Runtime library into your cache, through pip or uv
    Setup {
        /// The library with the CUDA execution provider
        #[arg(long)]
        cuda: bool,
    },
}

#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The model
    #[arg(value_name = "IN.onnx")]
    pub input: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Read options from a file that names them as here: exclude = ["/head/**"]
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Shape of an input whose dimensions are dynamic, such as input=1,3,224,224
    #[arg(long, value_name = "NAME=D,D,...", value_parser = shape)]
    shape: Vec<(String, Vec<usize>)>,
    #[command(flatten)]
    nodes: NodeArguments,
    #[command(flatten)]
    scope: ScopeArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

#[derive(Debug, Args)]
pub struct CompareArguments {
    /// The model to compare with
    #[arg(value_name = "A.onnx")]
    pub original: PathBuf,
    /// The other model, with the same inputs and outputs
    #[arg(value_name = "B.onnx")]
    pub other: PathBuf,
    #[command(flatten)]
    calibration: CalibrationArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
    #[command(flatten)]
    pub output: OutputArguments,
}

#[derive(Debug, Args)]
pub struct SweepArguments {
    /// The trained model
    #[arg(value_name = "IN.onnx")]
    pub input: PathBuf,
    /// Folder for the models, which are named after IN.onnx and the budget
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = ".",
        help_heading = "Output"
    )]
    pub out_dir: PathBuf,
    #[command(flatten)]
    calibration: CalibrationArguments,
    #[command(flatten)]
    budgets: BudgetLists,
    #[command(flatten)]
    metric: MetricArguments,
    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    nodes: NodeArguments,
    #[command(flatten)]
    scope: ScopeArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
    #[command(flatten)]
    repair: RepairArguments,
    #[command(flatten)]
    statistics: StatisticsArguments,
    /// Write the table and the reports, as a page with a curve to a name that ends in .html, else
    /// as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,
    #[command(flatten)]
    pub shown: OutputArguments,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Statistics of a calibration, kept in files")]
struct StatisticsArguments {
    /// Start from these statistics instead of calibrating; those of several files are added
    #[arg(long, value_name = "FILE.stats")]
    stats: Vec<PathBuf>,
    /// Write the statistics of this calibration
    #[arg(long, value_name = "FILE.stats", conflicts_with = "stats")]
    stats_out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Selection")]
struct SelectionArguments {
    /// What channels are judged by: covariances (gaussian), or correlations of ranks (copula),
    /// which a few huge values do not decide
    #[arg(long, value_enum, default_value_t)]
    estimator: EstimatorArgument,
    /// Keep channels as they are: no linear combinations of them where nothing but linear layers
    /// reads and makes them
    #[arg(long)]
    no_combine: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Repair")]
struct RepairArguments {
    /// Rebuild what was removed from what was kept: from the original's statistics (once), layer by
    /// layer on what the smaller model makes (sequential), or so and then along gradients, which
    /// takes minutes (tuned) [default: sequential with --calib, once without it and in a sweep]
    #[arg(long, value_enum)]
    repair: Option<RepairArgument>,
    /// Megabytes of samples and activations that a sequential repair keeps in memory; more go to a
    /// temporary file
    #[arg(long, value_name = "MB", default_value_t = DEFAULT_MEMORY / MEGABYTE, value_parser = whole(MEMORY))]
    memory: u64,
}

/// What is said while a command works and at its end.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArguments {
    /// Print JSON to stdout in place of the text
    #[arg(long)]
    pub json: bool,
    /// Read options from a file that names them as here: macs = 0.5. The command line goes first
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Say nothing but errors and warnings
    #[arg(long, short, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more, with times
    #[arg(long, short)]
    pub verbose: bool,
}

#[derive(Debug, Args)]
pub struct PruneArguments {
    /// The trained model
    #[arg(value_name = "IN.onnx", required = true)]
    pub input: Option<PathBuf>,
    /// Where the smaller model goes
    #[arg(value_name = "OUT.onnx", required_unless_present = "dry_run")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    calibration: CalibrationArguments,
    #[command(flatten)]
    size: SizeArguments,
    #[command(flatten)]
    quality: QualityArguments,
    #[command(flatten)]
    metric: MetricArguments,
    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    nodes: NodeArguments,
    #[command(flatten)]
    scope: ScopeArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
    #[command(flatten)]
    repair: RepairArguments,
    #[command(flatten)]
    statistics: StatisticsArguments,
    /// Apply this plan instead of selecting channels
    #[arg(
        long,
        value_name = "FILE.json",
        help_heading = "Output",
        conflicts_with_all = ["costs", "quality"]
    )]
    plan: Option<PathBuf>,
    /// Write the plan: the channels kept in every group
    #[arg(long, value_name = "FILE.json", help_heading = "Output")]
    plan_out: Option<PathBuf>,
    /// Write the report, as a page to a name that ends in .html, else as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,
    /// Do everything but write the model: without OUT.onnx
    #[arg(long, help_heading = "Output", conflicts_with = "output")]
    pub dry_run: bool,
    #[command(flatten)]
    pub shown: OutputArguments,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Nodes, by patterns such as '/layer4/**'")]
struct NodeArguments {
    /// Nodes whose output channels may not change
    #[arg(long, value_name = "GLOB", value_parser = Glob::new)]
    exclude: Vec<Glob>,
    /// Nodes whose output channels alone may change
    #[arg(long, value_name = "GLOB", value_parser = Glob::new)]
    only: Vec<Glob>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Attention and norms")]
struct ScopeArguments {
    /// What leaves of an attention: whole heads, channels inside them, or what loses less: inside,
    /// where data tell how every head's channels can be combined, else whole
    #[arg(long, value_enum, default_value_t)]
    heads: HeadsArgument,
    /// Let channels leave over which a norm runs, such as a transformer's residual stream; the norm
    /// then runs over those that are left
    #[arg(long)]
    prune_normalized: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Runtime")]
struct RuntimeArguments {
    /// Where models run: auto, cpu, cuda or cuda:ID
    #[arg(long, default_value = "auto", value_parser = str::parse::<Device>)]
    device: Device,
    /// Threads of ONNX Runtime; by default one per core
    #[arg(long, value_name = "N", value_parser = whole(THREADS))]
    threads: Option<usize>,
    /// The ONNX Runtime library or its folder
    #[arg(long, value_name = "PATH")]
    onnxruntime: Option<PathBuf>,
    /// Megabytes that the whole run may take: what asks for more is refused [default: half of the
    /// machine's memory]
    #[arg(long, value_name = "MB", value_parser = whole(MEMORY_LIMIT))]
    memory_limit: Option<u64>,
}

const MEGABYTE: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum EstimatorArgument {
    #[default]
    Gaussian,
    Copula,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum HeadsArgument {
    #[default]
    Best,
    Whole,
    Inside,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RepairArgument {
    None,
    Once,
    Sequential,
    Tuned,
}

impl PruneArguments {
    /// What the library is asked to do, but for the plan.
    pub fn options(&self) -> Result<Options, String> {
        let calibration = self.calibration.calibration(&self.statistics.stats);
        Ok(Options {
            opening: opening(calibration, &self.nodes, &self.scope, &self.runtime)?,
            budgets: budgets(&self.size, &self.quality),
            metric: self.metric.metric(),
            latency_command: self.metric.latency_command(),
            profile: self.metric.profile()?,
            plan: None,
            limits: self.limits.limits(),
            estimator: self.selection.estimator(),
            combine: !self.selection.no_combine,
            repair: self.repair.repair(),
            memory: self.repair.memory(),
            trade_off: self.paths().wants_page(),
        })
    }

    /// The files beside the models.
    pub fn paths(&self) -> Paths {
        Paths {
            plan: self.plan.clone(),
            plan_out: self.plan_out.clone(),
            report: self.report.clone(),
            stats_out: self.statistics.stats_out.clone(),
            config: self.shown.config.clone(),
        }
    }
}

impl InspectArguments {
    /// What the library is asked to do.
    pub fn opening(&self) -> Result<Opening, String> {
        let mut calibration = Calibration::default();
        calibration.reader.shapes = shapes(&self.shape);
        opening(calibration, &self.nodes, &self.scope, &self.runtime)
    }
}

impl SweepArguments {
    /// The budgets in the order of the help, each once.
    pub fn budgets(&self) -> Vec<Budget> {
        self.budgets.budgets()
    }

    /// What the library is asked to do for each of them.
    pub fn options(&self) -> Result<Options, String> {
        let calibration = self.calibration.calibration(&self.statistics.stats);
        Ok(Options {
            opening: opening(calibration, &self.nodes, &self.scope, &self.runtime)?,
            budgets: Vec::new(),
            metric: self.metric.metric(),
            latency_command: self.metric.latency_command(),
            profile: self.metric.profile()?,
            plan: None,
            limits: self.limits.limits(),
            estimator: self.selection.estimator(),
            combine: !self.selection.no_combine,
            // Trying budgets is to be cheap; the one that is chosen deserves a run of its own.
            repair: self.repair.repair().or(Some(Repair::Once)),
            memory: self.repair.memory(),
            trade_off: self.paths().wants_page(),
        })
    }

    /// The files beside the models.
    pub fn paths(&self) -> Paths {
        Paths {
            report: self.report.clone(),
            stats_out: self.statistics.stats_out.clone(),
            config: self.shown.config.clone(),
            ..Paths::default()
        }
    }
}

impl SelectionArguments {
    fn estimator(&self) -> Estimator {
        match self.estimator {
            EstimatorArgument::Gaussian => Estimator::Gaussian,
            EstimatorArgument::Copula => Estimator::Copula,
        }
    }
}

impl RepairArguments {
    fn repair(&self) -> Option<Repair> {
        self.repair.map(|repair| match repair {
            RepairArgument::None => Repair::None,
            RepairArgument::Once => Repair::Once,
            RepairArgument::Sequential => Repair::Sequential,
            RepairArgument::Tuned => Repair::Tuned,
        })
    }

    fn memory(&self) -> u64 {
        self.memory.saturating_mul(MEGABYTE)
    }
}

impl CompareArguments {
    /// What the library is asked to do.
    pub fn opening(&self) -> Result<Opening, String> {
        let (nodes, scope) = (NodeArguments::default(), ScopeArguments::default());
        let calibration = self.calibration.calibration(&[]);
        opening(calibration, &nodes, &scope, &self.runtime)
    }
}

fn opening(
    calibration: Calibration,
    nodes: &NodeArguments,
    scope: &ScopeArguments,
    runtime: &RuntimeArguments,
) -> Result<Opening, String> {
    let allowance = runtime.memory_limit.map(Allowance::of_megabytes);
    Ok(Opening {
        calibration,
        scope: Scope {
            heads: match scope.heads {
                HeadsArgument::Best => Heads::Best,
                HeadsArgument::Whole => Heads::Whole,
                HeadsArgument::Inside => Heads::Inside,
            },
            normalized: scope.prune_normalized,
        },
        exclude: globs("--exclude", &nodes.exclude)?,
        only: globs("--only", &nodes.only)?,
        runtime: RuntimeOptions {
            library: runtime.onnxruntime.clone(),
            device: runtime.device,
            threads: runtime.threads,
            stop: Stop::default(),
        },
        allowance: allowance.unwrap_or_default(),
    })
}

fn globs(option: &str, patterns: &[Glob]) -> Result<Option<Globs>, String> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let made = Globs::new(patterns).map_err(|error| format!("{option}: {error}"))?;
    Ok(Some(made))
}
