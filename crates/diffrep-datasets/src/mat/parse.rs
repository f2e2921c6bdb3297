//! From bytes to arrays: tags, compression, and the parts of an array.

use std::collections::HashSet;
use std::io::Read;

use flate2::read::ZlibDecoder;

use super::{Array, MAX_DECODED, MAX_DEPTH, MatFault};

/// The HDF5 signature, which stands at the start or after MATLAB's block of 512 bytes.
const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

const HEADER: usize = 128;

// Element types, by their names in MATLAB's description of the format.
const MI_INT32: u32 = 5;
const MI_UINT32: u32 = 6;
const MI_MATRIX: u32 = 14;
const MI_COMPRESSED: u32 = 15;
const MI_UTF8: u32 = 16;

#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn bytes<const N: usize>(self, bytes: &[u8]) -> [u8; N] {
        let mut array: [u8; N] = bytes.try_into().expect("chunks have the size of a number");
        if let Self::Big = self {
            array.reverse();
        }
        array
    }

    fn u32(self, bytes: &[u8]) -> u32 {
        u32::from_le_bytes(self.bytes(bytes))
    }
}

/// Reads the variables of a file from its bytes, in the file's order.
///
/// Never panics and never takes memory for what is not there: foreign bytes may hold anything.
///
/// # Errors
///
/// If the bytes are not a well-formed MATLAB 5 file within [`MAX_DECODED`] and [`MAX_DEPTH`].
pub fn parse(bytes: &[u8]) -> Result<Vec<(String, Array)>, MatFault> {
    let order = header(bytes)?;
    let mut rest = &bytes[HEADER..];
    let mut budget = MAX_DECODED;
    let mut variables = Vec::new();
    let mut names = HashSet::new();
    while !rest.is_empty() {
        let element = Element::take(&mut rest, order)?;
        let variable = if element.kind == MI_COMPRESSED {
            let content = decompress(element.data, &mut budget)?;
            let inner = Element::take(&mut content.as_slice(), order)?;
            matrix(inner, order, 0)?
        } else {
            matrix(element, order, 0)?
        };
        // Nameless arrays hold MATLAB's own data; nobody can ask for them.
        if !variable.0.is_empty() && !names.insert(variable.0.clone()) {
            return Err(MatFault::Duplicate { name: variable.0 });
        }
        variables.push(variable);
    }
    Ok(variables)
}

fn header(bytes: &[u8]) -> Result<Order, MatFault> {
    let hdf5_at = |at: usize| bytes.get(at..).is_some_and(|tail| tail.starts_with(HDF5));
    if hdf5_at(0) || hdf5_at(512) || bytes.starts_with(b"MATLAB 7.3") {
        return Err(MatFault::Hdf5);
    }
    match bytes.get(HEADER - 4..HEADER) {
        Some([0, 1, b'I', b'M']) => Ok(Order::Little),
        Some([1, 0, b'M', b'I']) => Ok(Order::Big),
        _ => Err(MatFault::Header {
            found: bytes.iter().skip(HEADER - 4).take(4).copied().collect(),
        }),
    }
}

fn decompress(packed: &[u8], budget: &mut u64) -> Result<Vec<u8>, MatFault> {
    let mut content = Vec::new();
    ZlibDecoder::new(packed)
        .take(*budget + 1)
        .read_to_end(&mut content)
        .map_err(MatFault::Compression)?;
    *budget = budget
        .checked_sub(content.len() as u64)
        .ok_or(MatFault::TooLarge)?;
    Ok(content)
}

/// A type and the bytes that belong to it.
struct Element<'a> {
    kind: u32,
    data: &'a [u8],
}

impl<'a> Element<'a> {
    /// Cuts the first element off, with its padding.
    fn take(rest: &mut &'a [u8], order: Order) -> Result<Self, MatFault> {
        let (tag, after) = split(rest, 8, "the tag of an element")?;
        let first = order.u32(&tag[..4]);
        if first >> 16 != 0 {
            // The small form: size and type share four bytes, and the data has the other four.
            let size = (first >> 16) as usize;
            let data = tag[4..].get(..size).ok_or_else(|| MatFault::Count {
                part: "the size of a small element",
                expected: "at most 4".to_owned(),
                found: size as u64,
            })?;
            *rest = after;
            return Ok(Self {
                kind: first & 0xffff,
                data,
            });
        }
        let size = order.u32(&tag[4..]) as usize;
        let (data, mut after) = split(after, size, "the data of an element")?;
        if first != MI_COMPRESSED {
            // Some writers leave the padding of the last element out.
            let padding = (size.next_multiple_of(8) - size).min(after.len());
            after = &after[padding..];
        }
        *rest = after;
        Ok(Self { kind: first, data })
    }

