//! Made-up photographs: dead leaves, things of all sizes that hide each other, with colours,
//! textures, light and blur like those of natural images. Figures in the comments are of ImageNet's
//! photographs.
//!
//! Lee, Mumford and Huang, "Occlusion models for natural images" (2001), for the law of sizes;
//! Baradad et al., "Learning to see by looking at noise" (2021), for what such pictures teach a
//! network.

use rand_chacha::ChaCha8Rng;

use crate::synthetic::draw::{chance, count, log_uniform, normal, rough_normal, uniform};
use crate::synthetic::glyphs;
use crate::synthetic::materials::{Colour, Material, Palette};
use crate::synthetic::outline::{self, Canvas, Point};
use crate::synthetic::spectrum::{Tile, tile};

/// Sub-pixels along each side of a pixel.
const FINE: usize = 2;
/// No more things in one layer.
const MOST_THINGS: usize = 1400;

/// A picture, row by row.
pub fn picture(rng: &mut ChaCha8Rng, height: usize, width: usize) -> Vec<Colour> {
    let scene = Picture::new(rng, height, width);
    let is_plain = chance(rng, 0.12);
    let mut pixels = scene.backdrop(rng, is_plain);
    if is_plain || chance(rng, 0.5) {
        // What stands in front is sharper than what is behind.
        if chance(rng, 0.6) {
            let far = scene.side * log_uniform(rng, 0.004, 0.05);
            blur(&mut pixels, width, far);
        }
        for _ in 0..count(rng, 1, 3) {
            scene.subject(rng, &mut pixels);
        }
    }
    if chance(rng, 0.07) {
        scene.writing(rng, &mut pixels);
    }
    scene.light(rng, &mut pixels);
    if chance(rng, 0.3) {
        let soft = scene.side * log_uniform(rng, 0.002, 0.012);
        blur(&mut pixels, width, soft);
    }
    expose(rng, &mut pixels);
    pixels
}

/// A picture of a line of writing, for models that read such lines.
pub fn line_of_writing(rng: &mut ChaCha8Rng, height: usize, width: usize) -> Vec<Colour> {
    let scene = Picture::new(rng, height, width);
    let mut pixels = if chance(rng, 0.7) {
        vec![scene.palette.plain(rng); height * width]
    } else {
        scene.backdrop(rng, false)
    };
    let contrast = uniform(rng, 0.2, 1.0);
    let ink = scene
        .palette
        .colour(rng)
        .map(|value| value * (1.0 - contrast));
    let paper = 255.0 * uniform(rng, 0.3, 1.0);
    for value in pixels.iter_mut().flatten() {
        *value += (paper - *value) * contrast;
    }
    let mut canvas = Canvas::new(height * FINE, width * FINE);
    let size = height as f32 * uniform(rng, 0.5, 0.95);
    let top = (height as f32 - size) * uniform(rng, 0.2, 0.8);
    let right = width as f32 * uniform(rng, 0.2, 1.0);
    glyphs::write(
        rng,
        &mut canvas,
        [0.05 * size, top],
        (size, right),
        FINE as f32,
    );
    let cover = Things {
        materials: vec![Material::plain(ink)],
    };
    cover.show(&canvas, &scene, &mut pixels);
    if chance(rng, 0.3) {
        for pixel in &mut pixels {
            *pixel = pixel.map(|value| 255.0 - value);
        }
    }
    scene.light(rng, &mut pixels);
    if chance(rng, 0.5) {
        let soft = height as f32 * log_uniform(rng, 0.006, 0.03);
        blur(&mut pixels, width, soft);
    }
    for value in pixels.iter_mut().flatten() {
        *value = value.clamp(0.0, 255.0);
    }
    pixels
}

/// What all layers of a picture have in common.
struct Picture {
    height: usize,
    width: usize,
    /// What sizes are relative to, in pixels.
    side: f32,
    palette: Palette,
    /// Textures, from fine grain to clouds.
    textures: Vec<Tile>,
}

/// The things of a layer; on its canvas they count from 1.
struct Things {
    materials: Vec<Material>,
}

impl Things {
    /// Adds a thing and returns its number on the canvas.
    fn add(&mut self, material: Material) -> u16 {
        self.materials.push(material);
        u16::try_from(self.materials.len()).unwrap_or(u16::MAX)
    }

