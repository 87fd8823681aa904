//! Second moments of a convolution's patches where all of its positions are read: from the tensor
//! as it is, without unfolding it, and from fewer products ([`geometry`]).
//!
//! The tensor less the means of its channels is `u`; a patch reads `u` in the image and, with the
//! same shift, minus the mean `s` beyond it. With `m` telling which positions are inside, the
//! products of two kernel positions are those of `u` where both are, less `s` times the sums of the
//! one where the other is outside, plus `s s'` times the positions where both are.

mod images;

use faer::Mat;
use rayon::prelude::*;

use crate::groups::Window;
use crate::linalg::mirror;
use crate::linalg::products;
use crate::linalg::triangle::{Lower, Triangle};
use crate::statistics::geometry::{self, Cell, Distance, Run};
use crate::statistics::moments::{Moments, Whole};
use crate::statistics::patches::images::{Images, Number};
use crate::statistics::subsamples::{SUBSAMPLES, Subsamples};

/// Sums over the images seen so far.
#[derive(Debug, Clone)]
pub(super) struct Patches {
    channels: usize,
    kernel: usize,
    grid: [usize; 2],
    /// Positions of a patch in an image.
    places: usize,
    samples: usize,
    /// Mean of every channel in the first images.
    shift: Vec<f64>,
    sums: Vec<OfDistance>,
    parts: Vec<OfPart>,
    scatter: f64,
    /// How many patches read each element.
    uses: Vec<usize>,
    /// For every element of a patch, which elements can stand there, and which of them does at each
    /// position: one more than there are is the padding.
    classes: Vec<Vec<usize>>,
    reads: Vec<Reads>,
}

/// Products of all pairs of kernel positions at one distance, cell by cell.
#[derive(Debug, Clone)]
struct OfDistance {
    distance: Distance,
    cells: Vec<Products>,
}

/// Sums over the samples of one part.
#[derive(Debug, Clone)]
struct OfPart {
    samples: usize,
    /// Every element, channel by channel.
    elements: Vec<f64>,
    /// Products of the channels over all kernel positions, in the image.
    products: Triangle,
}

#[derive(Debug, Clone)]
enum Products {
    Own(Triangle),
    Cross(Mat<f64>),
}

impl Patches {
    /// Nothing seen yet of so many channels; `None` for windows over other than two axes, and where
    /// that number of patches of an image, unfolded, takes fewer products than all of them here.
    pub fn new(channels: usize, window: &Window, unfolded: usize) -> Option<Self> {
        let &[height, width] = window.input.as_slice() else {
            return None;
        };
        let kernel = window.kernel_positions();
        let places = window.output.iter().product();
        let distances = geometry::distances(window)?;
        if !geometry::saves(&distances, kernel, unfolded) {
            return None;
        }
        let sums = distances.into_iter().map(|distance| {
            let cell = |_: &Cell| Products::new(channels, distance.is_none);
            let cells = distance.cells.iter().map(cell).collect();
            OfDistance { distance, cells }
        });
        let found: Vec<Vec<Option<usize>>> = (0..places).map(|place| window.reads(place)).collect();
        let mut uses = vec![0; height * width];
        for &element in found.iter().flatten().flatten() {
            *uses.get_mut(element)? += 1;
        }
        let (classes, reads) = classes(&found, kernel, window)?;
        Some(Patches {
            channels,
            kernel,
            grid: [height, width],
            places,
            samples: 0,
            shift: Vec::new(),
            sums: sums.collect(),
            parts: vec![OfPart::new(channels, height * width); SUBSAMPLES],
            scatter: 0.0,
            uses,
            classes,
            reads,
        })
    }

    /// Elements of a channel of an image.
    pub fn elements(&self) -> usize {
        self.grid.iter().product()
    }

    /// Adds images: for each, all elements of each channel.
    pub fn add(&mut self, values: &[f32]) {
        let elements = self.elements().max(1);
        let samples = values.len() / (elements * self.channels).max(1);
        if samples == 0 {
            return;
        }
        if self.shift.is_empty() {
            self.shift = means(values, self.channels, elements);
        }
        if values.iter().all(|&value| products::is_small(value)) {
            self.accumulate::<f32>(values, samples)
        } else {
            self.accumulate::<f64>(values, samples)
        }
        self.samples += samples;
    }

