//! Regular files. A pipe has no length and is empty the second time, and opening one waits for its
//! writer.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Opens the regular file at `path` for reading.
///
/// # Errors
/// The system's, or that of another kind of file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let found = fs::metadata(path)?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !found.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file but a pipe, a device or a socket: copy what it gives to a file",
        ));
    }
    File::open(path)
}

/// The text of the regular file at `path`.
///
/// # Errors
/// As [`open`], or bytes that are no UTF-8.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// The contents of the regular file at `path`.
///
/// # Errors
/// As [`open`].
pub(crate) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}
