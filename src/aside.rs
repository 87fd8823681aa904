//! Files are written aside and renamed, so that a failed run leaves none half written.

use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

/// A new temporary file beside `path`, with the permissions of an ordinary new file.
///
/// # Errors
/// The folder does not exist or cannot be written.
pub(crate) fn aside(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".onnx-mipp-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder(path))
}

/// The folder of a file; "." for a bare name.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_renamed_is_like_any_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        File::create(path("new")).unwrap();
        aside(&path("out")).unwrap().persist(path("out")).unwrap();
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode();
        assert_eq!(mode("out"), mode("new"));
    }
}