    fn expect(self, part: &'static str, kind: u32) -> Result<&'a [u8], MatFault> {
        if self.kind == kind {
            return Ok(self.data);
        }
        let expected = match kind {
            MI_INT32 => "5 (32-bit integers)",
            MI_UINT32 => "6 (unsigned 32-bit integers)",
            _ => "14 (an array)",
        };
        Err(wrong_type(part, expected, self.kind))
    }
}

fn split<'a>(
    bytes: &'a [u8],
    size: usize,
    part: &'static str,
) -> Result<(&'a [u8], &'a [u8]), MatFault> {
    bytes.split_at_checked(size).ok_or(MatFault::Truncated {
        part,
        expected: size as u64,
        found: bytes.len() as u64,
    })
}

/// Reads an array and its name, which is empty inside of cells and structures.
fn matrix(element: Element<'_>, order: Order, depth: usize) -> Result<(String, Array), MatFault> {
    let mut rest = element.expect("a variable, a cell or a field", MI_MATRIX)?;
    if rest.is_empty() {
        // How MATLAB writes an empty cell.
        return Ok((String::new(), numbers(vec![0, 0], Vec::new())));
    }
    let flags = Element::take(&mut rest, order)?.expect("the flags of an array", MI_UINT32)?;
    let (flags, _) = split(flags, 8, "the flags of an array")?;
    let flags = order.u32(&flags[..4]);
    let class = (flags & 0xff) as u8;
    if !matches!(class, 1 | 2 | 4 | 6..=15) {
        return Ok((String::new(), Array::Unsupported { class }));
    }
    let (dims, count) = dimensions(&mut rest, order)?;
    let name = identifier(Element::take(&mut rest, order)?.data);
    let array = match class {
        1 => Array::Cell {
            dims,
            cells: matrices(&mut rest, count, order, depth)?,
        },
        2 => structure(&mut rest, dims, count, order, depth)?,
        4 => Array::Text(text(&mut rest, &dims, count, order)?),
        _ if flags & 0x0800 != 0 => Array::Unsupported { class },
        _ => numbers(dims, values(&mut rest, count, order)?),
    };
    Ok((name, array))
}

fn numbers(dims: Vec<usize>, values: Vec<f64>) -> Array {
    Array::Numbers { dims, values }
}

fn dimensions(rest: &mut &[u8], order: Order) -> Result<(Vec<usize>, u64), MatFault> {
    let part = "the dimensions of an array";
    let bytes = Element::take(rest, order)?.expect(part, MI_INT32)?;
    if bytes.len() % 4 != 0 || !(8..=128).contains(&bytes.len()) {
        return Err(MatFault::Count {
            part: "the number of bytes for the dimensions of an array",
            expected: "8 to 128 in steps of 4".to_owned(),
            found: bytes.len() as u64,
        });
    }
    let dims: Vec<u32> = bytes.chunks_exact(4).map(|dim| order.u32(dim)).collect();
    let count = dims
        .iter()
        .try_fold(1_u64, |count, &dim| count.checked_mul(u64::from(dim)))
        .ok_or_else(|| MatFault::Count {
            part: "a dimension of an array too large to count; the first",
            expected: "a product below 2^64".to_owned(),
            found: u64::from(dims[0]),
        })?;
    Ok((dims.into_iter().map(|dim| dim as usize).collect(), count))
}

