//! Archives become files or nothing.

use std::fs;
use std::io::Write;
use std::path::Path;

use diffrep_fetch::{FetchError, Format, Options, Origin, Unpack};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use crate::server::{Server, UNKNOWN, asset, known, names, options};

const PLAN: Unpack = Unpack {
    format: Format::Tar,
    yields: &["set"],
    max_bytes: 1 << 20,
};

/// An entry of any kind under any name; the `tar` crate would not write the hostile ones.
fn append(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, data: &[u8]) {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o4777);
    header.set_size(data.len() as u64);
    header.set_cksum();
    tar.append(&header, data).unwrap();
}

/// What a good archive begins with.
fn builder() -> Builder<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    append(&mut tar, EntryType::Directory, "set/", "", b"");
    append(
        &mut tar,
        EntryType::Regular,
        "set/images/a b.jpg",
        "",
        b"image",
    );
    append(&mut tar, EntryType::Regular, "notes.txt", "", b"notes");
    tar
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Fetches `archive` into `folder` and unpacks it.
fn unpack(
    archive: &[u8],
    plan: Unpack,
    folder: &Path,
) -> Result<diffrep_fetch::Fetched, FetchError> {
    let server = Server::of(archive.to_vec());
    let asset = asset(known(archive), server.url("file.bin"), Some(plan));
    diffrep_fetch::fetch(&asset, folder, &options(), |_| ())
}

/// Makes sure that an archive is refused as a whole.
fn refused(archive: &[u8], plan: Unpack) -> FetchError {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("in");
    let error = unpack(archive, plan, &folder).unwrap_err();
    assert_eq!(
        names(&folder),
        ["file.bin"],
        "nothing beside the archive: {error}"
    );
    assert_eq!(names(dir.path()), ["in"], "nothing outside: {error}");
    error
}

#[test]
fn an_archive_is_unpacked_once() {
    let archive = builder().into_inner().unwrap();
    let packed = gz(&archive);
    let tar_gz = Unpack {
        format: Format::TarGz,
        ..PLAN
    };
    for (bytes, plan) in [(&archive, PLAN), (&packed, tar_gz)] {
        let dir = tempfile::tempdir().unwrap();
        let fetched = unpack(bytes, plan, dir.path()).unwrap();
        let placed = ["notes.txt", "set"].map(|name| dir.path().join(name));
        assert_eq!(
            fetched.files[0].unpacked, placed,
            "what is waited for comes last"
        );
        assert_eq!(
            fs::read(dir.path().join("set/images/a b.jpg")).unwrap(),
            b"image"
        );
        assert_eq!(names(dir.path()), ["file.bin", "notes.txt", "set"]);

        // Once unpacked the archive is not needed any more.
        fs::remove_file(dir.path().join("file.bin")).unwrap();
        let again = unpack(bytes, plan, dir.path()).unwrap();
        assert_eq!(again.files[0].origin, Origin::Unpacked);
        assert_eq!(names(dir.path()), ["notes.txt", "set"]);
    }
}

