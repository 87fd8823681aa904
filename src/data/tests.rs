//! The readers on files written here.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use npyz::WriterBuilder;
use prost::Message;
use zip::write::SimpleFileOptions;

use super::*;
use crate::onnx::DataType;

fn input(name: &str, dtype: DataType, shape: &[usize]) -> InputSpec {
    let sizes = shape.iter().map(|size| Some(*size));
    InputSpec {
        name: name.into(),
        dtype,
        shape: std::iter::once(None).chain(sizes).collect(),
    }
}

fn x(shape: &[usize]) -> Vec<InputSpec> {
    vec![input("x", DataType::Float, shape)]
}

fn npy<T: npyz::AutoSerialize + Clone>(shape: &[u64], values: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let options = npyz::WriteOptions::new().default_dtype().shape(shape);
    let mut writer = options.writer(&mut bytes).begin_nd().unwrap();
    writer.extend(values.iter().cloned()).unwrap();
    writer.finish().unwrap();
    bytes
}

fn npz(path: &Path, arrays: &[(&str, Vec<u8>)]) {
    let mut writer = zip::ZipWriter::new(File::create(path).unwrap());
    for (index, (name, bytes)) in arrays.iter().enumerate() {
        let method = [
            zip::CompressionMethod::Deflated,
            zip::CompressionMethod::Stored,
        ][index % 2];
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(format!("{name}.npy"), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap();
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f32().unwrap().iter().copied().collect()
}

fn all(dataset: &Dataset, batch: usize) -> Vec<Batch> {
    let wanted: Vec<usize> = (0..dataset.len()).collect();
    let batches = dataset.batches(&wanted, batch).unwrap();
    batches.collect::<Result<_, _>>().unwrap()
}

fn opened(path: &Path, inputs: &[InputSpec]) -> Result<Dataset, DataError> {
    open(&[path.into()], inputs, &ReaderOptions::default())
}

/// The error of opening or reading `path`.
fn error(path: &Path, inputs: &[InputSpec]) -> String {
    let read = || {
        let dataset = opened(path, inputs)?;
        let wanted: Vec<usize> = (0..dataset.len()).collect();
        dataset.batches(&wanted, 2)?.collect::<Result<Vec<_>, _>>()
    };
    read().unwrap_err().to_string()
}

fn ramp(count: usize) -> Vec<f32> {
    (0..count).map(|i| i as f32).collect()
}

#[test]
fn npy_batches_hold_the_wanted_samples_and_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    fs::write(&path, npy(&[5, 2], &ramp(10))).unwrap();
    let dataset = opened(&path, &x(&[2])).unwrap();
    assert_eq!(dataset.len(), 5);
    for _ in 0..2 {
        let batches = dataset.batches(&[0, 2, 4], 2).unwrap();
        let batches: Vec<Batch> = batches.map(Result::unwrap).collect();
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[0][0].1.shape, [2, 2]);
        assert_eq!(values(&batches[0][0].1), [0.0, 1.0, 4.0, 5.0]);
        assert_eq!(values(&batches[1][0].1), [8.0, 9.0]);
    }
    assert!(dataset.batches(&[1, 1], 2).is_err());
    assert!(dataset.batches(&[5], 2).is_err());
    assert!(dataset.batches(&[0], 0).is_err());
}

#[test]
fn npz_arrays_go_to_their_inputs_and_are_converted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.npz");
    let labels = npy(&[3], &[7_i64, 8, 9]);
    let arrays = [
        ("b", npy(&[3, 2], &[1_u8, 2, 3, 4, 5, 255])),
        ("labels", labels),
        ("a", npy(&[3, 1], &[0.1_f64, 0.2, 0.3])),
        ("ids", npy(&[3, 1], &[1_i32, 2, 3])),
    ];
    npz(&path, &arrays);
    let inputs = [
        input("a", DataType::Float, &[1]),
        input("b", DataType::Float, &[2]),
        input("ids", DataType::Int64, &[1]),
    ];
    let dataset = opened(&path, &inputs).unwrap();
    let batch = &all(&dataset, 8)[0];
    let names: Vec<&str> = batch.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "ids"]);
    assert_eq!(values(&batch[0].1), [0.1, 0.2, 0.3]);
    assert_eq!(values(&batch[1].1), [1.0, 2.0, 3.0, 4.0, 5.0, 255.0]);
    assert_eq!(batch[2].1.to_i64().unwrap(), [1, 2, 3]);
    let notes = dataset.notes().join("\n");
    assert!(notes.contains("not used: [\"labels\"]"), "{notes}");
    assert!(
        notes.contains("double data are rounded to float"),
        "{notes}"
    );
    // A wanted sample in the middle of a deflated array.
    let one = dataset.batches(&[2], 1).unwrap().next().unwrap().unwrap();
    assert_eq!(values(&one[1].1), [5.0, 255.0]);
}

