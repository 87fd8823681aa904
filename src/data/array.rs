//! Arrays of samples in .npy and .npz files and ONNX tensors, read one sample at a time.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::CrcReader;
use flate2::read::DeflateDecoder;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};
use prost::Message;

use crate::data::DataError;
use crate::onnx::{DataType, Tensor, proto::TensorProto};
use crate::regular;

/// What an array holds and where.
#[derive(Debug, Clone)]
pub(super) struct Array {
    pub path: PathBuf,
    /// Element type.
    pub dtype: DataType,
    /// Sizes of all axes.
    pub shape: Vec<usize>,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Npy(Place, Endianness),
    Tensor,
}

/// Where the bytes of a .npy stand: a file, or an entry of an archive.
#[derive(Debug, Clone)]
enum Place {
    File,
    Stored(Entry),
    Deflated(Entry),
}

/// Where an archive has an entry, and what its checksum is.
#[derive(Debug, Clone)]
struct Entry {
    start: u64,
    /// Bytes in the archive.
    size: u64,
    /// Bytes that they stand for.
    length: u64,
    crc: u32,
}

/// NumPy itself allows no more.
const MOST_AXES: usize = 64;

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_path_buf();
    move |source| DataError::Io { path, source }
}

fn format_error(path: &Path, problem: String, advice: &str) -> DataError {
    DataError::Format {
        path: path.into(),
        problem,
        advice: advice.into(),
    }
}

impl Array {
    /// Reads the header of a .npy file.
    pub fn npy(path: &Path) -> Result<Array, DataError> {
        Array::from_place(path, Place::File, "this file")
    }

    /// The arrays of a .npz file by name, in the file's order.
    pub fn npz(path: &Path) -> Result<Vec<(String, Array)>, DataError> {
        let file = regular::open(path).map_err(io_error(path))?;
        let damaged = |error: zip::result::ZipError| {
            let problem = format!("not a readable .npz archive ({error})");
            format_error(path, problem, "save it again with numpy.savez")
        };
        let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        let mut arrays = Vec::new();
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(damaged)?;
            let name = entry.name().map_err(damaged)?;
            let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else {
                continue;
            };
            let found = Entry {
                start: entry.data_start().unwrap_or(0),
                size: entry.compressed_size(),
                length: entry.size(),
                crc: entry.crc32(),
            };
            let place = match entry.compression() {
                zip::CompressionMethod::Stored => Place::Stored(found),
                zip::CompressionMethod::Deflated => Place::Deflated(found),
                other => {
                    let problem = format!("array '{name}' is compressed by {other}");
                    let advice = "save it with numpy.savez or numpy.savez_compressed";
                    return Err(format_error(path, problem, advice));
                }
            };
            let array = Array::from_place(path, place.clone(), &format!("array '{name}'"));
            if array.is_err() {
                // A damaged header must not pass for an array of another kind.
                check_sum(path, &place, &name)?;
            }
            arrays.push((name, array));
        }
        // An array that no input wants may be of any type, so only the good ones count.
        let mut good = Vec::new();
        let mut bad = None;
        for (name, array) in arrays {
            match array {
                Ok(array) => good.push((name, array)),
                Err(error) => bad = bad.or(Some(error)),
            }
        }
        match bad {
            Some(error) if good.is_empty() => Err(error),
            _ => Ok(good),
        }
    }

    fn from_place(path: &Path, place: Place, what: &str) -> Result<Array, DataError> {
        let (stream, header) = Stream::header(path, &place)?;
        let unsupported = |found: &str| {
            let problem = format!("{what} has elements of type {found}");
            format_error(
                path,
                problem,
                "save it as numbers, such as float32 or int64",
            )
        };
        // A header may say anything, at any length, so a message has none of it.
        let ty = match header.dtype() {
            DType::Plain(ty) => ty,
            DType::Record(_) => return Err(unsupported("record")),
            DType::Array(..) => return Err(unsupported("array")),
        };
        let dtype = match (ty.type_char(), ty.num_bytes()) {
            (TypeChar::Float, Some(2)) => DataType::Float16,
            (TypeChar::Float, Some(4)) => DataType::Float,
            (TypeChar::Float, Some(8)) => DataType::Double,
            (TypeChar::Int, Some(1)) => DataType::Int8,
            (TypeChar::Int, Some(2)) => DataType::Int16,
            (TypeChar::Int, Some(4)) => DataType::Int32,
            (TypeChar::Int, Some(8)) => DataType::Int64,
            (TypeChar::Uint, Some(1)) => DataType::Uint8,
            (TypeChar::Uint, Some(2)) => DataType::Uint16,
            (TypeChar::Uint, Some(4)) => DataType::Uint32,
            (TypeChar::Uint, Some(8)) => DataType::Uint64,
            (TypeChar::Bool, _) => DataType::Bool,
            _ => return Err(unsupported(&ty.to_string())),
        };
        if header.order() == Order::Fortran && header.shape().len() > 1 {
            let problem = format!("{what} is in Fortran order (column-major)");
            let advice = "save it with numpy.ascontiguousarray(array)";
            return Err(format_error(path, problem, advice));
        }
        if header.shape().len() > MOST_AXES {
            let problem = format!("{what} has {} axes", header.shape().len());
            let advice = "save it with the axes of the model's input";
            return Err(format_error(path, problem, advice));
        }
        let shape = header.shape().iter().map(|size| usize::try_from(*size));
        let shape: Option<Vec<usize>> = shape.collect::<Result<_, _>>().ok();
        let size = dtype.size().unwrap_or(1);
        let mut sizes = shape.iter().flatten();
        let needed = sizes.try_fold(size, |n, size| n.checked_mul(*size));
        // Before hours of work.
        let left = stream.left(&place);
        let Some(shape) = shape.filter(|_| needed.is_some_and(|n| n as u64 <= left)) else {
            let problem = format!(
                "{what} is cut short: its header asks for more than the {left} bytes of values"
            );
            return Err(format_error(path, problem, "copy or save it again"));
        };
        Ok(Array {
            path: path.into(),
            dtype,
            shape,
            form: Form::Npy(place, ty.endianness()),
        })
    }

    /// Refuses an entry of an archive whose bytes are not those that were saved, before hours of
    /// work. It reads all of them.
    pub fn check_sum(&self, name: &str) -> Result<(), DataError> {
        match &self.form {
            Form::Npy(place, _) => check_sum(&self.path, place, name),
            Form::Tensor => Ok(()),
        }
    }

    /// Reads a TensorProto file, as in ONNX's test data.
    pub fn tensor(path: &Path) -> Result<Array, DataError> {
        let tensor = read_tensor(path)?;
        Ok(Array {
            path: path.into(),
            dtype: tensor.dtype,
            shape: tensor.shape,
            form: Form::Tensor,
        })
    }

    /// Opens the array to read pieces of `piece` bytes in ascending order.
    pub fn open(&self, piece: usize) -> Result<Pieces, DataError> {
        let (stream, swap) = match &self.form {
            Form::Npy(place, endianness) => {
                let size = self.dtype.size().unwrap_or(1);
                let swap = *endianness == Endianness::Big && size > 1;
                (Stream::header(&self.path, place)?.0, swap.then_some(size))
            }
            Form::Tensor => {
                let bytes = read_tensor(&self.path)?.bytes;
                (Stream::Memory(io::Cursor::new(bytes)), None)
            }
        };
        Ok(Pieces {
            path: self.path.clone(),
            stream,
            swap,
            piece,
            next: 0,
            first: None,
        })
    }
}

