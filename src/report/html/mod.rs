//! Reports as pages: one file with all that it needs, light and dark, for wide and narrow screens.

mod chart;
mod drawing;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::report::latency::busy;
use crate::report::text::{UNKNOWN, bytes, count, interval, share};
use crate::report::{GroupReport, Report, Sweep};
use crate::select::Candidate;
use crate::verify::Change;
use chart::{Chart, percent};

const STYLE: &str = include_str!("style.css");

impl Report {
    /// The report as one HTML file without scripts that loads nothing.
    #[must_use]
    pub fn html(&self) -> String {
        let title = match &self.input {
            Some(path) => format!("{} pruned", name(path)),
            None => "A pruned model".to_owned(),
        };
        let body = html! {
            h1 { (title) }
            p class="soft" { (self.subtitle()) }
            (self.cards())
            @if let Some(measured) = self.measured() { p class="soft" { (measured) } }
            @if let Some(searched) = self.searched() { p class="soft" { (searched) } }
            @if let Some(least) = self.least_mi() { p class="soft" { (least) } }
            @if let Some(command) = &self.command { h2 { "Command" } pre { (command) } }
            h2 { "Groups of channels" }
            (self.free_groups())
            (self.candidates())
            (self.trade_off())
            @if !self.layers.is_empty() {
                h2 { "The network" }
                @if self.calibration.synthetic {
                    p class="soft" { "A bar for each layer from the inputs down: its length shows the channels, the filled part those kept. Details by pointing." }
                } @else {
                    p class="soft" { "A bar for each layer from the inputs down: its length shows the channels, the coloured part those kept, the colour the mutual information (MI) kept. Details by pointing." }
                    (key())
                }
                (drawing::draw(&self.layers, &self.groups))
            }
            (self.frozen())
            @if !self.notes.is_empty() {
                h2 { "Notes" }
                ul { @for note in &self.notes { li { (note.with_flags()) } } }
            }
        };
        page(&title, &body)
    }

    fn subtitle(&self) -> String {
        let data = match self.calibration.source.as_slice() {
            [] if self.calibration.synthetic => "made-up inputs".to_owned(),
            [] => "files of statistics".to_owned(),
            paths => paths.join(", "),
        };
        format!(
            "asked {}; calibrated on {} samples of {data}; repair {}; ran on {} with ONNX Runtime {}, onnx-mipp {}",
            self.asked,
            self.calibration.samples,
            self.repair,
            self.device,
            self.onnxruntime,
            self.version
        )
    }

    fn cards(&self) -> Markup {
        let size = Change {
            before: self.bytes.before as f64,
            after: self.bytes.after as f64,
        };
        html! {
            dl class="cards" {
                (card("MACs", self.macs, count))
                (card("Parameters", self.parameters, count))
                (card("File", size, bytes))
                @if let Some(latency) = self.latency_ms {
                    @if let Some(busy) = busy(latency) {
                        (figure("Latency", "not told", &busy))
                    } @else {
                        (card("Latency", Change { before: latency.before, after: latency.after }, |ms| format!("{ms:.2} ms")))
                    }
                }
                @if let Some(metric) = self.metric {
                    (figure("Metric", &super::figure(metric.after), &format!("the original's is {}", super::figure(metric.before))))
                }
                @if let Some(found) = self.comparison {
                    @if let Some(agreement) = found.top1_agreement {
                        (figure("Top-1 agreement", &percent(agreement), "with the original"))
                    }
                    (figure("Cosine of outputs", &format!("{:.4}", found.cosine),
                        &format!("relative error {:.4}, on {} {} samples", found.relative_error, found.samples,
                            if self.held_back { "held-back" } else { "calibration" })))
                    @if let Some(found) = found.divergence.filter(|found| found.high.is_finite()) {
                        (figure("Change of outputs", &format!("{:.2} %", found.mean * 100.0),
                            &format!("of their variance, up to {:.2} % with a confidence of 90 %", found.high * 100.0)))
                    }
                }
            }
            @if self.is_unknown() { p { strong { (sentence_of(UNKNOWN)) } } }
        }
    }