    fn accumulate<T: Number>(&mut self, values: &[f32], samples: usize) {
        let first = self.samples;
        let shift = std::mem::take(&mut self.shift);
        let images = Images::<T>::new(values, &shift, self.grid);
        let (sums, parts, uses) = (&mut self.sums, &mut self.parts, &self.uses);
        let cells = sums.iter_mut().flat_map(|of| {
            let cells = of.distance.cells.iter();
            cells.zip(&mut of.cells)
        });
        let cells: Vec<_> = cells.collect();
        let add_cells = || {
            let cells = cells.into_par_iter();
            cells.for_each(|(cell, products)| products.add(&images, cell, samples));
        };
        let add_parts = || {
            let parts = parts.par_iter_mut().enumerate();
            parts.for_each(|(part, sums)| {
                let start = (part + SUBSAMPLES - first % SUBSAMPLES) % SUBSAMPLES;
                let mine: Vec<usize> = (start..samples).step_by(SUBSAMPLES).collect();
                sums.add(&images, &mine, uses);
            });
        };
        rayon::join(add_cells, add_parts);
        let norm = |sample| self.squared_norm(&images, sample);
        let norms: Vec<f64> = (0..samples).into_par_iter().map(norm).collect();
        self.scatter += norms.iter().sum::<f64>();
        self.shift = shift;
    }

    /// The squared norm of an image's second moment: that of the products of its patches with each
    /// other, which are sums over the kernel positions of products of elements.
    fn squared_norm<T: Number>(&self, images: &Images<'_, T>, sample: usize) -> f64 {
        let products: Vec<Mat<T>> = self
            .classes
            .iter()
            .map(|class| {
                let rows = images.outer(sample, class);
                let mut products = products::of_rows(rows.as_ref());
                mirror(&mut products);
                products
            })
            .collect();
        let mut sums = vec![T::zero_impl(); self.places];
        let mut norm = 0.0;
        for place in 0..self.places {
            let sums = &mut sums[..=place];
            sums.fill(T::zero_impl());
            for (class, reads) in &self.reads {
                let column = products[*class].col_as_slice(reads[place]);
                for (sum, &other) in sums.iter_mut().zip(reads) {
                    *sum += column[other];
                }
            }
            let square = |value: &T| -> f64 { (*value).into() * (*value).into() };
            norm += 2.0 * sums.iter().map(square).sum::<f64>();
            norm -= sums.last().map_or(0.0, square);
        }
        norm / (self.places * self.places) as f64
    }

    /// The same sums as of rows that were unfolded.
    pub fn finish(mut self) -> Moments {
        let (kernel, inputs) = (self.kernel, self.channels * self.kernel);
        let samples = self.samples as f64;
        let shift: Vec<f64> = (0..inputs)
            .filter_map(|input| self.shift.get(input / kernel).copied())
            .collect();
        if shift.is_empty() {
            return Moments::new(inputs).dealt(kernel);
        }
        let mut elements = vec![0.0; self.channels * self.elements()];
        for part in &self.parts {
            add(&mut elements, &part.elements);
        }
        let mut parts = self.empty_parts();
        let (inside, counts) = self.sums_inside(&elements, &mut parts);
        let places = self.places as f64;
        let beyond = |position: usize| places - counts[position];
        self.finish_parts(&mut parts, &beyond);
        let mut sum = vec![0.0; inputs];
        for (input, sum) in sum.iter_mut().enumerate() {
            let (channel, position) = (input / kernel, input % kernel);
            *sum = inside[position][channel] - self.shift[channel] * beyond(position) * samples;
        }
        let mut products = Triangle::new(inputs);
        let known = Known {
            shift: &self.shift,
            elements: &elements,
            grid: self.grid,
            inside: &inside,
            counts: &counts,
            samples,
            places,
        };
        for of in std::mem::take(&mut self.sums) {
            of.spread(&known, &mut products);
        }
        Moments::known(Whole {
            rows: self.places * self.samples,
            samples: self.samples,
            shift,
            sum,
            products,
            scatter: self.scatter,
            parts,
        })
    }

