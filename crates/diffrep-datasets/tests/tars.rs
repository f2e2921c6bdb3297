//! The forms that a tar archive can have, and those that are refused.

mod common;

use std::io::Write;

use common::{colours, png, refusal, tar, write};
use diffrep_datasets::{Split, open};
use tempfile::tempdir;

fn header(name: &str, size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    let field = &mut header.as_old_mut().name;
    field[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(kind);
    header.set_cksum();
    header
}

/// The blocks of one member.
fn member(header: &tar::Header, content: &[u8]) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Members that make one good sample.
fn sample() -> Vec<u8> {
    let bytes = tar(&[("a.png", png([7; 3])), ("a.cls", b"0".to_vec())]);
    bytes[..bytes.len() - 1024].to_vec()
}

fn open_tar(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let folder = tempdir().unwrap();
    let path = folder.path().join("train.tar");
    write(&path, bytes);
    match open(&path, Split::Train) {
        Ok(dataset) => Ok(colours(&dataset)),
        Err(_) => Err(refusal(&path, Split::Train)),
    }
}

#[test]
fn long_names_in_each_form_are_read() {
    let folder = "long folder/".repeat(20);
    let (image, label) = (format!("{folder}a.png"), format!("{folder}a.cls"));
    let members = [
        (image.as_str(), png([1; 3])),
        (label.as_str(), b"0".to_vec()),
    ];
    assert_eq!(open_tar(&tar(&members)).unwrap(), [[1; 3]], "GNU");

    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in &members {
        // The name in the header is cut off; the attribute holds.
        builder
            .append_pax_extensions([("path", name.as_bytes())])
            .unwrap();
        builder
            .append(
                &header("cut", content.len() as u64, tar::EntryType::Regular),
                content.as_slice(),
            )
            .unwrap();
    }
    assert_eq!(
        open_tar(&builder.into_inner().unwrap()).unwrap(),
        [[1; 3]],
        "pax"
    );

    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in &members {
        let mut header = tar::Header::new_ustar();
        // 120 + 1 + the rest: a prefix and a name.
        header.set_path(name).unwrap();
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_slice()).unwrap();
    }
    assert_eq!(
        open_tar(&builder.into_inner().unwrap()).unwrap(),
        [[1; 3]],
        "ustar"
    );
}

#[test]
fn the_size_in_the_attributes_and_in_binary_holds() {
    let image = png([2; 3]);
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_pax_extensions([("size", image.len().to_string().as_bytes())])
        .unwrap();
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(member(&header("a.png", 0, tar::EntryType::Regular), &image));
    let mut binary = header("a.cls", 0, tar::EntryType::Regular);
    binary.as_old_mut().size = *b"\x80\0\0\0\0\0\0\0\0\0\0\x01";
    binary.set_cksum();
    bytes.extend(member(&binary, b"0"));
    assert_eq!(open_tar(&bytes).unwrap(), [[2; 3]]);
}

#[test]
fn links_folders_and_devices_are_passed_over() {
    use tar::EntryType;
    let mut bytes = Vec::new();
    for kind in [
        EntryType::Link,
        EntryType::Symlink,
        EntryType::Char,
        EntryType::Block,
        EntryType::Directory,
        EntryType::Fifo,
    ] {
        // A size without content, as some programs write for links.
        let mut link = header("b.png", 9_999, kind);
        link.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
        link.set_cksum();
        bytes.extend(member(&link, b""));
    }
    bytes.extend(sample());
    assert_eq!(open_tar(&bytes).unwrap(), [[7; 3]]);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in [
        "/etc/a.png",
        "../a.png",
        "x/../../a.png",
        "x\\a.png",
        "c:a.png",
    ] {
        let mut bytes = sample();
        bytes.extend(member(&header(name, 1, tar::EntryType::Regular), b"x"));
        let message = open_tar(&bytes).unwrap_err();
        assert!(
            message.contains("train.tar") && message.contains("names must be relative"),
            "{name}: {message}"
        );
    }
}

