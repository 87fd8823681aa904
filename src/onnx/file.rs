//! Files as bytes: large ones without copying them. The only module with unsafe code.
#![allow(unsafe_code)]

use bytes::Bytes;
use memmap2::Mmap;
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::regular;

/// Files up to this many bytes are read, so that nothing that happens to them afterwards matters;
/// larger ones are mapped, so that a model of gigabytes stands in memory once.
const READ_UP_TO: u64 = 256 << 20;

/// The contents of the regular file at `path`.
///
/// The bytes stay valid when the file is renamed over or unlinked, which is how this crate writes.
/// One that is mapped must not become shorter meanwhile: see [`explain_lost_pages`].
///
/// # Errors
/// What opening, mapping or reading reports; the file is not regular, or became shorter while it
/// was read.
pub(super) fn read(path: &Path) -> io::Result<Bytes> {
    let mut file = regular::open(path)?;
    let length = file.metadata()?.len();
    if length > READ_UP_TO
        && let Ok(mapping) = map(&file)
    {
        return Ok(Bytes::from_owner(mapping));
    }
    whole(&mut file, length).map(Bytes::from)
}

/// The rest of a file that had this length when it was opened.
fn whole(file: &mut File, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let capacity = usize::try_from(length).map_err(io::Error::other)?;
    bytes.try_reserve_exact(capacity)?;
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() != capacity {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it became shorter while it was read: leave it alone until the run is done",
        ));
    }
    Ok(bytes)
}

fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is read-only and private to the `Bytes` that owns it until its last slice
    // is dropped. Writing into the file in place from elsewhere while it is mapped is outside what
    // any reader of a mapping can rule out; this crate never does it (it writes new files and
    // renames them), and the documentation of `load` says so. A file that becomes shorter raises
    // SIGBUS, which ends the process.
    unsafe { Mmap::map(file) }
}

/// Lets this process end with a message and exit code 1, without temporary files, when a file that
/// is mapped became shorter (SIGBUS). For programs: a library must not take signals from its host.
///
/// # Errors
/// The system refuses the handler.
#[cfg(unix)]
pub(crate) fn explain_lost_pages() -> io::Result<()> {
    const MESSAGE: &str = "a file that is being read became shorter, a model of more than 256 MB or its data, \
        or its disk failed; leave files alone until the run is done";
    explain(signal_hook::consts::SIGBUS, MESSAGE)
}

/// The same where the process gives itself up (SIGABRT), as Rust does without memory, and ONNX
/// Runtime at faults of its own, both with a line about the reason.
///
/// # Errors
/// The system refuses the handler.
#[cfg(unix)]
pub(crate) fn explain_abort(message: &'static str) -> io::Result<()> {
    explain(signal_hook::consts::SIGABRT, message)
}

#[cfg(unix)]
fn explain(signal: i32, message: &'static str) -> io::Result<()> {
    // SAFETY: the handler never returns, and uses stderr without buffer and a lock that it only
    // tries. Both signals are raised by the thread that is hit: in a read of mapped bytes, which
    // holds no lock, or in an abort. An abort over a damaged heap may hold the allocator's lock;
    // then removing the temporary files can wait for ever, in a process that could only have died.
    unsafe { signal_hook::low_level::register(signal, move || give_up(message)) }.map(drop)
}

/// Ends the process at once with a message and exit code 1, without temporary files.
#[cfg(unix)]
pub(crate) fn give_up(message: &str) {
    use io::Write;
    let mut out = io::stderr();
    for part in ["onnx-mipp: error: ", message, "\n"] {
        let _ = out.write_all(part.as_bytes());
    }
    crate::outputs::remove_all_now();
    signal_hook::low_level::exit(1);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        std::fs::write(&path, [1; 100]).unwrap();
        let mut file = regular::open(&path).unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(40)
            .unwrap();
        let error = whole(&mut file, 100).unwrap_err().to_string();
        assert!(
            error.contains("became shorter while it was read"),
            "{error}"
        );
        assert_eq!(read(&path).unwrap(), [1; 40].as_slice());
    }

    const CHILD: &str = "ONNX_MIPP_TEST_LOST_PAGES";

    /// In a process of its own: the file that is named becomes shorter while it is mapped.
    #[cfg(unix)]
    #[test]
    fn pages_that_are_lost_end_the_process_with_a_message() {
        if let Some(path) = std::env::var_os(CHILD) {
            explain_lost_pages().unwrap();
            let file = File::options().read(true).write(true).open(path).unwrap();
            let mapping = map(&file).unwrap();
            file.set_len(0).unwrap();
            std::hint::black_box(mapping[1 << 20]);
            unreachable!();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 21).unwrap();
        let name = "onnx::file::tests::pages_that_are_lost_end_the_process_with_a_message";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, file.path())
            .output()
            .unwrap();
        let said = String::from_utf8(child.stderr).unwrap();
        assert_eq!(child.status.code(), Some(1), "{said}");
        assert!(said.contains("became shorter"), "{said}");
    }

    #[test]
    fn a_mapped_file_has_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        std::fs::write(&path, [7; 5000]).unwrap();
        let mapping = map(&regular::open(&path).unwrap()).unwrap();
        assert_eq!(Bytes::from_owner(mapping), read(&path).unwrap());
    }
}
