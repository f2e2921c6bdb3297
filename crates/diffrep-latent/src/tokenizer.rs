//! Texts to token ids: CLIP's byte-pair encoding (`simple_tokenizer.py` of openai/CLIP). The merges
//! come with a checkpoint, in `tokenizer/merges.txt` of a diffusers folder.

use std::collections::HashMap;

use regex::Regex;

/// Bytes, and the same at the end of a word.
const LETTERS: u32 = 2 * 256;
/// What a text is cut into before letters are merged.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Why a tokenizer refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A line of the merges is none.
    #[error("line {line} is no merge of two parts that are known there: `{text}`")]
    Merge {
        /// Its number, from 1.
        line: usize,
        /// What it holds.
        text: String,
    },
    /// There are no merges to read a text by.
    #[error(
        "this checkpoint comes without a vocabulary, which every prompt but the empty one needs: \
         name a diffusers folder with tokenizer/merges.txt as its architecture (--arch)"
    )]
    NoVocabulary,
}

/// What fills a text up to its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// The token that ends a text (Stable Diffusion 1).
    End,
    /// The token of this number (0 in Stable Diffusion 2).
    Token(u32),
}

/// A text as an encoder reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Begin, text, end, padding.
    pub ids: Vec<u32>,
    /// Tokens of the text that had no place.
    pub left_out: usize,
}

/// CLIP's tokenizer.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    /// What two neighbours become; the earliest merge goes first, and so has the lowest number.
    merges: Option<HashMap<(u32, u32), u32>>,
    vocabulary: usize,
    words: Regex,
}

impl Tokenizer {
    /// A tokenizer by merges as `merges.txt` lists them: a line to be skipped, then two parts a line.
    ///
    /// # Errors
    ///
    /// When a line is not a merge of two parts that are letters or earlier merges.
    pub fn from_merges(text: &str) -> Result<Self, TokenizerError> {
        let mut numbers: HashMap<String, u32> = HashMap::new();
        for (letter, number) in letters().into_iter().zip(0..) {
            numbers.insert(letter.to_string(), number);
            numbers.insert(format!("{letter}</w>"), number + LETTERS / 2);
        }
        let mut merges = HashMap::new();
        let lines = text.lines().enumerate().skip(1);
        for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
            let pair = text.split_once(' ').and_then(|(first, second)| {
                let numbers = (*numbers.get(first)?, *numbers.get(second)?);
                Some((numbers, format!("{first}{second}")))
            });
            let Some((pair, merged)) = pair else {
                return Err(TokenizerError::Merge {
                    line: line + 1,
                    text: text.into(),
                });
            };
            let number = LETTERS + merges.len() as u32;
            merges.insert(pair, number);
            numbers.insert(merged, number);
        }
        Ok(Self {
            vocabulary: LETTERS as usize + merges.len() + 2,
            merges: Some(merges),
            words: words(),
        })
    }

    /// A tokenizer for an encoder of so many tokens that knows the empty text alone.
    pub fn without_merges(vocabulary: usize) -> Self {
        Self {
            merges: None,
            vocabulary: vocabulary.max(LETTERS as usize + 2),
            words: words(),
        }
    }

    /// How many tokens there are; the last two begin and end a text.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The tokens of a text, `length` of them: begin, as much of the text as has a place, end,
    /// padding.
    ///
    /// # Errors
    ///
    /// When the text is not empty and the merges are not known.
    ///
    /// # Panics
    ///
    /// When `length` has no place for begin and end.
    pub fn encode(
        &self,
        text: &str,
        length: usize,
        padding: Padding,
    ) -> Result<Tokens, TokenizerError> {
        assert!(length >= 2, "a text has a begin and an end");
        let end = self.vocabulary as u32 - 1;
        let mut found = Vec::new();
        if !text.trim().is_empty() {
            let merges = self.merges.as_ref().ok_or(TokenizerError::NoVocabulary)?;
            let lower = text.to_lowercase();
            // As transformers has it, a letter that fills texts up stands for itself wherever it is.
            let (letter, number) = match padding {
                Padding::Token(number) if number < LETTERS / 2 => {
                    (letters().get(number as usize).copied(), number)
                }
                _ => (None, 0),
            };
            for (place, part) in lower.split(|c| Some(c) == letter).enumerate() {
                if place > 0 {
                    found.push(number);
                }
                for word in self.words.find_iter(part) {
                    found.extend(merged(word.as_str().as_bytes(), merges));
                }
            }
        }
        let places = length - 2;
        let left_out = found.len().saturating_sub(places);
        found.truncate(places);
        let mut ids = vec![end - 1];
        ids.extend(found);
        ids.push(end);
        ids.resize(
            length,
            match padding {
                Padding::End => end,
                Padding::Token(token) => token,
            },
        );
        Ok(Tokens { ids, left_out })
    }
}