    /// Lays the canvas over the pixels; what shows nothing lets them through.
    fn show(&self, canvas: &Canvas, scene: &Picture, pixels: &mut [Colour]) {
        let share = 1.0 / (FINE * FINE) as f32;
        for (y, row) in pixels.chunks_exact_mut(scene.width).enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                let mut last = (0, *pixel);
                let mut sum = [0.0; 3];
                for part in 0..FINE * FINE {
                    let place = (y * FINE + part / FINE) * canvas.width + x * FINE + part % FINE;
                    let thing = canvas.shown.get(place).copied().unwrap_or(0);
                    if thing != last.0 {
                        let material = usize::from(thing).checked_sub(1);
                        let material = material.and_then(|index| self.materials.get(index));
                        let seen = material.map(|m| m.at(x as f32, y as f32, &scene.textures));
                        last = (thing, seen.unwrap_or(*pixel));
                    }
                    for (sum, value) in sum.iter_mut().zip(last.1) {
                        *sum += share * value;
                    }
                }
                *pixel = sum;
            }
        }
    }
}

impl Picture {
    fn new(rng: &mut ChaCha8Rng, height: usize, width: usize) -> Picture {
        let short = height.min(width) as f32;
        let side = ((height * width) as f32).sqrt().min(2.0 * short);
        let grain = (height.max(width) / 2).clamp(32, 128);
        Picture {
            height,
            width,
            side,
            palette: Palette::new(rng),
            textures: [0.5, 0.95, 1.4]
                .map(|middle| {
                    let exponent = middle + uniform(rng, -0.2, 0.2);
                    tile(rng, grain, exponent)
                })
                .into(),
        }
    }

    fn canvas(&self) -> Canvas {
        Canvas::new(self.height * FINE, self.width * FINE)
    }

    /// Things all over the picture, or an even background.
    fn backdrop(&self, rng: &mut ChaCha8Rng, is_plain: bool) -> Vec<Colour> {
        let middle = [self.width as f32 / 2.0, self.height as f32 / 2.0];
        let (mut canvas, mut things) = (
            self.canvas(),
            Things {
                materials: Vec::new(),
            },
        );
        let colour = if is_plain {
            self.palette.plain(rng)
        } else {
            self.palette.colour(rng)
        };
        let ground = Material::new(rng, colour, middle, self.side);
        let ground = things.add(if is_plain {
            Material {
                grain: 0.02,
                ..ground
            }
        } else {
            ground
        });
        canvas.shown.fill(ground);
        if !is_plain {
            let most = count(rng, 40, MOST_THINGS);
            let least = self.side * log_uniform(rng, 0.006, 0.04);
            let largest = self.side * uniform(rng, 0.25, 0.75);
            let large = (0..count(rng, 3, 14)).map(|_| largest * uniform(rng, 0.3, 1.0));
            let mut sizes: Vec<f32> = large.collect();
            sizes.extend((0..most).map(|_| size(rng, least, largest)));
            // Half of the pictures have a place where more is than elsewhere.
            let crowd = chance(rng, 0.5).then(|| {
                [
                    uniform(rng, 0.0, self.width as f32),
                    uniform(rng, 0.0, self.height as f32),
                ]
            });
            for radius in sizes {
                let centre = match crowd {
                    Some([x, y]) if chance(rng, 0.6) => [
                        x + 0.25 * self.side * normal(rng),
                        y + 0.25 * self.side * normal(rng),
                    ],
                    _ => [
                        uniform(rng, -0.1, 1.1) * self.width as f32,
                        uniform(rng, -0.1, 1.1) * self.height as f32,
                    ],
                };
                self.place(
                    rng,
                    (&mut canvas, &mut things),
                    &self.palette,
                    centre,
                    radius,
                );
            }
        }
        let mut pixels = vec![[0.0; 3]; self.height * self.width];
        things.show(&canvas, self, &mut pixels);
        pixels
    }

    /// Something of many parts, mostly near the middle.
    fn subject(&self, rng: &mut ChaCha8Rng, pixels: &mut [Colour]) {
        let (mut canvas, mut things) = (
            self.canvas(),
            Things {
                materials: Vec::new(),
            },
        );
        let palette = self.palette.part(rng);
        let extent = self.side * uniform(rng, 0.1, 0.5);
        let middle = [self.width, self.height].map(|s| s as f32 * (0.5 + 0.18 * normal(rng)));
        self.place(rng, (&mut canvas, &mut things), &palette, middle, extent);
        for _ in 0..count(rng, 4, 120) {
            let radius = size(rng, extent * 0.03, extent * 0.7);
            let spread = (extent - radius * 0.5).max(0.0) * 0.6;
            let centre = [
                middle[0] + spread * normal(rng),
                middle[1] + spread * normal(rng),
            ];
            self.place(rng, (&mut canvas, &mut things), &palette, centre, radius);
        }
        things.show(&canvas, self, pixels);
    }

