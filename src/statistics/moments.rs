//! Streaming second moments of a tensor's channels, in f64, with a data-chosen shrinkage.

use std::io;

use crate::linalg::products::{self, Rows, sum};
use crate::linalg::triangle::{Lower, Triangle, squared_norm, visit_lower};
use crate::statistics::covariance::Covariance;
use crate::statistics::folds::{self, Folds};
use crate::statistics::spread::{Spread, shift_products};
use crate::statistics::subsamples::Subsamples;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};
use serde::{Deserialize, Serialize};

/// Sums over the rows seen so far: one row per sampled position, one column per input.
#[derive(Debug, Clone)]
pub struct Moments {
    rows: usize,
    samples: usize,
    /// Subtracted from every row before it is squared, so that f64 loses nothing to a large mean.
    shift: Vec<f64>,
    sum: Vec<f64>,
    /// Sum of the rows' outer products; empty where the parts add up to it.
    products: Triangle,
    /// Sum over the samples of the squared Frobenius norm of the sample's second moment.
    scatter: f64,
    folds: Option<Folds>,
    /// What adding the sums of another run needs.
    spread: Option<Spread>,
    parts: Option<Subsamples>,
}

/// What was counted beside the sums.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Counts {
    /// Inputs of the layer, of which the sums hold every pair.
    pub inputs: usize,
    /// Positions that were drawn.
    pub rows: usize,
    /// Samples that they come from.
    pub samples: usize,
    /// Rows of the folds; `None` where there are none.
    pub folds: Option<Vec<usize>>,
    /// Rows of the parts of the samples, of which intervals of confidence follow.
    pub parts: Vec<usize>,
}

/// No run sees so many rows or samples; sums and products of smaller numbers with sizes of a model
/// fit 64 bits.
const MOST_COUNTED: usize = 1 << 40;

/// Whether a number of rows or samples may be one of a run.
pub(super) fn is_count(number: usize) -> bool {
    number < MOST_COUNTED
}

impl Counts {
    /// Whether all numbers of rows and samples may be those of a run.
    pub fn are_counts(&self) -> bool {
        let folds = self.folds.iter().flatten();
        let all = folds.chain(&self.parts).chain([&self.rows, &self.samples]);
        all.copied().all(is_count)
    }
}

/// Sums that were made otherwise than row by row.
pub(super) struct Whole {
    pub rows: usize,
    pub samples: usize,
    pub shift: Vec<f64>,
    pub sum: Vec<f64>,
    pub products: Triangle,
    pub scatter: f64,
    pub parts: Subsamples,
}

/// Sums that cannot be added: of different inputs, or merged already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeError;

impl Moments {
    /// Nothing seen yet of `inputs` columns.
    #[must_use]
    pub fn new(inputs: usize) -> Self {
        Moments {
            rows: 0,
            samples: 0,
            shift: Vec::new(),
            sum: vec![0.0; inputs],
            products: Triangle::new(inputs),
            scatter: 0.0,
            folds: None,
            spread: None,
            parts: None,
        }
    }

    /// Also deals the samples to parts, of channels with `kernel` inputs each.
    #[must_use]
    pub fn dealt(self, kernel: usize) -> Self {
        let parts = Subsamples::new(self.inputs(), kernel);
        self.with_parts(parts)
    }

    fn with_parts(self, parts: Subsamples) -> Self {
        // Subsamples of all inputs are folds as well.
        let (products, folds) = if parts.is_whole() {
            (Triangle::new(0), None)
        } else {
            (self.products, self.folds)
        };
        Moments {
            products,
            folds,
            parts: Some(parts),
            ..self
        }
    }

    /// Keeps what [`Moments::merge`] needs: twice the memory.
    #[must_use]
    pub fn mergeable(self) -> Self {
        Moments {
            spread: Some(Spread::new(self.inputs())),
            ..self
        }
    }

    /// The same where `rows` rows will come: a few choose their shrinkage by held-out prediction.
    #[must_use]
    pub fn of_rows(inputs: usize, rows: usize) -> Self {
        Moments {
            folds: Folds::wanted(inputs, rows),
            ..Moments::new(inputs)
        }
    }

    /// The sums of rows that were seen elsewhere, of channels with more than one input each.
    pub(super) fn known(whole: Whole) -> Self {
        Moments {
            rows: whole.rows,
            samples: whole.samples,
            shift: whole.shift,
            sum: whole.sum,
            products: whole.products,
            scatter: whole.scatter,
            folds: None,
            spread: None,
            parts: Some(whole.parts),
        }
    }

    /// Whether so many rows come with folds.
    pub(super) fn wants_folds(inputs: usize, rows: usize) -> bool {
        folds::are_few(inputs, rows)
    }

