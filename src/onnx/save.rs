//! Writes a model: aside in the target's folder, then renamed, so that a failure leaves nothing.

use super::{
    Model, OnnxError, PROTOBUF_LIMIT, Tensor,
    external::{self, NOT_ATTACHED},
    in_file,
    proto::{ModelProto, StringStringEntryProto, TensorProto, tensor_proto::DataLocation},
    walk::{self, Owner},
};
use crate::aside::aside;
use bytes::Bytes;
use prost::Message;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufWriter, Write},
    path::Path,
};
use tempfile::{NamedTempFile, TempPath};

/// Writes the model to `path`; same model and file name, same bytes.
///
/// Tensors marked EXTERNAL go to a file beside it, named like it with ".data" added. Should the
/// rest be beyond protobuf's 2 GiB, all initializers of more than 1 KiB go there too. Both files
/// are written aside and renamed, the model last; a failure leaves what was there before.
///
/// # Errors
/// [`OnnxError::Io`]; [`OnnxError::Output`] for a path that names no file, or when the data file
/// is there already and may belong to another model; [`OnnxError::File`] for a model that cannot
/// be encoded.
pub fn save(model: &Model, path: &Path) -> Result<(), OnnxError> {
    save_within(model, path, PROTOBUF_LIMIT)
}

/// [`save`] with the limit in bytes on the model file as a parameter.
fn save_within(model: &Model, path: &Path, limit: u64) -> Result<(), OnnxError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| OnnxError::Output {
        path: path.to_owned(),
        what: "names no file (or not in UTF-8), expected a path such as model.onnx".to_owned(),
    })?;
    let data_name = format!("{name}.data");
    let (proto, data) =
        split(&model.proto, &data_name, limit).map_err(|error| in_file(path, error))?;
    let model_file = write_aside(path, |file| file.write_all(&proto.encode_to_vec()))?;
    if data.pieces.is_empty() {
        let renamed = model_file.persist(path);
        return renamed
            .map_err(|e| OnnxError::io(path, "write", e.error))
            .map(drop);
    }
    let data_path = path.with_file_name(data_name);
    if data_path.exists() && !path.exists() {
        return Err(OnnxError::Output {
            path: path.to_owned(),
            what: format!(
                "external data would replace '{}', which may belong to another model: choose \
                 another name or remove that file",
                data_path.display()
            ),
        });
    }
    let data_file = write_aside(&data_path, |file| data.write(file))?;
    publish(data_file, &data_path, model_file, path)
}

/// Renames both files into place, or neither.
fn publish(
    data: NamedTempFile,
    data_path: &Path,
    model: NamedTempFile,
    path: &Path,
) -> Result<(), OnnxError> {
    let io = |path: &Path, error| OnnxError::io(path, "write", error);
    let old = move_away(data_path).map_err(|error| io(data_path, error))?;
    let result = match data.persist(data_path) {
        Err(error) => Err(io(data_path, error.error)),
        Ok(_) => match model.persist(path) {
            Ok(_) => return Ok(()),
            Err(error) => {
                // The error that matters is the first; what is left over is tidied best-effort.
                let _ = fs::remove_file(data_path);
                Err(io(path, error.error))
            }
        },
    };
    if let Some(old) = old {
        old.persist(data_path).map_err(|error| {
            // Dropped, the path would take the user's old data with it.
            let _ = error.path.keep();
            io(data_path, error.error)
        })?;
    }
    result
}

/// Renames an existing file out of the way; it is deleted when the returned path is dropped.
fn move_away(path: &Path) -> io::Result<Option<TempPath>> {
    if !path.is_file() {
        return Ok(None);
    }
    let away = aside(path)?.into_temp_path();
    fs::rename(path, &away)?;
    Ok(Some(away))
}

fn write_aside(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut NamedTempFile>) -> io::Result<()>,
) -> Result<NamedTempFile, OnnxError> {
    let written = || {
        let mut file = aside(path)?;
        let mut writer = BufWriter::new(&mut file);
        write(&mut writer)?;
        writer.flush()?;
        drop(writer);
        file.as_file().sync_all()?;
        Ok(file)
    };
    written().map_err(|error| OnnxError::io(path, "write", error))
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
        assert_eq!(names(folder.path()), ["m.onnx", "m.onnx.data"]);
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.encode().unwrap(), model.encode().unwrap());
        // In place, and to another name: the same bytes but for the data file's name.
        let (first, data) = (fs::read(&path).unwrap(), path.with_file_name("m.onnx.data"));
        let first_data = fs::read(&data).unwrap();
        save(&loaded, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
        assert_eq!(fs::read(&data).unwrap(), first_data);
        assert_eq!(names(folder.path()), ["m.onnx", "m.onnx.data"]);
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
        assert_eq!(names(folder.path()), ["m.onnx", "m.onnx.data"]);
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
        assert_eq!(names(folder.path()), ["m.onnx", "m.onnx.data"]);
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        // The model's place is taken by a folder: its rename fails after that of the data.
        fs::create_dir_all(path.join("inside")).unwrap();
        assert!(save(&external_model(), &path).is_err());
        assert_eq!(names(folder.path()), ["m.onnx"]);
        fs::write(folder.path().join("m.onnx.data"), "old").unwrap();
        assert!(save(&external_model(), &path).is_err());
        assert_eq!(names(folder.path()), ["m.onnx", "m.onnx.data"]);
        assert_eq!(fs::read(folder.path().join("m.onnx.data")).unwrap(), b"old");
        assert!(save(&sample::model(), &path).is_err());
        assert_eq!(names(folder.path()), ["m.onnx", "m.onnx.data"]);
        assert!(save(&sample::model(), &folder.path().join("none/m.onnx")).is_err());
        assert!(save(&sample::model(), Path::new("..")).is_err());
    }

    #[test]
    fn data_of_another_model_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("m.onnx.data"), "theirs").unwrap();
        let error = save(&external_model(), &folder.path().join("m.onnx"));
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("may belong to another model")
        );
        assert_eq!(names(folder.path()), ["m.onnx.data"]);
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
