//! Writes a model: aside in the target's folder, then renamed, so that a failure leaves nothing.

use super::{
    Model, OnnxError, PROTOBUF_LIMIT, Tensor,
    external::{self, NOT_ATTACHED},
    in_file,
    proto::{ModelProto, StringStringEntryProto, TensorProto, tensor_proto::DataLocation},
    walk::{self, Owner},
};
use crate::digest::{Hashed, hex};
use crate::outputs::{Kind, Outputs, Staged, Target, data_path};
use bytes::Bytes;
use prost::Message;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

/// Writes the model to `path`; same model and file name, same bytes.
///
/// Tensors marked EXTERNAL go to a file beside it, named like it with a digest of the data and
/// ".data" added. Should the rest be beyond protobuf's 2 GiB, all initializers of more than 1 KiB
/// go there too. Both files are written aside and renamed, the model last; then the data of the
/// model that was replaced leave, unless another model beside it refers to them. A failure leaves
/// what was there before.
///
/// # Errors
/// [`OnnxError::Output`] for a path that names no file or holds anything but a regular file that
/// may be written, or when the system refuses; [`OnnxError::File`] for a model that cannot be
/// encoded.
pub fn save(model: &Model, path: &Path) -> Result<(), OnnxError> {
    save_within(model, path, PROTOBUF_LIMIT)
}

/// [`save`] with the limit in bytes on the model file as a parameter.
fn save_within(model: &Model, path: &Path, limit: u64) -> Result<(), OnnxError> {
    let mut outputs = Outputs::default();
    let target = outputs.target(path, "model")?;
    stage_within(model, &target, &mut outputs, limit)?;
    Ok(outputs.publish(external::locations_in)?)
}

/// Writes the model aside as one of several outputs; returns the bytes of its files.
///
/// # Errors
/// As [`save`].
pub(crate) fn stage(
    model: &Model,
    target: &Target,
    outputs: &mut Outputs,
) -> Result<u64, OnnxError> {
    stage_within(model, target, outputs, PROTOBUF_LIMIT)
}

fn stage_within(
    model: &Model,
    target: &Target,
    outputs: &mut Outputs,
    limit: u64,
) -> Result<u64, OnnxError> {
    let path = &target.path;
    // As long as any digest.
    let unnamed = file_name(&data_path(path, "0000000000000000")).ok_or_else(|| {
        let problem = "its name is not in UTF-8, as the name of its data in the model must be";
        target.refused(problem)
    })?;
    let (mut proto, data) =
        split(&model.proto, &unnamed, limit).map_err(|error| in_file(path, error))?;
    let mut bytes = 0;
    if !data.pieces.is_empty() {
        let mut digest = String::new();
        let staged = Staged::write(target, Kind::Data, |file| {
            let mut hashed = Hashed::new(file);
            data.write(&mut hashed)?;
            digest = hex(hashed.hash);
            Ok(())
        })?;
        let named = file_name(&data_path(path, &digest)).unwrap_or(unnamed);
        external::relocate(&mut proto, &named);
        bytes += staged.length()?;
        outputs.add(staged.named_after_content(&digest));
    }
    let staged = Staged::write(target, Kind::Model, |file| {
        file.write_all(&proto.encode_to_vec())
    })?;
    bytes += staged.length()?;
    outputs.add(staged);
    Ok(bytes)
}

/// Bytes of the files that a model is written to. Where data go to a file of their own, its name
/// counts as one of [`NAME`] bytes.
///
/// # Errors
/// The model cannot be written.
pub(crate) fn written_bytes(model: &Model) -> Result<u64, OnnxError> {
    let (proto, data) = split(&model.proto, &"-".repeat(NAME), PROTOBUF_LIMIT)?;
    Ok(proto.encoded_len() as u64 + data.end)
}