#[test]
fn a_single_array_serves_a_single_input_under_any_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.npz");
    npz(&path, &[("arr_0", npy(&[2, 1], &ramp(2)))]);
    assert_eq!(opened(&path, &x(&[1])).unwrap().len(), 2);
    npz(
        &path,
        &[("u", npy(&[2, 1], &ramp(2))), ("v", npy(&[2, 1], &ramp(2)))],
    );
    let text = error(&path, &x(&[1]));
    assert!(
        text.contains("input 'x'") && text.contains("[\"u\", \"v\"]"),
        "{text}"
    );
}

#[test]
fn a_folder_of_npy_files_is_read_in_order_with_and_without_batch_axis() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("b.npy"), npy(&[2], &[4.0_f32, 5.0])).unwrap();
    fs::write(dir.path().join("a.npy"), npy(&[2, 2], &ramp(4))).unwrap();
    fs::write(dir.path().join("readme.txt"), "").unwrap();
    let dataset = opened(dir.path(), &x(&[2])).unwrap();
    assert_eq!(dataset.len(), 3);
    assert_eq!(values(&all(&dataset, 3)[0][0].1), ramp(6));
    assert!(dataset.notes()[0].contains("1 other files"));
}

#[test]
fn samples_are_taken_evenly() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    fs::write(&path, npy(&[10, 1], &ramp(10))).unwrap();
    let options = ReaderOptions {
        samples: Some(4),
        ..Default::default()
    };
    let dataset = open(&[path.clone(), path], &x(&[1]), &options).unwrap();
    assert_eq!(dataset.len(), 4);
    assert_eq!(values(&all(&dataset, 4)[0][0].1), [0.0, 5.0, 0.0, 5.0]);
    assert!(dataset.notes()[0].contains("4 of 20"));
}

#[test]
fn onnx_test_data_sets_are_samples() {
    let dir = tempfile::tempdir().unwrap();
    for set in 0..2 {
        let folder = dir.path().join(format!("test_data_set_{set}"));
        fs::create_dir(&folder).unwrap();
        let a = Tensor::from_f32(&[1, 2], vec![set as f32, 1.0]).unwrap();
        let b = Tensor::from_i64(&[], &[16000]).unwrap();
        let write = |name: &str, tensor: &Tensor| {
            fs::write(folder.join(name), tensor.to_proto("t").encode_to_vec()).unwrap();
        };
        write("input_0.pb", &a);
        write("input_1.pb", &b);
        write("output_0.pb", &a);
    }
    let mut rate = input("rate", DataType::Int64, &[]);
    rate.shape.clear();
    let inputs = [input("x", DataType::Float, &[2]), rate];
    let dataset = opened(dir.path(), &inputs).unwrap();
    let batch = &all(&dataset, 2)[0];
    assert_eq!(values(&batch[0].1), [0.0, 1.0, 1.0, 1.0]);
    assert_eq!(batch[1].1, Tensor::from_i64(&[], &[16000]).unwrap());
    let set = dir.path().join("test_data_set_1");
    assert_eq!(opened(&set, &inputs).unwrap().len(), 1);
    fs::remove_file(set.join("input_1.pb")).unwrap();
    let text = error(&set, &inputs);
    assert!(
        text.contains("input 'rate'") && text.contains("no input_1.pb"),
        "{text}"
    );
}