/// Names are ASCII by the format; what is not is kept recognisable.
fn identifier(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

fn matrices(
    rest: &mut &[u8],
    count: u64,
    order: Order,
    depth: usize,
) -> Result<Vec<Array>, MatFault> {
    if depth == MAX_DEPTH {
        return Err(MatFault::TooDeep);
    }
    // Each takes at least a tag, so the number is checked before memory is taken for it.
    if count > rest.len() as u64 / 8 {
        return Err(MatFault::Truncated {
            part: "an array of cells or structures",
            expected: count.saturating_mul(8),
            found: rest.len() as u64,
        });
    }
    (0..count)
        .map(|_| {
            let element = Element::take(rest, order)?;
            Ok(matrix(element, order, depth + 1)?.1)
        })
        .collect()
}

fn structure(
    rest: &mut &[u8],
    dims: Vec<usize>,
    count: u64,
    order: Order,
    depth: usize,
) -> Result<Array, MatFault> {
    let part = "the length of field names";
    let length = Element::take(rest, order)?.expect(part, MI_INT32)?;
    let length = order.u32(split(length, 4, part)?.0) as usize;
    let names = Element::take(rest, order)?.data;
    if length == 0 || !names.len().is_multiple_of(length) {
        return Err(MatFault::Count {
            part: "the length of field names",
            expected: format!("a divisor of their {} bytes", names.len()),
            found: length as u64,
        });
    }
    let fields: Vec<String> = names.chunks_exact(length).map(identifier).collect();
    let total = count.saturating_mul(fields.len() as u64);
    let values = matrices(rest, total, order, depth)?;
    Ok(Array::Struct {
        dims,
        fields,
        values,
    })
}

fn values(rest: &mut &[u8], count: u64, order: Order) -> Result<Vec<f64>, MatFault> {
    let Element { kind, data } = Element::take(rest, order)?;
    let convert = |size: usize, one: &dyn Fn(&[u8]) -> f64| {
        require_count(data, size, count)?;
        Ok(data.chunks_exact(size).map(one).collect())
    };
    match kind {
        1 => convert(1, &|byte| f64::from(byte[0].cast_signed())),
        2 => convert(1, &|byte| f64::from(byte[0])),
        3 => convert(2, &|b| f64::from(i16::from_le_bytes(order.bytes(b)))),
        4 => convert(2, &|b| f64::from(u16::from_le_bytes(order.bytes(b)))),
        5 => convert(4, &|b| f64::from(i32::from_le_bytes(order.bytes(b)))),
        6 => convert(4, &|b| f64::from(order.u32(b))),
        7 => convert(4, &|b| f64::from(f32::from_le_bytes(order.bytes(b)))),
        9 => convert(8, &|b| f64::from_le_bytes(order.bytes(b))),
        12 => convert(8, &|b| i64::from_le_bytes(order.bytes(b)) as f64),
        13 => convert(8, &|b| u64::from_le_bytes(order.bytes(b)) as f64),
        _ => Err(wrong_type(
            "an array of numbers",
            "1 to 7, 9, 12 or 13",
            kind,
        )),
    }
}

/// The rows of a character array, which lie in the file column by column.
fn text(
    rest: &mut &[u8],
    dims: &[usize],
    count: u64,
    order: Order,
) -> Result<Vec<String>, MatFault> {
    let Element { kind, data } = Element::take(rest, order)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let units: Vec<u16> = match kind {
        // Plain bytes are the first 256 characters of Unicode.
        1 | 2 => data.iter().map(|&byte| u16::from(byte)).collect(),
        // 16-bit units.
        4 | 17 => {
            require_count(data, 2, count)?;
            data.chunks_exact(2)
                .map(|unit| u16::from_le_bytes(order.bytes(unit)))
                .collect()
        }
        MI_UTF8 => std::str::from_utf8(data)
            .map_err(|_| MatFault::Encoding { encoding: "UTF-8" })?
            .encode_utf16()
            .collect(),
        _ => return Err(wrong_type("a text", "1, 2, 4, 16 or 17", kind)),
    };
    let rows = dims[0];
    // Writers count characters beyond 16 bits once or twice; one row needs no count.
    if rows != 1 {
        require_count(&units, 1, count)?;
    }
    (0..rows)
        .map(|row| {
            let row: Vec<u16> = units.iter().skip(row).step_by(rows).copied().collect();
            String::from_utf16(&row).map_err(|_| MatFault::Encoding { encoding: "UTF-16" })
        })
        .collect()
}

fn require_count<T>(data: &[T], size: usize, count: u64) -> Result<(), MatFault> {
    if data.len() as u64 == count.saturating_mul(size as u64) {
        return Ok(());
    }
    Err(MatFault::Count {
        part: "the number of bytes or characters of an array",
        expected: format!("{count} elements of {size}, as its dimensions say"),
        found: data.len() as u64,
    })
}

fn wrong_type(part: &'static str, expected: &'static str, found: u32) -> MatFault {
    MatFault::Type {
        part,
        expected,
        found,
    }
}
