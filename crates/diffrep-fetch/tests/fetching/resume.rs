//! What arrived before is gone on with, and only if it belongs to what follows.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use diffrep_fetch::{Options, Stage};

use crate::server::{
    Server, UNKNOWN, asset, fetch, file_head, head, known, names, noise, options, send_file,
};

const LEN: usize = 700_001;

#[test]
fn a_broken_connection_costs_only_what_had_not_arrived() {
    let body = noise(LEN);
    let content = body.clone();
    // Half of what remains arrives each time, more often than retries would allow without progress.
    let server = Server::start(move |number, request, to| {
        let rest = file_head(to, request, &content, "\"1\"")?;
        let until = if number < 6 {
            rest.len() / 2
        } else {
            rest.len()
        };
        to.write_all(&rest[..until])
    });
    let dir = tempfile::tempdir().unwrap();
    let asset = asset(UNKNOWN, server.url("file.bin"), None);
    let mut resumed = Vec::new();
    diffrep_fetch::fetch(&asset, dir.path(), &options(), |progress| {
        if progress.stage == Stage::Download && resumed.last() != Some(&progress.resumed_from) {
            resumed.push(progress.resumed_from);
        }
    })
    .unwrap();
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), body);

    let asked: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.from())
        .collect();
    let mut at = 0;
    let mut expected = vec![None];
    for _ in 0..6 {
        at += (LEN - at) / 2;
        expected.push(Some(at));
    }
    assert_eq!(asked, expected, "each time only the rest");
    assert_eq!(server.requests()[3].header("if-range"), Some("\"1\""));
    let told: Vec<_> = expected.iter().map(|at| at.unwrap_or(0) as u64).collect();
    assert_eq!(resumed, told);
}

#[test]
fn a_killed_run_is_gone_on_with_by_the_next() {
    let body = noise(LEN);
    let content = body.clone();
    let server = Server::start(move |number, request, to| match number {
        0 => {
            let rest = file_head(to, request, &content, "\"1\"")?;
            to.write_all(&rest[..300_000])
        }
        _ => send_file(to, request, &content, "\"1\""),
    });
    let dir = tempfile::tempdir().unwrap();
    let asset = asset(UNKNOWN, server.url("file.bin"), None);
    let hasty = Options {
        retries: 0,
        ..options()
    };
    diffrep_fetch::fetch(&asset, dir.path(), &hasty, |_| ()).unwrap_err();
    // What a kill leaves: some bytes and the note, but no file of the final name.
    assert_eq!(names(dir.path()), ["file.bin.part", "file.bin.part.json"]);
    let part = dir.path().join("file.bin.part");
    let arrived = fs::metadata(&part).unwrap().len();
    assert_eq!(arrived, 300_000);
    fs::File::options()
        .write(true)
        .open(&part)
        .unwrap()
        .set_len(123_456)
        .unwrap();

    fetch(&asset, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), body);
    assert_eq!(server.requests()[1].from(), Some(123_456));
    assert_eq!(names(dir.path()), ["file.bin"]);
}

/// The test's own program is the second process: it runs this test alone, with the address and the
/// folder in its environment.
#[test]
fn a_process_that_is_killed_leaves_no_lock_and_every_byte() {
    const URL: &str = "DIFFREP_FETCH_TEST_URL";
    const FOLDER: &str = "DIFFREP_FETCH_TEST_FOLDER";
    if let (Ok(url), Some(folder)) = (env::var(URL), env::var_os(FOLDER)) {
        let asset = asset(UNKNOWN, url.leak(), None);
        fetch(&asset, Path::new(&folder)).unwrap();
        unreachable!("the process is killed before the file is whole");
    }

    let body = noise(LEN);
    let content = body.clone();
    let server = Server::start(move |number, request, to| {
        let rest = file_head(to, request, &content, "\"1\"")?;
        if number > 0 {
            return to.write_all(rest);
        }
        to.write_all(&rest[..300_000])?;
        thread::sleep(Duration::from_secs(60));
        Ok(())
    });
    let dir = tempfile::tempdir().unwrap();
    let url = server.url("file.bin");
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "resume::a_process_that_is_killed_leaves_no_lock_and_every_byte",
        ])
        .env(URL, url)
        .env(FOLDER, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let part = dir.path().join("file.bin.part");
    let begin = Instant::now();
    while fs::metadata(&part).map_or(0, |found| found.len()) < 300_000 {
        assert!(
            begin.elapsed() < Duration::from_secs(50),
            "the other process does nothing"
        );
        thread::sleep(Duration::from_millis(5));
    }
    let asset = asset(UNKNOWN, url, None);
    let error = fetch(&asset, dir.path()).unwrap_err().to_string();
    assert!(
        error.contains(&format!("in use by process {}", child.id())),
        "{error}"
    );
    child.kill().unwrap();
    child.wait().unwrap();

    fetch(&asset, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), body);
    let asked: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.from())
        .collect();
    assert_eq!(asked, [None, Some(300_000)]);
    assert_eq!(names(dir.path()), ["file.bin"]);
}

#[test]
fn a_run_killed_before_the_rename_asks_for_nothing() {
    let body = noise(5000);
    let server = Server::of(body.clone());
    let dir = tempfile::tempdir().unwrap();
    let asset = asset(UNKNOWN, server.url("file.bin"), None);
    let note = format!(
        "{{\"url\": \"{}\", \"etag\": \"\\\"1\\\"\", \"last_modified\": null, \"total\": 5000}}",
        server.url("file.bin")
    );
    fs::write(dir.path().join("file.bin.part"), &body).unwrap();
    fs::write(dir.path().join("file.bin.part.json"), note).unwrap();
    fetch(&asset, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), body);
    assert!(server.requests().is_empty());
}

