//! One self-contained HTML page: no script, no font, no network.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::assets::Numbers;
use crate::document::{Answer, Block, ImageGrid, NoteKind, Report, Section, VerdictLine};
use crate::escape::{slug, xml};
use crate::figure::Figure;
use crate::inline;
use crate::svg;
use crate::table::{Align, Table};

/// Layout of the page; colours come from the palette of the figures.
const STYLE: &str = include_str!("page.css");

/// From this number of sections on, the page starts with a list of them.
const CONTENTS_FROM: usize = 3;

/// Renders a report as one HTML page that needs nothing beside itself.
#[must_use]
pub fn to_html(report: &Report) -> String {
    let mut numbers = Numbers::default();
    let sections: String = report
        .sections
        .iter()
        .enumerate()
        .map(|(index, part)| section(index, part, &mut numbers))
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
         content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <title>{title}</title>\n<style>\n{palette}{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header>\n<h1>{title}</h1>\n{subtitle}</header>\n{verdicts}{contents}{sections}</main>\n\
         </body>\n</html>\n",
        title = xml(&report.title),
        palette = svg::palette::style(),
        verdicts = verdicts(&report.verdicts),
        contents = contents(&report.sections),
    )
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

fn contents(sections: &[Section]) -> String {
    if sections.len() < CONTENTS_FROM {
        return String::new();
    }
    let items: String = sections
        .iter()
        .enumerate()
        .map(|(index, section)| {
            let title = xml(&section.title);
            format!(
                "<li><a href=\"#{}\">{title}</a></li>\n",
                anchor(index, section)
            )
        })
        .collect();
    format!("<nav aria-label=\"Contents\">\n<ol>\n{items}</ol>\n</nav>\n")
}

fn anchor(index: usize, section: &Section) -> String {
    format!("s{}-{}", index + 1, slug(&section.title))
}

fn section(index: usize, section: &Section, numbers: &mut Numbers) -> String {
    format!(
        "<section id=\"{}\">\n<h2>{}</h2>\n{}</section>\n",
        anchor(index, section),
        xml(&section.title),
        blocks(&section.blocks, numbers)
    )
}

fn blocks(blocks: &[Block], numbers: &mut Numbers) -> String {
    blocks.iter().map(|part| block(part, numbers)).collect()
}

fn block(block: &Block, numbers: &mut Numbers) -> String {
    match block {
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
        "<figure class=\"table\" id=\"table-{number}\">\n{}<div class=\"scroll\" tabindex=\"0\">\n\
         <table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n\
         </figure>\n",
        caption("figcaption", "Table", number, &table.caption)
    )
}

fn figure(figure: &Figure, number: usize) -> String {
    let draw = |width: f64, class: &str| {
        let svg = svg::inline(&figure.chart, width, &format!("figure-{number}-{class}"));
        format!("<div class=\"{class} scroll\">{svg}</div>\n")
    };
    format!(
        "<figure id=\"figure-{number}\">\n{}{}{}</figure>\n",
        draw(svg::WIDE, "wide"),
        draw(svg::NARROW, "narrow"),
        caption("figcaption", "Figure", number, &figure.caption)
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
