//! Tables for terminals and for spreadsheets.

use crate::escape::single_line;
use crate::inline;
use crate::table::{Align, Table};

/// Renders a table as aligned plain text for a terminal.
///
/// `*` stands after the best cells and `>` before the highlighted rows.
#[must_use]
pub fn to_terminal_table(table: &Table) -> String {
    let has_best = |column: usize| {
        let mut cells = table.rows.iter().filter_map(|row| row.get(column));
        cells.any(|cell| cell.best)
    };
    let text = |row: usize, column: usize| {
        table.rows[row]
            .get(column)
            .map_or_else(String::new, |cell| {
                let mark = match (has_best(column), cell.best) {
                    (true, true) => " *",
                    // Numbers stay aligned with those that carry a mark.
                    (true, false) if table.columns[column].align == Align::Right => "  ",
                    _ => "",
                };
                format!("{}{mark}", single_line(&cell.text))
            })
    };
    let columns = table.columns.len();
    let head: Vec<String> = table
        .columns
        .iter()
        .map(|c| single_line(&c.heading()))
        .collect();
    let body: Vec<Vec<String>> = (0..table.rows.len())
        .map(|row| (0..columns).map(|column| text(row, column)).collect())
        .collect();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = body.iter().map(|row| columns_of(&row[column]));
            cells.fold(columns_of(&head[column]), usize::max)
        })
        .collect();
    let line = |start: &str, cells: &[String]| {
        let cells = cells.iter().zip(&widths).zip(&table.columns);
        let padded: Vec<String> = cells
            .map(|((text, width), column)| pad(text, *width, column.align))
            .collect();
        format!("{}\n", format!("{start}{}", padded.join("  ")).trim_end())
    };
    let margin = if table.highlight.is_empty() { "" } else { "  " };
    let mut out = String::new();
    if !table.caption.is_empty() {
        out.push_str(&single_line(&inline::to_plain(&table.caption)));
        out.push_str("\n\n");
    }
    out.push_str(&line(margin, &head));
    let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    out.push_str(&format!("{margin}{}\n", rule.join("  ")));
    for (index, cells) in body.iter().enumerate() {
        let start = if table.highlight.contains(&index) {
            "> "
        } else {
            margin
        };
        out.push_str(&line(start, cells));
    }
    out
}

/// Renders a table as comma-separated values (RFC 4180), one line per row.
///
/// Cells hold the same text as elsewhere; the caption and the marks are left out.
#[must_use]
pub fn to_csv(table: &Table) -> String {
    let head = table.columns.iter().map(|column| column.heading());
    let mut out = csv_line(head);
    for row in &table.rows {
        let cells = (0..table.columns.len()).map(|column| {
            let cell = row.get(column);
            cell.map_or_else(String::new, |cell| cell.text.clone())
        });
        out.push_str(&csv_line(cells));
    }
    out
}

fn csv_line(fields: impl Iterator<Item = String>) -> String {
    let quoted: Vec<String> = fields
        .map(|field| {
            if field.contains([',', '"', '\n', '\r']) || field.trim() != field {
                format!("\"{}\"", field.replace('"', "\"\""))
            } else {
                field
            }
        })
        .collect();
    format!("{}\r\n", quoted.join(","))
}

fn pad(text: &str, width: usize, align: Align) -> String {
    let free = width - columns_of(text);
    let left = match align {
        Align::Left => 0,
        Align::Center => free / 2,
        Align::Right => free,
    };
    format!("{}{text}{}", " ".repeat(left), " ".repeat(free - left))
}

/// How many columns of a terminal a text takes.
fn columns_of(text: &str) -> usize {
    text.chars()
        .map(|c| match c as u32 {
            0x300..=0x36f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
            0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff => 2,
            0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff => 2,
            _ => 1,
        })
        .sum()
}
