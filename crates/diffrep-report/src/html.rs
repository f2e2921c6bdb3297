//! One self-contained HTML page: no font, no network, and one script of its own that the page can do without.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use diffrep_artifact::Sha256Hex;

use crate::assets::Numbers;
use crate::document::{Answer, Block, ImageGrid, NoteKind, Report, Section, VerdictLine};
use crate::escape::{self, xml};
use crate::figure::Figure;
use crate::inline;
use crate::svg;
use crate::table::{Align, Table};
use crate::values::values;

/// Layout of the page; colours come from the palette of the figures.
const STYLE: &str = include_str!("page.css");

/// What the page can do beyond being read.
const SCRIPT: &str = include_str!("page.js");

/// From this number of sections on, the page starts with a list of them.
const CONTENTS_FROM: usize = 3;

/// Renders a report as one HTML page that needs nothing beside itself.
#[must_use]
pub fn to_html(report: &Report) -> String {
    let mut numbers = Numbers::default();
    let anchors = anchors(&report.sections);
    let sections: String = report
        .sections
        .iter()
        .zip(&anchors)
        .map(|(part, anchor)| section(anchor, part, &mut numbers))
        .collect();
    let subtitle = if report.subtitle.is_empty() {
        String::new()
    } else {
        format!(
            "<p class=\"subtitle\">{}</p>\n",
            inline::to_html(&report.subtitle)
        )
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
         script-src 'sha256-{hash}'\">\n\
         <title>{title}</title>\n<style>\n{palette}{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header>\n<h1>{title}</h1>\n{subtitle}</header>\n{verdicts}{contents}{sections}</main>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        title = xml(&report.title),
        palette = svg::palette::style(),
        verdicts = verdicts(&report.verdicts),
        contents = contents(&report.sections, &anchors),
        hash = script_hash(),
    )
}

/// The anchor of a section with this title, in the page and in Markdown on GitHub, as long as no section
/// before it has the same title. A link to it is `[words](#anchor)`.
#[must_use]
pub fn anchor(title: &str) -> String {
    escape::anchor(title)
}

/// The anchors of all sections, no two alike.
fn anchors(sections: &[Section]) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::with_capacity(sections.len());
    for section in sections {
        let anchor = anchor(&section.title);
        let again = (1..).map(|n| format!("{anchor}-{n}"));
        let free = std::iter::once(anchor.clone()).chain(again);
        anchors.extend(free.into_iter().find(|name| !anchors.contains(name)));
    }
    anchors
}

/// The hash by which the page allows its script and no other.
fn script_hash() -> String {
    let hash = Sha256Hex::hash_bytes(SCRIPT.as_bytes()).to_string();
    let digits = hash.as_bytes().chunks_exact(2);
    let bytes: Vec<u8> = digits
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    STANDARD.encode(bytes)
}

fn verdicts(verdicts: &[VerdictLine]) -> String {
    if verdicts.is_empty() {
        return String::new();
    }
    let items: String = verdicts
        .iter()
        .map(|verdict| {
            let (class, sign) = match verdict.answer {
                Answer::Yes => ("yes", "M3 8.5l3.5 3.5L13 4.5"),
                Answer::No => ("no", "M4 4l8 8M12 4l-8 8"),
                Answer::Undecided => ("open", "M3.5 8h9"),
            };
            let evidence = if verdict.evidence.is_empty() {
                String::new()
            } else {
                format!(
                    "<p class=\"evidence\">{}</p>",
                    inline::to_html(&verdict.evidence)
                )
            };
            format!(
                "<li class=\"{class}\"><p class=\"answer\"><svg viewBox=\"0 0 16 16\" \
                 aria-hidden=\"true\"><path d=\"{sign}\"/></svg>{}</p>\
                 <div><p class=\"claim\">{}</p>{evidence}</div></li>\n",
                verdict.answer.word(),
                inline::to_html(&verdict.claim),
            )
        })
        .collect();
    format!("<ul class=\"verdicts\">\n{items}</ul>\n")
}

fn contents(sections: &[Section], anchors: &[String]) -> String {
    if sections.len() < CONTENTS_FROM {
        return String::new();
    }
    let items: String = sections
        .iter()
        .zip(anchors)
        .map(|(section, anchor)| {
            let title = xml(&section.title);
            format!("<li><a href=\"#{}\">{title}</a></li>\n", xml(anchor))
        })
        .collect();
    format!("<nav aria-label=\"Contents\">\n<ol>\n{items}</ol>\n</nav>\n")
}

fn section(anchor: &str, section: &Section, numbers: &mut Numbers) -> String {
    format!(
        "<section id=\"{}\">\n<h2>{}</h2>\n{}</section>\n",
        xml(anchor),
        xml(&section.title),
        blocks(&section.blocks, numbers)
    )
}

fn blocks(blocks: &[Block], numbers: &mut Numbers) -> String {
    blocks.iter().map(|part| block(part, numbers)).collect()
}

