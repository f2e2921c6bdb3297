//! The header of NumPy's `.npy` format, versions 1 to 3.
//!
//! It is a Python dictionary of three keys as `repr` prints it. The crates that read it evaluate any
//! Python literal by recursion and reserve what a length field asks for; this grammar has no recursion,
//! and what it reads is bounded.

use std::io::{self, Read, Write};

/// The longest header that is read, as in NumPy.
const MAX_HEADER: usize = 10_000;

/// The most axes that an array has, as in NumPy.
const MAX_AXES: usize = 64;

const MAGIC: &[u8] = b"\x93NUMPY";

/// The types of elements that are understood, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    F32,
    F64,
    /// Unsigned, of this many bytes.
    Unsigned(usize),
    /// Signed, of this many bytes.
    Signed(usize),
}

impl Element {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Unsigned(bytes) | Self::Signed(bytes) => bytes,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let hint = "save it as float16, float32, float64 or integers, little-endian";
        let unknown = || format!("its type is {text:?}; {hint}");
        let mut letters = text.chars();
        let (order, kind) = (letters.next(), letters.next());
        let element = match (kind, letters.as_str()) {
            (Some('f'), "2") => Self::F16,
            (Some('f'), "4") => Self::F32,
            (Some('f'), "8") => Self::F64,
            (Some('u'), "1" | "2" | "4" | "8") => Self::Unsigned(width(letters.as_str())),
            (Some('i'), "1" | "2" | "4" | "8") => Self::Signed(width(letters.as_str())),
            _ => return Err(unknown()),
        };
        match order {
            Some('<') => Ok(element),
            Some('|' | '=') if element.bytes() == 1 => Ok(element),
            _ => Err(unknown()),
        }
    }

    fn name(self) -> String {
        match self {
            Self::F16 => "<f2".into(),
            Self::F32 => "<f4".into(),
            Self::F64 => "<f8".into(),
            Self::Unsigned(1) => "|u1".into(),
            Self::Signed(1) => "|i1".into(),
            Self::Unsigned(bytes) => format!("<u{bytes}"),
            Self::Signed(bytes) => format!("<i{bytes}"),
        }
    }
}

/// The value of one digit.
fn width(digit: &str) -> usize {
    digit.bytes().map(|byte| usize::from(byte - b'0')).sum()
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) element: Element,
    /// Whether the first axis varies fastest.
    pub(crate) fortran_order: bool,
    pub(crate) shape: Vec<u64>,
}

/// Why a header was not read.
#[derive(Debug)]
pub(crate) enum HeaderError {
    Io(io::Error),
    Bad(String),
}

impl From<io::Error> for HeaderError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<String> for HeaderError {
    fn from(reason: String) -> Self {
        Self::Bad(reason)
    }
}

impl Header {
    /// Reads the header and its length in bytes, and leaves the reader at the first element.
    pub(crate) fn read(reader: &mut dyn Read) -> Result<(Self, u64), HeaderError> {
        let mut start = [0; 8];
        reader.read_exact(&mut start)?;
        if &start[..6] != MAGIC {
            return Err(HeaderError::Bad("it is no .npy array".into()));
        }
        let (before, len) = match start[6] {
            1 => {
                let mut len = [0; 2];
                reader.read_exact(&mut len)?;
                (10, usize::from(u16::from_le_bytes(len)))
            }
            2 | 3 => {
                let mut len = [0; 4];
                reader.read_exact(&mut len)?;
                (12, u32::from_le_bytes(len) as usize)
            }
            other => {
                return Err(format!("it is version {other} of .npy; 1 to 3 are read").into());
            }
        };
        if len > MAX_HEADER {
            return Err(
                format!("its header has {len} bytes; at most {MAX_HEADER} are read").into(),
            );
        }
        let mut text = vec![0; len];
        reader.read_exact(&mut text)?;
        let text = std::str::from_utf8(&text).map_err(|_| "its header is no text".to_owned())?;
        Ok((Self::parse(text)?, (before + len) as u64))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text.trim() };
        let (mut element, mut order, mut shape) = (None, None, None);
        parser.expect('{')?;
        while !parser.take('}') {
            let key = parser.string()?;
            parser.expect(':')?;
            match key {
                "descr" if parser.peek('[') => return Err("its elements are records".into()),
                "descr" => element = Some(Element::parse(parser.string()?)?),
                "fortran_order" => order = Some(parser.boolean()?),
                "shape" => shape = Some(parser.shape()?),
                _ => return Err(format!("its header has the key {key:?}")),
            }
            if !parser.take(',') {
                parser.expect('}')?;
                break;
            }
        }
        if !parser.rest.is_empty() {
            return Err("its header goes on after its end".into());
        }
        match (element, order, shape) {
            (Some(element), Some(fortran_order), Some(shape)) => Ok(Self {
                element,
                fortran_order,
                shape,
            }),
            _ => Err("its header lacks descr, fortran_order or shape".into()),
        }
    }

    /// Writes the header as NumPy does, elements beginning at a multiple of 64 bytes.
    pub(crate) fn write(&self, writer: &mut dyn Write) -> io::Result<()> {
        let axes: String = self.shape.iter().map(|axis| format!("{axis}, ")).collect();
        let axes = match self.shape.len() {
            1 => axes.trim_end(),
            _ => axes.trim_end_matches(", "),
        };
        let order = if self.fortran_order { "True" } else { "False" };
        let mut text = format!(
            "{{'descr': '{}', 'fortran_order': {order}, 'shape': ({axes}), }}",
            self.element.name()
        );
        while !(MAGIC.len() + 4 + text.len() + 1).is_multiple_of(64) {
            text.push(' ');
        }
        text.push('\n');
        let len = u16::try_from(text.len()).map_err(io::Error::other)?;
        writer.write_all(MAGIC)?;
        writer.write_all(&[1, 0])?;
        writer.write_all(&len.to_le_bytes())?;
        writer.write_all(text.as_bytes())
    }
}