    /// For each kernel position, the sums of the elements that it reads inside the tensor, by
    /// channel, and how many there are; `parts` gets the sums of its own.
    fn sums_inside(&self, elements: &[f64], parts: &mut Subsamples) -> (Vec<Vec<f64>>, Vec<f64>) {
        let kernel = self.kernel;
        let sums = |elements: &[f64], cells: &[usize], of: &Distance, side: Side| {
            let mut sums = vec![0.0; self.channels];
            for cell in cells.iter().filter_map(|&cell| of.cells.get(cell)) {
                add(&mut sums, &over(elements, side(cell), self.grid));
            }
            sums
        };
        let mut inside = vec![Vec::new(); kernel];
        let mut counts = vec![0.0; kernel];
        for of in self
            .sums
            .iter()
            .map(|of| &of.distance)
            .filter(|of| of.is_none)
        {
            for (position, _, cells) in &of.pairs {
                counts[*position] = cells.iter().map(|&cell| of.cells[cell].len() as f64).sum();
                inside[*position] = sums(elements, cells, of, |cell| &cell.left);
                for (part, own) in parts.parts.iter_mut().zip(&self.parts) {
                    let found = sums(&own.elements, cells, of, |cell| &cell.left);
                    let target = part.sum.iter_mut().skip(*position).step_by(kernel);
                    target.zip(found).for_each(|(sum, found)| *sum = found);
                }
            }
        }
        (inside, counts)
    }

    fn empty_parts(&self) -> Subsamples {
        let rows = |part: &OfPart| part.samples * self.places;
        let rows: Vec<usize> = self.parts.iter().map(rows).collect();
        Subsamples::stored(self.channels * self.kernel, self.kernel, &rows)
    }

    /// What the padding adds to the parts.
    fn finish_parts(&mut self, parts: &mut Subsamples, beyond: &dyn Fn(usize) -> f64) {
        let kernel = self.kernel;
        let all: f64 = (0..kernel).map(beyond).sum();
        for (part, own) in parts.parts.iter_mut().zip(&mut self.parts) {
            let count = own.samples as f64;
            for (input, sum) in part.sum.iter_mut().enumerate() {
                *sum -= self.shift[input / kernel] * beyond(input % kernel) * count;
            }
            for (column, &of_column) in self.shift.iter().enumerate() {
                let below = own.products.below(column).iter_mut();
                let rows = self.shift.iter().skip(column);
                below.zip(rows).for_each(|(value, of_row)| {
                    *value += of_row * of_column * all * count;
                });
            }
            part.products = std::mem::replace(&mut own.products, Triangle::new(0));
        }
    }
}

/// What the padding adds to products is made of.
struct Known<'a> {
    shift: &'a [f64],
    /// Sums of every element.
    elements: &'a [f64],
    grid: [usize; 2],
    /// Of every kernel position, the sums of the elements that it reads, and their number in an
    /// image.
    inside: &'a [Vec<f64>],
    counts: &'a [f64],
    samples: f64,
    places: f64,
}

impl OfDistance {
    /// Puts the products of all its pairs of kernel positions where they belong.
    fn spread(self, known: &Known<'_>, target: &mut Triangle) {
        let kernel = known.counts.len();
        let channels = known.shift.len();
        for (left, right, cells) in &self.distance.pairs {
            let (mut lefts, mut rights) =
                (known.inside[*left].clone(), known.inside[*right].clone());
            let mut both = 0.0;
            for &cell in cells {
                let cell = &self.distance.cells[cell];
                both += cell.len() as f64;
                subtract(&mut lefts, &over(known.elements, &cell.left, known.grid));
                subtract(&mut rights, &over(known.elements, &cell.right, known.grid));
            }
            let outside = known.places - known.counts[*left] - known.counts[*right] + both;
            let outside = outside * known.samples;
            for (j, &of_column) in known.shift.iter().enumerate() {
                let of_right = rights[j];
                let mut column: Vec<f64> = (0..channels)
                    .map(|i| {
                        let s = known.shift[i];
                        s * of_column * outside - lefts[i] * of_column - s * of_right
                    })
                    .collect();
                for &cell in cells {
                    self.cells[cell].add_column(j, &mut column);
                }
                // The column is that of the right kernel position; a pair of one kernel position
                // has a triangle.
                let first = if left == right { j } else { 0 };
                for (i, value) in column.into_iter().enumerate().skip(first) {
                    let (row, column) = (i * kernel + left, j * kernel + right);
                    let (row, column) = (row.max(column), row.min(column));
                    if let Some(entry) = target.below(column).get_mut(row - column) {
                        *entry = value;
                    }
                }
            }
        }
    }
}

impl Products {
    fn new(channels: usize, is_none: bool) -> Self {
        if is_none {
            Products::Own(Triangle::in_memory(channels))
        } else {
            Products::Cross(Mat::zeros(channels, channels))
        }
    }

