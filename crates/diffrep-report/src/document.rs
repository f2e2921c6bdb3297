//! The document model: what a report is made of, with no notion of any output format.

use crate::figure::Figure;
use crate::table::Table;

/// A whole document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// The name of the document.
    pub title: String,
    /// One line under the title; may use inline markup.
    pub subtitle: String,
    /// The claims that the document settles, shown before everything else.
    pub verdicts: Vec<VerdictLine>,
    /// The body.
    pub sections: Vec<Section>,
}

/// A titled part of a report.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    /// The heading.
    pub title: String,
    /// What stands under the heading, in reading order.
    pub blocks: Vec<Block>,
}

/// One claim, whether it holds, and why one may believe so.
#[derive(Debug, Clone, PartialEq)]
pub struct VerdictLine {
    /// The claim as a sentence; may use inline markup.
    pub claim: String,
    /// Whether the results bear it out.
    pub answer: Answer,
    /// The numbers behind the answer; may use inline markup.
    pub evidence: String,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The results bear the claim out.
    Yes,
    /// The results speak against the claim.
    No,
    /// The results do not settle the claim.
    Undecided,
}

impl Answer {
    /// The answer as the end of "this claim ...": holds, does not, undecided.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Yes => "Holds",
            Self::No => "Does not",
            Self::Undecided => "Undecided",
        }
    }
}

/// One piece of a section.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// A heading within the section, as plain text.
    Heading(String),
    /// Claims that this part of the document settles.
    Verdicts(Vec<VerdictLine>),
    /// Running text with inline markup.
    Paragraph(String),
    /// A table.
    Table(Table),
    /// A drawn figure.
    Figure(Figure),
    /// A picture made of equal tiles.
    Images(ImageGrid),
    /// Blocks folded behind a summary line.
    Details {
        /// The line that stays visible; may use inline markup.
        summary: String,
        /// What unfolds.
        blocks: Vec<Block>,
    },
    /// A remark set apart from the text.
    Note {
        /// How urgent it is.
        kind: NoteKind,
        /// The remark; may use inline markup.
        text: String,
    },
    /// Names and values, such as a configuration; both are plain text.
    KeyValues(Vec<(String, String)>),
}

/// How urgent a [`Block::Note`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// Good to know.
    Info,
    /// The reader may be misled without it.
    Warning,
}

/// One PNG that holds rows and columns of equal tiles, with labels around it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageGrid {
    /// What the picture shows; may use inline markup.
    pub caption: String,
    /// Number of tiles side by side.
    pub columns: usize,
    /// One label per row of tiles, or empty.
    pub row_labels: Vec<String>,
    /// One label per column of tiles, or empty.
    pub column_labels: Vec<String>,
    /// The encoded picture.
    pub png: Vec<u8>,
    /// Width of the picture in its own pixels.
    pub width: u32,
    /// Height of the picture in its own pixels.
    pub height: u32,
    /// How many screen pixels one picture pixel takes where there is room.
    pub scale: u32,
}