#[test]
fn image_folders_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for (name, level) in [("b.png", 255), ("a.jpg", 0)] {
        let image = image::RgbImage::from_pixel(20, 10, image::Rgb([level; 3]));
        image.save(dir.path().join(name)).unwrap();
    }
    let options = ReaderOptions {
        image: ImageOptions {
            scale: Some(1.0),
            ..Default::default()
        },
        ..Default::default()
    };
    let dataset = open(&[dir.path().into()], &x(&[3, 4, 4]), &options).unwrap();
    let batch = &all(&dataset, 2)[0];
    assert_eq!(batch[0].1.shape, [2, 3, 4, 4]);
    let found = values(&batch[0].1);
    assert!(found[0] < 2.0 && found[48] > 253.0);
    assert_eq!(dataset.notes().len(), 1);
    fs::write(dir.path().join("c.png"), "no image").unwrap();
    let text = error(dir.path(), &x(&[3, 4, 4]));
    assert!(
        text.contains("c.png") && text.contains("not a readable image"),
        "{text}"
    );
}

#[test]
fn wrong_shapes_and_types_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    fs::write(&path, npy(&[2, 3], &ramp(6))).unwrap();
    let text = error(&path, &x(&[3, 224, 224]));
    assert!(
        text.contains("expects shape [N, 3, 224, 224], found [2, 3]"),
        "{text}"
    );
    let text = error(&path, &[input("ids", DataType::Int64, &[3])]);
    assert!(text.contains("expects int64, found float"), "{text}");
    fs::write(&path, npy(&[1, 1], &[(1_i64 << 24) + 1])).unwrap();
    let text = error(&path, &x(&[1]));
    assert!(text.contains("the value 16777217 in sample 0"), "{text}");
    let two = [
        input("a", DataType::Float, &[1]),
        input("b", DataType::Float, &[1]),
    ];
    let text = error(&path, &two);
    assert!(
        text.contains("input 'b'") && text.contains("give .npz files"),
        "{text}"
    );
    let both = dir.path().join("both.npz");
    npz(
        &both,
        &[("a", npy(&[2, 1], &ramp(2))), ("b", npy(&[3, 1], &ramp(3)))],
    );
    let text = error(&both, &two);
    assert!(text.contains("3 samples for input 'b', but 2"), "{text}");
}

#[test]
fn nan_names_file_and_sample() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.npy");
    fs::write(&path, npy(&[3, 2], &[0.0, 1.0, 2.0, f32::NAN, 4.0, 5.0])).unwrap();
    let text = error(&path, &x(&[2]));
    assert!(text.contains("bad.npy: sample 1"), "{text}");
}

#[test]
fn different_shapes_across_files_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.npy"), npy(&[1, 2], &ramp(2))).unwrap();
    fs::write(dir.path().join("b.npy"), npy(&[1, 3], &ramp(3))).unwrap();
    let mut open = x(&[1]);
    open[0].shape[1] = None;
    let text = error(dir.path(), &open);
    assert!(
        text.contains("b.npy") && text.contains("[3], but") && text.contains("a.npy"),
        "{text}"
    );
}

#[test]
fn files_that_cannot_be_read_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let text = error(dir.path(), &x(&[1]));
    assert!(text.contains("holds no calibration data"), "{text}");
    let text = error(&dir.path().join("none"), &x(&[1]));
    assert!(text.contains("cannot read"), "{text}");
    let path = dir.path().join("x.npy");
    let mut fortran = npy(&[2, 2], &ramp(4));
    let at = fortran.windows(5).position(|w| w == b"False").unwrap();
    fortran[at..at + 5].copy_from_slice(b"True ");
    fs::write(&path, fortran).unwrap();
    let text = error(&path, &x(&[2]));
    assert!(
        text.contains("Fortran") && text.contains("ascontiguousarray"),
        "{text}"
    );
    let whole = npy(&[4, 100], &ramp(400));
    fs::write(&path, &whole[..1000]).unwrap();
    assert!(error(&path, &x(&[100])).contains("cut short"));
    fs::write(&path, "hello").unwrap();
    assert!(error(&path, &x(&[1])).contains("not a readable NumPy array"));
    fs::write(dir.path().join("y.png"), "").unwrap();
    assert!(error(dir.path(), &x(&[1])).contains("a mix of Npy and Image"));
    let text = dir.path().join("x.npz");
    fs::write(&text, "hello").unwrap();
    assert!(error(&text, &x(&[1])).contains("not a readable .npz archive"));
}

#[test]
fn big_endian_arrays_are_turned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let mut bytes = Vec::new();
    let dtype = npyz::DType::Plain(">f4".parse().unwrap());
    let options = npyz::WriteOptions::new().dtype(dtype).shape(&[1, 2]);
    let mut writer = options.writer(&mut bytes).begin_nd().unwrap();
    writer.extend([1.5_f32, -2.0]).unwrap();
    writer.finish().unwrap();
    fs::write(&path, bytes).unwrap();
    let dataset = opened(&path, &x(&[2])).unwrap();
    assert_eq!(values(&all(&dataset, 1)[0][0].1), [1.5, -2.0]);
}