    /// Puts a thing at a place: one outline, rings, or the same small outline many times.
    fn place(
        &self,
        rng: &mut ChaCha8Rng,
        (canvas, things): (&mut Canvas, &mut Things),
        palette: &Palette,
        centre: Point,
        radius: f32,
    ) {
        let points = outline::random(rng, radius * FINE as f32);
        let add = |rng: &mut ChaCha8Rng, things: &mut Things| {
            let colour = palette.colour(rng);
            things.add(Material::new(rng, colour, centre, radius))
        };
        let at = |points: &[Point], [x, y]: Point, scale: f32| -> Vec<Point> {
            let (x, y) = (x * FINE as f32, y * FINE as f32);
            points
                .iter()
                .map(|p| [x + scale * p[0], y + scale * p[1]])
                .collect()
        };
        let thing = add(rng, things);
        canvas.fill(&at(&points, centre, 1.0), thing);
        if radius < 5.0 {
            return;
        }
        if chance(rng, 0.08) {
            // Rings: eyes, wheels, flowers.
            let mut scale = 1.0;
            for _ in 0..count(rng, 1, 5) {
                scale *= uniform(rng, 0.45, 0.85);
                let thing = add(rng, things);
                canvas.fill(&at(&points, centre, scale), thing);
            }
        } else if chance(rng, 0.1) {
            let (across, down) = (count(rng, 1, 7), count(rng, 1, 7));
            let step = radius * 1.3 / across.max(down) as f32;
            let small = step * uniform(rng, 0.2, 0.5);
            let small = outline::random(rng, small * FINE as f32);
            let (thing, loose) = (add(rng, things), step * uniform(rng, 0.0, 0.3));
            for cell in 0..across * down {
                let place = [(cell % across, across), (cell / across, down)];
                let place = place.map(|(at, of)| step * (at as f32 - (of as f32 - 1.0) / 2.0));
                let place = [0, 1].map(|axis| centre[axis] + place[axis] + loose * normal(rng));
                canvas.fill(&at(&small, place, 1.0), thing);
            }
        }
    }

    /// A few letters somewhere.
    fn writing(&self, rng: &mut ChaCha8Rng, pixels: &mut [Colour]) {
        let mut canvas = self.canvas();
        for _ in 0..count(rng, 1, 4) {
            let size = self.side * uniform(rng, 0.04, 0.2);
            let start = [
                uniform(rng, 0.0, 0.7) * self.width as f32,
                uniform(rng, 0.0, 0.9) * self.height as f32,
            ];
            let right = start[0] + size * uniform(rng, 1.0, 8.0);
            glyphs::write(rng, &mut canvas, start, (size, right), FINE as f32);
        }
        let colour = self.palette.plain(rng);
        let things = Things {
            materials: vec![Material::plain(colour)],
        };
        things.show(&canvas, self, pixels);
    }

    /// Light that changes slowly over the picture, and the noise of a sensor.
    fn light(&self, rng: &mut ChaCha8Rng, pixels: &mut [Colour]) {
        const CELLS: usize = 4;
        let lamps: Vec<f32> = (0..(CELLS + 1) * (CELLS + 1))
            .map(|_| normal(rng))
            .collect();
        let cloud = uniform(rng, 0.0, 0.2);
        let tilt = [uniform(rng, -0.3, 0.3), uniform(rng, -0.3, 0.3)];
        let noise = uniform(rng, 0.0, 5.0);
        let (height, width) = (self.height.max(2) as f32, self.width.max(2) as f32);
        for (y, row) in pixels.chunks_exact_mut(self.width).enumerate() {
            let v = y as f32 / height * CELLS as f32;
            let (top, v) = (v as usize * (CELLS + 1), v.fract());
            for (x, pixel) in row.iter_mut().enumerate() {
                let u = x as f32 / width * CELLS as f32;
                let (left, u) = (u as usize, u.fract());
                let corner = |at: usize| lamps.get(top + left + at).copied().unwrap_or(0.0);
                let upper = corner(0) * (1.0 - u) + corner(1) * u;
                let lower = corner(CELLS + 1) * (1.0 - u) + corner(CELLS + 2) * u;
                let lean = tilt[0] * (x as f32 / width - 0.5) + tilt[1] * (y as f32 / height - 0.5);
                let light = 1.0 + cloud * (upper * (1.0 - v) + lower * v) + 2.0 * lean;
                *pixel = pixel.map(|value| value * light.max(0.1) + noise * rough_normal(rng));
            }
        }
    }
}