/// Most names are shorter.
const NAME: usize = 64;

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// The contents of a data file: pieces at rising offsets.
#[derive(Default)]
struct Data {
    pieces: Vec<(u64, Bytes)>,
    end: u64,
    /// Offsets by address and length: a piece shared by tensors is written once.
    known: BTreeMap<(usize, usize), u64>,
}

/// Pieces of at least this many bytes start at a page, so that readers can map them.
const PAGED_FROM: usize = 1 << 20;
const PAGE: u64 = 4096;
/// Other pieces start at a multiple of this.
const ALIGNMENT: u64 = 64;
/// Initializers above this many bytes leave a model that is too large.
const KEPT_INLINE: usize = 1024;

impl Data {
    /// The offset of a piece that is to be written.
    fn add(&mut self, bytes: &Bytes) -> u64 {
        let key = (bytes.as_ptr() as usize, bytes.len());
        if let Some(&offset) = self.known.get(&key) {
            return offset;
        }
        let alignment = if bytes.len() >= PAGED_FROM {
            PAGE
        } else {
            ALIGNMENT
        };
        let offset = self.end.next_multiple_of(alignment);
        self.end = offset + bytes.len() as u64;
        self.pieces.push((offset, bytes.clone()));
        self.known.insert(key, offset);
        offset
    }

    fn write(&self, file: &mut impl Write) -> io::Result<()> {
        let mut position = 0;
        for (offset, bytes) in &self.pieces {
            // Less than a page.
            file.write_all(&vec![0; (offset - position) as usize])?;
            file.write_all(bytes)?;
            position = offset + bytes.len() as u64;
        }
        Ok(())
    }
}

/// The model as its file will hold it, and the external data taken out of it.
fn split(model: &ModelProto, name: &str, limit: u64) -> Result<(ModelProto, Data), OnnxError> {
    let mut proto = model.clone();
    let mut data = Data::default();
    walk::tensors(&mut proto, &mut |owner, tensor| {
        if external::is_marked(tensor) {
            let bytes = tensor.raw_data.take();
            let bytes = bytes.ok_or_else(|| external::error(owner, tensor, NOT_ATTACHED))?;
            move_out(tensor, bytes, name, &mut data);
        }
        Ok::<(), OnnxError>(())
    })?;
    if proto.encoded_len() as u64 > limit {
        walk::tensors(&mut proto, &mut |owner, tensor| {
            if let Owner::Initializer(_) = owner
                && !external::is_marked(tensor)
                && let Ok(Tensor { bytes, .. }) = Tensor::from_proto(tensor)
                && bytes.len() > KEPT_INLINE
            {
                move_out(tensor, bytes, name, &mut data);
            }
            Ok::<(), OnnxError>(())
        })?;
    }
    let size = proto.encoded_len() as u64;
    if size > limit {
        return Err(OnnxError::TooLarge {
            size,
            limit,
            advice: "store large constants as initializers, which can be external data",
        });
    }
    Ok((proto, data))
}

