//! A curve with axes.

use maud::{Markup, html};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 38.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

/// What a chart shows: shares between 0 and 1 on the x axis.
pub struct Chart<'a> {
    /// Points from left to right.
    pub points: &'a [(f64, f64)],
    /// Where the result stands.
    pub here: Option<(f64, f64)>,
    /// A value of the y axis that is not to be passed.
    pub bound: Option<f64>,
    /// Whether the points themselves are drawn.
    pub dots: bool,
    /// What lies along the axes.
    pub labels: [&'a str; 2],
    /// The span of the y axis.
    pub span: (f64, f64),
    /// A value of the y axis as text.
    pub text: fn(f64) -> String,
}

impl Chart<'_> {
    /// The drawing; empty without two points.
    pub fn draw(&self) -> Markup {
        let points: Vec<(f64, f64)> = self.points.iter().map(|point| self.place(*point)).collect();
        let line: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let [x_label, y_label] = self.labels;
        html! {
            @if self.points.len() > 1 {
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(format!("{y_label} against {x_label}")) {
                    @for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
                        (self.tick(share))
                    }
                    @if let Some((_, y)) = self.bound.map(|bound| self.place((0.0, bound))) {
                        path class="bound" d=(format!("M{LEFT} {y:.1}H{}", WIDTH - RIGHT)) {}
                    }
                    polyline class="curve" points=(line.join(" ")) {}
                    @for ((x, y), (share, value)) in points.iter().zip(self.points).filter(|_| self.dots) {
                        circle class="point" cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r="3.5" {
                            title { (percent(*share)) ": " ((self.text)(*value)) }
                        }
                    }
                    @if let Some((x, y)) = self.here.map(|here| self.place(here)) {
                        circle class="result" cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r="5" { title { "this run" } }
                    }
                    text x=(WIDTH / 2.0) y=(HEIGHT - 6.0) text-anchor="middle" { (x_label) }
                    text x=(LEFT) y="8" { (y_label) }
                }
            }
        }
    }

    /// A line across at a share of the y axis, and a mark at that of the x axis.
    fn tick(&self, share: f64) -> Markup {
        let (low, high) = self.span;
        let value = low + share * (high - low);
        let (x, _) = self.place((share, low));
        let (_, y) = self.place((0.0, value));
        let bottom = HEIGHT - BOTTOM;
        html! {
            path class="axis" d=(format!("M{LEFT} {y:.1}H{}", WIDTH - RIGHT)) {}
            text x=(LEFT - 4.0) y=(format!("{:.1}", y + 3.0)) text-anchor="end" { ((self.text)(value)) }
            text x=(format!("{x:.1}")) y=(bottom + 13.0) text-anchor="middle" { (percent(share)) }
        }
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (low, high) = self.span;
        let share = ((y - low) / (high - low).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        (
            LEFT + x.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM),
        )
    }
}

/// A share as text.
pub fn percent(share: f64) -> String {
    let digits = usize::from(share.abs() < 0.995 && (share * 100.0).fract().abs() > 0.05);
    format!("{:.digits$} %", share * 100.0)
}