    /// Number of columns.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.sum.len()
    }

    /// Adds the rows of several samples: `data` has `inputs` columns and the same number of rows
    /// for each of `samples` samples, one sample after the other. Returns the rows less the shift,
    /// the mean of the first call's.
    pub fn add(&mut self, mut data: Mat<f64>, samples: usize) -> Mat<f64> {
        if samples == 0 || data.nrows() == 0 {
            return data;
        }
        self.start(&data);
        for (column, shift) in self.shift.iter().enumerate() {
            let slice = data.col_as_slice_mut(column);
            slice.iter_mut().for_each(|x| *x -= shift);
        }
        self.accumulate(&Rows::new(&data), samples);
        data
    }

    /// The same of rows whose products are summed in f32.
    #[allow(clippy::cast_possible_truncation)]
    pub(crate) fn add_single(&mut self, mut data: Mat<f32>, samples: usize) -> Mat<f32> {
        if samples == 0 || data.nrows() == 0 {
            return data;
        }
        if !products::fits(&data) {
            let centred = self.add(products::exact(&data), samples);
            return products::rounded(centred.as_ref(), (0, centred.nrows()));
        }
        self.start(&data);
        for (column, shift) in self.shift.iter().enumerate() {
            let values = data.col_as_slice_mut(column).iter_mut();
            values.for_each(|x| *x = (f64::from(*x) - shift) as f32);
        }
        let rows = Rows::Single(data);
        self.accumulate(&rows, samples);
        match rows {
            Rows::Single(data) => data,
            Rows::Double(data) => products::rounded(data.as_ref().as_ref(), (0, data.nrows())),
        }
    }

    /// The first rows say what is subtracted of all.
    fn start<T: Copy + Into<f64>>(&mut self, data: &Mat<T>) {
        if self.shift.is_empty() {
            let count = data.nrows() as f64;
            let mean = |column| sum(data.col_as_slice(column)) / count;
            self.shift = (0..data.ncols()).map(mean).collect();
        }
    }

    fn accumulate(&mut self, rows: &Rows<'_>, samples: usize) {
        for (column, sum) in self.sum.iter_mut().enumerate() {
            *sum += rows.sum(column, 0..rows.count());
        }
        if let Some(folds) = &mut self.folds {
            folds.add(rows, samples);
        }
        if let Some(spread) = &mut self.spread {
            spread.add(&rows.exact(), samples);
        }
        let per_sample = rows.count() / samples;
        // A sample's scatter is the norm of X'X, which is also that of the smaller X X'.
        if per_sample < rows.inputs() {
            if let Some(parts) = &mut self.parts {
                parts.add(rows, samples, self.samples);
            }
            if self.holds_products() {
                rows.add_all(&mut self.products);
            }
            for sample in 0..samples {
                let norm = rows.squared_norm(sample * per_sample..(sample + 1) * per_sample);
                self.scatter += norm / (per_sample * per_sample) as f64;
            }
        } else {
            self.accumulate_each(rows, samples);
        }
        self.rows += rows.count();
        self.samples += samples;
    }

    /// Of samples with more rows than inputs.
    fn accumulate_each(&mut self, rows: &Rows<'_>, samples: usize) {
        let data = rows.exact();
        let per_sample = rows.count() / samples;
        let mut own = Mat::zeros(data.ncols(), data.ncols());
        for sample in 0..samples {
            let part = data
                .as_ref()
                .as_ref()
                .subrows(sample * per_sample, per_sample);
            product(&mut own, Accum::Replace, part);
            let norm = squared_norm(own.as_ref()) / (per_sample * per_sample) as f64;
            self.scatter += norm;
            if let Some(parts) = &mut self.parts {
                parts.add_known(rows, &own, samples, self.samples, sample);
            }
            if self.holds_products() {
                self.products.add_lower(&own);
            }
        }
    }

    fn holds_products(&self) -> bool {
        !self.parts.as_ref().is_some_and(Subsamples::is_whole)
    }

    /// The sum of the rows' outer products, lower triangle.
    fn whole(&self) -> Triangle {
        match &self.parts {
            Some(parts) if parts.is_whole() => parts.whole(),
            _ => self.products.clone(),
        }
    }

    /// Adds the sums of another run, made [mergeable](Moments::mergeable), as if its rows had come
    /// here. Fails for other inputs or sums that were merged already.
    ///
    /// # Errors
    /// See above; the sums are not to be used then.
    pub fn merge(&mut self, mut other: Moments) -> Result<(), MergeError> {
        if self.inputs() != other.inputs() || self.parts.is_some() != other.parts.is_some() {
            return Err(MergeError);
        }
        if other.samples == 0 {
            return Ok(());
        }
        if self.samples == 0 {
            *self = other;
            return Ok(());
        }
        let spread = other.spread.take().ok_or(MergeError)?;
        let by: Vec<f64> = self
            .shift
            .iter()
            .zip(&other.shift)
            .map(|(a, b)| a - b)
            .collect();
        let counts = (other.rows, other.samples);
        self.scatter +=
            other.scatter + spread.growth(&by, &other.sum, &other.whole().lower(), counts);
        if self.holds_products() {
            shift_products(&mut other.products, &by, &other.sum, other.rows);
            self.products.add(&other.products);
        }
        if let Some((parts, more)) = self.parts.as_mut().zip(other.parts.take()) {
            parts.merge(more, &by, self.samples);
        }
        for ((sum, more), by) in self.sum.iter_mut().zip(&other.sum).zip(&by) {
            *sum += more - other.rows as f64 * by;
        }
        self.rows += other.rows;
        self.samples += other.samples;
        let folds = self.folds.take().zip(other.folds.take());
        let wanted = Folds::wanted(self.inputs(), self.rows).is_some();
        self.folds = folds.filter(|_| wanted).map(|(mut folds, more)| {
            folds.merge(more, &by);
            folds
        });
        // Samples of different numbers of rows: from here on the shift is fixed.
        self.spread = None;
        Ok(())
    }

    /// Nothing seen yet, with room for the sums of a file, of channels with `kernel` inputs each.
    pub(super) fn stored(counts: &Counts, kernel: usize) -> Self {
        let inputs = counts.inputs;
        let folds = counts.folds.as_deref();
        let moments = Moments {
            rows: counts.rows,
            samples: counts.samples,
            shift: vec![0.0; inputs],
            folds: folds.map(|rows| Folds::stored(inputs, rows)),
            ..Moments::new(inputs).mergeable()
        };
        moments.with_parts(Subsamples::stored(inputs, kernel, &counts.parts))
    }

    /// What was counted.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            inputs: self.inputs(),
            rows: self.rows,
            samples: self.samples,
            folds: self.folds.as_ref().map(Folds::rows),
            parts: self
                .parts
                .as_ref()
                .map(Subsamples::rows)
                .unwrap_or_default(),
        }
    }

    /// The sums of the parts.
    pub(super) fn into_parts(self) -> Option<Subsamples> {
        self.parts
    }

    /// Shows all sums to `visit`, always in the same order, triangles column by column.
    pub(super) fn visit(
        &mut self,
        visit: &mut dyn FnMut(&mut [f64]) -> io::Result<()>,
    ) -> io::Result<()> {
        visit(&mut self.shift)?;
        visit(&mut self.sum)?;
        visit(std::slice::from_mut(&mut self.scatter))?;
        visit(&mut self.products.values)?;
        if let Some(spread) = &mut self.spread {
            visit(&mut spread.pulls)?;
            visit_lower(&mut spread.means, visit)?;
        }
        if let Some(folds) = &mut self.folds {
            folds.visit(visit)?;
        }
        match &mut self.parts {
            Some(parts) => parts.visit(visit),
            None => Ok(()),
        }
    }

    /// Means of the inputs less the shift.
    #[must_use]
    pub fn offset(&self) -> Vec<f64> {
        let count = self.rows.max(1) as f64;
        self.sum.iter().map(|sum| sum / count).collect()
    }

    /// Mean, covariance and shrinkage of what was added; `None` before anything was.
    ///
    /// The shrinkage is Ledoit and Wolf's (A well-conditioned estimator for large-dimensional
    /// covariance matrices, 2004) with samples, not rows, as the independent observations: rows of
    /// one image resemble each other. With `S_i` the second moment of sample i, `S` their mean and
    /// `m = tr(S) / D`, it is `sum ||S_i - S||^2 / n^2` over `||S - m I||^2`.
    #[must_use]
    pub fn covariance(&self) -> Option<Covariance> {
        if self.rows == 0 || self.samples == 0 {
            return None;
        }
        let (count, size) = (self.rows as f64, self.inputs());
        let offset = self.offset();
        let mut lower = self.whole();
        let norm = lower.squared_norm() / (count * count);
        let samples = self.samples as f64;
        let spread = (self.scatter - samples * norm).max(0.0) / (samples * samples);
        let trace: f64 = (0..size).map(|i| lower.at(i, i) / count).sum();
        let distance = norm - trace * trace / size.max(1) as f64;
        let shrinkage = if self.samples < 2 {
            1.0
        } else if distance > 0.0 {
            (spread / distance).min(1.0)
        } else {
            0.0
        };
        let held_out = match (&self.folds, &self.parts) {
            (Some(folds), _) => folds.shrinkage(&offset),
            (None, Some(parts)) if parts.is_whole() && folds::are_few(size, self.rows) => {
                folds::shrinkage(&parts.folds(), &offset)
            }
            _ => None,
        };
        let shrinkage = held_out.map_or(shrinkage, |held_out| held_out.max(shrinkage));
        let shrinkage = shrinkage.max(products::least_shrinkage(size));
        let mean = self
            .shift
            .iter()
            .zip(&offset)
            .map(|(shift, offset)| shift + offset)
            .collect();
        for j in 0..size {
            for (i, value) in (j..).zip(lower.below(j)) {
                *value = *value / count - offset[i] * offset[j];
            }
        }
        Some(Covariance {
            mean,
            lower,
            shrinkage,
        })
    }
}

/// The lower triangle of the sum of the rows' outer products.
pub(super) fn product(target: &mut Mat<f64>, accumulate: Accum, rows: MatRef<'_, f64>) {
    triangular::matmul(
        target,
        BlockStructure::TriangularLower,
        accumulate,
        rows.transpose(),
        BlockStructure::Rectangular,
        rows,
        BlockStructure::Rectangular,
        1.0,
        Par::Seq,
    );
}

#[cfg(test)]
mod tests;
