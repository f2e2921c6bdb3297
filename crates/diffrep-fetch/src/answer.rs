//! What a server's headers say, read with distrust.

use std::time::Duration;

use ureq::http::HeaderMap;
use ureq::http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, LAST_MODIFIED, RETRY_AFTER, TRANSFER_ENCODING,
};

use crate::part::Note;

/// The part of a file that an answer with status 206 carries, or the size that one with 416 tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// First and last byte, inclusive; absent in an answer with status 416.
    pub(crate) bytes: Option<(u64, u64)>,
    /// The size of the whole file, if told.
    pub(crate) total: Option<u64>,
}

/// Reads `Content-Range`: `bytes 5-9/10`, `bytes 5-9/*` or `bytes */10`.
pub(crate) fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let text = text(headers, CONTENT_RANGE)?;
    let (range, total) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
    let total = match total {
        "*" => None,
        digits => Some(number(digits)?),
    };
    let bytes = match range {
        "*" => None,
        range => {
            let (first, last) = range.split_once('-')?;
            let (first, last) = (number(first)?, number(last)?);
            if first > last || total.is_some_and(|total| last >= total) {
                return None;
            }
            Some((first, last))
        }
    };
    Some(ContentRange { bytes, total })
}

/// How many bytes the body has, if told.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    number(text(headers, CONTENT_LENGTH)?)
}

/// Whether the end of the body is marked, so that a broken connection shows.
pub(crate) fn is_chunked(headers: &HeaderMap) -> bool {
    text(headers, TRANSFER_ENCODING).is_some_and(|text| text.eq_ignore_ascii_case("chunked"))
}

/// The wait that the host asks for in seconds; dates are not read.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    number(text(headers, RETRY_AFTER)?).map(Duration::from_secs)
}

/// What to remember about a file from `url`.
pub(crate) fn note(url: &str, headers: &HeaderMap, total: Option<u64>) -> Note {
    Note {
        url: url.to_owned(),
        etag: text(headers, ETAG).map(ToOwned::to_owned),
        last_modified: text(headers, LAST_MODIFIED).map(ToOwned::to_owned),
        total,
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Option<ContentRange> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, text.parse().unwrap());
        content_range(&headers)
    }

    #[test]
    fn ranges_are_read() {
        let of = |bytes, total| Some(ContentRange { bytes, total });
        assert_eq!(range("bytes 5-9/10"), of(Some((5, 9)), Some(10)));
        assert_eq!(range("bytes 5-9/*"), of(Some((5, 9)), None));
        assert_eq!(range("bytes */10"), of(None, Some(10)));
    }

    #[test]
    fn ranges_that_make_no_sense_are_refused() {
        for text in [
            "",
            "bytes",
            "items 5-9/10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes -5/10",
            "bytes +5-9/10",
            "bytes 5-9",
            "bytes 5-9/99999999999999999999999",
            "bytes 5-99999999999999999999999/*",
        ] {
            assert_eq!(range(text), None, "{text}");
        }
    }
}
