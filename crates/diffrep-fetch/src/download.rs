//! One file from one address: attempts, waits, and the final name.

use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use crate::answer::{content_length, content_range, is_chunked, note, retry_after};
use crate::check::{Checked, check};
use crate::error::status_hint;
use crate::part::Part;
use crate::{FetchError, KnownFile, Options, Progress, RemoteFile, Stage, space};

/// What to do when a certificate is refused, or no TLS is spoken at all.
const TLS_FAILED: &str =
    "the encrypted connection failed; check the clock and whether something intercepts the network";
/// How many bytes are read at a time.
const CHUNK: usize = 1 << 18;

/// Downloads `remote` to `path`, going on with what an earlier run left, and checks it.
///
/// The caller holds the lock of the folder and knows that `path` does not exist.
pub(crate) fn download(
    remote: &RemoteFile,
    path: &Path,
    options: &Options,
    on_progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Checked, FetchError> {
    let mut part = Part::open(path, remote.url)?;
    let transfer = Transfer {
        agent: agent(remote, options),
        remote,
        path,
        options,
    };
    transfer.run(&mut part, on_progress)?;
    let hint = "it was removed; run again, and if this happens again the host has another file";
    let checked = check(part.path(), &remote.file, hint, on_progress);
    if let Err(FetchError::WrongSize { .. } | FetchError::WrongHash { .. }) = &checked {
        // Bytes that are wrong would only be found wrong again.
        part.discard()?;
    }
    let checked = checked?;
    diffrep_artifact::finish(part.path(), path)?;
    part.remove_note()?;
    Ok(checked)
}

/// The client: no status is an error of its, and bodies come as they are.
fn agent(remote: &RemoteFile, options: &Options) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        // Without a hash to compare with, TLS is all that vouches for the bytes.
        .https_only(remote.url.starts_with("https://") && !remote.file.has_hash())
        .timeout_resolve(Some(options.connect_timeout))
        .timeout_connect(Some(options.connect_timeout))
        .timeout_per_read(Some(options.silence_timeout))
        .timeout_per_write(Some(options.silence_timeout))
        // An archive that is compressed again on the way has other bytes and other ranges.
        .accept_encoding("identity")
        .user_agent(concat!("diffrep/", env!("CARGO_PKG_VERSION")));
    if !options.proxy_from_environment {
        config = config.proxy(None);
    }
    config.build().new_agent()
}

/// Everything about a download that stays the same from attempt to attempt.
struct Transfer<'a> {
    agent: Agent,
    remote: &'a RemoteFile,
    path: &'a Path,
    options: &'a Options,
}

/// Why an attempt ended before the file was whole.
enum Failure {
    /// Another attempt would fail in the same way.
    Final(FetchError),
    /// It is worth another attempt.
    Passing {
        why: Why,
        /// The wait that the host asked for.
        wait: Option<Duration>,
    },
}

/// The reason to give when no attempt is left.
enum Why {
    Broken(Box<dyn std::error::Error + Send + Sync>),
    Status(u16),
    BadAnswer(String),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Final(error)
    }
}

impl Why {
    fn now(self) -> Failure {
        Failure::Passing {
            why: self,
            wait: None,
        }
    }
}

