//! The dense model's side of all fits. Nothing of it depends on the repair: the model runs once, and
//! of what its taps gather the outputs that stay wait for their level.

use std::ops::Range;

use crate::calibrate::Batch;
use crate::onnx::Tensor;
use crate::segments::{Open, Segment, SegmentError, Shelf, Track};
use crate::sequential::job::{self, Job};
use crate::sequential::{SequentialError, Setting};

/// The dense model with the taps of all levels.
pub(super) struct Dense<'a> {
    /// `None` when all batches were seen: an open model holds the memory of its runs.
    segment: Option<Open<'a>>,
    /// Of a single segment: nothing waits on its shelf.
    track: Track,
    /// Per batch, by the number of the tap.
    shelf: Shelf,
    /// Per tap, the channels that stay, and whether they come last.
    stays: Vec<(Vec<usize>, bool)>,
    /// Per level, its taps.
    levels: Vec<Range<usize>>,
}

impl<'a> Dense<'a> {
    /// Opens it for the jobs of all levels; `memory` bytes of samples are held in memory.
    pub fn open(
        setting: &Setting<'a>,
        jobs: &[Vec<Job<'_>>],
        memory: u64,
    ) -> Result<Self, SequentialError> {
        let (mut taps, mut stays, mut levels) = (Vec::new(), Vec::new(), Vec::new());
        for jobs in jobs {
            let first = taps.len();
            for (placed, channels) in jobs.iter().flat_map(Job::dense_taps) {
                taps.push(placed.clone());
                stays.push((channels.to_vec(), placed.channels_last));
            }
            levels.push(first..taps.len());
        }
        let track = Track::new(setting.graph, vec![job::wanted(&taps)], 0);
        let segment = Segment::new(setting.model, setting.graph, &track.schedule, 0, taps);
        Ok(Dense {
            segment: Some(segment.open(setting.runtime)?),
            track,
            shelf: Shelf::new(memory),
            stays,
            levels,
        })
    }

    /// Runs a batch; `feeds` are the positions for all taps.
    pub fn run(&mut self, number: usize, batch: &Batch, feeds: Batch) -> Result<(), SegmentError> {
        self.shelf.open(number);
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        let found = segment.run(&mut self.track, number, Some(batch), feeds)?;
        for (tap, (tensor, (stays, is_last))) in found.into_iter().zip(&self.stays).enumerate() {
            self.shelf
                .put(number, tap, picked(tensor, stays, *is_last))?;
        }
        Ok(())
    }

    /// Number of batches seen.
    pub fn batches(&self) -> usize {
        self.shelf.batches()
    }

    /// What the taps of a level gathered of a batch.
    pub fn found(&mut self, level: usize, number: usize) -> Result<Vec<Tensor>, SegmentError> {
        let taps = self.levels.get(level).cloned().unwrap_or_default();
        let found = taps.filter_map(|tap| self.shelf.get(number, tap).transpose());
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Forgets the samples of a level, whose batches were all seen.
    pub fn finish(&mut self, level: usize) {
        self.segment = None;
        let taps = self.levels.get(level).cloned().unwrap_or_default();
        self.shelf.drop_values(&taps.collect::<Vec<_>>());
    }
}

/// Some channels of a gathered tensor of three axes.
fn picked(tensor: Tensor, channels: &[usize], is_last: bool) -> Tensor {
    let (&[samples, second, third], Some(size)) = (tensor.shape.as_slice(), tensor.dtype.size())
    else {
        return tensor;
    };
    let (all, block, shape) = match is_last {
        true => (third, size, vec![samples, second, channels.len()]),
        false => (second, third * size, vec![samples, channels.len(), third]),
    };
    if channels.len() == all {
        return tensor;
    }
    let mut bytes = Vec::with_capacity(tensor.bytes.len() / all.max(1) * channels.len());
    for whole in tensor.bytes.chunks_exact((all * block).max(1)) {
        for channel in channels {
            let part = whole.get(channel * block..(channel + 1) * block);
            bytes.extend_from_slice(part.unwrap_or_default());
        }
    }
    Tensor {
        shape,
        bytes: bytes.into(),
        ..tensor
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn channels_are_picked_along_either_axis() {
        let values: Vec<f32> = (0..12u8).map(f32::from).collect();
        let tensor = |shape: &[usize]| Tensor::from_f32(shape, values.clone()).unwrap();
        let picked = |tensor, channels: &[usize], is_last| {
            let found = picked(tensor, channels, is_last);
            (
                found.shape.clone(),
                found.to_f32().unwrap().into_raw_vec_and_offset().0,
            )
        };
        // Two samples of three channels at two positions.
        let expected = vec![4.0, 5.0, 0.0, 1.0, 10.0, 11.0, 6.0, 7.0];
        let found = picked(tensor(&[2, 3, 2]), &[2, 0], false);
        assert_eq!(found, (vec![2, 2, 2], expected));
        // Two samples of two positions with three channels.
        let found = picked(tensor(&[2, 2, 3]), &[1], true);
        assert_eq!(found, (vec![2, 2, 1], vec![1.0, 4.0, 7.0, 10.0]));
        let found = picked(tensor(&[1, 4, 3]), &[0, 1, 2], true);
        assert_eq!(found, (vec![1, 4, 3], values.clone()));
    }
}
