//! Outlines of the things in a picture, and filling them.

use std::f32::consts::TAU;

use rand_chacha::ChaCha8Rng;

use crate::synthetic::draw::{chance, count, uniform};

/// A point: across, down.
pub type Point = [f32; 2];

/// A random closed outline around the origin, about `radius` from it.
pub fn random(rng: &mut ChaCha8Rng, radius: f32) -> Vec<Point> {
    let points = match count(rng, 0, 99) {
        0..45 => blob(rng, radius),
        45..68 => polygon(rng, radius),
        68..82 => bar(rng, radius),
        82..92 => strand(rng, radius),
        _ => mirrored(rng, radius),
    };
    turned(&points, uniform(rng, 0.0, TAU))
}

fn polar(radius: f32, angle: f32) -> Point {
    [radius * angle.cos(), radius * angle.sin()]
}

fn turned(points: &[Point], angle: f32) -> Vec<Point> {
    let (sin, cos) = angle.sin_cos();
    let turn = |&[x, y]: &Point| [x * cos - y * sin, x * sin + y * cos];
    points.iter().map(turn).collect()
}

/// A round thing, more or less long, with bulges.
fn blob(rng: &mut ChaCha8Rng, radius: f32) -> Vec<Point> {
    const CORNERS: usize = 28;
    let flat = uniform(rng, 0.3, 1.0);
    let bulges: Vec<[f32; 3]> = (2..5)
        .map(|order| {
            let size = uniform(rng, 0.0, 0.3) / order as f32;
            [order as f32, size, uniform(rng, 0.0, TAU)]
        })
        .collect();
    let corner = |index: usize| {
        let angle = TAU * index as f32 / CORNERS as f32;
        let waves = bulges.iter();
        let waves = waves.map(|[order, size, phase]| size * (order * angle + phase).cos());
        let [x, y] = polar(radius * (1.0 + waves.sum::<f32>()), angle);
        [x, y * flat]
    };
    (0..CORNERS).map(corner).collect()
}

fn polygon(rng: &mut ChaCha8Rng, radius: f32) -> Vec<Point> {
    let corners = count(rng, 3, 7);
    let even = chance(rng, 0.4);
    let mut angles: Vec<f32> = (0..corners)
        .map(|index| match even {
            true => TAU * index as f32 / corners as f32,
            false => uniform(rng, 0.0, TAU),
        })
        .collect();
    angles.sort_by(f32::total_cmp);
    angles
        .into_iter()
        .map(|angle| polar(radius, angle))
        .collect()
}

fn bar(rng: &mut ChaCha8Rng, radius: f32) -> Vec<Point> {
    let (x, y) = (
        radius * uniform(rng, 0.8, 1.8),
        radius * uniform(rng, 0.04, 0.7),
    );
    let lean = radius * uniform(rng, -0.2, 0.2);
    vec![[-x, -y], [x, lean - y], [x, y - lean], [-x, y]]
}

/// A bent strip, such as a twig, a leg or a wire.
fn strand(rng: &mut ChaCha8Rng, radius: f32) -> Vec<Point> {
    const STEPS: usize = 12;
    let (bend, width) = (uniform(rng, -1.2, 1.2), radius * uniform(rng, 0.03, 0.14));
    let along = |step: usize| {
        let t = step as f32 / STEPS as f32 * 2.0 - 1.0;
        (
            t * radius * 1.5,
            bend * radius * t * t,
            width * (1.1 - 0.6 * t),
        )
    };
    let there = (0..=STEPS).map(along).map(|(x, y, w)| [x, y - w]);
    let back = (0..=STEPS).rev().map(along).map(|(x, y, w)| [x, y + w]);
    there.chain(back).collect()
}

/// A thing with two equal halves.
fn mirrored(rng: &mut ChaCha8Rng, radius: f32) -> Vec<Point> {
    let steps = count(rng, 3, 8);
    let half: Vec<Point> = (0..=steps)
        .map(|step| {
            let y = (step as f32 / steps as f32 * 2.0 - 1.0) * radius;
            [radius * uniform(rng, 0.15, 0.9), y]
        })
        .collect();
    let left = half.iter().rev().map(|&[x, y]| [-x, y]);
    half.iter().copied().chain(left).collect()
}

/// Which thing each pixel shows, row by row.
#[derive(Debug)]
pub struct Canvas {
    pub height: usize,
    pub width: usize,
    pub shown: Vec<u16>,
}

impl Canvas {
    /// A canvas that shows the thing 0 everywhere.
    pub fn new(height: usize, width: usize) -> Canvas {
        Canvas {
            height,
            width,
            shown: vec![0; height * width],
        }
    }

    /// Shows a thing inside an outline.
    pub fn fill(&mut self, outline: &[Point], thing: u16) {
        let low = outline
            .iter()
            .map(|point| point[1])
            .fold(f32::INFINITY, f32::min);
        let high = outline
            .iter()
            .map(|point| point[1])
            .fold(f32::NEG_INFINITY, f32::max);
        // Casts saturate: what lies outside is cut off.
        let rows =
            (low.floor().max(0.0) as usize)..(high.ceil().max(0.0) as usize).min(self.height);
        let mut crossings: Vec<f32> = Vec::new();
        for row in rows {
            let y = row as f32 + 0.5;
            let next = outline.iter().cycle().skip(1);
            crossings.clear();
            for (&[x0, y0], &[x1, y1]) in outline.iter().zip(next) {
                if (y0 <= y) != (y1 <= y) {
                    crossings.push(x0 + (y - y0) / (y1 - y0) * (x1 - x0));
                }
            }
            crossings.sort_by(f32::total_cmp);
            let start = row * self.width;
            let Some(pixels) = self.shown.get_mut(start..start + self.width) else {
                continue;
            };
            for pair in crossings.chunks_exact(2) {
                let at = |x: f32| ((x - 0.5).ceil().max(0.0) as usize).min(pixels.len());
                let span = at(pair[0])..at(pair[1]).max(at(pair[0]));
                pixels[span].fill(thing);
            }
        }
    }
}