/// Replaces the data of a tensor by a reference to the data file. An empty tensor stays inline.
fn move_out(tensor: &mut TensorProto, bytes: Bytes, name: &str, data: &mut Data) {
    let old = std::mem::take(tensor);
    *tensor = TensorProto {
        name: old.name,
        doc_string: old.doc_string,
        metadata_props: old.metadata_props,
        dims: old.dims,
        data_type: old.data_type,
        ..TensorProto::default()
    };
    if bytes.is_empty() {
        tensor.raw_data = Some(bytes);
        return;
    }
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value),
    };
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.external_data = vec![
        entry("location", name.to_owned()),
        entry("offset", data.add(&bytes).to_string()),
        entry("length", bytes.len().to_string()),
    ];
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{load, sample};
    use super::*;
    use sha2::{Digest, Sha256};
    use std::fs;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The sample with an initializer and a constant in a subgraph marked as external.
    fn external_model() -> Model {
        let mut model = sample::model();
        sample::mark(sample::initializer(&mut model, 0));
        sample::mark(sample::constant(&mut model));
        model
    }

    #[test]
    fn inline_model_round_trips() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let model = sample::model();
        save(&model, &path).unwrap();
        assert_eq!(names(folder.path()), ["m.onnx"]);
        assert_eq!(fs::read(&path).unwrap(), model.encode().unwrap());
        assert_eq!(load(&path).unwrap(), model);
    }

    #[test]
    fn external_model_round_trips_and_stays_external() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let model = external_model();
        save(&model, &path).unwrap();
        let [first_name, data_name] = names(folder.path()).try_into().unwrap();
        let data = folder.path().join(&data_name);
        let digest = hex(Sha256::new_with_prefix(fs::read(&data).unwrap()));
        assert_eq!(
            (first_name.as_str(), &data),
            ("m.onnx", &data_path(&path, &digest))
        );
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.encode().unwrap(), model.encode().unwrap());
        assert_eq!(
            crate::onnx::files(&loaded, &path),
            [path.clone(), data.clone()]
        );
        // In place: the same bytes.
        let before = (fs::read(&path).unwrap(), fs::read(&data).unwrap());
        save(&loaded, &path).unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(&data).unwrap()), before);
        assert_eq!(names(folder.path()), ["m.onnx".to_owned(), data_name]);
    }

    #[test]
    fn pieces_are_aligned_and_shared_ones_written_once() {
        let mut data = Data::default();
        let (small, big) = (Bytes::from(vec![1; 10]), Bytes::from(vec![2; PAGED_FROM]));
        let offsets = [
            data.add(&small),
            data.add(&big),
            data.add(&small),
            data.add(&big),
        ];
        assert_eq!(offsets, [0, 4096, 0, 4096]);
        let mut file = Vec::new();
        data.write(&mut file).unwrap();
        assert_eq!(file.len(), 4096 + PAGED_FROM);
        assert_eq!((file[9], file[10], file[4095], file[4096]), (1, 0, 0, 2));
    }

    #[test]
    fn a_model_beyond_the_limit_moves_its_large_initializers_out() {
        let mut model = sample::model();
        let large = Tensor::from_f32(&[3, 200], vec![1.5; 600]).unwrap();
        large.store(sample::initializer(&mut model, 0));
        let typed = sample::initializer(&mut model, 1);
        (typed.dims, typed.float_data) = (vec![400], vec![2.5; 400]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        save_within(&model, &path, 2000).unwrap();
        assert!(fs::metadata(&path).unwrap().len() <= 2000);
        let written = names(folder.path());
        assert_eq!(written.len(), 2);
        let mut loaded = load(&path).unwrap();
        for i in 0..3 {
            let found = sample::initializer(&mut loaded, i).clone();
            assert_eq!(external::is_marked(&found), i < 2);
            let given = sample::initializer(&mut model, i);
            assert_eq!(Tensor::from_proto(&found), Tensor::from_proto(given));
        }
        // What cannot be made small enough is refused, and leaves nothing.
        let other = folder.path().join("other.onnx");
        let text = save_within(&model, &other, 100).unwrap_err().to_string();
        assert!(
            text.contains("other.onnx") && text.contains("protobuf allows 100"),
            "{text}"
        );
        assert_eq!(names(folder.path()), written);
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        fs::create_dir_all(path.join("inside")).unwrap();
        assert!(save(&external_model(), &path).is_err());
        assert!(save(&sample::model(), &path).is_err());
        assert!(save(&sample::model(), &folder.path().join("none/m.onnx")).is_err());
        assert!(save(&sample::model(), Path::new("..")).is_err());
        assert_eq!(names(folder.path()), ["m.onnx"]);
    }

    #[test]
    fn a_mark_without_bytes_is_refused() {
        let mut model = external_model();
        sample::initializer(&mut model, 0).raw_data = None;
        assert!(model.encode().unwrap_err().to_string().contains("'w'"));
        let folder = tempfile::tempdir().unwrap();
        assert!(save(&model, &folder.path().join("m.onnx")).is_err());
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }
}