#[test]
fn sizes_beyond_the_end_are_refused() {
    let mut bytes = sample();
    let end = bytes.len();
    bytes.extend(member(&header("b.png", 513, tar::EntryType::Regular), b"x"));
    let message = open_tar(&bytes).unwrap_err();
    assert!(
        message.contains("has 513 bytes, but only 512 are left"),
        "{message}"
    );
    assert!(
        message.contains(&format!("at byte {}", end + 512)),
        "{message}"
    );

    // 2^63 in binary: neither a seek nor a buffer of that size is tried.
    let mut huge = header("b.png", 0, tar::EntryType::Regular);
    huge.as_old_mut().size = *b"\x80\0\0\0\x80\0\0\0\0\0\0\0";
    huge.set_cksum();
    for (start, expected) in [(0, "only"), (1, "a size is not a number")] {
        // With a higher byte it does not even fit 64 bits.
        huge.as_old_mut().size[3] = start;
        huge.set_cksum();
        let mut bytes = sample();
        bytes.extend(member(&huge, b"x"));
        let message = open_tar(&bytes).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn the_last_padding_and_the_end_marker_may_be_missing() {
    let bytes = sample();
    assert_eq!(open_tar(&bytes).unwrap().len(), 1);
    assert_eq!(open_tar(&bytes[..bytes.len() - 511]).unwrap().len(), 1);
    assert!(
        open_tar(&bytes[..bytes.len() - 512])
            .unwrap_err()
            .contains("truncated")
    );
    let mut half = bytes.clone();
    half.extend(&header("b.png", 0, tar::EntryType::Regular).as_bytes()[..100]);
    assert!(
        open_tar(&half)
            .unwrap_err()
            .contains("within a header of 512 bytes")
    );
}

#[test]
fn damaged_headers_are_refused() {
    let mut bytes = sample();
    bytes[3] ^= 1;
    let message = open_tar(&bytes).unwrap_err();
    assert!(
        message.contains("at byte 0") && message.contains("checksum"),
        "{message}"
    );
    assert!(open_tar(&[b'x'; 2048]).unwrap_err().contains("checksum"));
}

#[test]
fn sparse_members_and_long_attributes_are_refused() {
    let mut bytes = sample();
    bytes.extend(member(&header("b.png", 0, tar::EntryType::GNUSparse), b""));
    assert!(open_tar(&bytes).unwrap_err().contains("sparse"));
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_pax_extensions([("GNU.sparse.major", b"1".as_slice())])
        .unwrap();
    assert!(
        open_tar(&builder.into_inner().unwrap())
            .unwrap_err()
            .contains("sparse")
    );
    for kind in [tar::EntryType::GNULongName, tar::EntryType::XHeader] {
        let bytes = member(&header("x", 65_537, kind), &[b'x'; 65_537]);
        let message = open_tar(&bytes).unwrap_err();
        assert!(
            message.contains("65537 bytes, expected at most 65536"),
            "{message}"
        );
    }
    for records in [
        "5 a=",
        "99 path=a\n",
        "x path=a\n",
        "0 \n",
        "-1 a=b\n",
        "8 path\n\n",
    ] {
        let bytes = member(
            &header("x", records.len() as u64, tar::EntryType::XHeader),
            records.as_bytes(),
        );
        assert!(
            open_tar(&bytes)
                .unwrap_err()
                .contains("attributes is broken"),
            "{records:?}"
        );
    }
}

#[test]
fn an_image_of_an_impossible_size_is_refused_before_it_is_read() {
    // A file with a hole: 300 MiB that take no room.
    let folder = tempdir().unwrap();
    let path = folder.path().join("train.tar");
    let mut file = std::fs::File::create(&path).unwrap();
    let size = 300 << 20;
    file.write_all(header("a.png", size, tar::EntryType::Regular).as_bytes())
        .unwrap();
    file.set_len(512 + size).unwrap();
    use std::io::Seek;
    file.seek(std::io::SeekFrom::End(0)).unwrap();
    file.write_all(&member(&header("a.cls", 1, tar::EntryType::Regular), b"0"))
        .unwrap();
    let message = refusal(&path, Split::Train);
    assert!(message.contains("expected at most 268435456"), "{message}");
}
