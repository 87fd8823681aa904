//! How the things in a made-up picture look: colours, shading, textures and waves.

use rand_chacha::ChaCha8Rng;

use crate::synthetic::draw::{chance, count, log_uniform, normal, pick, uniform};
use crate::synthetic::outline::Point;
use crate::synthetic::spectrum::Tile;

/// Red, green and blue, from 0 to 255.
pub type Colour = [f32; 3];

/// The few colours of a picture, as brightness, blue less red, and green less the mean of both.
pub(super) struct Palette {
    tones: Vec<[f32; 3]>,
}

impl Palette {
    pub fn new(rng: &mut ChaCha8Rng) -> Palette {
        let bright = uniform(rng, 60.0, 190.0);
        let spread = uniform(rng, 25.0, 75.0);
        // Photographs are warm on the whole: blue less red is -18 in the middle, from -70 to 22.
        let cast = [-18.0 + 26.0 * normal(rng), 2.0 + 8.0 * normal(rng)];
        // The deviations within a photograph are 27 (7 to 64) and 10 (2 to 28) in the middle.
        let vivid = [24.0, 9.0].map(|middle| middle * (0.75 * normal(rng)).exp());
        let tone = |rng: &mut ChaCha8Rng| {
            [
                bright + spread * normal(rng),
                cast[0] + vivid[0] * normal(rng),
                cast[1] + vivid[1] * normal(rng),
            ]
        };
        let size = count(rng, 3, 14);
        Palette {
            tones: (0..size).map(|_| tone(rng)).collect(),
        }
    }

    /// One of the colours, a little varied.
    pub fn colour(&self, rng: &mut ChaCha8Rng) -> Colour {
        let tone = pick(rng, &self.tones).copied().unwrap_or([128.0, 0.0, 0.0]);
        let varied = [14.0, 5.0, 2.5].map(|much| much * normal(rng));
        let [bright, blue, green] = [0, 1, 2].map(|part| tone[part] + varied[part]);
        let mean = bright.clamp(4.0, 251.0);
        [
            mean - blue / 2.0 - green / 3.0,
            mean + green * 2.0 / 3.0,
            mean + blue / 2.0 - green / 3.0,
        ]
        .map(|value| value.clamp(0.0, 255.0))
    }

    /// The colour of an even background: white, black, or one of the picture's.
    pub fn plain(&self, rng: &mut ChaCha8Rng) -> Colour {
        match count(rng, 0, 9) {
            0..4 => [uniform(rng, 225.0, 255.0); 3],
            4..6 => [uniform(rng, 0.0, 25.0); 3],
            _ => self.colour(rng),
        }
    }

    /// Fewer of the colours, for one thing of many parts.
    pub fn part(&self, rng: &mut ChaCha8Rng) -> Palette {
        let size = count(rng, 1, 4);
        let tones = (0..size).filter_map(|_| pick(rng, &self.tones).copied());
        Palette {
            tones: tones.collect(),
        }
    }
}

/// How a thing looks.
pub(super) struct Material {
    pub colour: Colour,
    pub centre: Point,
    /// Change of brightness per pixel across and down, as a share.
    pub slope: Point,
    /// Amplitude of the texture as a share of the brightness.
    pub grain: f32,
    pub texture: usize,
    /// Where the texture is read: across and down as functions of the pixel's place.
    pub turn: [f32; 4],
    pub offset: Point,
    /// Waves of brightness: radians per pixel across and down, amplitude as a share.
    pub waves: [f32; 3],
    /// How square the waves are.
    pub sharp: f32,
}

impl Material {
    pub fn plain(colour: Colour) -> Material {
        Material {
            colour,
            centre: [0.0; 2],
            slope: [0.0; 2],
            grain: 0.0,
            texture: 0,
            turn: [1.0, 0.0, 0.0, 1.0],
            offset: [0.0; 2],
            waves: [0.0; 3],
            sharp: 1.0,
        }
    }

    pub fn new(rng: &mut ChaCha8Rng, colour: Colour, centre: Point, radius: f32) -> Material {
        let steep = uniform(rng, 0.0, 0.35) / radius.max(2.0);
        let (down, across) = uniform(rng, 0.0, std::f32::consts::TAU).sin_cos();
        let grain = if chance(rng, 0.6) {
            log_uniform(rng, 0.03, 0.35)
        } else {
            0.02
        };
        // Hair, bark and water are textures drawn out in one direction.
        let stretch = if chance(rng, 0.35) {
            uniform(rng, 2.0, 8.0)
        } else {
            1.0
        };
        let scale = log_uniform(rng, 0.6, 2.5);
        let (sin, cos) = uniform(rng, 0.0, std::f32::consts::TAU).sin_cos();
        let long = scale / stretch;
        let mut waves = [0.0; 3];
        if chance(rng, 0.1) && radius > 5.0 {
            let period = log_uniform(rng, 3.0, (radius / 1.5).max(3.5));
            let rate = std::f32::consts::TAU / period;
            let (sin, cos) = uniform(rng, 0.0, std::f32::consts::TAU).sin_cos();
            waves = [rate * cos, rate * sin, uniform(rng, 0.05, 0.45)];
        }
        Material {
            colour,
            centre,
            slope: [steep * across, steep * down],
            grain,
            texture: count(rng, 0, 2),
            turn: [scale * cos, scale * sin, -long * sin, long * cos],
            offset: [uniform(rng, 0.0, 4096.0), uniform(rng, 0.0, 4096.0)],
            waves,
            sharp: if chance(rng, 0.4) { 6.0 } else { 1.0 },
        }
    }

    /// The colour at a pixel.
    pub fn at(&self, x: f32, y: f32, textures: &[Tile]) -> Colour {
        let mut bright =
            self.slope[0] * (x - self.centre[0]) + self.slope[1] * (y - self.centre[1]);
        if self.grain > 0.0 {
            // The offset keeps places positive, for the casts.
            let across = self.turn[0] * x + self.turn[1] * y + self.offset[0] + 16384.0;
            let down = self.turn[2] * x + self.turn[3] * y + self.offset[1] + 16384.0;
            let tile = textures.get(self.texture);
            bright += self.grain * tile.map_or(0.0, |tile| tile.at(down as usize, across as usize));
        }
        if self.waves[2] > 0.0 {
            let wave = (self.waves[0] * x + self.waves[1] * y).sin();
            bright += self.waves[2] * (self.sharp * wave).clamp(-1.0, 1.0);
        }
        self.colour.map(|value| value * (1.0 + bright).max(0.0))
    }
}
