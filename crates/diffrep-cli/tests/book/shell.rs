//! The commands in the project's pages: fenced blocks of `sh`, and the words of the commands in them.

use std::path::Path;

/// What is done to a block's commands when they are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// They run, one block after another in a folder that has only `fixtures`.
    Run,
    /// Their arguments are read, because they need what a test does not have: a GPU, a cluster, hours,
    /// or files of the reader's own.
    Parse,
}

/// One block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The page, from the root of the workspace, and the line on which the block begins.
    pub(crate) place: String,
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

/// The pages whose commands are tested, each with its blocks in order.
pub(crate) fn pages(root: &Path) -> Vec<(String, Vec<Block>)> {
    let mut names = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    let mut add = |folder: &str, entry: &str| {
        let path = format!("{folder}/{entry}");
        if root.join(&path).is_file() {
            names.push(path);
        }
    };
    for name in listed(&root.join("docs")) {
        if name.ends_with(".md") {
            add("docs", &name);
        }
    }
    for name in listed(&root.join("crates")) {
        add(&format!("crates/{name}"), "README.md");
    }
    let read = |name: String| {
        let text = std::fs::read_to_string(root.join(&name)).unwrap();
        let blocks = blocks(&name, &text);
        (name, blocks)
    };
    names.into_iter().map(read).collect()
}

fn listed(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The blocks of a page.
///
/// # Panics
///
/// When a block of commands does not say what is to be done with it, or has no end.
pub(crate) fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let place = format!("{page}:{}", number + 1);
        let mut body = String::new();
        loop {
            let Some((_, line)) = lines.next() else {
                panic!("{place}: the block has no end");
            };
            if line.trim() == "```" {
                break;
            }
            body.push_str(line);
            body.push('\n');
        }
        let mut words = info.split_whitespace();
        if !matches!(words.next(), Some("sh" | "bash" | "shell" | "console")) {
            continue;
        }
        let kind = match words.next() {
            Some("run") => Kind::Run,
            Some("parse") => Kind::Parse,
            _ => panic!("{place}: say `sh run` or `sh parse`, so that its commands are tested"),
        };
        blocks.push(Block {
            place,
            kind,
            text: body,
        });
    }
    blocks
}

/// The commands of a script, each as its words. Redirections are not part of them, nor is the text of here-documents;
/// variables stay as they are written.
pub(crate) fn commands(script: &str) -> Vec<Vec<String>> {
    let mut reader = Reader::default();
    let mut chars = script.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(other) => reader.word.get_or_insert_default().push(other),
            },
            '\'' => {
                let word = reader.word.get_or_insert_default();
                word.extend(chars.by_ref().take_while(|char| *char != '\''));
            }
            '"' => {
                let word = reader.word.get_or_insert_default();
                word.extend(chars.by_ref().take_while(|char| *char != '"'));
            }
            '#' if reader.word.is_none() => while chars.next_if(|char| *char != '\n').is_some() {},
            ' ' | '\t' => reader.end_word(),
            '<' | '>' => {
                // The number of a file before it, as in `2>`, is no word.
                if reader
                    .word
                    .as_deref()
                    .is_some_and(|word| word.parse::<u8>().is_ok())
                {
                    reader.word = None;
                }
                reader.end_word();
                reader.redirected = true;
                reader.inlined |= char == '<' && chars.next_if_eq(&'<').is_some();
                while chars.next_if(|char| matches!(char, '>' | '&')).is_some() {}
            }
            '\n' => {
                reader.end_command();
                if let Some(end) = reader.inline.take() {
                    // The lines of a here-document, and the one that ends it.
                    while chars.peek().is_some() {
                        let line: String =
                            chars.by_ref().take_while(|char| *char != '\n').collect();
                        if line.trim() == end {
                            break;
                        }
                    }
                }
            }
            ';' | '&' | '|' => reader.end_command(),
            other => reader.word.get_or_insert_default().push(other),
        }
    }
    reader.end_command();
    reader.commands
}

#[derive(Default)]
struct Reader {
    commands: Vec<Vec<String>>,
    command: Vec<String>,
    word: Option<String>,
    /// Whether the next word names a file.
    redirected: bool,
    /// Whether the next word ends a here-document.
    inlined: bool,
    /// The word that ends the here-document after this line.
    inline: Option<String>,
}

impl Reader {
    fn end_word(&mut self) {
        let Some(word) = self.word.take() else {
            return;
        };
        if self.inlined {
            self.inline = Some(word);
        } else if !self.redirected {
            self.command.push(word);
        }
        (self.redirected, self.inlined) = (false, false);
    }

    fn end_command(&mut self) {
        self.end_word();
        if !self.command.is_empty() {
            self.commands.push(std::mem::take(&mut self.command));
        }
    }
}
