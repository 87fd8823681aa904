//! Image files: whether they are whole, how they are turned, and their pixels.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};

use crate::data::DataError;
use crate::data::Exif;
use crate::regular;

const PNG_SIGNATURE: usize = 8;
/// Length, kind and checksum of a PNG's chunk.
const PNG_FRAME: usize = 12;
/// The longer side of an image over the shorter. An image is resized by its shorter side before its
/// centre is cut out, so that the bytes of a line of pixels would grow by the square of the
/// enlargement.
const MOST_STRETCHED: u32 = 256;
/// "RIFF" and the size of what follows.
const RIFF_HEAD: usize = 8;

/// Refuses, before hours of work, a file that is no image or is cut short; whether it carries a
/// rotation. Pixels are not decoded: that would double the time that images take, and the decoder
/// of JPEG fills what is missing with gray, so that it would find no cut.
pub(super) fn is_turned(path: &Path) -> Result<bool, DataError> {
    let bytes = regular::bytes(path).map_err(io_error(path))?;
    let reader = guessed(path, &bytes)?;
    let is_whole = match reader.format() {
        Some(ImageFormat::Jpeg) => ends_jpeg(&bytes).is_some(),
        Some(ImageFormat::Png) => ends_png(&bytes).is_some(),
        Some(ImageFormat::WebP) => ends_riff(&bytes).is_some(),
        // The decoder says what it is.
        _ => true,
    };
    if !is_whole {
        return Err(DataError::Format {
            path: path.into(),
            problem: format!("the image is cut short at {} bytes", bytes.len()),
            advice: "copy it again or remove it".into(),
        });
    }
    let failed = |error: ImageError| unreadable(path, &error);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if width.max(height) / MOST_STRETCHED >= width.min(height).max(1) {
        return Err(DataError::Format {
            path: path.into(),
            problem: format!(
                "the image has {width}x{height} pixels: of one more than {MOST_STRETCHED} times as long as \
                 wide, the crop shows next to nothing"
            ),
            advice: "remove it".into(),
        });
    }
    let orientation = decoder.orientation().map_err(failed)?;
    Ok(orientation != Orientation::NoTransforms)
}

/// The pixels of an image file.
pub(super) fn pixels(path: &Path, exif: Exif) -> Result<RgbImage, DataError> {
    let bytes = regular::bytes(path).map_err(io_error(path))?;
    let failed = |error: ImageError| unreadable(path, &error);
    let mut decoded = guessed(path, &bytes)?.decode().map_err(failed)?;
    if exif == Exif::Apply {
        let mut decoder = guessed(path, &bytes)?.into_decoder().map_err(failed)?;
        decoded.apply_orientation(decoder.orientation().map_err(failed)?);
    }
    Ok(decoded.into_rgb8())
}

fn guessed<'b>(path: &Path, bytes: &'b [u8]) -> Result<ImageReader<Cursor<&'b [u8]>>, DataError> {
    let reader = ImageReader::new(Cursor::new(bytes));
    reader.with_guessed_format().map_err(io_error(path))
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> DataError {
    let path = path.to_path_buf();
    move |source| DataError::Io { path, source }
}

fn unreadable(path: &Path, error: &ImageError) -> DataError {
    DataError::Format {
        path: path.into(),
        problem: format!("not a readable image ({error})"),
        advice: "remove it or convert it to JPEG or PNG".into(),
    }
}

/// From marker to marker up to the one that ends the image. What follows it belongs to other
/// pictures of the same shot.
fn ends_jpeg(bytes: &[u8]) -> Option<()> {
    let mut at = 2;
    loop {
        // Within the pixels' bits, 0xff has a zero or a restart marker behind it.
        let is_marker =
            |pair: &[u8]| matches!(pair, [0xff, kind] if !matches!(kind, 0 | 0xff | 0xd0..=0xd7));
        at += bytes.get(at..)?.windows(2).position(is_marker)?;
        match bytes.get(at + 1)? {
            0xd9 => return Some(()),
            _ => at += 2 + usize::from(u16::from_be_bytes(*bytes.get(at + 2..)?.first_chunk()?)),
        }
    }
}

/// From chunk to chunk up to a whole IEND.
fn ends_png(bytes: &[u8]) -> Option<()> {
    let mut at = PNG_SIGNATURE;
    loop {
        let head = bytes.get(at..)?.first_chunk::<8>()?;
        let [a, b, c, d, kind @ ..] = *head;
        at = at.checked_add(u32::from_be_bytes([a, b, c, d]) as usize)?;
        at = at.checked_add(PNG_FRAME)?;
        bytes.get(..at)?;
        if &kind == b"IEND" {
            return Some(());
        }
    }
}

fn ends_riff(bytes: &[u8]) -> Option<()> {
    let size = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?) as usize;
    bytes.get(..size.checked_add(RIFF_HEAD)?).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let image = RgbImage::from_fn(23, 17, |x, y| image::Rgb([x as u8 * 9, y as u8 * 11, 7]));
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn refusal(name: &str, bytes: &[u8]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = is_turned(&path).err()?.to_string();
        assert!(error.contains(name), "{error}");
        Some(error)
    }

    #[test]
    fn an_image_cut_anywhere_is_refused() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let bytes = encoded(format);
            assert_eq!(refusal("whole", &bytes), None);
            let more = [bytes.as_slice(), &[0; 99]].concat();
            assert_eq!(refusal("more", &more), None);
            for length in 0..bytes.len() {
                let error = refusal("cut", &bytes[..length]);
                assert!(error.is_some(), "{format:?} cut at {length}");
            }
        }
    }

    #[test]
    fn a_marker_inside_a_segment_or_the_pixels_is_no_end() {
        // A comment that holds an end marker, then pixels with a stuffed 0xff and a restart marker.
        let head = b"\xff\xd8\xff\xfe\x00\x04\xff\xd9\xff\xda\x00\x02";
        let pixels = b"\x01\xff\x00\xff\xd0\x02";
        let whole = [head.as_slice(), pixels, b"\xff\xd9"].concat();
        assert!(ends_jpeg(&whole).is_some());
        for length in 0..whole.len() {
            assert!(ends_jpeg(&whole[..length]).is_none(), "{length}");
        }
    }
}
