//! The wire format: ONNX files to [`Model`] and back, constant tensors, structural checks.

mod check;
mod dtype;
mod error;
mod expansion;
mod external;
mod file;
mod inline;
mod names;
mod order;
pub mod proto;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod sample;
mod save;
mod storage;
mod tensor;
mod walk;
mod wire;

pub use dtype::DataType;
pub use error::{OnnxError, TensorError};
pub(crate) use external::locations_in;
#[cfg(unix)]
pub(crate) use file::{explain_abort, explain_lost_pages, give_up};
pub(crate) use names::Names;
pub use save::save;
pub(crate) use save::{stage, written_bytes};
pub use tensor::Tensor;

use crate::allowance::Allowance;
use bytes::Bytes;
use external::Places;
use prost::Message;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    convert::Infallible,
    path::{Path, PathBuf},
};

/// A model with all its weights at hand.
///
/// Tensors that the file kept in external data hold their bytes in `raw_data` too; their
/// `data_location` stays EXTERNAL, as the mark by which [`save()`] writes them externally again.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The messages of the format.
    pub proto: proto::ModelProto,
}

/// Reads the model file at `path` and the external data beside it, and checks both.
///
/// Files of more than 256 MiB are mapped, not copied: they must not be changed in place while the
/// model is in use. Replacing them by renaming, as [`save()`] does, is safe. A model that is a link
/// may have its data beside the file that it leads to.
///
/// # Errors
/// [`OnnxError::Io`], or [`OnnxError::File`] with what [`decode`] found.
pub fn load(path: &Path) -> Result<Model, OnnxError> {
    load_within(path, Allowance::default())
}

/// As [`load`], where decoding the file takes no more than is allowed.
///
/// # Errors
/// As [`load`], and [`OnnxError::OverLimit`].
pub fn load_within(path: &Path, allowance: Allowance) -> Result<Model, OnnxError> {
    let bytes = file::read(path).map_err(|error| OnnxError::io(path, "read", error))?;
    let decoded = decode_at(bytes, Some(Places::of(path)), allowance);
    decoded.map_err(|error| in_file(path, error))
}

/// Reads a model from the bytes of a model file; external data are looked for in `folder`.
///
/// # Errors
/// Truncated or damaged bytes, a field outside the schema, external data that is missing, outside
/// `folder` (or no folder is given) or of the wrong length, or an error in the structure: see
/// [`Model::check`].
pub fn decode(bytes: Bytes, folder: Option<&Path>) -> Result<Model, OnnxError> {
    decode_at(bytes, folder.map(Places::folder), Allowance::default())
}

fn decode_at(
    bytes: Bytes,
    places: Option<Places>,
    allowance: Allowance,
) -> Result<Model, OnnxError> {
    if bytes.is_empty() {
        return Err(OnnxError::Empty);
    }
    wire::check(&bytes, allowance)?;
    let mut proto = proto::ModelProto::decode(bytes)?;
    external::attach(&mut proto, places)?;
    let model = Model { proto };
    model.check()?;
    Ok(model)
}

/// Bytes of the file at `path`, from which the model was read, and of the files of external data
/// that it names.
///
/// # Errors
/// [`OnnxError::Io`].
pub fn file_bytes(model: &Model, path: &Path) -> Result<u64, OnnxError> {
    let mut total = 0;
    for path in files(model, path) {
        let found =
            std::fs::metadata(&path).map_err(|error| OnnxError::io(&path, "read", error))?;
        total += found.len();
    }
    Ok(total)
}

/// The files of the model that was read from `path`: that one first, then those of its data.
pub(crate) fn files(model: &Model, path: &Path) -> Vec<PathBuf> {
    let mut proto = model.proto.clone();
    let mut files = vec![path.to_owned()];
    files.extend(external::paths(&mut proto, path));
    files
}

/// The most bytes that protobuf readers take.
const PROTOBUF_LIMIT: u64 = i32::MAX as u64;

impl Model {
    /// Reads the model file at `path` and the external data beside it, as [`load`].
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(path: impl AsRef<Path>) -> Result<Model, OnnxError> {
        load(path.as_ref())
    }