/// What is left of a header's text.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn peek(&mut self, letter: char) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.starts_with(letter)
    }

    fn take(&mut self, letter: char) -> bool {
        let there = self.peek(letter);
        if there {
            self.rest = &self.rest[letter.len_utf8()..];
        }
        there
    }

    fn expect(&mut self, letter: char) -> Result<(), String> {
        if self.take(letter) {
            return Ok(());
        }
        Err(format!("its header lacks `{letter}`"))
    }

    /// A string in quotes, without escapes.
    fn string(&mut self) -> Result<&'a str, String> {
        let quote = if self.take('"') {
            '"'
        } else {
            self.expect('\'')?;
            '\''
        };
        let (inside, rest) = self
            .rest
            .split_once(quote)
            .ok_or("its header has an open string")?;
        self.rest = rest;
        Ok(inside)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("its fortran_order is neither True nor False".into())
    }

    /// A tuple of numbers; those of Python 2 may end in L.
    fn shape(&mut self) -> Result<Vec<u64>, String> {
        self.expect('(')?;
        let mut shape = Vec::new();
        while !self.take(')') {
            self.rest = self.rest.trim_start();
            let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = self.rest.split_at(digits);
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            let axis = number
                .parse()
                .map_err(|_| "its shape is no tuple of sizes")?;
            shape.push(axis);
            if shape.len() > MAX_AXES {
                return Err(format!("it has more than {MAX_AXES} axes"));
            }
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<(Header, u64), HeaderError> {
        Header::read(&mut &bytes[..])
    }

    fn with_text(text: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn what_is_written_is_read_again() {
        for shape in [vec![], vec![7], vec![2048, 2048], vec![5, 4, 6, 3]] {
            for element in [Element::F64, Element::Unsigned(1), Element::Signed(8)] {
                let header = Header {
                    element,
                    fortran_order: false,
                    shape: shape.clone(),
                };
                let mut bytes = Vec::new();
                header.write(&mut bytes).unwrap();
                assert_eq!(bytes.len() % 64, 0);
                let found = read(&bytes).unwrap();
                assert_eq!(found, (header, bytes.len() as u64));
            }
        }
    }

    #[test]
    fn the_spellings_of_old_and_new_numpy_are_read() {
        let old = with_text("{'shape': (3L, 4L), 'fortran_order': True, 'descr': '<f4'}   \n");
        let (header, _) = read(&old).unwrap();
        assert_eq!(header.shape, [3, 4]);
        assert!(header.fortran_order);
        let mut new = b"\x93NUMPY\x03\x00".to_vec();
        let text = r#"{"descr": "|u1", "fortran_order": False, "shape": (), }"#;
        new.extend((text.len() as u32).to_le_bytes());
        new.extend(text.as_bytes());
        let (header, len) = read(&new).unwrap();
        assert_eq!((header.shape.len(), len), (0, new.len() as u64));
    }

    #[test]
    fn headers_that_cannot_be_used_are_refused_with_a_reason() {
        let reason = |bytes: &[u8]| match read(bytes).unwrap_err() {
            HeaderError::Bad(reason) => reason,
            HeaderError::Io(error) => panic!("{error}"),
        };
        for (text, part) in [
            ("", "lacks `{`"),
            (
                "{'descr': '>f8', 'fortran_order': False, 'shape': (1,)}",
                ">f8",
            ),
            (
                "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
                "|O",
            ),
            ("{'descr': [('a', '<f8')], 'shape': (1,)}", "records"),
            (
                "{'descr': '<f8', 'fortran_order': 0, 'shape': (1,)}",
                "fortran_order",
            ),
            (
                "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
                "shape",
            ),
            (
                "{'descr': '<f8', 'fortran_order': False, 'shape': ((((((",
                "shape",
            ),
            (
                "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,)}",
                "shape",
            ),
            ("{'descr': '<f8', 'shape': (1,)}", "lacks descr"),
            ("{'a': 1}", "the key \"a\""),
            ("{'descr': '<f8}", "open string"),
            ("{} {}", "after its end"),
        ] {
            let found = reason(&with_text(text));
            assert!(found.contains(part), "{text}: {found}");
        }
        assert!(reason(b"\x93NUMPY\x04\x00........").contains("version 4"));
        assert!(reason(b"\x93NUMPX\x01\x00..").contains("no .npy"));
        // Four gigabytes of header are not reserved.
        assert!(reason(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").contains("4294967295 bytes"));
    }
}
