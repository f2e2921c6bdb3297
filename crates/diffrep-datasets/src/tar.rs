//! The members of a tar archive, found by stepping from header to header without reading their content.
//!
//! Understood: the v7, ustar, GNU and pax forms of names and sizes. Links, folders and devices are passed over, for
//! nothing in an archive may lead to another file; sparse members, whose bytes are not in one piece, are refused.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use crate::DatasetError;
use crate::error::io_error;
use crate::names::safe_name;

/// Headers and contents start at multiples of this.
const BLOCK: u64 = 512;

/// The longest name or list of attributes that may stand before a member, in bytes.
const LONGEST_ATTRIBUTES: u64 = 64 << 10;

const NOT_UTF8: &str = "a name is not valid UTF-8";

/// A regular file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its relative name, which is safe.
    pub(crate) name: String,
    /// Where its content starts, from the start of the outermost file.
    pub(crate) offset: u64,
    /// Bytes of its content, all of which are there.
    pub(crate) len: u64,
}

/// The regular files of the archive that lies at `range` of `reader`, in their order.
///
/// `path` only names the archive in errors.
pub(crate) fn entries(
    path: &Path,
    reader: impl Read + Seek,
    range: Range<u64>,
) -> Result<Vec<Entry>, DatasetError> {
    let mut walk = Walk {
        path,
        // Large enough for a header and the small members around an image, small enough to pass over images unread.
        reader: BufReader::with_capacity(4096, reader),
        position: range.start,
        end: range.end,
    };
    walk.reader
        .seek(SeekFrom::Start(range.start))
        .map_err(io_error(path, "read"))?;
    let mut found = Vec::new();
    let mut attributes = Attributes::default();
    while let Some(header) = walk.header()? {
        let kind = header.kind();
        // What pax says of a size is about the member, not about another record before it.
        let size = match attributes.size {
            Some(size) if kind == Kind::File => size,
            _ => header
                .size()
                .ok_or_else(|| walk.broken("a size is not a number"))?,
        };
        match kind {
            Kind::LongName => attributes.name = Some(walk.text(size)?),
            Kind::Attributes => {
                let text = walk.attributes(size)?;
                attributes
                    .read(&text)
                    .map_err(|problem| walk.broken(problem))?;
            }
            Kind::File => {
                let name = match attributes.name.take() {
                    Some(name) => name,
                    None => header.name().ok_or_else(|| walk.broken(NOT_UTF8))?,
                };
                // In the oldest form a folder is a file whose name ends in a slash.
                if !name.ends_with('/') {
                    let name = safe_name(path, &name)?;
                    found.push(walk.entry(name, size)?);
                }
                walk.skip(size)?;
            }
            Kind::Sparse => return Err(walk.broken("sparse members are not read")),
            Kind::Ignored => walk.skip(size)?,
            // Their size is that of the file elsewhere, if anything; no content follows.
            Kind::Empty => {}
        }
        if matches!(kind, Kind::File | Kind::Empty) {
            attributes = Attributes::default();
        }
    }
    Ok(found)
}

struct Walk<'a, R> {
    path: &'a Path,
    reader: BufReader<R>,
    position: u64,
    end: u64,
}

