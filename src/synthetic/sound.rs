//! Made-up sounds: tones with overtones that come and go, over noise.

use std::f32::consts::TAU;

use rand_chacha::ChaCha8Rng;

use crate::synthetic::draw::{chance, count, log_uniform, uniform};
use crate::synthetic::spectrum::line;

/// Values per second, as speech is sampled.
const RATE: f32 = 16_000.0;
const MOST_OVERTONES: usize = 24;

/// A sound of so many values between -1 and 1.
pub fn wave(rng: &mut ChaCha8Rng, length: usize) -> Vec<f32> {
    // From white noise to rumbling.
    let colour = uniform(rng, 0.0, 1.3);
    let mut wave = line(rng, length, colour);
    let hiss = log_uniform(rng, 0.01, 1.0);
    let swell = line(rng, length, 1.8);
    for (value, swell) in wave.iter_mut().zip(swell) {
        *value *= hiss * (0.5 * swell).exp();
    }
    for _ in 0..count(rng, 0, 3) {
        voice(rng, &mut wave);
    }
    let power = wave.iter().map(|v| v * v).sum::<f32>() / length.max(1) as f32;
    let gain = log_uniform(rng, 0.01, 0.3) / power.sqrt().max(1e-6);
    wave.iter_mut()
        .for_each(|v| *v = (*v * gain).clamp(-1.0, 1.0));
    wave
}

/// Adds tones one after the other, with pauses, as of someone who speaks or plays.
fn voice(rng: &mut ChaCha8Rng, wave: &mut [f32]) {
    let pitch = log_uniform(rng, 70.0, 600.0);
    let loud = log_uniform(rng, 0.2, 2.0);
    let pace = log_uniform(rng, 0.06, 0.6) * RATE;
    let mut start = (uniform(rng, 0.0, 1.0) * pace) as usize;
    while start < wave.len() {
        let length = (pace * uniform(rng, 0.4, 1.6)).max(2.0) as usize;
        let end = (start + length).min(wave.len());
        let pitch = pitch * uniform(rng, 0.7, 1.4);
        if let Some(part) = wave.get_mut(start..end) {
            tone(rng, part, (pitch, loud));
        }
        let pause = if chance(rng, 0.3) { pace } else { 0.1 * pace };
        start = end + (pause * uniform(rng, 0.1, 1.0)) as usize;
    }
}

/// Adds one tone with its overtones, of which those near two frequencies are the loudest, as in
/// vowels.
fn tone(rng: &mut ChaCha8Rng, part: &mut [f32], (pitch, loud): (f32, f32)) {
    let glide = uniform(rng, -0.25, 0.25);
    let fall = uniform(rng, 0.3, 1.5);
    let peaks = [
        log_uniform(rng, 250.0, 1000.0),
        log_uniform(rng, 900.0, 3500.0),
    ];
    let overtones = ((RATE / 2.4 / pitch) as usize).clamp(1, MOST_OVERTONES);
    let tones: Vec<(f32, f32, f32)> = (1..=overtones)
        .map(|order| {
            let order = order as f32;
            let near = |peak: &f32| (-((order * pitch / peak).log2() * 2.0).powi(2)).exp();
            let vowel = 0.15 + peaks.iter().map(near).sum::<f32>();
            (order, vowel * order.powf(-fall), uniform(rng, 0.0, TAU))
        })
        .collect();
    let length = part.len().max(1) as f32;
    for (place, value) in part.iter_mut().enumerate() {
        let t = place as f32 / length;
        let phase = TAU * pitch / RATE * place as f32 * (1.0 + 0.5 * glide * t);
        let envelope = (12.0 * t).min(1.0) * (1.0 - t).sqrt();
        let sum: f32 = tones
            .iter()
            .map(|(order, much, shift)| much * (order * phase + shift).sin())
            .sum();
        *value += loud * envelope * sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// Sounds are louder at low frequencies: neighbouring values are more alike than by chance.
    #[test]
    fn sounds_are_bounded_and_mostly_low() {
        let (mut same, mut power) = (0.0, 0.0);
        for seed in 0..32 {
            let wave = wave(&mut ChaCha8Rng::seed_from_u64(seed), 4000);
            assert!(wave.iter().all(|v| (-1.0..=1.0).contains(v)));
            power += wave.iter().map(|v| v * v).sum::<f32>();
            same += wave.windows(2).map(|w| w[0] * w[1]).sum::<f32>();
        }
        assert!(power > 0.0 && same / power > 0.5, "{}", same / power);
    }
}