fn check_sum(path: &Path, place: &Place, name: &str) -> Result<(), DataError> {
    let (Place::Stored(entry) | Place::Deflated(entry)) = place else {
        return Ok(());
    };
    let sum = Stream::open(path, place).map(CrcReader::new);
    let sum = sum.and_then(|mut stream| {
        let length = io::copy(&mut stream, &mut io::sink())?;
        Ok((length, stream.crc().sum()))
    });
    let problem = match sum {
        Ok(found) if found == (entry.length, entry.crc) => return Ok(()),
        Ok(_) => format!(
            "array '{name}' does not have the length and checksum that the archive gives for it"
        ),
        Err(error) => format!("array '{name}' cannot be read ({error})"),
    };
    Err(format_error(
        path,
        problem,
        "the file is damaged: copy or save it again",
    ))
}

fn read_tensor(path: &Path) -> Result<Tensor, DataError> {
    let bytes = regular::bytes(path).map_err(io_error(path))?;
    let advice = "export it again; it must be one ONNX TensorProto";
    let proto = TensorProto::decode(bytes::Bytes::from(bytes))
        .map_err(|e| format_error(path, format!("not a readable tensor ({e})"), advice))?;
    Tensor::from_proto(&proto).map_err(|e| format_error(path, e.to_string(), advice))
}

/// The first bytes of a .npy, up to its elements. A header that no array has (it states gigabytes,
/// or nests so deep that a parser runs out of stack) is an error.
fn header_bytes(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    const MAGIC: usize = 8;
    const LONGEST: usize = 1 << 16;
    const DEEPEST: usize = 16;
    let mut bytes = vec![0; MAGIC + 2];
    stream.read_exact(&mut bytes)?;
    let version = bytes.get(MAGIC - 2).copied();
    if version > Some(1) {
        bytes.resize(MAGIC + 4, 0);
        stream.read_exact(bytes.get_mut(MAGIC + 2..).unwrap_or_default())?;
    }
    let digits = bytes.iter().skip(MAGIC).rev();
    let length = digits.fold(0_usize, |n, &digit| n << 8 | usize::from(digit));
    if length > LONGEST {
        let problem = format!("a header of {length} bytes, expected at most {LONGEST}");
        return Err(io::Error::other(problem));
    }
    let start = bytes.len();
    bytes.resize(start + length, 0);
    let text = bytes.get_mut(start..).unwrap_or_default();
    stream.read_exact(text)?;
    let mut depth = 0_usize;
    for byte in text.iter() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(io::Error::other("a header nested too deep for an array"));
        }
    }
    match promised(text) {
        Some(None) => Err(io::Error::other(
            "cut short: its header promises more elements than can be counted",
        )),
        _ => Ok(bytes),
    }
}

