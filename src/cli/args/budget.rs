//! How small the model gets: budgets and the limits that they keep to.

use clap::Args;

use crate::cli::values::{WIDTHS, fraction, ratio, whole};
use crate::select::{Budget, Limits};

#[derive(Debug, Args)]
#[command(
    next_help_heading = "Budget (one of; by default the smallest model whose outputs hardly change on samples held back)"
)]
#[group(id = "budget", multiple = false)]
pub struct BudgetArguments {
    /// Keep this fraction of the multiply-accumulates
    #[arg(long, value_name = "F", value_parser = fraction)]
    macs: Option<f64>,
    /// Keep this fraction of the parameters
    #[arg(long, value_name = "F", value_parser = fraction)]
    params: Option<f64>,
    /// Keep this fraction of the latency, measured with ONNX Runtime on --device
    #[arg(long, value_name = "F", value_parser = fraction)]
    latency: Option<f64>,
    /// Remove this fraction of the channels of every group
    #[arg(long, value_name = "F", value_parser = ratio)]
    ratio: Option<f64>,
    /// Keep this share of every layer's mutual information
    #[arg(long, value_name = "F", value_parser = fraction)]
    mi: Option<f64>,
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
    /// Keep these fractions of the measured latency
    #[arg(long, value_name = "F,F,...", value_delimiter = ',', value_parser = fraction)]
    latency: Vec<f64>,
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
    /// Widths are multiples of N where channels leave; 1 turns it off
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = whole(WIDTHS))]
    align: usize,
    /// No group gets narrower than N channels
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole(WIDTHS))]
    min_channels: usize,
    /// Take what can be reached when the budget cannot
    #[arg(long)]
    best_effort: bool,
}

impl BudgetArguments {
    /// The budget asked for; clap lets through one at most.
    pub fn budget(&self) -> Option<Budget> {
        let budgets = [
            self.macs.map(Budget::Macs),
            self.params.map(Budget::Params),
            self.latency.map(Budget::Latency),
            self.ratio.map(Budget::Ratio),
            self.mi.map(Budget::MutualInformation),
        ];
        budgets.into_iter().flatten().next()
    }
}

impl BudgetLists {
    /// The budgets in the order of the help, each once.
    pub fn budgets(&self) -> Vec<Budget> {
        let macs = self.macs.iter().copied().map(Budget::Macs);
        let params = self.params.iter().copied().map(Budget::Params);
        let latency = self.latency.iter().copied().map(Budget::Latency);
        let ratio = self.ratio.iter().copied().map(Budget::Ratio);
        let mi = self.mi.iter().copied().map(Budget::MutualInformation);
        let mut budgets: Vec<Budget> = Vec::new();
        for budget in macs.chain(params).chain(latency).chain(ratio).chain(mi) {
            if !budgets.contains(&budget) {
                budgets.push(budget);
            }
        }
        budgets
    }
}

impl LimitArguments {
    pub fn limits(&self) -> Limits {
        Limits {
            align: self.align,
            min_channels: self.min_channels,
            best_effort: self.best_effort,
        }
    }
}