#[cfg(unix)]
#[test]
fn permissions_of_an_archive_are_not_taken_over() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    unpack(&builder().into_inner().unwrap(), PLAN, dir.path()).unwrap();
    let mode = fs::metadata(dir.path().join("notes.txt"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(
        mode & 0o7111,
        0,
        "neither set-user-id nor executable: {mode:o}"
    );
}

#[test]
fn archives_go_when_they_are_not_wanted() {
    let archive = builder().into_inner().unwrap();
    let server = Server::of(archive.clone());
    let dir = tempfile::tempdir().unwrap();
    let asset = asset(UNKNOWN, server.url("file.bin"), Some(PLAN));
    let sparing = Options {
        keep_archives: false,
        ..options()
    };
    diffrep_fetch::fetch(&asset, dir.path(), &sparing, |_| ()).unwrap();
    assert_eq!(names(dir.path()), ["notes.txt", "set"]);
}

#[test]
fn a_killed_unpack_is_done_again() {
    let archive = builder().into_inner().unwrap();
    let dir = tempfile::tempdir().unwrap();
    // Killed while files were written, and killed between two renames.
    fs::create_dir_all(dir.path().join(".file.bin.unpack/set/half")).unwrap();
    fs::write(dir.path().join("notes.txt"), "notes").unwrap();
    fs::write(dir.path().join("file.bin"), &archive).unwrap();
    let fetched = unpack(&archive, PLAN, dir.path()).unwrap();
    assert_eq!(fetched.files[0].origin, Origin::Present);
    assert_eq!(fetched.files[0].unpacked, [dir.path().join("set")]);
    assert_eq!(names(dir.path()), ["file.bin", "notes.txt", "set"]);
    assert_eq!(names(&dir.path().join("set")), ["images"]);
}

#[test]
fn long_names_are_whole() {
    let mut tar = builder();
    let name = format!("set/{}/{}.jpg", "folder".repeat(20), "image".repeat(25));
    let mut header = Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    tar.append_data(&mut header, &name, &b"long"[..]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    unpack(&tar.into_inner().unwrap(), PLAN, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"long");
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in [
        "../evil",
        "set/../../evil",
        "/evil",
        "//evil",
        "set/..",
        "..",
    ] {
        let mut tar = builder();
        append(&mut tar, EntryType::Regular, name, "", b"evil");
        let error = refused(&tar.into_inner().unwrap(), PLAN);
        let FetchError::Entry { entry, reason, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(entry, name);
        assert!(
            ["leads out of its folder", "has an absolute name"].contains(reason),
            "{reason}"
        );
    }
}

#[test]
fn links_and_special_files_are_refused() {
    for (kind, link, words) in [
        (EntryType::Symlink, "/etc", "is a link"),
        (EntryType::Symlink, "../../out", "is a link"),
        (EntryType::Symlink, "images", "is a link"),
        (EntryType::Link, "/etc/passwd", "is a link"),
        (EntryType::Link, "notes.txt", "is a link"),
        (EntryType::Char, "", "neither a file nor a folder"),
        (EntryType::Block, "", "neither a file nor a folder"),
        (EntryType::Fifo, "", "neither a file nor a folder"),
        (EntryType::new(b'Z'), "", "neither a file nor a folder"),
    ] {
        let mut tar = builder();
        append(&mut tar, kind, "set/trap", link, b"");
        // A file through the link, which must never be reached.
        append(&mut tar, EntryType::Regular, "set/trap/evil", "", b"evil");
        let error = refused(&tar.into_inner().unwrap(), PLAN).to_string();
        assert!(
            error.contains("set/trap\"") && error.contains(words),
            "{error}"
        );
    }
}

#[test]
fn a_file_twice_or_below_a_file_is_refused() {
    let mut tar = builder();
    append(
        &mut tar,
        EntryType::Regular,
        "./set//images/a b.jpg",
        "",
        b"other",
    );
    let error = refused(&tar.into_inner().unwrap(), PLAN);
    assert!(error.to_string().contains("occurs twice"), "{error}");
    let mut tar = builder();
    append(&mut tar, EntryType::Regular, "notes.txt/below", "", b"x");
    refused(&tar.into_inner().unwrap(), PLAN);
}

#[test]
fn limits_are_kept() {
    let mut tar = builder();
    append(
        &mut tar,
        EntryType::Regular,
        "set/big",
        "",
        &vec![0; 1 << 20],
    );
    let packed = gz(&tar.into_inner().unwrap());
    assert!(
        packed.len() < 1 << 16,
        "small on the disk, large when unpacked"
    );
    let plan = Unpack {
        format: Format::TarGz,
        ..PLAN
    };
    let error = refused(&packed, plan);
    assert!(
        matches!(error, FetchError::TooMuch { limit, .. } if limit == 1 << 20),
        "{error:?}"
    );
}

#[test]
fn a_header_that_would_fill_the_memory_is_refused() {
    // A long name of 64 MB: the reader of archives would keep all of it.
    let mut tar = builder();
    append(
        &mut tar,
        EntryType::GNULongName,
        "././@LongLink",
        "",
        &vec![b'a'; 1 << 26],
    );
    append(&mut tar, EntryType::Regular, "set/x", "", b"");
    let packed = gz(&tar.into_inner().unwrap());
    let plan = Unpack {
        format: Format::TarGz,
        max_bytes: 1 << 30,
        ..PLAN
    };
    let error = refused(&packed, plan);
    let FetchError::Damaged { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(
        source
            .to_string()
            .contains("longer than any real archive's"),
        "{source}"
    );
}

#[test]
fn a_size_that_lies_is_noticed() {
    let mut tar = builder();
    append(&mut tar, EntryType::Regular, "set/short", "", b"x");
    let mut bytes = tar.into_inner().unwrap();
    // The last header says 2^33 - 1 bytes, where the archive ends after one block.
    let at = bytes
        .windows(9)
        .rposition(|window| window == b"set/short")
        .unwrap();
    let mut header = Header::new_ustar();
    header.as_mut_bytes().copy_from_slice(&bytes[at..at + 512]);
    header.set_size((1 << 33) - 1);
    header.set_cksum();
    bytes[at..at + 512].copy_from_slice(header.as_bytes());
    let roomy = Unpack {
        max_bytes: 1 << 40,
        ..PLAN
    };
    assert!(matches!(refused(&bytes, roomy), FetchError::Damaged { .. }));
    assert!(matches!(refused(&bytes, PLAN), FetchError::TooMuch { .. }));
}

#[test]
fn damaged_archives_are_refused_wherever_they_end() {
    let plan = Unpack {
        format: Format::TarGz,
        ..PLAN
    };
    let packed = gz(&builder().into_inner().unwrap());
    for end in 0..packed.len() {
        let error = refused(&packed[..end], plan);
        assert!(
            matches!(error, FetchError::Damaged { .. } | FetchError::Lacks { .. }),
            "{error:?}"
        );
    }
    // The checksum stands in the last eight bytes, behind the archive's own end.
    let mut flipped = packed.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    assert!(matches!(
        refused(&flipped, plan),
        FetchError::Damaged { .. }
    ));
    assert!(matches!(
        refused(b"not an archive at all", plan),
        FetchError::Damaged { .. }
    ));
    assert!(matches!(
        refused(&[b'x'; 2048], PLAN),
        FetchError::Damaged { .. }
    ));
}

#[test]
fn another_archive_than_expected_is_refused() {
    let plan = Unpack {
        yields: &["set", "labels.mat"],
        ..PLAN
    };
    let error = refused(&builder().into_inner().unwrap(), plan);
    assert!(
        matches!(
            error,
            FetchError::Lacks {
                name: "labels.mat",
                ..
            }
        ),
        "{error:?}"
    );
}