fn words() -> Regex {
    Regex::new(WORDS).expect("the pattern is valid")
}

/// The tokens of a word: its letters, the two neighbours whose merge comes first merged wherever they
/// stand, and so on until none can be.
fn merged(word: &[u8], merges: &HashMap<(u32, u32), u32>) -> Vec<u32> {
    let places = places();
    let mut tokens: Vec<u32> = word.iter().map(|byte| places[usize::from(*byte)]).collect();
    if let Some(last) = tokens.last_mut() {
        *last += LETTERS / 2;
    }
    loop {
        let pairs = tokens.windows(2).map(|pair| (pair[0], pair[1]));
        let known = pairs.filter_map(|pair| Some((*merges.get(&pair)?, pair)));
        let Some((number, (first, second))) = known.min() else {
            return tokens;
        };
        let mut shorter = Vec::with_capacity(tokens.len());
        let mut rest = tokens.as_slice();
        while let Some((&token, after)) = rest.split_first() {
            if token == first && after.first() == Some(&second) {
                shorter.push(number);
                rest = &after[1..];
            } else {
                shorter.push(token);
                rest = after;
            }
        }
        tokens = shorter;
    }
}

/// The bytes in the vocabulary's order: those that print, then the others.
fn order() -> impl Iterator<Item = u8> {
    let prints = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others = move |byte: &u8| !prints(byte);
    (0..=u8::MAX)
        .filter(prints)
        .chain((0..=u8::MAX).filter(others))
}

/// The characters that stand for bytes in the vocabulary, in its order.
fn letters() -> Vec<char> {
    let mut others = (256..).filter_map(char::from_u32);
    let letter = |byte: u8| match byte {
        33..=126 | 161..=172 | 174..=255 => char::from(byte),
        _ => others.next().unwrap_or(char::REPLACEMENT_CHARACTER),
    };
    order().map(letter).collect()
}

/// The number of each byte.
fn places() -> [u32; 256] {
    let mut places = [0; 256];
    for (byte, number) in order().zip(0..) {
        places[usize::from(byte)] = number;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const MERGES: &str = "#version: 0.2\ni n</w>\nt h\nth in</w>\n";

    #[test]
    fn the_null_prompt_is_begin_end_and_padding() {
        let clip = Tokenizer::without_merges(49408);
        let first = clip.encode("", 77, Padding::End).unwrap();
        let mut expected = vec![49407; 77];
        expected[0] = 49406;
        assert_eq!(first.ids, expected);
        let second = clip.encode(" ", 77, Padding::Token(0)).unwrap();
        assert_eq!(second.ids[..3], [49406, 49407, 0]);
        assert!(second.ids[2..].iter().all(|&id| id == 0));
        let error = clip.encode("a cat", 77, Padding::End).unwrap_err();
        assert!(error.to_string().contains("merges.txt"), "{error}");
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let tokenizer = Tokenizer::from_merges(MERGES).unwrap();
        assert_eq!(tokenizer.vocabulary(), 512 + 3 + 2);
        let text = ["Thin"; 80].join(" ");
        let tokens = tokenizer.encode(&text, 77, Padding::End).unwrap();
        assert_eq!(tokens.left_out, 5);
        assert_eq!(tokens.ids.len(), 77);
        assert_eq!(
            [tokens.ids[0], tokens.ids[1], tokens.ids[75]],
            [515, 514, 514]
        );
        assert_eq!(tokens.ids[76], 516);
        let short = tokenizer.encode("thin", 77, Padding::End).unwrap();
        assert_eq!(short.left_out, 0);
    }

    #[test]
    fn a_line_that_merges_nothing_known_is_named() {
        let error = Tokenizer::from_merges("#version: 0.2\ni n\nqq zz\n").unwrap_err();
        let TokenizerError::Merge { line, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*line, 3);
        assert!(error.to_string().contains("`qq zz`"), "{error}");
    }
}