/// The product of the sizes in a header's shape, each counted as at least one: nothing where there
/// is no shape, and none where numbers of 64 bits do not hold it.
fn promised(header: &[u8]) -> Option<Option<u64>> {
    let text = String::from_utf8_lossy(header);
    let (_, shape) = text.split_once("shape")?;
    let (_, shape) = shape.split_once('(')?;
    let (shape, _) = shape.split_once(')')?;
    let mut sizes = shape.split(',').filter_map(|size| size.trim().parse().ok());
    Some(sizes.try_fold(1_u64, |product, size: u64| product.checked_mul(size.max(1))))
}

/// The bytes of an array.
enum Stream {
    Plain(io::Take<BufReader<File>>),
    Deflated(DeflateDecoder<BufReader<io::Take<File>>>),
    Memory(io::Cursor<bytes::Bytes>),
}

impl Stream {
    /// Opens a .npy at its first byte.
    fn open(path: &Path, place: &Place) -> io::Result<Stream> {
        let mut file = regular::open(path)?;
        Ok(match place {
            Place::File => {
                let length = file.metadata()?.len();
                Stream::Plain(BufReader::new(file).take(length))
            }
            Place::Stored(entry) => {
                file.seek(SeekFrom::Start(entry.start))?;
                Stream::Plain(BufReader::new(file).take(entry.size))
            }
            Place::Deflated(entry) => {
                file.seek(SeekFrom::Start(entry.start))?;
                Stream::Deflated(DeflateDecoder::new(BufReader::new(file.take(entry.size))))
            }
        })
    }

    /// Opens a .npy and reads its header; the stream stands at the first element.
    fn header(path: &Path, place: &Place) -> Result<(Stream, NpyHeader), DataError> {
        let mut stream = Stream::open(path, place).map_err(io_error(path))?;
        let text = header_bytes(&mut stream);
        let header = text.and_then(|text| NpyHeader::from_reader(text.as_slice()));
        let header = header.map_err(|error| {
            let problem = match error.kind() {
                io::ErrorKind::UnexpectedEof => "its header is cut short".to_owned(),
                // The reader's words repeat the header, which may be anything.
                io::ErrorKind::InvalidData => {
                    "its header is damaged or of no known form".to_owned()
                }
                _ => error.to_string(),
            };
            let problem = format!("not a readable NumPy array ({problem})");
            format_error(path, problem, "save it again with numpy.save")
        })?;
        Ok((stream, header))
    }

    /// Bytes that follow, as far as the file or the archive tells.
    fn left(&self, place: &Place) -> u64 {
        match (self, place) {
            (Stream::Plain(reader), _) => reader.limit(),
            (Stream::Deflated(reader), Place::Deflated(entry)) => {
                entry.length.saturating_sub(reader.total_out())
            }
            _ => 0,
        }
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        match self {
            Stream::Plain(reader) => {
                let forward = i64::try_from(count).map_err(io::Error::other)?;
                reader.set_limit(reader.limit().saturating_sub(count));
                reader.get_mut().seek_relative(forward)
            }
            _ => io::copy(&mut self.take(count), &mut io::sink()).map(|_| ()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(reader) => reader.read(buffer),
            Stream::Deflated(reader) => reader.read(buffer),
            Stream::Memory(reader) => reader.read(buffer),
        }
    }
}

/// An open array, cut along its first axis.
pub(super) struct Pieces {
    path: PathBuf,
    stream: Stream,
    /// Bytes per element when their order must be reversed.
    swap: Option<usize>,
    piece: usize,
    next: usize,
    first: Option<Vec<u8>>,
}

impl Pieces {
    /// The first piece, as often as wanted.
    pub fn first(&mut self) -> Result<Vec<u8>, DataError> {
        if let Some(bytes) = &self.first {
            return Ok(bytes.clone());
        }
        let bytes = self.get(0)?;
        Ok(self.first.insert(bytes).clone())
    }

    /// The little-endian bytes of piece `index`; indexes must ascend from call to call.
    pub fn get(&mut self, index: usize) -> Result<Vec<u8>, DataError> {
        let skipped = index.saturating_sub(self.next) as u64 * self.piece as u64;
        let mut bytes = vec![0; self.piece];
        self.stream
            .skip(skipped)
            .and_then(|()| self.stream.read_exact(&mut bytes))
            .map_err(|error| {
                let problem = format!("sample {index} cannot be read ({error})");
                format_error(
                    &self.path,
                    problem,
                    "the file is cut short or damaged: save it again",
                )
            })?;
        self.next = index + 1;
        if let Some(size) = self.swap {
            bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }
}
