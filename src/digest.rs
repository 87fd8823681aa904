//! SHA-256 sums: as text, and of what passes through.

use std::io::{self, Read, Write};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// The sum in hexadecimal digits.
pub(crate) fn hex(hash: Sha256) -> String {
    HEXLOWER.encode(&hash.finalize())
}

/// The sum of all that is read.
///
/// # Errors
/// What reading reports.
pub(crate) fn of(mut read: impl Read) -> io::Result<Sha256> {
    let mut hashed = Hashed::new(io::sink());
    io::copy(&mut read, &mut hashed)?;
    Ok(hashed.hash)
}

/// Hashes what passes through.
pub(crate) struct Hashed<T> {
    pub inner: T,
    pub hash: Sha256,
}

impl<T> Hashed<T> {
    pub fn new(inner: T) -> Self {
        Hashed {
            inner,
            hash: Sha256::new(),
        }
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or(bytes));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        if let Some(read) = bytes.get(..count) {
            self.hash.update(read);
        }
        Ok(count)
    }
}
