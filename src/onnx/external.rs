//! Attaches external data: tensors whose bytes stand in files beside the model.

use super::{
    OnnxError, file,
    proto::{ModelProto, TensorProto, tensor_proto::DataLocation},
    storage::Layout,
    walk::{self, Owner},
    wire,
};
use crate::allowance::Allowance;
use crate::outputs::folder;
use bytes::Bytes;
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    path::{Component, Path, PathBuf},
};

pub(super) const NOT_ATTACHED: &str =
    "the bytes are not in memory (raw_data is absent), load the model with its external data";

/// Whether the tensor is marked as external.
pub(super) fn is_marked(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32)
}

/// Makes a tensor that is marked as external an inline one.
pub(super) fn unmark(tensor: &mut TensorProto) {
    if is_marked(tensor) {
        tensor.data_location = None;
        tensor.external_data.clear();
    }
}

/// The names of the files that hold external data, each once.
pub(super) fn locations(model: &mut ModelProto) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Ok(()) = walk::tensors(model, &mut |_, tensor| {
        if is_marked(tensor) {
            found.extend(entry(tensor, "location").map(str::to_owned));
        }
        Ok::<(), Infallible>(())
    });
    found
}

/// The same of a model file, whose data need not be there; `None` where it is no model.
pub(crate) fn locations_in(path: &Path) -> Option<BTreeSet<String>> {
    let bytes = file::read(path).ok()?;
    wire::check(&bytes, Allowance::default()).ok()?;
    Some(locations(&mut ModelProto::decode(bytes).ok()?))
}

/// Lets all external tensors refer to another file.
pub(super) fn relocate(model: &mut ModelProto, location: &str) {
    let Ok(()) = walk::tensors(model, &mut |_, tensor| {
        let entries = tensor.external_data.iter_mut();
        for entry in entries.filter(|entry| entry.key() == "location") {
            entry.value = Some(location.to_owned());
        }
        Ok::<(), Infallible>(())
    });
}

/// The files of external data that the model at `path` refers to, where they are there.
pub(super) fn paths(model: &mut ModelProto, path: &Path) -> Vec<PathBuf> {
    let places = Places::of(path);
    let found = locations(model).into_iter();
    found
        .filter_map(|location| places.resolve(&location).ok())
        .collect()
}

pub(super) fn error(owner: Owner<'_>, tensor: &TensorProto, what: impl ToString) -> OnnxError {
    OnnxError::External {
        owner: owner.describe(tensor),
        what: what.to_string(),
    }
}

/// Puts the bytes of every external tensor into its `raw_data`, as slices of whole files.
///
/// # Errors
/// [`OnnxError::External`]: no places, a file that is missing or outside them, a range that
/// is beyond the file or not of the tensor's length.
pub(super) fn attach(model: &mut ModelProto, places: Option<Places>) -> Result<(), OnnxError> {
    let mut files = Files {
        places,
        read: BTreeMap::new(),
    };
    walk::tensors(model, &mut |owner, tensor| {
        if !is_marked(tensor) {
            return Ok(());
        }
        let layout = Layout::of(tensor).and_then(|layout| layout.byte_len());
        let expected = layout.map_err(|error| OnnxError::Tensor {
            owner: owner.describe(tensor),
            error,
        })?;
        if tensor.raw_data.is_some() {
            let what = "the tensor holds raw_data too, expected one of them: export it again";
            return Err(error(owner, tensor, what));
        }
        let bytes = files.read(tensor, expected);
        let bytes = bytes.map_err(|what| error(owner, tensor, what))?;
        tensor.raw_data = Some(bytes);
        Ok(())
    })
}

/// Where the data of a model may lie.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The folder in which they are looked for.
    folder: PathBuf,
    /// The folder of the model's file itself, behind links: caches link models and their data to
    /// it.
    real: Option<PathBuf>,
}

impl Places {
    /// Of the model file at `path`.
    pub fn of(path: &Path) -> Places {
        let real = path.canonicalize().ok();
        Places {
            folder: folder(path).to_owned(),
            real: real.and_then(|path| path.parent().map(Path::to_owned)),
        }
    }

    /// Of a model without a file of its own.
    pub fn folder(folder: &Path) -> Places {
        Places {
            folder: folder.to_owned(),
            real: None,
        }
    }

    /// The path of a file of data. A model must not make us read files elsewhere.
    fn resolve(&self, location: &str) -> Result<PathBuf, String> {
        let inside = Path::new(location)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !inside {
            return Err(format!(
                "location '{location}' is refused, expected a path within the model's folder: \
                 move the file there and export again"
            ));
        }
        let named = self.folder.join(location);
        let found = named.canonicalize();
        let behind = self
            .real
            .as_ref()
            .map(|real| real.join(location).canonicalize());
        let path = match (found, behind) {
            (Ok(path), _) | (Err(_), Some(Ok(path))) => path,
            (Err(error), _) => {
                let path = named.display();
                return Err(format!(
                    "cannot find '{path}': {error}: copy it to the model's folder"
                ));
            }
        };
        let folder = self.folder.canonicalize().ok();
        let mut allowed = folder.iter().chain(&self.real);
        if !allowed.any(|folder| path.starts_with(folder)) {
            return Err(format!(
                "'{location}' is a link to '{}', outside the model's folder '{}': put the file \
                 itself there",
                path.display(),
                self.folder.display()
            ));
        }
        Ok(path)
    }
}