impl<R: Read + Seek> Walk<'_, R> {
    /// The next header, or nothing at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, DatasetError> {
        if self.position >= self.end {
            tracing::warn!(
                archive = %self.path.display(),
                "no mark at the end: members after byte {} may have been cut off",
                self.position
            );
            return Ok(None);
        }
        if self.end - self.position < BLOCK {
            return Err(self.broken("it ends within a header of 512 bytes"));
        }
        let mut header = Header([0; BLOCK as usize]);
        self.reader
            .read_exact(&mut header.0)
            .map_err(io_error(self.path, "read"))?;
        // Two blocks of zeros end an archive; whatever follows the first is no member.
        if header.0.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if !header.checksum_holds() {
            return Err(self.broken("the checksum of a header does not hold"));
        }
        self.position += BLOCK;
        Ok(Some(header))
    }

    fn entry(&self, name: String, len: u64) -> Result<Entry, DatasetError> {
        if len > self.end - self.position {
            return Err(self.beyond(len));
        }
        Ok(Entry {
            name,
            offset: self.position,
            len,
        })
    }

    /// Steps over content and its padding; the padding of the last member may be missing.
    fn skip(&mut self, len: u64) -> Result<(), DatasetError> {
        let left = self.end - self.position;
        if len > left {
            return Err(self.beyond(len));
        }
        let padded = len.next_multiple_of(BLOCK).min(left);
        let step = i64::try_from(padded).map_err(|_| self.beyond(len))?;
        self.reader
            .seek_relative(step)
            .map_err(io_error(self.path, "read"))?;
        self.position += padded;
        Ok(())
    }

    /// Content that describes the next member.
    fn attributes(&mut self, len: u64) -> Result<Vec<u8>, DatasetError> {
        if len > LONGEST_ATTRIBUTES {
            return Err(self.broken(format!(
                "a name or list of attributes has {len} bytes, expected at most {LONGEST_ATTRIBUTES}"
            )));
        }
        if len > self.end - self.position {
            return Err(self.beyond(len));
        }
        let mut bytes = vec![0; len as usize];
        self.reader
            .read_exact(&mut bytes)
            .map_err(io_error(self.path, "read"))?;
        self.position += len;
        let padding = (len.next_multiple_of(BLOCK) - len).min(self.end - self.position);
        self.reader
            .seek_relative(padding as i64)
            .map_err(io_error(self.path, "read"))?;
        self.position += padding;
        Ok(bytes)
    }

    fn text(&mut self, len: u64) -> Result<String, DatasetError> {
        let bytes = self.attributes(len)?;
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        String::from_utf8(bytes.to_vec()).map_err(|_| self.broken(NOT_UTF8))
    }

    fn beyond(&self, len: u64) -> DatasetError {
        let left = self.end - self.position;
        self.broken(format!(
            "a member has {len} bytes, but only {left} are left; the archive is truncated"
        ))
    }

    fn broken(&self, problem: impl Into<String>) -> DatasetError {
        DatasetError::Archive {
            path: self.path.to_path_buf(),
            offset: self.position,
            problem: problem.into(),
        }
    }
}

/// What follows a header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    /// The name of the next member, in GNU's form.
    LongName,
    /// Attributes of the next member, in the form of pax.
    Attributes,
    Sparse,
    /// Something with content that is not a member.
    Ignored,
    /// A link, folder or device.
    Empty,
}

struct Header([u8; BLOCK as usize]);

impl Header {
    fn kind(&self) -> Kind {
        match self.0[156] {
            b'0' | b'7' | 0 => Kind::File,
            b'L' => Kind::LongName,
            b'x' => Kind::Attributes,
            b'S' => Kind::Sparse,
            b'1'..=b'6' => Kind::Empty,
            // Also attributes of the whole archive, which cannot sensibly name or size a member.
            _ => Kind::Ignored,
        }
    }

    /// The size, in octal, or in GNU's binary form where octal is too short.
    fn size(&self) -> Option<u64> {
        let field = &self.0[124..136];
        if field[0] == 0x80 {
            let (high, low) = field[1..].split_at(3);
            let low = u64::from_be_bytes(low.try_into().ok()?);
            return high.iter().all(|&byte| byte == 0).then_some(low);
        }
        octal(field)
    }

    fn name(&self) -> Option<String> {
        let text = |field: &[u8]| {
            let end = field.iter().position(|&byte| byte == 0);
            String::from_utf8(field[..end.unwrap_or(field.len())].to_vec()).ok()
        };
        let name = text(&self.0[..100])?;
        // GNU's own form has a space here, and other things than a prefix there.
        if &self.0[257..263] != b"ustar\0" || self.0[345] == 0 {
            return Some(name);
        }
        Some(format!("{}/{name}", text(&self.0[345..500])?))
    }

    fn checksum_holds(&self) -> bool {
        let blanked = self
            .0
            .iter()
            .enumerate()
            .map(|(position, &byte)| match position {
                148..156 => u64::from(b' '),
                _ => u64::from(byte),
            });
        octal(&self.0[148..156]) == Some(blanked.sum())
    }
}

