//! The dense model's side of all fits. Nothing of it depends on the repair: its nodes run once, and
//! of what its taps gather the outputs that stay wait for their level.

use std::ops::Range;

use crate::calibrate::Batch;
use crate::calibrate::tap::Placed;
use crate::onnx::Tensor;
use crate::segments::{Open, Segment, SegmentError, Shelf, Track};
use crate::sequential::Setting;
use crate::sequential::job::{self, Job};

/// Elements that a run gathers of a sample, about: those of a batch are all in memory at once.
const MOST_GATHERED: usize = 1 << 21;

/// The dense model with the taps of all levels. It runs in one stage, or in more where its taps gather much.
pub(super) struct Dense<'a> {
    setting: Setting<'a>,
    /// The stage that runs, open. An open model holds the memory of its runs.
    segment: Option<Open<'a>>,
    /// What crosses from stage to stage.
    track: Track,
    /// Per batch, by the number of the tap.
    shelf: Shelf,
    taps: Vec<Placed>,
    /// Per tap, the channels that stay.
    stays: Vec<Vec<usize>>,
    /// Per level, its taps.
    levels: Vec<Range<usize>>,
    /// Per stage, its levels.
    stages: Vec<Range<usize>>,
}

impl<'a> Dense<'a> {
    /// For the jobs of all levels; `memory` bytes of samples and activations are held in memory.
    pub fn new(setting: &Setting<'a>, jobs: &[Vec<Job<'_>>], memory: u64) -> Self {
        let (mut taps, mut stays, mut levels) = (Vec::new(), Vec::new(), Vec::new());
        let mut gathered = Vec::new();
        for jobs in jobs {
            let first = taps.len();
            for (placed, channels) in jobs.iter().flat_map(Job::dense_taps) {
                taps.push(placed.clone());
                stays.push(channels.to_vec());
            }
            levels.push(first..taps.len());
            let of_job = |job: &Job<'_>| {
                let widths = job.dense_taps().map(|(placed, _)| placed.channels);
                widths.sum::<usize>().saturating_mul(job.rows)
            };
            gathered.push(jobs.iter().map(of_job).sum());
        }
        let stages = stages(&gathered);
        let asked = |stage: &Range<usize>| job::wanted(&taps[taps_of(&levels, stage)]);
        let requests = stages.iter().map(asked).collect();
        Dense {
            setting: *setting,
            segment: None,
            track: Track::new(setting.graph, requests, memory / 2),
            shelf: Shelf::new(memory / 2),
            taps,
            stays,
            levels,
            stages,
        }
    }

    /// Opens the stage that begins with a level; returns the levels that it is for.
    pub fn begin(&mut self, level: usize) -> Result<Option<Range<usize>>, SegmentError> {
        let mut stages = self.stages.iter();
        let Some(stage) = stages.position(|stage| stage.start == level) else {
            return Ok(None);
        };
        let taps = self.taps[taps_of(&self.levels, &self.stages[stage])].to_vec();
        let Setting { model, graph, .. } = self.setting;
        let segment = Segment::new(model, graph, &self.track.schedule, stage, taps);
        self.segment = Some(segment.open(self.setting.runtime)?);
        Ok(Some(self.stages[stage].clone()))
    }

    /// Runs a batch through the stage that is open, for these levels; `feeds` are the positions for their taps.
    /// The first stage reads the batch itself.
    pub fn run(
        &mut self,
        stage: &Range<usize>,
        (number, batch): (usize, Option<&Batch>),
        feeds: Batch,
    ) -> Result<(), SegmentError> {
        self.shelf.open(number);
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        let found = segment.run(&mut self.track, number, batch, feeds)?;
        for (tap, tensor) in taps_of(&self.levels, stage).zip(found) {
            let (stays, is_last) = (&self.stays[tap], self.taps[tap].channels_last);
            self.shelf
                .put(number, tap, picked(tensor, stays, is_last))?;
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
        if let Some(stage) = self.stages.iter().position(|stage| stage.start == level) {
            self.track.finish(stage);
        }
        let taps = self.levels.get(level).cloned().unwrap_or_default();
        self.shelf.drop_values(&taps.collect::<Vec<_>>());
    }
}

/// Runs of levels that gather so much together, or one level that gathers more.
fn stages(gathered: &[usize]) -> Vec<Range<usize>> {
    let mut stages: Vec<Range<usize>> = Vec::new();
    let mut sum = 0_usize;
    for (level, &more) in gathered.iter().enumerate() {
        sum = sum.saturating_add(more);
        match stages.last_mut() {
            Some(stage) if sum <= MOST_GATHERED => stage.end = level + 1,
            _ => {
                stages.push(level..level + 1);
                sum = more;
            }
        }
    }
    stages
}

/// The taps of some levels.
fn taps_of(levels: &[Range<usize>], stage: &Range<usize>) -> Range<usize> {
    let all = levels.get(stage.clone()).unwrap_or_default();
    match (all.first(), all.last()) {
        (Some(first), Some(last)) => first.start..last.end,
        _ => 0..0,
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
    fn stages_gather_no_more_than_one_level_must() {
        let most = MOST_GATHERED;
        assert_eq!(stages(&[most / 2, most / 2, 1]), [0..2, 2..3]);
        assert_eq!(stages(&[1, 3 * most, 1, 1]), [0..1, 1..2, 2..4]);
        assert_eq!(stages(&[usize::MAX, usize::MAX]), [0..1, 1..2]);
    }

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
