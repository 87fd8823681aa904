//! Reports as pages: one file with all that it needs, light and dark, for wide and narrow screens.

mod chart;
mod curves;
mod drawing;
mod groups;
mod network;

use data_encoding::BASE64;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::report::latency::{busy, milliseconds};
use crate::report::text::{UNKNOWN, bytes, count, share};
use crate::report::{Report, Sweep};
use crate::verify::{Change, Comparison, Divergence};
use chart::percent;

const STYLE: &str = include_str!("style.css");
/// Finds layers, zooms and sorts; without it the page shows the same.
const SCRIPT: &str = include_str!("script.js");

impl Report {
    /// The report as one HTML file that loads nothing.
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
            (self.curves())
            (self.network())
            h2 { "Groups of channels" }
            (self.free_groups())
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
        let mut cards = vec![
            card("MACs", self.macs, count),
            card("Parameters", self.parameters, count),
            card("File", size, bytes),
        ];
        cards.extend(self.latency_ms.map(|latency| match busy(latency) {
            Some(busy) => figure("Latency", "not told", &busy),
            None => {
                let (before, after) = (latency.before, latency.after);
                card("Latency", Change { before, after }, milliseconds)
            }
        }));
        cards.extend(self.metric.map(|Change { before, after }| {
            let [before, after] = [before, after].map(super::figure);
            figure("Metric", &after, &format!("the original's is {before}"))
        }));
        cards.extend(
            self.comparison
                .iter()
                .flat_map(|found| self.closeness(found)),
        );
        // Two rows on a narrow desk, or one of few; full, where need be by a wider first card.
        let across = if cards.len() > 4 {
            cards.len().div_ceil(2)
        } else {
            cards.len()
        };
        let style = format!("--across:{across};--all:{}", cards.len());
        let odd = cards.len() % 2 == 1;
        html! {
            dl.cards.odd[odd].uneven[odd && cards.len() > 4] style=(style) {
                @for card in &cards { (card) }
            }
            @if self.is_unknown() { p { strong { (sentence_of(UNKNOWN)) } } }
        }
    }

    /// The cards of a comparison.
    fn closeness(&self, found: &Comparison) -> Vec<Markup> {
        let whose = if self.held_back {
            "held-back"
        } else {
            "calibration"
        };
        let agreement = found.top1_agreement;
        let agreement =
            agreement.map(|share| figure("Top-1 agreement", &percent(share), "with the original"));
        let cosine = figure(
            "Cosine of outputs",
            &format!("{:.4}", found.cosine),
            &format!(
                "relative error {:.4}, on {} {whose} samples",
                found.relative_error, found.samples
            ),
        );
        let known = found.divergence.filter(|found| found.high.is_finite());
        let change = known.map(|Divergence { mean, high }| {
            let [mean, high] = [mean, high].map(|share| share * 100.0);
            let text = format!("of their variance, up to {high:.2} % with a confidence of 90 %");
            figure("Change of outputs", &format!("{mean:.2} %"), &text)
        });
        agreement
            .into_iter()
            .chain([cosine])
            .chain(change)
            .collect()
    }
}

impl Sweep {
    /// The sweep as one HTML file that loads nothing: the table, the curve, and the
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
        let body = html! {
            h1 { (title) }
            @if let Some(report) = first { p class="soft" { (report.subtitle()) } }
            @if let Some(command) = first.and_then(|report| report.command.as_ref()) { pre { (command) } }
            (curves::worth(&reports))
            @if self.is_unknown() { p { strong { (sentence_of(UNKNOWN)) } } }
            div class="scroll" { (self.table()) }
            @for entry in &self.entries {
                h2 { (entry.report.asked) }
                (groups::bars(&entry.report.groups))
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

/// The page asks the browser to load nothing, and to run no script but its own.
fn page(title: &str, body: &Markup) -> String {
    let hash = BASE64.encode(&Sha256::digest(SCRIPT));
    let policy =
        format!("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) script { (PreEscaped(SCRIPT)) } }
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