#[test]
fn shapes_fix_open_sizes() {
    let mut inputs = x(&[1]);
    inputs[0].shape[1] = None;
    let with = |name: &str, shape: &[usize]| ReaderOptions {
        samples: Some(2),
        shapes: BTreeMap::from([(name.to_owned(), shape.to_vec())]),
        ..Default::default()
    };
    let dataset = synthetic(&inputs, &with("x", &[1, 7])).unwrap();
    assert_eq!(all(&dataset, 2)[0][0].1.shape, [2, 7]);
    for (name, shape) in [("x", [1, 0].as_slice()), ("x", &[1]), ("y", &[1, 7])] {
        let text = synthetic(&inputs, &with(name, shape))
            .unwrap_err()
            .to_string();
        assert!(text.starts_with("`shape`: "), "{text}");
    }
    assert_eq!(
        synthetic(&inputs, &ReaderOptions::default()).unwrap().len(),
        256
    );
}

#[test]
fn an_input_of_another_fixed_first_size_is_one_value() {
    let mut inputs = vec![
        input("x", DataType::Float, &[3]),
        input("state", DataType::Float, &[1, 4]),
    ];
    inputs[0].shape[0] = Some(1);
    inputs[1].shape[0] = Some(2);
    let shapes = |batch: &Batch| -> Vec<Vec<usize>> {
        batch
            .iter()
            .map(|(_, tensor)| tensor.shape.clone())
            .collect()
    };
    let made = synthetic(&inputs, &ReaderOptions::default()).unwrap();
    assert_eq!(shapes(&all(&made, 1)[0]), [vec![1, 3], vec![2, 1, 4]]);
    // From a file: one for all samples, or one for each.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.npz");
    let samples: Vec<f32> = (0..6_u8).map(f32::from).collect();
    for count in [1_usize, 2] {
        let states: Vec<f32> = (0..8 * count as u8).map(f32::from).collect();
        let shape: &[u64] = if count == 1 {
            &[2, 1, 4]
        } else {
            &[2, 2, 1, 4]
        };
        npz(
            &path,
            &[
                ("x", npy(&[2, 3], &samples)),
                ("state", npy(shape, &states)),
            ],
        );
        let batches = all(&opened(&path, &inputs).unwrap(), 1);
        assert_eq!(shapes(&batches[1]), [vec![1, 3], vec![2, 1, 4]]);
        assert_eq!(values(&batches[1][1].1), states[states.len() - 8..]);
    }
}

#[test]
fn a_flipped_byte_in_an_archive_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.npz");
    // Noise, which deflates to about as many bytes.
    let noise: Vec<f32> = (1..=512_u32)
        .map(|i| (i.wrapping_mul(0x9e37_79b9) >> 8) as f32)
        .collect();
    let array = || npy(&[8, 64], &noise);
    npz(&path, &[("deflated", array()), ("stored", array())]);
    let whole = fs::read(&path).unwrap();
    let mut archive = zip::ZipArchive::new(File::open(&path).unwrap()).unwrap();
    for name in ["deflated", "stored"] {
        let entry = archive.by_name(&format!("{name}.npy")).unwrap();
        let (start, size) = (entry.data_start().unwrap(), entry.compressed_size());
        // In the header, in the middle and in the last sample.
        for place in [start + 8, start + size / 2, start + size - 3] {
            let mut damaged = whole.clone();
            damaged[place as usize] ^= 1;
            fs::write(&path, damaged).unwrap();
            let text = opened(&path, &[input(name, DataType::Float, &[64])])
                .unwrap_err()
                .to_string();
            let named = text.contains("data.npz") && text.contains(&format!("array '{name}'"));
            assert!(
                named && text.contains("damaged"),
                "{name} at {place}: {text}"
            );
        }
    }
    fs::write(&path, whole).unwrap();
    let inputs = ["deflated", "stored"].map(|name| input(name, DataType::Float, &[64]));
    let batches = all(&opened(&path, &inputs).unwrap(), 3);
    assert_eq!(values(&batches[2][1].1), noise[384..]);
}
