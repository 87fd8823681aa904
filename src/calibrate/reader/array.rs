//! Arrays of samples in .npy and .npz files and ONNX tensors, read one sample at a time.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::CrcReader;
use flate2::read::DeflateDecoder;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};
use prost::Message;

use crate::calibrate::CalibrateError;
use crate::onnx::{DataType, Tensor, proto::TensorProto};

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
    crc: u32,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CalibrateError {
    let path = path.to_path_buf();
    move |source| CalibrateError::Io { path, source }
}

fn format_error(path: &Path, problem: String, advice: &str) -> CalibrateError {
    CalibrateError::Format {
        path: path.into(),
        problem,
        advice: advice.into(),
    }
}

impl Array {
    /// Reads the header of a .npy file.
    pub fn npy(path: &Path) -> Result<Array, CalibrateError> {
        Array::from_place(path, Place::File, "this file")
    }

    /// The arrays of a .npz file by name, in the file's order.
    pub fn npz(path: &Path) -> Result<Vec<(String, Array)>, CalibrateError> {
        let file = File::open(path).map_err(io_error(path))?;
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

    fn from_place(path: &Path, place: Place, what: &str) -> Result<Array, CalibrateError> {
        let header = Stream::header(path, &place)?.1;
        let unsupported = |found: String| {
            let problem = format!("{what} has elements of type {found}");
            format_error(
                path,
                problem,
                "save it as numbers, such as float32 or int64",
            )
        };
        let DType::Plain(ty) = header.dtype() else {
            return Err(unsupported(header.dtype().descr()));
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
            _ => return Err(unsupported(ty.to_string())),
        };
        if header.order() == Order::Fortran && header.shape().len() > 1 {
            let problem = format!("{what} is in Fortran order (column-major)");
            let advice = "save it with numpy.ascontiguousarray(array)";
            return Err(format_error(path, problem, advice));
        }
        let shape = header.shape().iter().map(|size| usize::try_from(*size));
        let shape: Vec<usize> = shape.collect::<Result<_, _>>().unwrap_or_default();
        let array = Array {
            path: path.into(),
            dtype,
            shape,
            form: Form::Npy(place, ty.endianness()),
        };
        array.check_size(what)?;
        Ok(array)
    }

    /// Refuses an entry of an archive whose bytes are not those that were saved, before hours of
    /// work. It reads all of them.
    pub fn check_sum(&self, name: &str) -> Result<(), CalibrateError> {
        match &self.form {
            Form::Npy(place, _) => {
                let found = check_sum(&self.path, place, name)?;
                self.check_length(found, &format!("array '{name}'"))
            }
            Form::Tensor => Ok(()),
        }
    }

    /// Refuses a file shorter than its header says, before hours of work.
    fn check_size(&self, what: &str) -> Result<(), CalibrateError> {
        let length = match &self.form {
            Form::Npy(Place::File, _) => {
                let found = fs::metadata(&self.path);
                found.map_err(io_error(&self.path))?.len()
            }
            Form::Npy(Place::Stored(entry), _) => entry.size,
            // How many bytes there are shows when all have been read, see `check_sum`.
            Form::Npy(Place::Deflated(_), _) | Form::Tensor => u64::MAX,
        };
        self.check_length(length, what)
    }

    /// Refuses `length` bytes, header and elements, that are fewer than the elements take.
    fn check_length(&self, length: u64, what: &str) -> Result<(), CalibrateError> {
        let size = self.dtype.size().unwrap_or(1);
        let bytes = self.shape.iter().try_fold(size, |n, s| n.checked_mul(*s));
        match bytes {
            Some(bytes) if bytes as u64 <= length => Ok(()),
            _ => {
                let problem = format!(
                    "{what} is cut short: its header says shape {:?}",
                    self.shape
                );
                Err(format_error(&self.path, problem, "copy or save it again"))
            }
        }
    }

    /// Reads a TensorProto file, as in ONNX's test data.
    pub fn tensor(path: &Path) -> Result<Array, CalibrateError> {
        let tensor = read_tensor(path)?;
        Ok(Array {
            path: path.into(),
            dtype: tensor.dtype,
            shape: tensor.shape,
            form: Form::Tensor,
        })
    }

    /// Opens the array to read pieces of `piece` bytes in ascending order.
    pub fn open(&self, piece: usize) -> Result<Pieces, CalibrateError> {
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

/// Reads all bytes of an array, which have the archive's checksum, and returns how many they are.
fn check_sum(path: &Path, place: &Place, name: &str) -> Result<u64, CalibrateError> {
    let (Place::Stored(entry) | Place::Deflated(entry)) = place else {
        return Ok(u64::MAX);
    };
    let sum = Stream::open(path, place).map(CrcReader::new);
    let sum = sum.and_then(|mut stream| {
        let length = io::copy(&mut stream, &mut io::sink())?;
        Ok((stream.crc().sum(), length))
    });
    let problem = match sum {
        Ok((sum, length)) if sum == entry.crc => return Ok(length),
        Ok(_) => format!("array '{name}' does not have the checksum that the archive gives for it"),
        Err(error) => format!("array '{name}' cannot be read ({error})"),
    };
    Err(format_error(
        path,
        problem,
        "the file is damaged: copy or save it again",
    ))
}

fn read_tensor(path: &Path) -> Result<Tensor, CalibrateError> {
    let bytes = fs::read(path).map_err(io_error(path))?;
    let advice = "export it again; it must be one ONNX TensorProto";
    let proto = TensorProto::decode(bytes::Bytes::from(bytes))
        .map_err(|e| format_error(path, format!("not a readable tensor ({e})"), advice))?;
    Tensor::from_proto(&proto).map_err(|e| format_error(path, e.to_string(), advice))
}

/// The first bytes of a .npy, up to its elements. A header that no array has (it states gigabytes, or nests
/// so deep that a parser runs out of stack) is an error.
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

/// The product of the sizes in a header's shape, each counted as at least one: nothing where there is no shape,
/// and none where numbers of 64 bits do not hold it.
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
        let mut file = File::open(path)?;
        Ok(match place {
            Place::File => Stream::Plain(BufReader::new(file).take(u64::MAX)),
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
    fn header(path: &Path, place: &Place) -> Result<(Stream, NpyHeader), CalibrateError> {
        let mut stream = Stream::open(path, place).map_err(io_error(path))?;
        let text = header_bytes(&mut stream);
        let header = text.and_then(|text| NpyHeader::from_reader(text.as_slice()));
        let header = header.map_err(|error| {
            let problem = format!("not a readable NumPy array ({error})");
            format_error(path, problem, "save it again with numpy.save")
        })?;
        Ok((stream, header))
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
    pub fn first(&mut self) -> Result<Vec<u8>, CalibrateError> {
        if let Some(bytes) = &self.first {
            return Ok(bytes.clone());
        }
        let bytes = self.get(0)?;
        Ok(self.first.insert(bytes).clone())
    }

    /// The little-endian bytes of piece `index`; indexes must ascend from call to call.
    pub fn get(&mut self, index: usize) -> Result<Vec<u8>, CalibrateError> {
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
