//! Files as bytes without copying them. The only module with unsafe code.
#![allow(unsafe_code)]

use bytes::Bytes;
use memmap2::Mmap;
use std::{fs::File, io, path::Path};

/// The contents of the file at `path`: mapped where possible (a regular file), read otherwise.
///
/// The bytes stay valid when the file is renamed over or unlinked, which is how this crate writes.
///
/// # Errors
/// What opening, mapping or reading reports.
pub(super) fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return std::fs::read(path).map(Bytes::from);
    }
    // SAFETY: the mapping is read-only and private to the returned `Bytes`, which owns it until
    // its last slice is dropped. Writing into, or truncating, the file in place from elsewhere
    // while it is mapped is outside what any reader of a mapping can rule out; this crate never
    // does it (`save` writes a new file and renames it), and the documentation of `load` says so.
    let mapping = unsafe { Mmap::map(&file) };
    match mapping {
        Ok(mapping) => Ok(Bytes::from_owner(mapping)),
        // Some file systems cannot map.
        Err(_) => std::fs::read(path).map(Bytes::from),
    }
}
