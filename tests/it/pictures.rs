//! Image files and arrays as calibration data: rotations, and what is not whole.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, RgbImage, imageops};
use tempfile::TempDir;

use crate::program::{Run, mipp, text};
use crate::small;

/// A folder with the small model, and a folder of images beside it.
fn desk(images: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    small::write(&small::model(), &folder.path().join("in.onnx"));
    fs::create_dir(folder.path().join("images")).unwrap();
    for (name, bytes) in images {
        fs::write(folder.path().join("images").join(name), bytes).unwrap();
    }
    folder
}

fn prune(folder: &Path, data: &str, more: &[&str]) -> Run {
    let [model, data] = ["in.onnx", data].map(|name| folder.join(name));
    let stats = folder.join("out.stats");
    let words = [
        text(&model),
        "--dry-run",
        "--ratio",
        "0.5",
        "--calib",
        text(&data),
    ];
    mipp([&words, ["--stats-out", text(&stats)].as_slice(), more].concat())
}

/// A picture that is different in each corner.
fn picture(seed: u32) -> RgbImage {
    RgbImage::from_fn(24, 16, |x, y| {
        image::Rgb([
            (x * 10) as u8,
            (y * 15) as u8,
            (seed * 40 + x * y / 2) as u8,
        ])
    })
}

fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG with a chunk of EXIF data that has nothing but the orientation.
fn turned(image: &RgbImage, orientation: u8) -> Vec<u8> {
    let mut exif =
        b"eXIfMM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let mut bytes = encoded(image, ImageFormat::Png);
    let sum = {
        let mut sum = flate2::Crc::new();
        sum.update(&exif);
        sum.sum()
    };
    let mut chunk = (exif.len() as u32 - 4).to_be_bytes().to_vec();
    chunk.extend(exif);
    chunk.extend(sum.to_be_bytes());
    // Behind the signature and the first chunk.
    bytes.splice(33..33, chunk);
    bytes
}

/// What the statistics say of a folder of images, without their digest of the files' bytes.
fn kept(images: &[(&str, Vec<u8>)], more: &[&str]) -> (String, String) {
    let folder = desk(images);
    let run = prune(folder.path(), "images", &[more, &["--json"]].concat()).done();
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    (report["groups"].to_string(), run.err)
}

#[test]
fn a_rotation_is_left_out_or_applied_and_said_so() {
    let plain = |turn: fn(&RgbImage) -> RgbImage| -> Vec<(&str, Vec<u8>)> {
        let one = |seed| encoded(&turn(&picture(seed)), ImageFormat::Png);
        ["a.png", "b.png", "c.png"]
            .into_iter()
            .zip((0..3).map(one))
            .collect()
    };
    // EXIF's 6: the first row is the right side, so that a quarter turn clockwise shows it upright.
    let mut some = plain(RgbImage::clone);
    some[1].1 = turned(&picture(1), 6);
    let mut upright = plain(RgbImage::clone);
    upright[1].1 = encoded(&imageops::rotate90(&picture(1)), ImageFormat::Png);

    let (ignored, said) = kept(&some, &[]);
    assert_eq!(said.matches("EXIF").count(), 1, "{said}");
    assert!(
        said.contains("1 of 3 images carry an EXIF rotation, which is left out"),
        "{said}"
    );
    assert!(said.contains("--exif apply"), "{said}");
    let (applied, said) = kept(&some, &["--exif", "apply"]);
    assert!(
        said.contains("1 of 3 images carry an EXIF rotation, which is applied"),
        "{said}"
    );
    let (as_stored, said) = kept(&plain(RgbImage::clone), &[]);
    assert!(!said.contains("EXIF"), "{said}");
    assert_eq!(ignored, as_stored);
    assert_eq!(applied, kept(&upright, &[]).0);
    assert_ne!(ignored, applied);
}

#[test]
fn a_cut_image_is_refused_before_anything_runs() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let whole = encoded(&picture(0), format);
        let cut = whole[..whole.len() - 3].to_vec();
        let folder = desk(&[("a.png", whole), ("z.png", cut)]);
        let run = prune(folder.path(), "images", &[]);
        let run = run.fails(1, &["z.png: the image is cut short", "copy it again"]);
        assert!(!run.err.contains("calibrating"), "{}", run.err);
        // What is not in use does not matter.
        prune(folder.path(), "images", &["--samples", "1"]).done();
    }
}

/// An archive of one array; `promised` samples in the header, as many values as `samples` have.
fn archive(path: &Path, promised: usize, samples: usize, method: zip::CompressionMethod) {
    use std::io::Write;
    let inside = path.with_extension("npy");
    let values = small::noise(samples * 3 * 64, 5);
    small::npy_f32(&inside, &[promised, 3, 8, 8], &values);
    let bytes = fs::read(&inside).unwrap();
    fs::remove_file(&inside).unwrap();
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    zip.start_file("x.npy", options).unwrap();
    zip.write_all(&bytes).unwrap();
    zip.finish().unwrap();
}

#[test]
fn an_array_shorter_than_its_header_says_is_refused_before_anything_runs() {
    let folder = desk(&[]);
    let data = folder.path().join("data.npz");
    for method in [
        zip::CompressionMethod::Stored,
        zip::CompressionMethod::Deflated,
    ] {
        archive(&data, 8, 8, method);
        prune(folder.path(), "data.npz", &[]).done();
        archive(&data, 9, 8, method);
        let run = prune(folder.path(), "data.npz", &[]);
        let run = run.fails(1, &["data.npz: array 'x' is cut short", "6144 bytes"]);
        assert!(!run.err.contains("calibrating"), "{}", run.err);
    }
    let plain = folder.path().join("data.npy");
    small::npy_f32(&plain, &[9, 3, 8, 8], &small::noise(9 * 192 - 1, 5));
    let run = prune(folder.path(), "data.npy", &[]);
    run.fails(1, &["data.npy: this file is cut short", "6908 bytes"]);
}

#[test]
fn messages_do_not_repeat_a_header() {
    let folder = desk(&[]);
    let path = folder.path().join("data.npy");
    let secret = "Xyzzy";
    let long = format!("'shape': ({}), }}", "1, ".repeat(5000));
    let headers = [
        format!("{{'descr': '<f4', 'fortran_order': False, '{secret}': {secret}"),
        format!("{{'descr': '{secret}', 'fortran_order': False, 'shape': (1,), }}"),
        format!("{{'descr': [('{secret}', '<f4')], 'fortran_order': False, 'shape': (1,), }}"),
        format!("{{'descr': '<f4', 'fortran_order': False, {long}"),
    ];
    for header in headers {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend([0; 1000]);
        fs::write(&path, bytes).unwrap();
        let run = prune(folder.path(), "data.npy", &[]).fails(1, &["data.npy: "]);
        assert!(
            !run.err.contains(secret) && run.err.len() < 600,
            "{}",
            run.err
        );
    }
}
