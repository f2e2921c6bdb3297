//! What cannot be had is told with a reason and leaves nothing that looks whole.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc;

use diffrep_artifact::ArtifactError;
use diffrep_fetch::{Asset, FetchError, KnownFile, Options, Origin, Source, find, verify};

use crate::server::{
    Server, UNKNOWN, asset, fetch, file_head, head, known, names, noise, options, refuse, sha256,
};

/// The error of fetching an unknown file from a server that gives every request this answer.
fn error_of(
    file: KnownFile,
    answer: impl Fn(&mut std::net::TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> (FetchError, usize, Vec<String>) {
    let server = Server::start(move |_, _, to| answer(to));
    let dir = tempfile::tempdir().unwrap();
    let error = fetch(&asset(file, server.url("file.bin"), None), dir.path()).unwrap_err();
    (error, server.requests().len(), names(dir.path()))
}

#[test]
fn refusals_are_told_at_once_with_a_hint() {
    for (status, words) in [
        ("404 Not Found", "look for a newer address"),
        ("410 Gone", "look for a newer address"),
        ("403 Forbidden", "access is refused"),
        ("401 Unauthorized", "access is refused"),
        ("416 Range Not Satisfiable", "range"),
        ("418 I'm a teapot", "browser"),
        ("304 Not Modified", "redirects to nowhere"),
    ] {
        let (error, requests, left) = error_of(UNKNOWN, move |to| refuse(to, status));
        let text = error.to_string();
        assert!(
            text.contains(&status[..3]) && text.contains(words),
            "{text}"
        );
        assert!(text.starts_with("http://127.0.0.1"), "{text}");
        assert_eq!(requests, 1, "another attempt would be refused as well");
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn patience_ends() {
    let (error, requests, _) = error_of(UNKNOWN, |to| refuse(to, "503 Service Unavailable"));
    assert!(
        matches!(error, FetchError::Status { status: 503, .. }),
        "{error:?}"
    );
    assert_eq!(requests, 4, "once and three retries");
}

#[test]
fn a_host_that_breaks_off_at_the_same_place_is_not_asked_for_ever() {
    let body = noise(5000);
    // At the second attempt it sends less, at the third more than at the second: no progress.
    let server = Server::start(move |number, _, to| {
        head(to, "200 OK", &[("Content-Length", "5000".into())])?;
        to.write_all(&body[..[3000, 2000][number % 2]])
    });
    let dir = tempfile::tempdir().unwrap();
    let error = fetch(&asset(UNKNOWN, server.url("file.bin"), None), dir.path()).unwrap_err();
    let FetchError::Interrupted {
        bytes, attempts, ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((server.requests().len(), attempts), (4, 4));
    assert_eq!(bytes, 2000);
}

#[test]
fn no_network_is_told() {
    // A port that nobody listens to any more.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let dir = tempfile::tempdir().unwrap();
    let url: &'static str = Box::leak(format!("http://127.0.0.1:{port}/a").into_boxed_str());
    let error = fetch(&asset(UNKNOWN, url, None), dir.path()).unwrap_err();
    assert!(
        matches!(error, FetchError::Unreachable { attempts: 4, .. }),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains("check the network and the proxy"),
        "{error}"
    );
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_circle_of_redirects_is_told() {
    let (error, ..) = error_of(UNKNOWN, |to| {
        head(
            to,
            "302 Found",
            &[
                ("Location", "/file.bin".into()),
                ("Content-Length", "0".into()),
            ],
        )
    });
    assert!(
        error.to_string().contains("redirects in a circle"),
        "{error}"
    );
}

#[test]
fn a_malformed_address_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let error = fetch(&asset(UNKNOWN, "http:// /", None), dir.path()).unwrap_err();
    assert!(matches!(error, FetchError::Refused { .. }), "{error:?}");
}

#[test]
fn a_host_that_does_not_speak_tls_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/a", listener.local_addr().unwrap());
    let host = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        // The client speaks first.
        connection.read_exact(&mut [0; 5]).unwrap();
        connection
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        // It hangs up on what is no TLS.
        let _ = connection.read_to_end(&mut Vec::new());
    });
    let dir = tempfile::tempdir().unwrap();
    let error = fetch(&asset(UNKNOWN, url.leak(), None), dir.path()).unwrap_err();
    assert!(matches!(error, FetchError::Refused { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("the encrypted connection failed"),
        "{error}"
    );
    host.join().unwrap();
}

#[test]
fn another_size_is_refused_before_its_first_byte() {
    let file = KnownFile {
        bytes: Some(999),
        ..UNKNOWN
    };
    let (error, requests, left) = error_of(file, |to| {
        head(to, "200 OK", &[("Content-Length", "1000".into())])
    });
    let FetchError::WrongSize {
        expected: 999,
        found: 1000,
        ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(requests, 1);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn too_many_bytes_are_not_written() {
    let limits = Options {
        max_bytes: 2000,
        ..options()
    };
    let endless = Server::start(|_, _, to| {
        head(to, "200 OK", &[("Transfer-Encoding", "chunked".into())])?;
        loop {
            to.write_all(b"3e8\r\n")?;
            to.write_all(&[b'x'; 1000])?;
            to.write_all(b"\r\n")?;
        }
    });
    let boasting =
        Server::start(|_, _, to| head(to, "200 OK", &[("Content-Length", u64::MAX.to_string())]));
    for server in [endless, boasting] {
        let dir = tempfile::tempdir().unwrap();
        let asset = asset(UNKNOWN, server.url("file.bin"), None);
        let error = diffrep_fetch::fetch(&asset, dir.path(), &limits, |_| ()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("more bytes than the file may have"),
            "{error}"
        );
        assert!(names(dir.path()).is_empty());
    }
}

#[cfg(unix)]
#[test]
fn a_disk_that_is_too_small_is_noticed_before_writing() {
    let server = Server::start(|_, _, to| {
        head(
            to,
            "200 OK",
            &[("Content-Length", (1u64 << 60).to_string())],
        )
    });
    let dir = tempfile::tempdir().unwrap();
    let asset = asset(UNKNOWN, server.url("file.bin"), None);
    let limits = Options {
        max_bytes: u64::MAX,
        ..options()
    };
    let error = diffrep_fetch::fetch(&asset, dir.path(), &limits, |_| ()).unwrap_err();
    let FetchError::NoRoom {
        needed, available, ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert!(needed == 1 << 60 && available < needed);
}

#[test]
fn a_body_whose_end_would_not_show_is_not_trusted() {
    let (error, ..) = error_of(UNKNOWN, |to| {
        head(to, "200 OK", &[])?;
        to.write_all(b"some")
    });
    assert!(error.to_string().contains("tells no length"), "{error}");
    // With a hash to compare with, the end shows.
    let server = Server::start(|_, _, to| {
        head(to, "200 OK", &[])?;
        to.write_all(b"some")
    });
    let dir = tempfile::tempdir().unwrap();
    let asset = asset(known(b"some"), server.url("file.bin"), None);
    fetch(&asset, dir.path()).unwrap();
}

#[test]
fn wrong_bytes_are_removed_and_both_hashes_told() {
    let file = KnownFile {
        sha256: Some(sha256(b"right")),
        ..UNKNOWN
    };
    let (error, requests, left) = error_of(file, |to| {
        head(to, "200 OK", &[("Content-Length", "5".into())])?;
        to.write_all(b"wrong")
    });
    let text = error.to_string();
    assert!(
        text.contains(sha256(b"right")) && text.contains(sha256(b"wrong")),
        "{text}"
    );
    assert!(
        text.contains("SHA-256") && text.contains("run again"),
        "{text}"
    );
    assert_eq!(requests, 1);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_wrong_file_that_lies_there_is_not_overwritten() {
    let server = Server::of(b"right".to_vec());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.bin");
    let asset = asset(known(b"right"), server.url("file.bin"), None);
    for (content, is_size) in [("mine!", false), ("mine", true)] {
        fs::write(&path, content).unwrap();
        for error in [
            fetch(&asset, dir.path()).unwrap_err(),
            verify(&asset, dir.path(), |_| ()).unwrap_err(),
        ] {
            assert_eq!(
                matches!(error, FetchError::WrongSize { .. }),
                is_size,
                "{error:?}"
            );
            assert!(error.to_string().contains("remove it"), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), content.as_bytes());
    }
    assert!(server.requests().is_empty());
}

#[test]
fn answers_that_contradict_themselves_are_not_trusted() {
    let body = noise(1000);
    let server = Server::start(move |number, request, to| match number {
        0 => {
            let rest = file_head(to, request, &body, "\"1\"")?;
            to.write_all(&rest[..500])
        }
        _ => head(to, "206 Partial Content", &[("Content-Length", "0".into())]),
    });
    let dir = tempfile::tempdir().unwrap();
    let error = fetch(&asset(UNKNOWN, server.url("file.bin"), None), dir.path()).unwrap_err();
    assert!(matches!(error, FetchError::BadAnswer { .. }), "{error:?}");
    assert!(error.to_string().contains("Content-Range"), "{error}");
}

#[test]
fn two_fetches_never_write_one_file() {
    let body = noise(1000);
    let content = body.clone();
    let (reached, has_reached) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    let server = Server::start(move |_, request, to| {
        let rest = file_head(to, request, &content, "\"1\"")?;
        to.write_all(&rest[..500])?;
        reached.send(()).unwrap();
        may_go.lock().unwrap().recv().unwrap();
        to.write_all(&rest[500..])
    });
    let dir = tempfile::tempdir().unwrap();
    let asset = asset(known(&body), server.url("file.bin"), None);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| fetch(&asset, dir.path()));
        has_reached.recv().unwrap();
        let error = fetch(&asset, dir.path()).unwrap_err();
        assert!(
            matches!(&error, FetchError::Artifact(ArtifactError::Locked { .. })),
            "{error:?}"
        );
        assert!(error.to_string().contains("in use by process"), "{error}");
        go.send(()).unwrap();
        assert_eq!(
            first.join().unwrap().unwrap().files[0].origin,
            Origin::Downloaded
        );
    });
    assert_eq!(server.requests().len(), 1);
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), body);
    // The lock goes with its holder.
    assert_eq!(
        fetch(&asset, dir.path()).unwrap().files[0].origin,
        Origin::Present
    );
}

#[test]
fn what_has_steps_is_never_downloaded() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("untouched");
    for asset in diffrep_fetch::catalogue() {
        if let Source::ByHand { .. } = asset.source {
            let error = fetch(asset, &folder).unwrap_err();
            assert!(matches!(error, FetchError::ByHand { .. }), "{error:?}");
            assert!(error.to_string().contains("by hand"), "{error}");
        }
    }
    assert!(!folder.exists());
    // Files that came by hand are compared all the same.
    fs::write(dir.path().join("nabirds.tar.gz"), "not an archive").unwrap();
    let error = verify(find("nabirds").unwrap(), dir.path(), |_| ()).unwrap_err();
    assert!(
        matches!(
            error,
            FetchError::WrongHash {
                algorithm: "MD5",
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_name_that_leads_out_of_the_folder_is_refused() {
    let server = Server::of(b"bytes".to_vec());
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("in");
    let file = KnownFile {
        name: "../out",
        ..UNKNOWN
    };
    let asset: Asset = asset(file, server.url("out"), None);
    let error = fetch(&asset, &folder).unwrap_err();
    assert!(matches!(error, FetchError::BadName { .. }), "{error:?}");
    assert!(verify(&asset, &folder, |_| ()).is_err());
    assert!(server.requests().is_empty() && names(dir.path()).is_empty());
}