    fn add<T: Number>(&mut self, images: &Images<'_, T>, cell: &Cell, samples: usize) {
        let left = images.rows(&cell.left, samples);
        match self {
            Products::Own(triangle) => products::add_rows(left.as_ref(), triangle),
            Products::Cross(whole) => {
                let right = images.rows(&cell.right, samples);
                products::add_pairs(left.as_ref(), right.as_ref(), whole);
            }
        }
    }

    /// Adds a column; of a triangle what lies below the diagonal.
    fn add_column(&self, column: usize, target: &mut [f64]) {
        match self {
            Products::Own(triangle) => add(&mut target[column..], triangle.column(column)),
            Products::Cross(whole) => add(target, whole.col_as_slice(column)),
        }
    }
}

impl OfPart {
    fn new(channels: usize, elements: usize) -> Self {
        OfPart {
            samples: 0,
            elements: vec![0.0; channels * elements],
            products: Triangle::in_memory(channels),
        }
    }

    fn add<T: Number>(&mut self, images: &Images<'_, T>, mine: &[usize], uses: &[usize]) {
        self.samples += mine.len();
        let size = self.elements.len().max(1);
        for &sample in mine {
            let values = images
                .values
                .chunks_exact(size)
                .nth(sample)
                .into_iter()
                .flatten();
            let pairs = self.elements.iter_mut().zip(values);
            pairs.for_each(|(sum, &value)| *sum += value.into());
        }
        products::add_rows(images.weighted(mine, uses).as_ref(), &mut self.products);
    }
}

/// One side of a cell.
type Side = fn(&Cell) -> &[Run; 2];

/// Sums of every channel over some of its elements.
fn over(elements: &[f64], [down, across]: &[Run; 2], [height, width]: [usize; 2]) -> Vec<f64> {
    let channel = |values: &[f64]| -> f64 {
        let rows = (0..down.count).filter_map(|row| {
            let first = (down.start + row * down.step) * width + across.start;
            values.get(first..)
        });
        let row = |values: &[f64]| -> f64 {
            let read = values.iter().step_by(across.step.max(1));
            read.take(across.count).sum()
        };
        rows.map(row).sum()
    };
    let channels = elements.chunks_exact((height * width).max(1));
    channels.map(channel).collect()
}

/// Means of the channels.
fn means(values: &[f32], channels: usize, elements: usize) -> Vec<f64> {
    let mut means = vec![0.0; channels];
    for sample in values.chunks_exact(channels * elements) {
        let pairs = means.iter_mut().zip(sample.chunks_exact(elements));
        pairs.for_each(|(mean, values)| *mean += products::sum(values));
    }
    let count = values.len() / channels.max(1);
    means.iter_mut().for_each(|mean| *mean /= count as f64);
    means
}

/// The class of the elements that a kernel position reads, and which of them it reads at each
/// place.
type Reads = (usize, Vec<usize>);

/// Elements by what is left of their position after whole strides, so that those of one kernel
/// position are together; and for each kernel position which of these, and which element of them it
/// reads at each place.
fn classes(
    found: &[Vec<Option<usize>>],
    kernel: usize,
    window: &Window,
) -> Option<(Vec<Vec<usize>>, Vec<Reads>)> {
    let (&[height, width], &[down, across]) = (window.input.as_slice(), window.strides.as_slice())
    else {
        return None;
    };
    let class_of = |element: usize| element / width % down * across + element % width % across;
    let mut classes: Vec<Vec<usize>> = vec![Vec::new(); down * across];
    let mut place_of = Vec::new();
    for element in 0..height * width {
        let class = classes.get_mut(class_of(element))?;
        place_of.push(class.len());
        class.push(element);
    }
    let of_tap = |position: usize| {
        let at = |reads: &Vec<Option<usize>>| reads.get(position).copied().flatten();
        let class = found.iter().find_map(at).map_or(0, class_of);
        let outside = classes[class].len();
        let place = |reads| at(reads).map_or(outside, |element: usize| place_of[element]);
        (class, found.iter().map(place).collect())
    };
    let reads = (0..kernel).map(of_tap).collect();
    Some((classes, reads))
}

fn add(target: &mut [f64], more: &[f64]) {
    target
        .iter_mut()
        .zip(more)
        .for_each(|(sum, more)| *sum += more);
}

fn subtract(target: &mut [f64], less: &[f64]) {
    target
        .iter_mut()
        .zip(less)
        .for_each(|(sum, less)| *sum -= less);
}

#[cfg(test)]
mod tests;