struct Files {
    places: Option<Places>,
    /// By location.
    read: BTreeMap<String, Bytes>,
}

impl Files {
    /// The bytes that the tensor's entries point to; on error, what is wrong.
    fn read(&mut self, tensor: &TensorProto, expected: usize) -> Result<Bytes, String> {
        let location = entry(tensor, "location").unwrap_or_default();
        let offset = number(tensor, "offset")?.unwrap_or(0);
        let length = number(tensor, "length")?.unwrap_or(expected);
        if length != expected {
            return Err(format!(
                "length is {length} bytes, expected {expected} for type and shape: export again"
            ));
        }
        let file = self.file(location)?;
        match offset.checked_add(length) {
            Some(end) if end <= file.len() => Ok(file.slice(offset..end)),
            _ => Err(format!(
                "bytes {offset} and the {length} from there on are beyond the end of '{location}', \
                 which has {} bytes: the file is truncated or of another model, copy it again",
                file.len()
            )),
        }
    }

    fn file(&mut self, location: &str) -> Result<&Bytes, String> {
        if !self.read.contains_key(location) {
            let places = self.places.as_ref().ok_or_else(|| {
                format!(
                    "'{location}' is needed, but the model was given without a folder: load it by path"
                )
            })?;
            let path = places.resolve(location)?;
            let bytes = file::read(&path)
                .map_err(|error| format!("cannot read '{}': {error}", path.display()))?;
            self.read.insert(location.to_owned(), bytes);
        }
        Ok(&self.read[location])
    }
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    let found = tensor.external_data.iter().find(|entry| entry.key() == key);
    found.map(|entry| entry.value())
}

fn number(tensor: &TensorProto, key: &str) -> Result<Option<usize>, String> {
    let parse = |text: &str| {
        text.parse().map_err(|_| {
            format!("{key} is '{text}', expected a number of bytes in decimal digits: export again")
        })
    };
    entry(tensor, key).map(parse).transpose()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{decode, load, proto::StringStringEntryProto, sample};
    use super::*;
    use prost::Message;
    use std::fs;

    /// Loads, from a fresh folder with w.bin of 40 bytes, the sample whose weight "w" (24 bytes)
    /// has these entries.
    fn load_with(entries: &[(&str, &str)]) -> Result<Bytes, String> {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(folder.path().join("outside.bin"), [0; 40]).unwrap();
        fs::write(inner.join("w.bin"), (0..40).collect::<Vec<u8>>()).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("../outside.bin", inner.join("link.bin")).unwrap();
        let path = inner.join("m.onnx");
        fs::write(&path, bytes_with(entries)).unwrap();
        let mut model = load(&path).map_err(|error| error.to_string())?;
        Ok(sample::initializer(&mut model, 0).raw_data.clone().unwrap())
    }

    fn bytes_with(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut model = sample::model();
        let tensor = sample::initializer(&mut model, 0);
        sample::mark(tensor);
        tensor.raw_data = None;
        let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
            key: Some((*key).to_owned()),
            value: Some((*value).to_owned()),
        };
        tensor.external_data = entries.iter().map(entry).collect();
        model.proto.encode_to_vec()
    }

    #[test]
    fn ranges_are_read() {
        let bytes = load_with(&[("location", "w.bin"), ("offset", "16"), ("length", "24")]);
        assert_eq!(bytes.unwrap(), (16..40).collect::<Vec<u8>>());
        let bytes = load_with(&[("location", "./w.bin")]);
        assert_eq!(bytes.unwrap(), (0..24).collect::<Vec<u8>>());
    }

    #[test]
    fn paths_out_of_the_folder_are_refused() {
        for location in ["../outside.bin", "/etc/passwd", "", "a/../../outside.bin"] {
            let text = load_with(&[("location", location)]).unwrap_err();
            assert!(text.contains("is refused"), "{location}: {text}");
            assert!(
                text.contains("m.onnx: initializer 'w' of graph 'main'"),
                "{text}"
            );
        }
        #[cfg(unix)]
        {
            let text = load_with(&[("location", "link.bin")]).unwrap_err();
            assert!(text.contains("outside the model's folder"), "{text}");
        }
    }

    #[test]
    fn wrong_entries_are_refused() {
        let with = |key, value| load_with(&[("location", "w.bin"), (key, value)]).unwrap_err();
        assert!(with("length", "20").contains("length is 20 bytes, expected 24"));
        assert!(with("offset", "17").contains("beyond the end of 'w.bin', which has 40 bytes"));
        assert!(with("offset", "18446744073709551615").contains("beyond the end"));
        assert!(with("offset", "-1").contains("offset is '-1'"));
        let text = load_with(&[("location", "gone.bin")]).unwrap_err();
        assert!(
            text.contains("cannot find") && text.contains("gone.bin"),
            "{text}"
        );
        assert!(
            load_with(&[("location", ".")])
                .unwrap_err()
                .contains("is a directory")
        );
        assert!(
            load_with(&[])
                .unwrap_err()
                .contains("location '' is refused")
        );
    }

    #[test]
    fn bytes_alone_cannot_have_external_data() {
        let bytes = Bytes::from(bytes_with(&[("location", "w.bin")]));
        let text = decode(bytes, None).unwrap_err().to_string();
        assert!(text.contains("without a folder"), "{text}");
    }
}