/// A number in octal digits, between optional spaces, up to a NUL or a space.
fn octal(field: &[u8]) -> Option<u64> {
    let field = field.trim_ascii_start();
    let end = field.iter().position(|byte| matches!(byte, 0 | b' '));
    let digits = &field[..end.unwrap_or(field.len())];
    digits.iter().try_fold(0_u64, |number, &digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// What the records before a member say about it.
#[derive(Default)]
struct Attributes {
    name: Option<String>,
    size: Option<u64>,
}

impl Attributes {
    /// Reads pax records: `<length of the record> <key>=<value>\n`.
    fn read(&mut self, mut text: &[u8]) -> Result<(), &'static str> {
        const BROKEN: &str = "a list of attributes is broken";
        while !text.is_empty() {
            let space = text.iter().position(|&byte| byte == b' ').ok_or(BROKEN)?;
            let number = std::str::from_utf8(&text[..space]).map_err(|_| BROKEN)?;
            let len: usize = number.parse().map_err(|_| BROKEN)?;
            let record = text.get(space + 1..len).ok_or(BROKEN)?;
            let record = record.strip_suffix(b"\n").ok_or(BROKEN)?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or(BROKEN)?;
            self.record(&record[..equals], &record[equals + 1..])?;
            text = &text[len..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let text = || std::str::from_utf8(value).map_err(|_| NOT_UTF8);
        match key {
            b"path" => self.name = Some(text()?.to_owned()),
            b"size" => {
                let size = text()?.parse();
                self.size = Some(size.map_err(|_| "a size is not a number")?);
            }
            _ if key.starts_with(b"GNU.sparse.") => return Err("sparse members are not read"),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Counts the bytes that are read.
    struct Counted<'a> {
        content: Cursor<Vec<u8>>,
        read: &'a mut usize,
    }

    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.content.read(buffer)?;
            *self.read += count;
            Ok(count)
        }
    }

    impl Seek for Counted<'_> {
        fn seek(&mut self, position: SeekFrom) -> std::io::Result<u64> {
            self.content.seek(position)
        }
    }

    #[test]
    fn only_headers_are_read() {
        let mut builder = tar::Builder::new(Vec::new());
        for member in 0..20 {
            let mut header = tar::Header::new_gnu();
            header.set_size(200_000);
            let name = format!("{member}.jpg");
            let content = vec![member; 200_000];
            builder
                .append_data(&mut header, name, content.as_slice())
                .unwrap();
        }
        let content = builder.into_inner().unwrap();
        let len = content.len() as u64;
        let mut read = 0;
        let reader = Counted {
            content: Cursor::new(content),
            read: &mut read,
        };
        let found = entries(Path::new("a.tar"), reader, 0..len).unwrap();
        assert_eq!(found.len(), 20);
        assert!(found.iter().all(|entry| entry.len == 200_000));
        // One buffer for each header, and one for the end.
        assert!(read <= 21 * 4096, "{read} bytes");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            noise in proptest::collection::vec((0_usize..3_072, proptest::prelude::any::<u8>()), 0..20),
            repair in proptest::prelude::any::<bool>(),
        ) {
            let mut header = tar::Header::new_gnu();
            header.set_size(700);
            let mut builder = tar::Builder::new(Vec::new());
            builder.append_data(&mut header, "a.jpg", [7; 700].as_slice()).unwrap();
            let mut bytes = builder.into_inner().unwrap();
            for (position, value) in noise {
                let len = bytes.len();
                bytes[position % len] = value;
            }
            if repair {
                // Past the checksum, into the fields.
                let mut header = tar::Header::from_byte_slice(&bytes[..512]).clone();
                header.set_cksum();
                bytes[..512].copy_from_slice(header.as_bytes());
            }
            let len = bytes.len() as u64;
            if let Ok(found) = entries(Path::new("a.tar"), Cursor::new(&bytes), 0..len) {
                for entry in found {
                    assert!(entry.offset + entry.len <= len);
                }
            }
        }
    }
}