/// A radius by the law of dead leaves: as many of radius r as fill the same area in every octave,
/// r^-3.
fn size(rng: &mut ChaCha8Rng, least: f32, largest: f32) -> f32 {
    let (few, many) = (largest.powi(-2), least.powi(-2));
    1.0 / uniform(rng, few, many).sqrt()
}

/// Brings the brightness to a mean and a deviation like those of photographs (117 from 72 to 164,
/// and 55 from 30 to 80), and cuts off what is too bright or too dark.
fn expose(rng: &mut ChaCha8Rng, pixels: &mut [Colour]) {
    let bright = |pixel: &Colour| pixel.iter().sum::<f32>() / 3.0;
    let count = pixels.len().max(1) as f32;
    let mean = pixels.iter().map(bright).sum::<f32>() / count;
    let square = |pixel: &Colour| (bright(pixel) - mean).powi(2);
    let deviation = (pixels.iter().map(square).sum::<f32>() / count).sqrt();
    let wanted = 55.0 * (0.3 * normal(rng)).clamp(-0.7, 0.6).exp();
    let gain = (wanted / deviation.max(1.0)).clamp(0.5, 2.5);
    let level = (117.0 + 28.0 * normal(rng)).clamp(50.0, 200.0);
    for value in pixels.iter_mut().flatten() {
        *value = ((*value - mean) * gain + level).clamp(0.0, 255.0);
    }
}

/// Blurs with about a normal curve of that deviation in pixels: three even means one after the
/// other.
fn blur(pixels: &mut [Colour], width: usize, deviation: f32) {
    // The variance of an even mean over 2 r + 1 pixels is r (r + 1) / 3.
    let radius = ((deviation * deviation + 0.25).sqrt() - 0.5).round() as usize;
    let Some(height) = pixels.len().checked_div(width) else {
        return;
    };
    if radius == 0 {
        return soften(pixels, width, (deviation * deviation).min(0.5));
    }
    let mut line = Vec::new();
    for _ in 0..3 {
        for row in 0..height {
            smear(pixels, (row * width, 1, width), radius, &mut line);
        }
        for column in 0..width {
            smear(pixels, (column, width, height), radius, &mut line);
        }
    }
}

/// The even mean over `radius` pixels on either side, along a line: its start, step and length.
fn smear(
    pixels: &mut [Colour],
    (start, step, length): (usize, usize, usize),
    radius: usize,
    line: &mut Vec<Colour>,
) {
    line.clear();
    line.extend((0..length).filter_map(|index| pixels.get(start + index * step)));
    let last = length.saturating_sub(1);
    let at = |index: usize| line.get(index.min(last)).copied().unwrap_or([0.0; 3]);
    let share = 1.0 / (2 * radius + 1) as f32;
    let mut sum = [0.0; 3];
    let add = |sum: &mut Colour, pixel: Colour, sign: f32| {
        for (sum, value) in sum.iter_mut().zip(pixel) {
            *sum += sign * value;
        }
    };
    // Places before the start show the first pixel.
    for index in 0..=2 * radius {
        add(&mut sum, at(index.saturating_sub(radius)), 1.0);
    }
    for index in 0..length {
        if let Some(pixel) = pixels.get_mut(start + index * step) {
            *pixel = sum.map(|value| value * share);
        }
        add(&mut sum, at(index + radius + 1), 1.0);
        add(&mut sum, at(index.saturating_sub(radius)), -1.0);
    }
}

/// A blur of less than a pixel: a share of both neighbours along each axis.
fn soften(pixels: &mut [Colour], width: usize, variance: f32) {
    let share = variance / 2.0;
    for step in [1, width] {
        let old = pixels.to_vec();
        let before = old.iter().zip(old.get(2 * step..).unwrap_or_default());
        for (pixel, (before, after)) in pixels.iter_mut().skip(step).zip(before) {
            for (value, (b, a)) in pixel.iter_mut().zip(before.iter().zip(after)) {
                *value += share * (b + a - 2.0 * *value);
            }
        }
    }
}
