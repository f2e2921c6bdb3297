//! Files arrive whole, whatever the way does to them.

use std::io::Write;
use std::time::{Duration, Instant};
use std::{fs, thread};

use diffrep_fetch::{
    Asset, Evidence, KnownFile, Options, Origin, RemoteFile, Source, Stage, verify,
};

use crate::server::{
    Server, UNKNOWN, asset, fetch, file_head, head, known, names, noise, options, refuse,
    send_file, sha256,
};

const LEN: usize = 700_001;

#[test]
fn a_file_arrives_and_is_not_downloaded_again() {
    let body = noise(LEN);
    let server = Server::of(body.clone());
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new/folder");
    let asset = asset(known(&body), server.url("file.bin"), None);
    let mut seen = Vec::new();
    let fetched = diffrep_fetch::fetch(&asset, &folder, &options(), |progress| {
        seen.push((
            progress.stage,
            progress.bytes,
            progress.total,
            progress.resumed_from,
        ));
    })
    .unwrap();

    assert_eq!(fs::read(folder.join("file.bin")).unwrap(), body);
    assert_eq!(names(&folder), ["file.bin"]);
    assert_eq!(fetched.files[0].origin, Origin::Downloaded);
    let checked = fetched.files[0].checked.as_ref().unwrap();
    assert_eq!((checked.bytes, checked.by), (LEN as u64, Evidence::Sha256));
    assert_eq!(fetched.unverified().count(), 0);
    let total = Some(LEN as u64);
    assert!(seen.contains(&(Stage::Download, LEN as u64, total, 0)));
    assert_eq!(seen.last(), Some(&(Stage::Check, LEN as u64, total, 0)));
    assert!(seen.is_sorted_by_key(|(stage, bytes, ..)| (*stage == Stage::Check, *bytes)));

    let again = fetch(&asset, &folder).unwrap();
    assert_eq!(again.files[0].origin, Origin::Present);
    assert_eq!(
        server.requests().len(),
        1,
        "nothing was asked a second time"
    );
    assert_eq!(
        server.requests()[0].header("accept-encoding"),
        Some("identity")
    );
    assert_eq!(verify(&asset, &folder, |_| ()).unwrap().len(), 1);
}

#[test]
fn a_file_without_published_hash_is_told_unverified_with_the_hash_it_has() {
    let body = noise(1000);
    let server = Server::of(body.clone());
    let dir = tempfile::tempdir().unwrap();
    let asset = asset(UNKNOWN, server.url("file.bin"), None);
    for origin in [Origin::Downloaded, Origin::Present] {
        let fetched = fetch(&asset, dir.path()).unwrap();
        assert_eq!(fetched.files[0].origin, origin);
        let (path, checked) = fetched.unverified().next().unwrap();
        assert_eq!(path, dir.path().join("file.bin"));
        assert_eq!(checked.by, Evidence::Nothing);
        assert_eq!(checked.sha256.as_str(), sha256(&body));
    }
}

#[test]
fn files_that_arrived_stay_when_a_later_one_fails() {
    let (first, second) = (noise(1000), noise(2000));
    let (one, two) = (first.clone(), second.clone());
    let server = Server::start(move |number, request, to| match request.path.as_str() {
        "/one" => send_file(to, request, &one, "\"1\""),
        _ if number == 1 => refuse(to, "404 Not Found"),
        _ => send_file(to, request, &two, "\"2\""),
    });
    let remote = |name, body: &[u8]| RemoteFile {
        file: KnownFile {
            name,
            ..known(body)
        },
        url: server.url(name),
        unpack: None,
    };
    let files = vec![remote("one", &first), remote("two", &second)].leak();
    let both = Asset {
        source: Source::Files(files),
        ..asset(UNKNOWN, "", None)
    };
    let dir = tempfile::tempdir().unwrap();
    fetch(&both, dir.path()).unwrap_err();
    assert_eq!(names(dir.path()), ["one"]);
    let fetched = fetch(&both, dir.path()).unwrap();
    let origins: Vec<_> = fetched.files.iter().map(|file| file.origin).collect();
    assert_eq!(origins, [Origin::Present, Origin::Downloaded]);
    let requests = server.requests();
    let paths: Vec<_> = requests
        .iter()
        .map(|request| request.path.as_str())
        .collect();
    assert_eq!(paths, ["/one", "/two", "/two"]);
}

