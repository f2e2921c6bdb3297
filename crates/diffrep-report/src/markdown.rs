//! Markdown as GitHub renders it.

use crate::assets::{Numbers, figure_file, picture_file};
use crate::document::{Block, ImageGrid, NoteKind, Report, VerdictLine};
use crate::escape::{markdown, markdown_line_start, single_line, url_path, xml};
use crate::inline;
use crate::table::{Align, Table};

/// Renders a report as Markdown whose figures are the files of [`assets`](crate::assets) under `asset_prefix`.
///
/// An empty prefix means the folder of the Markdown file itself.
#[must_use]
pub fn to_markdown(report: &Report, asset_prefix: &str) -> String {
    let mut writer = Writer {
        prefix: match asset_prefix {
            "" => String::new(),
            prefix => format!("{}/", prefix.trim_end_matches('/')),
        },
        numbers: Numbers::default(),
        parts: vec![format!("# {}", markdown(&report.title))],
    };
    writer.paragraph(&report.subtitle);
    writer.push(verdicts(&report.verdicts));
    for section in &report.sections {
        writer.push(format!("## {}", markdown(&section.title)));
        writer.blocks(&section.blocks);
    }
    format!("{}\n", writer.parts.join("\n\n"))
}

/// Claims as a list.
fn verdicts(verdicts: &[VerdictLine]) -> String {
    let lines = verdicts.iter().map(|verdict| {
        let evidence = match inline::to_markdown(&verdict.evidence) {
            evidence if evidence.is_empty() => evidence,
            evidence => format!("<br>{evidence}"),
        };
        let claim = inline::to_markdown(&verdict.claim);
        format!("- **{}** — {claim}{evidence}", verdict.answer.word())
    });
    lines.collect::<Vec<_>>().join("\n")
}

struct Writer {
    prefix: String,
    numbers: Numbers,
    parts: Vec<String>,
}

impl Writer {
    fn push(&mut self, part: String) {
        if !part.is_empty() {
            self.parts.push(part);
        }
    }

    fn paragraph(&mut self, text: &str) {
        self.push(markdown_line_start(&inline::to_markdown(text)));
    }

    fn caption(&mut self, kind: &str, number: usize, caption: &str) {
        let caption = inline::to_markdown(caption);
        self.numbered(kind, number, &caption);
    }

    fn numbered(&mut self, kind: &str, number: usize, caption: &str) {
        self.push(
            format!("**{kind} {number}.** {caption}")
                .trim_end()
                .to_owned(),
        );
    }

    fn blocks(&mut self, blocks: &[Block]) {
        for block in blocks {
            self.block(block);
        }
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Heading(text) => self.push(format!("### {}", markdown(text))),
            Block::Verdicts(claims) => self.push(verdicts(claims)),
            Block::Paragraph(text) => self.paragraph(text),
            Block::Table(table) => {
                let number = self.numbers.next_table();
                self.caption("Table", number, &table.caption);
                self.push(to_table(table));
            }
            Block::Figure(figure) => {
                let number = self.numbers.next_figure();
                let title = figure.chart.title();
                let file = url_path(&format!("{}{}", self.prefix, figure_file(number, title)));
                self.push(format!("![Figure {number}: {}]({file})", markdown(title)));
                self.caption("Figure", number, &figure.caption);
            }
            Block::Images(images) => self.images(images),
            Block::Details { summary, blocks } => {
                // A summary is HTML, in which Markdown has no meaning as long as no line ends.
                let summary = inline::to_html(&single_line(summary));
                self.push(format!("<details>\n<summary>{summary}</summary>"));
                self.blocks(blocks);
                self.push("</details>".to_owned());
            }
            Block::Note { kind, text } => {
                let kind = match kind {
                    NoteKind::Info => "NOTE",
                    NoteKind::Warning => "WARNING",
                };
                self.push(format!(
                    "> [!{kind}]\n> {}",
                    markdown_line_start(&inline::to_markdown(text))
                ));
            }
            Block::KeyValues(pairs) => {
                let rows = pairs
                    .iter()
                    .map(|(key, value)| format!("| {} | {} |", markdown(key), markdown(value)));
                let lines: Vec<String> = ["| | |".to_owned(), "|---|---|".to_owned()]
                    .into_iter()
                    .chain(rows)
                    .collect();
                if !pairs.is_empty() {
                    self.push(lines.join("\n"));
                }
            }
        }
    }

    fn images(&mut self, images: &ImageGrid) {
        let number = self.numbers.next_figure();
        let file = url_path(&format!("{}{}", self.prefix, picture_file(number)));
        self.push(format!(
            "<img src=\"{}\" width=\"{}\" alt=\"Figure {number}: {}\">",
            xml(&file),
            images.width.saturating_mul(images.scale.max(1)),
            xml(&inline::to_plain(&images.caption)).replace('\n', " ")
        ));
        let mut text = inline::to_markdown(&images.caption);
        for (what, labels) in [
            ("Columns, left to right", &images.column_labels),
            ("Rows, top to bottom", &images.row_labels),
        ] {
            if !labels.is_empty() {
                let labels: Vec<String> = labels.iter().map(|label| markdown(label)).collect();
                text.push_str(&format!(" {what}: {}.", labels.join(", ")));
            }
        }
        self.numbered("Figure", number, &text);
    }
}

fn to_table(table: &Table) -> String {
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let head = table
        .columns
        .iter()
        .map(|column| markdown(&column.heading()));
    let rule = table.columns.iter().map(|column| match column.align {
        Align::Left => ":---".to_owned(),
        Align::Right => "---:".to_owned(),
        Align::Center => ":---:".to_owned(),
    });
    let mut lines = vec![line(head.collect()), line(rule.collect())];
    for (index, row) in table.rows.iter().enumerate() {
        let cells = (0..table.columns.len()).map(|column| {
            let Some(cell) = row.get(column) else {
                return String::new();
            };
            let text = markdown(&cell.text);
            let leads = column == 0 && table.highlight.contains(&index);
            match text.trim() {
                "" => String::new(),
                text if cell.best || leads => format!("**{text}**"),
                text if cell.muted => format!("*{text}*"),
                text => text.to_owned(),
            }
        });
        lines.push(line(cells.collect()));
    }
    lines.join("\n")
}