impl Transfer<'_> {
    /// Makes attempts until the file is whole or there is no hope.
    fn run(
        &self,
        part: &mut Part,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), FetchError> {
        let mut failures = 0;
        // Only bytes never had before count as progress: a host that breaks off at another place
        // each time would otherwise be asked for ever.
        let mut furthest = part.len();
        loop {
            let failure = match self.attempt(part, on_progress) {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let (why, wait) = match failure {
                Failure::Final(error) => return Err(error),
                Failure::Passing { why, wait } => (why, wait),
            };
            if part.len() > furthest {
                furthest = part.len();
                failures = 0;
            }
            failures += 1;
            if failures > self.options.retries {
                return Err(self.give_up(why, failures, part.len()));
            }
            let wait = self.options.wait(failures, wait);
            tracing::info!(url = self.remote.url, failures, ?wait, "trying again");
            thread::sleep(wait);
        }
    }

    /// Asks once and writes what comes.
    fn attempt(
        &self,
        part: &mut Part,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), Failure> {
        if part.is_whole(self.remote.file.bytes) {
            return Ok(());
        }
        let response = self.ask(part)?;
        let status = response.status().as_u16();
        let body_length = match status {
            200 => self.begin(part, response.headers())?,
            206 => self.go_on(part, response.headers())?,
            // The bytes here reach beyond the end of the file there: they are of another version.
            416 if part.len() > 0 => {
                part.discard()?;
                return Err(Why::Status(status).now());
            }
            408 | 429 | 500..=599 => {
                return Err(Failure::Passing {
                    why: Why::Status(status),
                    wait: retry_after(response.headers()),
                });
            }
            _ => return Err(self.status(status).into()),
        };
        self.copy(part, response, body_length, on_progress)
    }

    /// Sends the request: for the rest, if there are bytes to go on with.
    fn ask(&self, part: &mut Part) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(self.remote.url);
        let validator = part.note().and_then(|note| note.validator());
        if part.len() > 0 && (validator.is_some() || self.remote.file.has_hash()) {
            request = request.header("range", format!("bytes={}-", part.len()));
            if let Some(validator) = validator {
                request = request.header("if-range", validator);
            }
        }
        request.call().map_err(|error| self.failed(error))
    }

    /// Prepares for a whole file and returns how many bytes will come.
    fn begin(&self, part: &mut Part, headers: &HeaderMap) -> Result<Option<u64>, Failure> {
        let length = content_length(headers).filter(|_| !is_chunked(headers));
        let known = &self.remote.file;
        if length.is_none() && !is_chunked(headers) && known.bytes.is_none() && !known.has_hash() {
            let what = "it tells no length, so that a broken connection would not show";
            return Err(self.bad_answer(what.into()).into());
        }
        self.agree(known, length)?;
        part.restart(note(self.remote.url, headers, length))?;
        space::ensure(part.path(), length.unwrap_or(0))?;
        Ok(length)
    }

    /// Makes sure that an answer goes on where the bytes end, and returns how many will come.
    fn go_on(&self, part: &mut Part, headers: &HeaderMap) -> Result<Option<u64>, Failure> {
        let answered = content_range(headers);
        let ours = part.note().cloned().filter(|_| part.len() > 0);
        let (Some(range), Some(ours)) = (answered, ours) else {
            part.discard()?;
            let what = "status 206 without a readable Content-Range, or without being asked";
            return Err(Why::BadAnswer(what.into()).now());
        };
        let theirs = note(self.remote.url, headers, range.total.or(ours.total));
        let same_size = ours.total.is_none() || ours.total == theirs.total;
        let first = range.bytes.map(|(first, _)| first);
        if first != Some(part.len()) || !same_size || ours.contradicts(&theirs) {
            part.discard()?;
            let what = "the rest that it sends is not the rest of what it sent before";
            return Err(Why::BadAnswer(what.into()).now());
        }
        self.agree(&self.remote.file, theirs.total)?;
        let length = range.bytes.map(|(first, last)| last - first + 1);
        space::ensure(part.path(), length.unwrap_or(0))?;
        part.renote(crate::part::Note {
            total: theirs.total,
            ..ours
        })?;
        Ok(length)
    }

    /// Refuses a file whose size is not the published one before its first byte.
    fn agree(&self, known: &KnownFile, announced: Option<u64>) -> Result<(), FetchError> {
        match (known.bytes, announced) {
            (Some(expected), Some(found)) if expected != found => Err(FetchError::WrongSize {
                path: self.path.into(),
                expected,
                found,
                hint: "the host announces another file than the one published; look for a mirror",
            }),
            (None, Some(found)) if found > self.options.max_bytes => Err(self.too_long()),
            _ => Ok(()),
        }
    }

    /// Writes the body behind the bytes that are there.
    fn copy(
        &self,
        part: &mut Part,
        response: Response<Body>,
        body_length: Option<u64>,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), Failure> {
        let resumed_from = part.len();
        let total = part.note().and_then(|note| note.total);
        let total = total.or(self.remote.file.bytes);
        let limit = total.unwrap_or(self.options.max_bytes);
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; CHUNK];
        let mut appender = part.append()?;
        let mut bytes = resumed_from;
        loop {
            let count = match body.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Why::Broken(error.into()).now()),
            };
            if count == 0 {
                break;
            }
            if count as u64 > limit.saturating_sub(bytes) {
                part.discard()?;
                return Err(self.too_long().into());
            }
            bytes = appender.write(&buffer[..count])?;
            on_progress(Progress {
                file: self.remote.file.name,
                stage: Stage::Download,
                bytes,
                total,
                resumed_from,
            });
        }
        let short = body_length.is_some_and(|length| bytes - resumed_from < length)
            || total.is_some_and(|total| bytes < total);
        if short {
            return Err(Why::Broken("the connection ended early".into()).now());
        }
        Ok(())
    }

    /// Sorts the client's errors into those that pass and those that do not.
    fn failed(&self, error: ureq::Error) -> Failure {
        let hint = match &error {
            ureq::Error::TooManyRedirects => "it redirects in a circle; look for a newer address",
            ureq::Error::RequireHttpsOnly(_) => {
                "it leads away from https, and there is no published hash to vouch for the bytes"
            }
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => TLS_FAILED,
            // What rustls says during the handshake comes as this.
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => TLS_FAILED,
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => "the address is malformed",
            ureq::Error::InvalidProxyUrl | ureq::Error::ConnectProxyFailed(_) => {
                "the proxy named in the environment does not work; check HTTPS_PROXY and its kin"
            }
            _ => return Why::Broken(Box::new(error)).now(),
        };
        Failure::Final(FetchError::Refused {
            url: self.remote.url.into(),
            hint,
            source: Box::new(error),
        })
    }

    fn give_up(&self, why: Why, attempts: u32, bytes: u64) -> FetchError {
        let url = self.remote.url.to_owned();
        match why {
            Why::Status(status) => self.status(status),
            Why::BadAnswer(what) => self.bad_answer(what),
            Why::Broken(source) if bytes == 0 => FetchError::Unreachable {
                url,
                attempts,
                source,
            },
            Why::Broken(source) => FetchError::Interrupted {
                url,
                bytes,
                attempts,
                source,
            },
        }
    }

    fn status(&self, status: u16) -> FetchError {
        FetchError::Status {
            url: self.remote.url.into(),
            status,
            hint: status_hint(status),
        }
    }

    fn bad_answer(&self, what: String) -> FetchError {
        FetchError::BadAnswer {
            url: self.remote.url.into(),
            what,
        }
    }

    fn too_long(&self) -> FetchError {
        self.bad_answer("it sends more bytes than the file may have".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_hash_makes_up_for_leaving_https() {
        let https_only = |url, sha256| {
            let file = KnownFile {
                name: "a",
                bytes: None,
                sha256,
                md5: None,
            };
            let remote = RemoteFile {
                file,
                url,
                unpack: None,
            };
            agent(&remote, &Options::default()).config().https_only()
        };
        assert!(https_only("https://host/a", None));
        assert!(!https_only("https://host/a", Some("")));
        // The catalogue has no such file, and a test of it says so.
        assert!(!https_only("http://host/a", None));
    }
}
