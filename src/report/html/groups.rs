//! The groups: what is left of those that may be pruned, and why the others are frozen.

use maud::{Markup, html};

use crate::report::html::chart::percent;
use crate::report::html::drawing;
use crate::report::text::interval;
use crate::report::{GroupReport, Report};
use crate::verify::Change;

impl Report {
    pub(super) fn free_groups(&self) -> Markup {
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
                        "covariance decides (the rest is shrinkage towards a neutral one): the more samples, the nearer "
                        "to 100 %."
                    }
                }
                (bars(&self.groups))
            }
        }
    }

    /// What is frozen, that with the most MACs first.
    pub(super) fn frozen(&self) -> Markup {
        let frozen = self.groups.iter().filter(|group| !group.frozen.is_empty());
        let mut frozen: Vec<&GroupReport> = frozen.collect();
        frozen.sort_by(|a, b| b.macs_share.total_cmp(&a.macs_share));
        let worth = |share: f64| format!("{:.1} % of the MACs", share * 100.0);
        html! {
            @if !frozen.is_empty() {
                h2 { "Frozen groups" }
                @for line in self.held() { p class="soft" { (line) } }
                @for group in frozen {
                    details {
                        summary {
                            code { (group.name) } " (" (group.channels.before) " channels, " (worth(group.macs_share)) ")"
                        }
                        ul { @for reason in &group.frozen { li { (reason) } } }
                    }
                }
            }
            @if !self.ungrouped.is_empty() {
                h2 { "Layers in no group" }
                @for layer in &self.ungrouped {
                    details {
                        summary {
                            code { (layer.name) } " (" (layer.operator) ", " (worth(layer.macs_share)) ")"
                        }
                        ul { li { (layer.frozen) } }
                    }
                }
            }
        }
    }
}

/// A bar for each group that may be pruned.
pub fn bars(groups: &[GroupReport]) -> Markup {
    html! {
        ul class="groups" {
            @for group in groups.iter().filter(|group| group.frozen.is_empty()) { (bar(group)) }
        }
    }
}

fn bar(group: &GroupReport) -> Markup {
    let Change { before, after } = group.channels;
    let width = after as f64 / before.max(1) as f64 * 100.0;
    html! {
        li {
            span class="name" { (group.name) }
            span class="bar" {
                i class=(drawing::shade(Some(group))) style=(format!("width:{width:.1}%")) {}
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
                @if let Some(weight) = group.data_weight.filter(|_| !group.synthetic) {
                    span { "data weight " (percent(weight)) }
                }
            }
        }
    }
}