    /// Reads a model from the bytes of a file that holds all of it.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn decode(bytes: impl Into<Bytes>) -> Result<Model, OnnxError> {
        decode(bytes.into(), None)
    }

    /// Writes the model, as [`save()`].
    ///
    /// # Errors
    /// As [`save()`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), OnnxError> {
        save(self, path.as_ref())
    }

    /// Checks the structure: a graph, a known IR version and an opset are there, each value that is
    /// read is defined, none is defined twice, each tensor has the data that its type and shape ask
    /// for. The order of nodes is not checked.
    ///
    /// # Errors
    /// [`OnnxError::Structure`] or [`OnnxError::Tensor`] with the first fault found.
    pub fn check(&self) -> Result<(), OnnxError> {
        check::check(&self.proto)
    }

    /// The bytes of a model file that holds all tensors inline. Same model, same bytes.
    ///
    /// # Errors
    /// [`OnnxError::TooLarge`] beyond 2 GiB: use [`save()`]. [`OnnxError::External`] for a tensor
    /// marked EXTERNAL whose `raw_data` was taken away.
    pub fn encode(&self) -> Result<Vec<u8>, OnnxError> {
        let mut proto = self.proto.clone();
        walk::tensors(&mut proto, &mut |owner, tensor| {
            if external::is_marked(tensor) && tensor.raw_data.is_none() {
                return Err(external::error(owner, tensor, external::NOT_ATTACHED));
            }
            external::unmark(tensor);
            Ok(())
        })?;
        let size = proto.encoded_len() as u64;
        if size > PROTOBUF_LIMIT {
            return Err(OnnxError::TooLarge {
                size,
                limit: PROTOBUF_LIMIT,
                advice: "save it to a file, where large tensors become external data",
            });
        }
        Ok(proto.encode_to_vec())
    }

    /// The opset version that the model imports for `domain`; the standard operators are in the
    /// domain "", also written "ai.onnx".
    pub fn opset(&self, domain: &str) -> Option<i64> {
        let standard = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let imports = &self.proto.opset_import;
        let found = imports.iter().find(|import| {
            import.domain() == domain || standard(import.domain()) && standard(domain)
        });
        found.and_then(|import| import.version)
    }

    /// Names of the inputs that a caller feeds, in order: those without an initializer.
    #[must_use]
    pub fn input_names(&self) -> Vec<String> {
        let Some(graph) = &self.proto.graph else {
            return Vec::new();
        };
        let stored = graph.initializer.iter().map(|tensor| tensor.name());
        let stored: BTreeSet<&str> = stored.collect();
        let names = graph.input.iter().map(|input| input.name());
        let fed = names.filter(|name| !stored.contains(name));
        fed.map(str::to_owned).collect()
    }

    /// SHA-256 of the model in hexadecimal digits, the same wherever its tensors are kept.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut proto = self.proto.clone();
        let Ok(()) = walk::tensors(&mut proto, &mut |_, tensor| {
            external::unmark(tensor);
            if let Some(bytes) = tensor.raw_data.take() {
                hash.update((bytes.len() as u64).to_le_bytes());
                hash.update(&bytes);
            }
            Ok::<(), Infallible>(())
        });
        hash.update(proto.encode_to_vec());
        crate::digest::hex(hash)
    }

    /// Size of the model in bytes, all weights included: the length of a file with all tensors
    /// inline.
    pub fn byte_size(&self) -> u64 {
        let mut proto = self.proto.clone();
        let Ok(()) = walk::tensors(&mut proto, &mut |_, tensor| {
            external::unmark(tensor);
            Ok::<(), Infallible>(())
        });
        proto.encoded_len() as u64
    }
}

/// Adds the model file's name to an error that lacks it.
fn in_file(path: &Path, error: OnnxError) -> OnnxError {
    match error {
        error @ (OnnxError::Io { .. } | OnnxError::Output { .. }) => error,
        error => OnnxError::File {
            path: path.to_owned(),
            error: Box::new(error),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encode_and_decode_give_the_model_back() {
        let model = sample::model();
        let bytes = model.encode().unwrap();
        assert_eq!(bytes, model.encode().unwrap());
        assert_eq!(model.byte_size(), bytes.len() as u64);
        assert_eq!(decode(Bytes::from(bytes), None).unwrap(), model);
    }

    #[test]
    fn weights_are_slices_of_the_file() {
        let bytes = Bytes::from(sample::model().encode().unwrap());
        let mut model = decode(bytes.clone(), None).unwrap();
        let raw = sample::initializer(&mut model, 0).raw_data.clone().unwrap();
        assert!(bytes.as_ptr_range().contains(&raw.as_ptr()));
        assert_eq!(raw.len(), 24);
    }

    #[test]
    fn opset_is_found_by_either_name_of_the_standard_domain() {
        let model = sample::model();
        assert_eq!(model.opset(""), Some(17));
        assert_eq!(model.opset("ai.onnx"), Some(17));
        assert_eq!(model.opset("com.microsoft"), None);
    }

    #[test]
    fn load_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        assert!(
            load(&path)
                .unwrap_err()
                .to_string()
                .contains("m.onnx: cannot read")
        );
        std::fs::write(&path, b"").unwrap();
        assert!(
            load(&path)
                .unwrap_err()
                .to_string()
                .contains("m.onnx: the file is empty")
        );
        std::fs::write(&path, b"no model at all").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("m.onnx: "));
    }

    #[test]
    fn truncation_is_an_error_unless_a_whole_model_is_left() {
        // Nothing in the format tells that the sample's last field, its function, is gone.
        let bytes = Bytes::from(sample::model().encode().unwrap());
        let whole: Vec<_> = (0..bytes.len())
            .filter(|&end| decode(bytes.slice(..end), None).is_ok())
            .collect();
        assert_eq!(whole.len(), 1, "{whole:?}");
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            end in any::<prop::sample::Index>(),
        ) {
            let mut bytes = sample::model().encode().unwrap();
            for (place, value) in flips {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            let _ = decode(Bytes::from(bytes.clone()), None);
            bytes.truncate(end.index(bytes.len()));
            let _ = decode(Bytes::from(bytes), None);
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Bytes::from(bytes), None);
        }
    }
}
