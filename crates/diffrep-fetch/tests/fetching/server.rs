//! A server of a few dozen lines, and assets that point to it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use diffrep_fetch::{
    Asset, FetchError, Fetched, Kind, KnownFile, Options, RemoteFile, Source, Unpack,
};

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The first byte of a request for a rest.
    pub(crate) fn from(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        Some(range.strip_suffix('-').unwrap().parse().unwrap())
    }
}

/// A server that answers one request per connection and remembers them all.
pub(crate) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Answers request number `n`, from 0, by `answer(n, request, connection)`.
    pub(crate) fn start(
        answer: impl Fn(usize, &Request, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            stop: Arc::default(),
        };
        let (requests, stop) = (Arc::clone(&server.requests), Arc::clone(&server.stop));
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
                thread::spawn(move || {
                    let mut connection = connection?;
                    let request = read_request(&connection)?;
                    let number = {
                        let mut requests = requests.lock().unwrap();
                        requests.push(request.clone());
                        requests.len() - 1
                    };
                    answer(number, &request, &mut connection)
                });
            }
        });
        server
    }

    /// A well-behaved host of one file that understands ranges.
    pub(crate) fn of(body: Vec<u8>) -> Self {
        Self::start(move |_, request, to| send_file(to, request, &body, "\"1\""))
    }

    pub(crate) fn url(&self, path: &str) -> &'static str {
        leak(format!("http://{}/{path}", self.address))
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn read_request(connection: &TcpStream) -> io::Result<Request> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        let Some((key, value)) = line.split_once(':') else {
            break;
        };
        headers.push((key.to_lowercase(), value.trim().to_owned()));
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(Request { path, headers })
}

/// Sends a status line and headers; `Connection: close` keeps one request per connection.
pub(crate) fn head(
    to: &mut impl Write,
    status: &str,
    headers: &[(&str, String)],
) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (key, value) in headers {
        text.push_str(&format!("{key}: {value}\r\n"));
    }
    to.write_all((text + "\r\n").as_bytes())
}

/// Sends a status with an empty body.
pub(crate) fn refuse(to: &mut impl Write, status: &str) -> io::Result<()> {
    head(to, status, &[("Content-Length", "0".into())])
}

/// Sends the head of `body`, or of the rest asked for if `If-Range` allows, and returns the bytes
/// that have to follow.
pub(crate) fn file_head<'a>(
    to: &mut impl Write,
    request: &Request,
    body: &'a [u8],
    etag: &str,
) -> io::Result<&'a [u8]> {
    let etag_header = ("ETag", etag.to_owned());
    let current = request.header("if-range").is_none_or(|tag| tag == etag);
    match request.from().filter(|_| current) {
        Some(from) if from >= body.len() => {
            let range = format!("bytes */{}", body.len());
            head(
                to,
                "416 Range Not Satisfiable",
                &[("Content-Range", range), ("Content-Length", "0".into())],
            )?;
            Ok(&[])
        }
        Some(from) => {
            let rest = &body[from..];
            let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
            let length = ("Content-Length", rest.len().to_string());
            head(
                to,
                "206 Partial Content",
                &[etag_header, length, ("Content-Range", range)],
            )?;
            Ok(rest)
        }
        None => {
            let length = ("Content-Length", body.len().to_string());
            head(to, "200 OK", &[etag_header, length])?;
            Ok(body)
        }
    }
}

/// Sends all that is asked for.
pub(crate) fn send_file(
    to: &mut TcpStream,
    request: &Request,
    body: &[u8],
    etag: &str,
) -> io::Result<()> {
    let rest = file_head(to, request, body, etag)?;
    to.write_all(rest)
}

/// `len` bytes without a pattern that a mistake could hide in.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A file of which nothing is known.
pub(crate) const UNKNOWN: KnownFile = KnownFile {
    name: "file.bin",
    bytes: None,
    sha256: None,
    md5: None,
};

/// A file of which everything is known.
pub(crate) fn known(body: &[u8]) -> KnownFile {
    KnownFile {
        bytes: Some(body.len() as u64),
        sha256: Some(sha256(body)),
        ..UNKNOWN
    }
}

pub(crate) fn sha256(body: &[u8]) -> &'static str {
    leak(diffrep_artifact::Sha256Hex::hash_bytes(body).to_string())
}

/// An asset of one file. What tests leak is small and ends with them.
pub(crate) fn asset(file: KnownFile, url: &'static str, unpack: Option<Unpack>) -> Asset {
    let files = vec![RemoteFile { file, url, unpack }];
    Asset {
        name: "test",
        title: "Test",
        kind: Kind::DataSet,
        licence: "none",
        source: Source::Files(Vec::leak(files)),
        layout: "a file",
    }
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Impatient, and without the proxy that the machine may have.
pub(crate) fn options() -> Options {
    Options {
        retries: 3,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(20),
        connect_timeout: Duration::from_secs(5),
        silence_timeout: Duration::from_secs(5),
        proxy_from_environment: false,
        ..Options::default()
    }
}

/// Fetches with [`options`] and without looking at progress.
pub(crate) fn fetch(asset: &Asset, folder: &std::path::Path) -> Result<Fetched, FetchError> {
    diffrep_fetch::fetch(asset, folder, &options(), |_| ())
}

/// The names in a folder, sorted, without the lock.
pub(crate) fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".lock")
        .collect();
    names.sort();
    names
}