fn block(block: &Block, numbers: &mut Numbers) -> String {
    match block {
        Block::Heading(text) => format!("<h3>{}</h3>\n", xml(text)),
        Block::Verdicts(claims) => verdicts(claims),
        Block::Paragraph(text) => format!("<p>{}</p>\n", inline::to_html(text)),
        Block::Table(part) => table(part, numbers.next_table()),
        Block::Figure(part) => figure(part, numbers.next_figure()),
        Block::Images(part) => images(part, numbers.next_figure()),
        Block::Details {
            summary,
            blocks: inner,
        } => format!(
            "<details>\n<summary>{}</summary>\n<div>\n{}</div>\n</details>\n",
            inline::to_html(summary),
            blocks(inner, numbers)
        ),
        Block::Note { kind, text } => {
            let (class, word) = match kind {
                NoteKind::Info => ("info", "Note"),
                NoteKind::Warning => ("warning", "Caution"),
            };
            format!(
                "<aside class=\"note {class}\"><p><strong>{word}</strong> {}</p></aside>\n",
                inline::to_html(text)
            )
        }
        Block::KeyValues(pairs) => {
            let items: String = pairs
                .iter()
                .map(|(key, value)| {
                    format!("<div><dt>{}</dt><dd>{}</dd></div>\n", xml(key), xml(value))
                })
                .collect();
            format!("<dl>\n{items}</dl>\n")
        }
    }
}

fn caption(element: &str, kind: &str, number: usize, text: &str) -> String {
    let text = inline::to_html(text);
    format!("<{element}><b>{kind} {number}.</b> {text}</{element}>\n")
}

fn table(table: &Table, number: usize) -> String {
    format!(
        "<figure class=\"table\" id=\"table-{number}\">\n{}{}</figure>\n",
        caption("figcaption", "Table", number, &table.caption),
        cells(table)
    )
}

/// The rows and columns of a table, which scroll sideways where there is no room.
fn cells(table: &Table) -> String {
    let class = |column: usize| match table.columns[column].align {
        Align::Left => "",
        Align::Right => " class=\"r\"",
        Align::Center => " class=\"c\"",
    };
    let head: String = table
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let unit = column.unit.as_ref().map_or_else(String::new, |unit| {
                format!(" <span class=\"unit\">{}</span>", xml(unit))
            });
            let name = xml(&column.name);
            format!("<th scope=\"col\"{}>{name}{unit}</th>", class(index))
        })
        .collect();
    let rows: String = table
        .rows
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let cells: String = (0..table.columns.len())
                .map(|column| {
                    let Some(cell) = row.get(column) else {
                        return "<td></td>".to_owned();
                    };
                    let text = xml(&cell.text);
                    let text = match (cell.best, cell.muted) {
                        (true, _) => format!("<b>{text}</b>"),
                        (false, true) => format!("<span class=\"muted\">{text}</span>"),
                        (false, false) => text,
                    };
                    format!("<td{}>{text}</td>", class(column))
                })
                .collect();
            let mark = if table.highlight.contains(&index) {
                " class=\"highlight\""
            } else {
                ""
            };
            format!("<tr{mark}>{cells}</tr>\n")
        })
        .collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\">\n<table>\n<thead><tr>{head}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n</div>\n"
    )
}

fn figure(figure: &Figure, number: usize) -> String {
    let draw = |width: f64, class: &str| {
        let svg = svg::inline(&figure.chart, width, &format!("figure-{number}-{class}"));
        format!("<div class=\"{class} scroll\">{svg}</div>\n")
    };
    format!(
        "<figure id=\"figure-{number}\">\n{}{}{}{}</figure>\n",
        draw(svg::WIDE, "wide"),
        draw(svg::NARROW, "narrow"),
        caption("figcaption", "Figure", number, &figure.caption),
        values(&figure.chart).map_or_else(String::new, |table| {
            let cells = cells(&table);
            format!("<details class=\"values\">\n<summary>Values</summary>\n{cells}</details>\n")
        })
    )
}

fn images(images: &ImageGrid, number: usize) -> String {
    let labels = |class: &str, labels: &[String]| -> String {
        if labels.is_empty() {
            return String::new();
        }
        let items: String = labels
            .iter()
            .map(|label| format!("<span>{}</span>", xml(label)))
            .collect();
        format!("<div class=\"{class}\">{items}</div>")
    };
    format!(
        "<figure class=\"images\" id=\"figure-{number}\">\n<div class=\"tiles\" \
         style=\"max-width:{room}px\">{columns}{rows}\
         <img src=\"data:image/png;base64,{data}\" width=\"{width}\" height=\"{height}\" \
         alt=\"{alt}\"></div>\n{caption}</figure>\n",
        room = images
            .width
            .saturating_mul(images.scale.max(1))
            .saturating_add(if images.row_labels.is_empty() { 0 } else { 130 }),
        columns = labels("columns", &images.column_labels),
        rows = labels("rows", &images.row_labels),
        data = STANDARD.encode(&images.png),
        width = images.width.saturating_mul(images.scale.max(1)),
        height = images.height.saturating_mul(images.scale.max(1)),
        alt = xml(&inline::to_plain(&images.caption)),
        caption = caption("figcaption", "Figure", number, &images.caption),
    )
}