#[test]
fn redirects_are_followed_and_keep_the_range() {
    let body = noise(LEN);
    let content = body.clone();
    let server = Server::start(move |number, request, to| {
        if request.path == "/file.bin" {
            let there = ("Location", "/elsewhere".to_owned());
            return head(to, "302 Found", &[there, ("Content-Length", "0".into())]);
        }
        let rest = file_head(to, request, &content, "\"1\"")?;
        let until = if number < 2 { 1000 } else { rest.len() };
        to.write_all(&rest[..until])
    });
    let dir = tempfile::tempdir().unwrap();
    let asset = asset(UNKNOWN, server.url("file.bin"), None);
    fetch(&asset, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), body);
    let requests = server.requests();
    let paths: Vec<_> = requests
        .iter()
        .map(|request| request.path.as_str())
        .collect();
    assert_eq!(
        paths,
        ["/file.bin", "/elsewhere", "/file.bin", "/elsewhere"]
    );
    assert_eq!(requests[3].from(), Some(1000));
}

#[test]
fn a_busy_host_is_asked_again_and_its_wait_is_heeded_within_reason() {
    let body = noise(1000);
    let content = body.clone();
    let server = Server::start(move |number, request, to| match number {
        0 => refuse(to, "500 Internal Server Error"),
        1 => {
            let wait = ("Retry-After", "3600".to_owned());
            head(
                to,
                "503 Service Unavailable",
                &[wait, ("Content-Length", "0".into())],
            )
        }
        _ => send_file(to, request, &content, "\"1\""),
    });
    let dir = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    fetch(
        &asset(known(&body), server.url("file.bin"), None),
        dir.path(),
    )
    .unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "an hour is not waited"
    );
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_slow_line_is_fine_and_a_silent_one_is_not() {
    let body = noise(40);
    let content = body.clone();
    let server = Server::start(move |number, request, to| {
        let rest = file_head(to, request, &content, "\"1\"")?;
        let drips = if number == 0 { 20 } else { rest.len() };
        for byte in &rest[..drips] {
            to.write_all(&[*byte])?;
            thread::sleep(Duration::from_millis(60));
        }
        // The first connection falls silent without closing.
        thread::sleep(Duration::from_secs(if number == 0 { 30 } else { 0 }));
        Ok(())
    });
    let dir = tempfile::tempdir().unwrap();
    let patience = Options {
        silence_timeout: Duration::from_secs(1),
        ..options()
    };
    let begin = Instant::now();
    let asset = asset(UNKNOWN, server.url("file.bin"), None);
    diffrep_fetch::fetch(&asset, dir.path(), &patience, |_| ()).unwrap();
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), body);
    // Twenty drips take longer than the silence that is allowed between two.
    assert!(begin.elapsed() > Duration::from_millis(2 * 19 * 60 + 1000));
    assert!(
        begin.elapsed() < Duration::from_secs(30),
        "the silence was not sat out"
    );
    let asked: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.from())
        .collect();
    assert_eq!(asked, [None, Some(20)]);
}

#[test]
fn a_chunked_body_has_no_length_but_an_end() {
    let body = noise(100_000);
    let content = body.clone();
    let server = Server::start(move |number, _, to| {
        head(to, "200 OK", &[("Transfer-Encoding", "chunked".into())])?;
        for chunk in content.chunks(30_000).take(if number == 0 { 2 } else { 4 }) {
            to.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
            to.write_all(chunk)?;
            to.write_all(b"\r\n")?;
        }
        // The first time the connection closes between two chunks: only the missing end tells.
        to.write_all(if number == 0 { b"" } else { b"0\r\n\r\n" })
    });
    let dir = tempfile::tempdir().unwrap();
    let asset = asset(UNKNOWN, server.url("file.bin"), None);
    fetch(&asset, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), body);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn bodies_are_not_decoded_on_the_way() {
    // Some hosts call an archive's own compression an encoding of the transfer; a client that
    // undoes it gives bytes that no published hash is of.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&noise(1000)).unwrap();
    let body = encoder.finish().unwrap();
    for encoding in ["gzip", "x-gzip"] {
        let content = body.clone();
        let server = Server::start(move |_, _, to| {
            let length = ("Content-Length", content.len().to_string());
            head(
                to,
                "200 OK",
                &[length, ("Content-Encoding", encoding.into())],
            )?;
            to.write_all(&content)
        });
        let dir = tempfile::tempdir().unwrap();
        fetch(
            &asset(known(&body), server.url("file.bin"), None),
            dir.path(),
        )
        .unwrap();
        assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), body);
    }
}

#[test]
fn an_md5_is_proof_enough_and_an_empty_file_is_a_file() {
    let server = Server::of(Vec::new());
    let dir = tempfile::tempdir().unwrap();
    let file = KnownFile {
        md5: Some("d41d8cd98f00b204e9800998ecf8427e"), // of no bytes, RFC 1321
        ..UNKNOWN
    };
    let fetched = fetch(&asset(file, server.url("file.bin"), None), dir.path()).unwrap();
    assert_eq!(fetched.files[0].checked.as_ref().unwrap().by, Evidence::Md5);
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), b"");
    assert_eq!(names(dir.path()), ["file.bin"]);
}