    fn free_groups(&self) -> Markup {
        html! {
            @if self.groups.iter().all(|group| !group.frozen.is_empty()) {
                p { "No group may be pruned." }
            } @else {
                @if self.calibration.synthetic {
                    p class="soft" {
                        "The bar shows the channels kept. The MI is that of made-up inputs, which need not have what "
                        "real ones have."
                    }
                } @else {
                p class="soft" {
                    "The bar shows the channels kept, its colour the MI kept, in brackets where that lies with a "
                    "confidence of 95 %. Data weight says how far the measured "
                    "covariance decides (the rest is shrinkage towards a neutral one): the more samples, the nearer to 100 %."
                }
                }
                ul class="groups" {
                    @for group in self.groups.iter().filter(|group| group.frozen.is_empty()) { (bar(group)) }
                }
            }
        }
    }

    /// The candidates of a search in the measure that was asked for.
    fn candidates(&self) -> Markup {
        let search = self.search.as_ref();
        let Some((search, bound)) = search.and_then(|search| Some((search, search.bounds.last()?)))
        else {
            return Markup::default();
        };
        let last = search.bounds.len() - 1;
        let measured =
            |candidate: &Candidate| Some((candidate.macs, *candidate.measured.get(last)?));
        let (label, text, whole): (_, fn(f64) -> String, _) = match (bound.of, bound.original) {
            ("max_drop", Some(original)) => ("metric", super::figure, original),
            ("agreement", _) => ("agreement, at least", percent, 1.0),
            _ => ("change of the outputs, at most", fine_percent, 0.0),
        };
        let points = search
            .candidates
            .iter()
            .filter_map(measured)
            .chain([(1.0, whole)]);
        let points: Vec<(f64, f64)> = points.collect();
        html! {
            @if points.len() > 1 {
                h2 { "What was measured" }
                p class="soft" { "The candidates of the search and the original." }
                (measured_curve(points, label, text))
            }
        }
    }

    fn trade_off(&self) -> Markup {
        let points: Vec<(f64, f64)> = self.trade_off.iter().map(|p| (p.macs, p.loss)).collect();
        let most = points.iter().map(|(_, loss)| *loss).fold(0.0, f64::max);
        // A round end of the axis.
        let most = [0.04, 0.1, 0.2, 0.4]
            .into_iter()
            .find(|end| most <= *end)
            .unwrap_or(1.0);
        let here = share(self.macs);
        let at = points
            .iter()
            .min_by(|a, b| (a.0 - here).abs().total_cmp(&(b.0 - here).abs()));
        let chart = Chart {
            points: &points,
            here: at.copied(),
            dots: false,
            labels: [
                "MACs left",
                "expected change of the outputs, of their variance",
            ],
            span: (0.0, most),
            text: percent,
        };
        html! {
            @if points.len() > 1 {
                h2 { "Trade-off" }
                p class="soft" { "What the plan's own losses expect at other budgets, before the repair of the whole model; a guide to where the cost begins, not an accuracy. The dot is this run's." }
                (chart.draw())
            }
        }
    }

    fn frozen(&self) -> Markup {
        let frozen: Vec<&GroupReport> = self
            .groups
            .iter()
            .filter(|g| !g.frozen.is_empty())
            .collect();
        html! {
            @if !frozen.is_empty() {
                h2 { "Frozen groups" }
                @for group in frozen {
                    details {
                        summary { code { (group.name) } " (" (group.channels.before) " channels)" }
                        ul { @for reason in &group.frozen { li { (reason) } } }
                    }
                }
            }
            @if !self.ungrouped.is_empty() {
                h2 { "Layers in no group" }
                @for layer in &self.ungrouped {
                    details {
                        summary { code { (layer.name) } " (" (layer.operator) ")" }
                        ul { li { (layer.frozen) } }
                    }
                }
            }
        }
    }
}

impl Sweep {
    /// The sweep as one HTML file without scripts that loads nothing: the table, the curve, and the
    /// groups at each budget.
    #[must_use]
    pub fn html(&self) -> String {
        let first = self.entries.first().map(|entry| &entry.report);
        let input = first.and_then(|report| report.input.as_deref());
        let title = format!(
            "{} at {} budgets",
            input.map_or("A model", name),
            self.entries.len()
        );
        let reports: Vec<&Report> = self.entries.iter().map(|entry| &entry.report).collect();
        let curve = curve(&reports);
        let body = html! {
            h1 { (title) }
            @if let Some(report) = first { p class="soft" { (report.subtitle()) } }
            @if let Some(command) = first.and_then(|report| report.command.as_ref()) { pre { (command) } }
            (curve)
            @if self.is_unknown() { p { strong { (sentence_of(UNKNOWN)) } } }
            div class="scroll" { (self.table()) }
            @for entry in &self.entries {
                h2 { (entry.report.asked) }
                ul class="groups" {
                    @for group in entry.report.groups.iter().filter(|g| g.frozen.is_empty()) { (bar(group)) }
                }
            }
        };
        page(&title, &body)
    }

