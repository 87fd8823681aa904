//! Curves: what was measured, and what other budgets are expected to lose.

use maud::{Markup, html};

use crate::report::html::chart::{Chart, percent};
use crate::report::text::share;
use crate::report::{Report, figure};
use crate::select::{Candidate, Search};

impl Report {
    /// The command and the curves that there are, side by side.
    pub(super) fn curves(&self) -> Markup {
        let command = self.command.as_ref();
        let command = command.map(|command| html! { h2 { "Command" } pre { (command) } });
        let parts = [command, self.candidates(), self.trade_off()];
        html! {
            div class="charts" { @for part in parts.iter().flatten() { section { (part) } } }
        }
    }

    /// The measure that was asked for, as its curve has it: its name, and the share left.
    fn measure(&self) -> (&'static str, f64) {
        match self.trade_off.first().map(|point| point.of) {
            Some("params") => ("parameters left", share(self.parameters)),
            Some("latency") => (
                "latency left, by the profile",
                self.latency_ms.map_or(1.0, |latency| latency.share()),
            ),
            _ => ("MACs left", share(self.macs)),
        }
    }

    /// The candidates of a search in the measure that was asked for, with its bound.
    fn candidates(&self) -> Option<Markup> {
        let search = self.search.as_ref()?;
        let bound = search.bounds.last()?;
        let last = search.bounds.len() - 1;
        let measured =
            |candidate: &Candidate| Some((candidate.macs, *candidate.measured.get(last)?));
        let (label, text, whole): (_, fn(f64) -> String, _) = match (bound.of, bound.original) {
            ("max_drop", Some(original)) => ("metric", figure, original),
            ("agreement", _) => ("agreement, at least", percent, 1.0),
            _ => ("change of the outputs, at most", fine_percent, 0.0),
        };
        let most = match bound.original {
            Some(original) => least_metric(search, original),
            None => Some(bound.bound),
        };
        let points = search.candidates.iter().filter_map(measured);
        let points: Vec<(f64, f64)> = points.chain([(1.0, whole)]).collect();
        let here = Some(share(self.macs));
        let drawn = measured_curve(points, ["MACs left", label], text, (here, most))?;
        Some(html! {
            h2 { "What was measured" }
            p class="soft" {
                "The candidates of the search and the original; the larger dot is this run's"
                @if most.is_some() { ", the dashed line the bound" } "."
            }
            (drawn)
        })
    }

    fn trade_off(&self) -> Option<Markup> {
        let points: Vec<(f64, f64)> = self.trade_off.iter().map(|p| (p.left, p.loss)).collect();
        let most = points.iter().map(|(_, loss)| *loss).fold(0.0, f64::max);
        // A round end of the axis.
        let most = [0.04, 0.1, 0.2, 0.4]
            .into_iter()
            .find(|end| most <= *end)
            .unwrap_or(1.0);
        let (label, here) = self.measure();
        let at = points
            .iter()
            .min_by(|a, b| (a.0 - here).abs().total_cmp(&(b.0 - here).abs()));
        let chart = Chart {
            points: &points,
            here: at.copied(),
            bound: None,
            dots: false,
            labels: [label, "expected change of the outputs, of their variance"],
            span: (0.0, most),
            text: percent,
        };
        (points.len() > 1).then(|| {
            html! {
                h2 { "Trade-off" }
                p class="soft" {
                    "What the plan's own losses expect at other budgets, before the repair of the whole model; a guide "
                    "to where the cost begins, not an accuracy. The dot is this run's."
                }
                (chart.draw())
            }
        })
    }
}

/// Where a metric misses what was asked, as far as what the candidates measured tells whether more
/// or less is better.
fn least_metric(search: &Search, original: f64) -> Option<f64> {
    let bound = search.bounds.last()?.bound;
    let fits = |sign: f64| {
        search.candidates.iter().all(|candidate| {
            let measured = candidate.measured.last();
            let lost = measured.map(|measured| (original - measured) * sign);
            lost.is_some_and(|lost| candidate.kept == (lost <= bound))
        })
    };
    match (fits(1.0), fits(-1.0)) {
        (true, false) => Some(original - bound),
        (false, true) => Some(original + bound),
        _ => None,
    }
}

/// What several models are worth against what was asked for: by the metric where there is one, else
/// by how close they are to the original.
pub fn worth(reports: &[&Report]) -> Markup {
    let axis = reports
        .first()
        .map_or("MACs left", |report| report.measure().0);
    let metrics = reports
        .iter()
        .filter_map(|report| Some((report.measure().1, report.metric?)));
    let metrics: Vec<_> = metrics.collect();
    if let Some((_, first)) = metrics.first() {
        let whole = (1.0, first.before);
        let points = metrics.iter().map(|(left, metric)| (*left, metric.after));
        let points = points.chain([whole]).collect();
        return measured_curve(points, [axis, "metric"], figure, (None, None)).unwrap_or_default();
    }
    let is_top1 = |report: &Report| {
        report
            .comparison
            .is_some_and(|c| c.top1_agreement.is_some())
    };
    let label = if reports.first().is_some_and(|report| is_top1(report)) {
        "top-1 agreement with the original"
    } else {
        "cosine with the original's outputs"
    };
    let quality = |report: &&Report| {
        let found = report.comparison?;
        let quality = found.top1_agreement.unwrap_or(found.cosine);
        Some((report.measure().1, quality))
    };
    let mut points: Vec<(f64, f64)> = reports.iter().filter_map(quality).collect();
    points.push((1.0, 1.0));
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let least = points.iter().map(|(_, y)| *y).fold(1.0, f64::min);
    let chart = Chart {
        points: &points,
        here: None,
        bound: None,
        dots: true,
        labels: [axis, label],
        span: ((least * 20.0).floor() / 20.0 - 0.05, 1.0),
        text: percent,
    };
    chart.draw()
}

/// A curve through what was measured, of any unit; of one point none. It may have the
/// share left that was taken, and a bound.
fn measured_curve(
    mut points: Vec<(f64, f64)>,
    labels: [&str; 2],
    text: fn(f64) -> String,
    (taken, bound): (Option<f64>, Option<f64>),
) -> Option<Markup> {
    points.retain(|(_, value)| value.is_finite());
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let values = || points.iter().map(|(_, value)| *value).chain(bound);
    let (low, high) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(f64::NEG_INFINITY, f64::max),
    );
    let margin = (high - low).max(high.abs() * 1e-3) * 0.1;
    let is_taken = |&&(left, _): &&(f64, f64)| taken.is_some_and(|at| (left - at).abs() < 1e-9);
    let chart = Chart {
        points: &points,
        here: points.iter().find(is_taken).copied(),
        bound,
        dots: true,
        labels,
        // What is never below zero is not shown so.
        span: (
            if low < 0.0 {
                low - margin
            } else {
                (low - margin).max(0.0)
            },
            high + margin,
        ),
        text,
    };
    (points.len() > 1).then(|| chart.draw())
}

/// A small share as text.
fn fine_percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
