//! How small the model gets, or what it must be worth: budgets and the limits that they keep to.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::values::{
    SECONDS, WIDTHS, drop, fraction, hardware, latency, part, ratio, size, whole,
};
use crate::metric::Metric;
use crate::profile::Profile;
use crate::select::{Budget, Hardware, Limits};

#[derive(Debug, Args)]
#[command(
    next_help_heading = "Size (all that is given is kept; by default the smallest model whose outputs hardly change on samples held back)"
)]
#[group(id = "costs", multiple = true)]
pub struct SizeArguments {
    /// Keep this fraction of the multiply-accumulates
    #[arg(long, value_name = "F", value_parser = fraction)]
    macs: Option<f64>,
    /// Keep this fraction of the parameters
    #[arg(long, value_name = "F", value_parser = fraction)]
    params: Option<f64>,
    /// Keep this fraction of the file, or so many bytes (900kB, 3.5MB, 2MiB)
    #[arg(long, value_name = "F|BYTES", value_parser = size)]
    size: Option<Budget>,
    /// Keep this fraction of the latency, or so many milliseconds (12ms), measured on --device or
    /// by --latency-command
    #[arg(long, value_name = "F|MS", value_parser = latency)]
    latency: Option<Budget>,
    /// Remove this fraction of the channels of every group
    #[arg(long, value_name = "F", value_parser = ratio, conflicts_with_all = ["macs", "params", "size", "latency", "mi", "quality"])]
    ratio: Option<f64>,
    /// Keep this share of every layer's mutual information
    #[arg(long, value_name = "F", value_parser = fraction, conflicts_with_all = ["macs", "params", "size", "latency", "quality"])]
    mi: Option<f64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Quality (the smallest model that keeps it)")]
#[group(id = "quality", multiple = true)]
pub struct QualityArguments {
    /// Classifiers: answer this share of samples as the original does, with a confidence of 90 % by
    /// those that are held back
    #[arg(long, value_name = "F", value_parser = part)]
    agreement: Option<f64>,
    /// Change the outputs by at most this share of their variance, with a confidence of 90 % by the
    /// samples that are held back
    #[arg(long, value_name = "F", value_parser = fraction)]
    max_change: Option<f64>,
    /// Let the --metric get worse by no more than this, in its own units
    #[arg(long, value_name = "D", value_parser = drop, requires = "metric")]
    max_drop: Option<f64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Measures of your own")]
pub struct MetricArguments {
    /// A shell's command that prints a number on its last line, larger for better models, where
    /// {model} stands for the model's path: 'python eval.py {model}'
    #[arg(long, value_name = "COMMAND")]
    metric: Option<String>,
    /// Smaller is better
    #[arg(long, requires = "metric")]
    metric_lower: bool,
    /// A shell's command that prints the milliseconds of a run where the model will run: 'ssh board
    /// bench {model}', or those of both models: 'bench {original} {model}'
    #[arg(long, value_name = "COMMAND")]
    latency_command: Option<String>,
    /// Where the time goes where the model will run: a profile by ONNX Runtime, OpenVINO's
    /// benchmark_app or TensorRT's trtexec
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    profile: Option<PathBuf>,
    /// Seconds that a command may take for one model
    #[arg(long, value_name = "S", default_value_t = 3600, value_parser = whole(SECONDS))]
    metric_timeout: u64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Budgets, with commas between them")]
#[group(id = "budgets", required = true, multiple = true)]
pub struct BudgetLists {
    /// Keep these fractions of the multiply-accumulates, such as 0.75,0.5
    #[arg(long, value_name = "F,F,...", value_delimiter = ',', value_parser = fraction)]
    macs: Vec<f64>,
    /// Keep these fractions of the parameters
    #[arg(long, value_name = "F,F,...", value_delimiter = ',', value_parser = fraction)]
    params: Vec<f64>,
    /// Keep these fractions of the file, or so many bytes (3.5MB)
    #[arg(long, value_name = "F,F,...", value_delimiter = ',', value_parser = size)]
    size: Vec<Budget>,
    /// Keep these fractions of the measured latency, or so many milliseconds (12ms)
    #[arg(long, value_name = "F,F,...", value_delimiter = ',', value_parser = latency)]
    latency: Vec<Budget>,
    /// Remove these fractions of the channels of every group
    #[arg(long, value_name = "F,F,...", value_delimiter = ',', value_parser = ratio)]
    ratio: Vec<f64>,
    /// Keep these shares of every layer's mutual information
    #[arg(long, value_name = "F,F,...", value_delimiter = ',', value_parser = fraction)]
    mi: Vec<f64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArguments {
    /// Widths are multiples of N where channels leave; 1 turns it off [default: 8]
    #[arg(long, value_name = "N", value_parser = whole(WIDTHS), conflicts_with = "target")]
    align: Option<usize>,
    /// Widths that the kernels of this take at once: onnxruntime-cpu, openvino-cpu, tensorrt-fp16,
    /// tensorrt-int8
    #[arg(long, value_name = "NAME", value_parser = hardware)]
    target: Option<Hardware>,
    /// No group gets narrower than N channels
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole(WIDTHS))]
    min_channels: usize,
    /// Take what can be reached when the budget cannot
    #[arg(long)]
    best_effort: bool,
}

/// The budgets asked for.
pub fn budgets(size: &SizeArguments, quality: &QualityArguments) -> Vec<Budget> {
    let budgets = [
        size.macs.map(Budget::Macs),
        size.params.map(Budget::Params),
        size.size,
        size.latency,
        size.ratio.map(Budget::Ratio),
        size.mi.map(Budget::MutualInformation),
        quality.agreement.map(Budget::Agreement),
        quality.max_change.map(Budget::Change),
        quality.max_drop.map(Budget::Drop),
    ];
    budgets.into_iter().flatten().collect()
}

impl MetricArguments {
    pub fn metric(&self) -> Option<Metric> {
        let metric = Metric::command(self.metric.as_ref()?, self.limit());
        Some(if self.metric_lower {
            metric.lower()
        } else {
            metric
        })
    }

    pub fn latency_command(&self) -> Option<Metric> {
        let command = self.latency_command.as_ref()?;
        Some(Metric::command(command, self.limit()))
    }

    /// # Errors
    /// The file is no profile.
    pub fn profile(&self) -> Result<Option<Profile>, String> {
        let loaded = self.profile.as_ref().map(Profile::load).transpose();
        loaded.map_err(|error| error.to_string())
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.metric_timeout)
    }
}

impl BudgetLists {
    /// The budgets in the order of the help, each once.
    pub fn budgets(&self) -> Vec<Budget> {
        let macs = self.macs.iter().copied().map(Budget::Macs);
        let params = self.params.iter().copied().map(Budget::Params);
        let size = self.size.iter().copied();
        let latency = self.latency.iter().copied();
        let ratio = self.ratio.iter().copied().map(Budget::Ratio);
        let mi = self.mi.iter().copied().map(Budget::MutualInformation);
        let mut budgets: Vec<Budget> = Vec::new();
        let costs = macs.chain(params).chain(size).chain(latency);
        for budget in costs.chain(ratio).chain(mi) {
            if !budgets.contains(&budget) {
                budgets.push(budget);
            }
        }
        budgets
    }
}

impl LimitArguments {
    pub fn limits(&self) -> Limits {
        let aligned = self.align.or(self.target.map(Hardware::block));
        Limits {
            align: aligned.unwrap_or(Limits::default().align),
            min_channels: self.min_channels,
            best_effort: self.best_effort,
        }
    }
}
