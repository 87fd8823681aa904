//! Statistics in a file: a header in JSON, the sums as 64-bit floats, a checksum.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::Digest;

use crate::digest::Hashed;
use crate::graph::Graph;
use crate::groups::Groups;
use crate::outputs::{Kind, OutputError, Staged, Target};
use crate::regular;
use crate::statistics::folds::FOLDS;
use crate::statistics::moments::{Counts, Moments, is_count};
use crate::statistics::subsamples::SUBSAMPLES;
use crate::statistics::sums::TapSums;
use crate::statistics::{StatisticsError, Sums};

/// The first bytes of a file, with the number of the format.
pub(crate) const MAGIC: &[u8; 24] = b"onnx-mipp statistics 3\n\0";
/// The same in every format.
const KIND: &[u8] = b"onnx-mipp statistics ";
/// No header is longer: it has a line or so for each layer.
const MOST_HEADER: u64 = 1 << 28;

const GATHER_AGAIN: &str = "gather the statistics again with `save_statistics`";

/// What statistics belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Origin {
    /// SHA-256 of the model, wherever its weights are kept.
    #[cfg_attr(test, schemars(pattern(r"^[0-9a-f]{64}$")))]
    pub model: String,
    /// SHA-256 of the data's files and of how they are read.
    #[cfg_attr(test, schemars(pattern(r"^[0-9a-f]{64}$")))]
    pub data: String,
    /// Paths of the data when the file was written; for people.
    pub source: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Header {
    /// Version of onnx-mipp that wrote the file.
    version: String,
    /// What the statistics belong to.
    origin: Origin,
    /// Samples that were seen.
    samples: usize,
    /// What was observed, in the order of the model.
    taps: Vec<TapHeader>,
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct TapHeader {
    /// Where in the model the values were observed.
    place: String,
    /// One for each group of a grouped layer.
    blocks: Vec<Counts>,
}

/// Writes mergeable sums aside, as one of several outputs.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn stage(
    target: &Target,
    origin: &Origin,
    sums: &mut Sums,
) -> Result<Staged, OutputError> {
    Staged::write(target, Kind::Document, |file| {
        let mut out = Hashed::new(file);
        put(&mut out, origin, sums)?;
        let digest = out.hash.finalize();
        out.inner.write_all(&digest)
    })
}

fn put(out: &mut impl Write, origin: &Origin, sums: &mut Sums) -> io::Result<()> {
    let tap = |tap: &TapSums| TapHeader {
        place: tap.place.clone(),
        blocks: tap.blocks.iter().map(Moments::counts).collect(),
    };
    let header = Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        origin: origin.clone(),
        samples: sums.samples,
        taps: sums.taps.iter().map(tap).collect(),
    };
    let header = serde_json::to_vec(&header)?;
    out.write_all(MAGIC)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut bytes = Vec::new();
    for moments in sums.taps.iter_mut().flat_map(|tap| &mut tap.blocks) {
        moments.visit(&mut |values| {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            out.write_all(&bytes)
        })?;
    }
    Ok(())
}

/// Reads sums that a run with `--stats-out` wrote for a model with these `groups`.
///
/// # Errors
/// A file that cannot be read, is damaged, or belongs to another model.
pub fn read(
    path: &Path,
    graph: &Graph,
    groups: &Groups,
    model: &str,
) -> Result<(Origin, Sums), StatisticsError> {
    let failed = |problem: String, advice: &'static str| StatisticsError::File {
        path: path.to_owned(),
        problem,
        advice,
    };
    let damaged = |error: io::Error| {
        let problem = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the file of statistics ends too early".to_owned(),
            _ => format!("no file of statistics that can be read: {error}"),
        };
        failed(problem, GATHER_AGAIN)
    };
    let file = regular::open(path).map_err(damaged)?;
    let mut input = Hashed::new(BufReader::new(file));
    let header = take_header(&mut input).map_err(damaged)?;
    if header.origin.model != model {
        let problem = "the statistics belong to another model".to_owned();
        return Err(failed(
            problem,
            "name the model that they were gathered on, or gather them for this one",
        ));
    }
    let mut sums = Sums::none(graph, groups);
    let is_same = |tap: &TapSums, found: &TapHeader| {
        let inputs = |block: &Counts| {
            let folds = block.folds.as_ref().map_or(FOLDS, Vec::len);
            (block.inputs, folds, block.parts.len())
        };
        let expected = std::iter::repeat_n((tap.inputs, FOLDS, SUBSAMPLES), tap.count);
        tap.place == found.place && expected.eq(found.blocks.iter().map(inputs))
    };
    let pairs = || sums.taps.iter().zip(&header.taps);
    if sums.taps.len() != header.taps.len() || !pairs().all(|(tap, found)| is_same(tap, found)) {
        let problem = format!(
            "the statistics are of other tensors of the model (gathered by version {}, or with another `shape`)",
            header.version
        );
        return Err(failed(problem, GATHER_AGAIN));
    }
    let mut blocks = header.taps.iter().flat_map(|tap| &tap.blocks);
    if !is_count(header.samples) || !blocks.all(Counts::are_counts) {
        return Err(damaged(io::Error::other(
            "it counts more than there can be",
        )));
    }
    for (tap, found) in sums.taps.iter_mut().zip(&header.taps) {
        for found in &found.blocks {
            let mut moments = Moments::stored(found, tap.kernel);
            let read = moments.visit(&mut |values| fill(&mut input, values));
            read.map_err(damaged)?;
            tap.blocks.push(moments);
        }
    }
    check_end(input).map_err(damaged)?;
    sums.samples = header.samples;
    Ok((header.origin, sums))
}

fn take_header(input: &mut impl Read) -> io::Result<Header> {
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(io::Error::other(if magic.starts_with(KIND) {
            "another version of this program wrote it, in another format"
        } else {
            "it begins with other bytes"
        }));
    }
    let mut length = [0; 8];
    input.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER {
        return Err(io::Error::other("its header is too long"));
    }
    let mut header = Vec::new();
    input.take(length).read_to_end(&mut header)?;
    if (header.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&header)?)
}

fn fill(input: &mut impl Read, values: &mut [f64]) -> io::Result<()> {
    let mut bytes = vec![0; size_of_val(values)];
    input.read_exact(&mut bytes)?;
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
        *value = f64::from_le_bytes(*bytes);
        if !value.is_finite() {
            return Err(io::Error::other("it holds values that are not finite"));
        }
    }
    Ok(())
}

/// The checksum, and nothing behind it.
fn check_end(input: Hashed<impl Read>) -> io::Result<()> {
    let (mut inner, digest) = (input.inner, input.hash.finalize());
    let mut rest = Vec::new();
    inner
        .by_ref()
        .take(digest.len() as u64 + 1)
        .read_to_end(&mut rest)?;
    if rest.as_slice() == digest.as_slice() {
        return Ok(());
    }
    Err(io::Error::other("its checksum is another"))
}