    fn table(&self) -> Markup {
        let rows = self.rows();
        html! {
            table {
                thead { tr { @for head in rows.iter().take(1).flatten() { th { (head) } } } }
                tbody {
                    @for row in rows.iter().skip(1) {
                        tr { @for cell in row { td { (cell) } } }
                    }
                }
            }
        }
    }
}

/// What several models are worth against their MACs: by the metric where there is one, else by how
/// close they are to the original.
fn curve(reports: &[&Report]) -> Markup {
    let metrics = reports
        .iter()
        .filter_map(|report| Some((share(report.macs), report.metric?)));
    let metrics: Vec<_> = metrics.collect();
    if let Some((_, first)) = metrics.first() {
        let whole = (1.0, first.before);
        let points = metrics.iter().map(|(macs, metric)| (*macs, metric.after));
        return measured_curve(points.chain([whole]).collect(), "metric", super::figure);
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
        Some((share(report.macs), quality))
    };
    let mut points: Vec<(f64, f64)> = reports.iter().filter_map(quality).collect();
    points.push((1.0, 1.0));
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let least = points.iter().map(|(_, y)| *y).fold(1.0, f64::min);
    let chart = Chart {
        points: &points,
        here: None,
        dots: true,
        labels: ["MACs left", label],
        span: ((least * 20.0).floor() / 20.0 - 0.05, 1.0),
        text: percent,
    };
    chart.draw()
}

/// A curve through what was measured, of any unit.
fn measured_curve(mut points: Vec<(f64, f64)>, label: &str, text: fn(f64) -> String) -> Markup {
    points.retain(|(_, value)| value.is_finite());
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let values = || points.iter().map(|(_, value)| *value);
    let (low, high) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(f64::NEG_INFINITY, f64::max),
    );
    let margin = (high - low).max(high.abs() * 1e-3) * 0.1;
    let chart = Chart {
        points: &points,
        here: None,
        dots: true,
        labels: ["MACs left", label],
        span: (low - margin, high + margin),
        text,
    };
    chart.draw()
}

/// A small share as text.
fn fine_percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// Words as a sentence.
fn sentence_of(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_uppercase());
    format!(
        "{}{}.",
        first.into_iter().flatten().collect::<String>(),
        letters.as_str()
    )
}

/// The last part of a path.
fn name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn page(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    crate::shown::page(&page.into_string()).into_owned()
}

fn card(what: &str, change: Change<f64>, text: impl Fn(f64) -> String) -> Markup {
    let change_text = format!("{} → {}", text(change.before), text(change.after));
    figure(what, &percent(share(change)), &change_text)
}

fn figure(what: &str, big: &str, small: &str) -> Markup {
    html! {
        div { dt { (what) } dd class="big" { (big) } dd class="soft" { (small) } }
    }
}

fn bar(group: &GroupReport) -> Markup {
    let Change { before, after } = group.channels;
    let width = after as f64 / before.max(1) as f64 * 100.0;
    html! {
        li {
            span class="name" { (group.name) }
            span class="bar" {
                i style=(format!("width:{width:.1}%;background:{}", drawing::colour(Some(group)))) {}
            }
            span class="figures" {
                span {
                    (after) " of " (before) " channels"
                    @if group.combined { ", combined" }
                }
                @if let Some(score) = group.score {
                    @if group.synthetic {
                        span { "MI of made-up inputs kept " (percent(score.mi_kept)) }
                    } @else {
                        span {
                            "MI kept " (percent(score.mi_kept))
                            @if let Some(interval) = interval(group) { " (" (interval) ")" }
                        }
                        span { "explained " (percent(score.explained)) }
                    }
                }
                @if let Some(weight) = group.data_weight.filter(|_| !group.synthetic) { span { "data weight " (percent(weight)) } }
            }
        }
    }
}

fn key() -> Markup {
    html! {
        p class="key" {
            span { i style="background:var(--good)" {} "all MI kept" }
            span { i style="background:var(--fair)" {} "three quarters" }
            span { i style="background:var(--poor)" {} "half or less" }
            span { i style="background:var(--frozen)" {} "frozen" }
            span { i style="background:var(--gone)" {} "removed" }
        }
    }
}
