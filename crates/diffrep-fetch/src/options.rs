//! How patient a download is, and what it tells its caller.

use std::time::Duration;

/// How downloads are done; [`Options::default`] suits a home line and a university host alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often a connection that breaks without one new byte is tried again.
    /// Every new byte sets the count back.
    pub retries: u32,
    /// The wait before the first retry; it doubles each time.
    pub first_wait: Duration,
    /// The longest wait before a retry, also where a host asks for a longer one.
    pub longest_wait: Duration,
    /// How long a connection may take to come about, TLS included.
    pub connect_timeout: Duration,
    /// How long a connection may stay silent before it counts as broken; slow ones are fine.
    pub silence_timeout: Duration,
    /// The most bytes that a file of unknown size may have.
    pub max_bytes: u64,
    /// Whether an archive stays after it was unpacked.
    pub keep_archives: bool,
    /// Whether the proxies named in the environment (`ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`,
    /// `NO_PROXY`) are used.
    pub proxy_from_environment: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retries: 6,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(30),
            silence_timeout: Duration::from_secs(60),
            max_bytes: 1 << 36,
            keep_archives: true,
            proxy_from_environment: true,
        }
    }
}

impl Options {
    /// The wait before retry number `retry`, counted from 1, given what the host asked for.
    pub(crate) fn wait(&self, retry: u32, asked: Option<Duration>) -> Duration {
        let doubled = 2u32.saturating_pow(retry.saturating_sub(1));
        let own = self.first_wait.saturating_mul(doubled);
        own.max(asked.unwrap_or_default()).min(self.longest_wait)
    }
}

/// How far a file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file's name in the asset's folder.
    pub file: &'a str,
    /// What is being done with it.
    pub stage: Stage,
    /// Bytes done, those of earlier runs included.
    pub bytes: u64,
    /// Bytes in all, if that is known.
    pub total: Option<u64>,
    /// How many of the bytes lay there from an earlier run or connection; 0 except for downloads.
    pub resumed_from: u64,
}

/// What is being done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Bytes arrive.
    Download,
    /// Bytes are read again and hashed.
    Check,
    /// The archive's files are written; bytes are those of the archive.
    Unpack,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_bounded() {
        let options = Options::default();
        let waits: Vec<u64> = (1..=8).map(|n| options.wait(n, None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(options.wait(u32::MAX, None).as_secs(), 60);
        let asked = |seconds| {
            options
                .wait(1, Some(Duration::from_secs(seconds)))
                .as_secs()
        };
        assert_eq!([asked(0), asked(7), asked(86_400)], [1, 7, 60]);
    }
}