#[test]
fn bytes_of_unknown_origin_are_not_gone_on_with() {
    let body = noise(5000);
    let server = Server::of(body.clone());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file.bin.part"), noise(100)).unwrap();
    let asset = asset(known(&body), server.url("file.bin"), None);
    fetch(&asset, dir.path()).unwrap();
    assert_eq!(server.requests()[0].from(), None);
}

#[test]
fn a_server_without_ranges_sends_all_of_it_again() {
    let body = noise(LEN);
    let content = body.clone();
    let server = Server::start(move |number, _, to| {
        head(
            to,
            "200 OK",
            &[
                ("Content-Length", content.len().to_string()),
                ("ETag", "\"1\"".into()),
            ],
        )?;
        let until = if number == 0 { LEN / 2 } else { LEN };
        to.write_all(&content[..until])
    });
    let dir = tempfile::tempdir().unwrap();
    let asset = asset(known(&body), server.url("file.bin"), None);
    fetch(&asset, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), body);
    assert_eq!(server.requests().len(), 2);
    assert_eq!(server.requests()[1].from(), Some(LEN / 2));
}

#[test]
fn another_version_on_the_server_starts_over() {
    let (old, new) = (noise(LEN), noise(LEN).into_iter().rev().collect::<Vec<_>>());
    let content = new.clone();
    let server = Server::start(move |number, request, to| match number {
        0 => {
            let rest = file_head(to, request, &old, "\"old\"")?;
            to.write_all(&rest[..LEN / 2])
        }
        _ => send_file(to, request, &content, "\"new\""),
    });
    let dir = tempfile::tempdir().unwrap();
    // Without a hash only the tags can tell that two halves do not belong together.
    let asset = asset(UNKNOWN, server.url("file.bin"), None);
    fetch(&asset, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), new);
    assert_eq!(server.requests()[1].header("if-range"), Some("\"old\""));
}

#[test]
fn a_rest_with_another_tag_is_not_taken_even_if_the_server_ignores_if_range() {
    let (old, new) = (noise(LEN), noise(LEN).into_iter().rev().collect::<Vec<_>>());
    let content = new.clone();
    let server = Server::start(move |number, request, to| {
        if number == 0 {
            let rest = file_head(to, request, &old, "\"old\"")?;
            return to.write_all(&rest[..LEN / 2]);
        }
        let from = request.from().unwrap_or(0);
        let length = ("Content-Length", (LEN - from).to_string());
        let tag = ("ETag", "\"new\"".to_owned());
        match request.from() {
            Some(from) => {
                let range = format!("bytes {from}-{}/{LEN}", LEN - 1);
                head(
                    to,
                    "206 Partial Content",
                    &[length, tag, ("Content-Range", range)],
                )?;
            }
            None => head(to, "200 OK", &[length, tag])?,
        }
        to.write_all(&content[from..])
    });
    let dir = tempfile::tempdir().unwrap();
    let asset = asset(UNKNOWN, server.url("file.bin"), None);
    fetch(&asset, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), new);
    let asked: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.from())
        .collect();
    assert_eq!(asked, [None, Some(LEN / 2), None]);
}

#[test]
fn a_rest_that_starts_elsewhere_is_not_taken() {
    let body = noise(LEN);
    let content = body.clone();
    let server = Server::start(move |number, request, to| match number {
        0 => {
            let rest = file_head(to, request, &content, "\"1\"")?;
            to.write_all(&rest[..LEN / 2])
        }
        1 => {
            let range = ("Content-Range", format!("bytes 0-{}/{LEN}", LEN - 1));
            let length = ("Content-Length", LEN.to_string());
            head(to, "206 Partial Content", &[range, length])?;
            to.write_all(&content)
        }
        _ => send_file(to, request, &content, "\"1\""),
    });
    let dir = tempfile::tempdir().unwrap();
    let asset = asset(UNKNOWN, server.url("file.bin"), None);
    fetch(&asset, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), body);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn without_tag_and_hash_nothing_is_pieced_together() {
    let body = noise(LEN);
    for (known, second) in [(UNKNOWN, None), (known(&body), Some(LEN / 2))] {
        let content = body.clone();
        let server = Server::start(move |number, request, to| {
            let mut sent = Vec::new();
            let rest = file_head(&mut sent, request, &content, "")?;
            let text = String::from_utf8(sent).unwrap().replace("ETag: \r\n", "");
            to.write_all(text.as_bytes())?;
            let until = if number == 0 { LEN / 2 } else { rest.len() };
            to.write_all(&rest[..until])
        });
        let dir = tempfile::tempdir().unwrap();
        fetch(&asset(known, server.url("file.bin"), None), dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), body);
        assert_eq!(server.requests()[1].from(), second);
    }
}

#[test]
fn bytes_beyond_the_end_are_thrown_away() {
    // The file on the server became shorter, and the server has no tags to tell.
    let body = noise(1000);
    let server = Server::of(body.clone());
    let dir = tempfile::tempdir().unwrap();
    let note = format!(
        "{{\"url\": \"{}\", \"etag\": \"\\\"1\\\"\", \"last_modified\": null, \"total\": null}}",
        server.url("file.bin")
    );
    fs::write(dir.path().join("file.bin.part"), noise(2000)).unwrap();
    fs::write(dir.path().join("file.bin.part.json"), note).unwrap();
    fetch(&asset(UNKNOWN, server.url("file.bin"), None), dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("file.bin")).unwrap(), body);
    let asked: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.from())
        .collect();
    assert_eq!(asked, [Some(2000), None]);
}
