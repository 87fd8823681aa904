//! The network: the layers drawn, and before and after of each in a table. Both have the layers in
//! one order, and lead to each other by links.

use maud::{Markup, html};

use crate::report::html::chart::percent;
use crate::report::html::drawing::{self, GONE, STEPS};
use crate::report::text::{count, share};
use crate::report::{GroupReport, Layer, Report};
use crate::verify::Change;

impl Report {
    pub(super) fn network(&self) -> Markup {
        let whose = if self.calibration.synthetic {
            ""
        } else {
            ", its colour the mutual information (MI) kept"
        };
        html! {
            @if !self.layers.is_empty() {
                h2 id="network" { "The network" }
                p class="soft" {
                    "A bar for each layer from the inputs down: its length grows with the root of the channels, the filled "
                    "part shows those kept"
                    (whose) ". A bar leads to its row in the table, and a name in the table to its bar."
                }
                @if !self.calibration.synthetic { (key()) }
                (tools())
                div class="network" {
                    div class="box map" tabindex="0" role="group" aria-label="the network as a drawing" {
                        (drawing::draw(&self.layers, &self.groups))
                    }
                    div class="box" tabindex="0" role="group" aria-label="the layers as a table" {
                        (self.layer_table())
                    }
                }
            }
        }
    }

    fn layer_table(&self) -> Markup {
        let kept = if self.calibration.synthetic {
            "MI of made-up inputs"
        } else {
            "MI kept"
        };
        // Whether what is most comes first when sorted.
        let heads = [
            ("Layer", false),
            ("Channels", true),
            ("MACs", true),
            ("MACs left", false),
            ("Parameters", true),
            (kept, false),
        ];
        html! {
            table class="layers" {
                thead {
                    tr { @for (head, falls) in heads { th scope="col" data-falls[falls] { (head) } } }
                }
                tbody {
                    @for (index, layer) in self.layers.iter().enumerate() {
                        (row(index, layer, layer.group.and_then(|group| self.groups.get(group))))
                    }
                }
            }
        }
    }
}

fn key() -> Markup {
    html! {
        p class="key" {
            @for (_, class, text) in STEPS { span { i class=(class) {} (text) } }
            span { i class="frozen" {} "frozen" }
            span { i class=(GONE) {} "removed" }
        }
    }
}

/// What the script works with; hidden without it.
fn tools() -> Markup {
    html! {
        div class="tools" hidden {
            label { "Find a layer " input type="search" placeholder="part of a name or an operator"; }
            span class="buttons" {
                button type="button" data-go="-1" title="the one before (Shift+Enter)" { "↑" }
                button type="button" data-go="1" title="the next (Enter)" { "↓" }
            }
            span class="buttons" {
                button type="button" data-zoom="0.8" title="smaller (- in the drawing, or Ctrl and the wheel)" { "−" }
                button type="button" data-zoom="1.25" title="larger (+ in the drawing, or Ctrl and the wheel)" { "+" }
                button type="button" data-zoom="0" title="as at first (0 in the drawing)" { "Reset" }
                button type="button" data-zoom="-1" title="the whole drawing at once" { "Whole" }
            }
            output class="soft" {}
        }
    }
}

/// Every cell has the number that it is sorted by.
fn row(index: usize, layer: &Layer, group: Option<&GroupReport>) -> Markup {
    let channels = Change {
        before: layer.channels.before as f64,
        after: layer.channels.after as f64,
    };
    let left = share(layer.macs);
    let kept = group.and_then(drawing::mi_kept);
    html! {
        tr id=(format!("row{index}")) {
            td data-by=(index) {
                a href=(format!("#bar{index}")) { (layer.name) } " " span class="soft" { (layer.operator) }
            }
            (cell(channels, |channels| channels.to_string()))
            (cell(layer.macs, count))
            td data-by=(left) {
                span class="bar" {
                    i class=(drawing::shade(group)) style=(format!("width:{:.1}%", left * 100.0)) {}
                }
                (percent(left))
            }
            (cell(layer.parameters, count))
            td data-by=(kept.unwrap_or(2.0)) {
                @match (kept, group) {
                    (Some(kept), _) => (percent(kept)),
                    (None, Some(group)) if !group.frozen.is_empty() => span class="soft" { "frozen" },
                    _ => "-",
                }
            }
        }
    }
}

fn cell(change: Change<f64>, text: impl Fn(f64) -> String) -> Markup {
    let Change { before, after } = change;
    html! {
        td data-by=(before) {
            @if before == 0.0 {
                "-"
            } @else if before == after {
                (text(before))
            } @else {
                span class="soft" { (text(before)) " →" } " " (text(after))
            }
        }
    }
}
