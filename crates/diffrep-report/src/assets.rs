//! The files that the Markdown refers to, and the numbers of tables and figures.

use crate::document::{Block, Report};
use crate::escape::slug;
use crate::svg;

/// The SVG and PNG files of a report, by the names that [`to_markdown`](crate::to_markdown) uses.
#[must_use]
pub fn assets(report: &Report) -> Vec<(String, Vec<u8>)> {
    let mut numbers = Numbers::default();
    let mut files = Vec::new();
    for section in &report.sections {
        collect(&section.blocks, &mut numbers, &mut files);
    }
    files
}

fn collect(blocks: &[Block], numbers: &mut Numbers, files: &mut Vec<(String, Vec<u8>)>) {
    for block in blocks {
        match block {
            Block::Figure(figure) => {
                let name = figure_file(numbers.next_figure(), figure.chart.title());
                files.push((name, svg::to_svg(&figure.chart).into_bytes()));
            }
            Block::Images(images) => {
                let name = picture_file(numbers.next_figure());
                files.push((name, images.png.clone()));
            }
            Block::Details { blocks, .. } => collect(blocks, numbers, files),
            Block::Heading(_)
            | Block::Verdicts(_)
            | Block::Paragraph(_)
            | Block::Table(_)
            | Block::Note { .. }
            | Block::KeyValues(_) => {}
        }
    }
}

/// Counts tables and figures in reading order, the same in every output.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    tables: usize,
    figures: usize,
}

impl Numbers {
    pub(crate) fn next_table(&mut self) -> usize {
        self.tables += 1;
        self.tables
    }

    pub(crate) fn next_figure(&mut self) -> usize {
        self.figures += 1;
        self.figures
    }
}

/// The file of a drawn figure.
pub(crate) fn figure_file(number: usize, title: &str) -> String {
    let slug = slug(title);
    let hyphen = if slug.is_empty() { "" } else { "-" };
    format!("figure-{number}{hyphen}{slug}.svg")
}

/// The file of a picture.
pub(crate) fn picture_file(number: usize) -> String {
    format!("figure-{number}-images.png")
}
