use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use diffrep_fetch::{
    Asset, Checked, Evidence, FetchError, Options, Progress, Stage, catalogue, fetch, find, verify,
};
use diffrep_report::{Cell, Column, Table, to_terminal_table};

use crate::printer::{self, Printer};

/// Download a data set or a published checkpoint, or say how to get what may not be downloaded.
///
/// Downloads resume, are compared with the published hash and unpacked; a file that is there and
/// right is not downloaded again. Nothing is downloaded by any other command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    diffrep fetch\n  \
    diffrep fetch flowers --out data/flowers\n  \
    diffrep fetch 256x256_diffusion_uncond --out checkpoints\n  \
    diffrep fetch imagenet\n  \
    diffrep fetch imagenet --verify --out /data/ilsvrc")]
pub(crate) struct FetchArgs {
    /// What to get; without it, what there is.
    name: Option<String>,
    /// The folder for it; `data/NAME` without it.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Compare files that are there with the published sizes and hashes, and download nothing.
    #[arg(long)]
    verify: bool,
    /// Say where it comes from, how large it is and under which licence, and download nothing.
    #[arg(long, conflicts_with = "verify")]
    dry_run: bool,
    /// Keep archives after they were unpacked.
    #[arg(long)]
    keep_archives: bool,
}

pub(crate) fn run(args: &FetchArgs, printer: Printer) -> Result<()> {
    let Some(name) = &args.name else {
        return list(printer);
    };
    let asset = find(name).with_context(|| {
        let names: Vec<&str> = catalogue().iter().map(|asset| asset.name).collect();
        format!(
            "there is no `{name}` to fetch; there are {}",
            names.join(", ")
        )
    })?;
    let out = args.out.clone();
    let out = out.unwrap_or_else(|| PathBuf::from("data").join(asset.name));
    if args.dry_run {
        return describe(asset, printer);
    }
    let mut bar = None;
    let mut at = |progress: Progress<'_>| show(&mut bar, &progress, printer);
    let checked = if args.verify {
        let files = verify(asset, &out, &mut at)?;
        if files.is_empty() {
            bail!(
                "{} holds none of the files of {}: there is nothing to verify",
                out.display(),
                asset.name
            );
        }
        let as_json = |(path, checked): &(PathBuf, Checked)| as_json(path, Some(checked));
        files.iter().map(as_json).collect::<Vec<_>>()
    } else {
        if asset.steps().is_empty() {
            printer.say(&format!(
                "fetching {} ({}) into {}; a connection that fails is tried again",
                asset.title,
                size(asset.download_bytes()),
                out.display()
            ));
        }
        let options = Options {
            keep_archives: args.keep_archives,
            ..Options::default()
        };
        let fetched = match fetch(asset, &out, &options, &mut at) {
            Err(error @ FetchError::ByHand { .. }) => {
                describe(asset, printer)?;
                return Err(error.into());
            }
            fetched => fetched?,
        };
        for (path, checked) in fetched.unverified() {
            printer.say(&format!(
                "no hash is published for {}: its SHA-256 is {}",
                path.display(),
                checked.sha256
            ));
        }
        let files = fetched.files.iter();
        files
            .map(|file| as_json(&file.path, file.checked.as_ref()))
            .collect()
    };
    if let Some((_, bar)) = bar {
        bar.finish();
    }
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&serde_json::json!({
            "name": asset.name,
            "folder": out,
            "files": checked,
        }))?);
        return Ok(());
    }
    for file in &checked {
        let text = |key: &str| file[key].as_str().unwrap_or_default().to_owned();
        printer.result(&format!("{}: {}", text("path"), text("checked_by")));
    }
    printer.result(asset.layout);
    Ok(())
}

fn as_json(path: &std::path::Path, checked: Option<&Checked>) -> serde_json::Value {
    let by = match checked.map(|checked| &checked.by) {
        None => "there already, from an archive that was unpacked before",
        Some(Evidence::Sha256) => "SHA-256 as published",
        Some(Evidence::Md5) => "MD5 as published",
        Some(Evidence::Size) => "size as published; no hash is",
        Some(Evidence::Nothing) => "nothing is published to check it by",
    };
    serde_json::json!({
        "path": path,
        "bytes": checked.map(|checked| checked.bytes),
        "sha256": checked.map(|checked| checked.sha256.as_str()),
        "checked_by": by,
    })
}

/// One bar for each file and stage.
fn show(
    bar: &mut Option<((String, Stage), printer::Progress)>,
    progress: &Progress<'_>,
    printer: Printer,
) {
    let about = (progress.file.to_owned(), progress.stage);
    let known = bar.as_ref().is_some_and(|(shown, _)| *shown == about);
    if !known {
        if let Some((_, bar)) = bar.take() {
            bar.finish();
        }
        let what = match progress.stage {
            Stage::Download => "download",
            Stage::Check => "check",
            Stage::Unpack => "unpack",
        };
        let what = format!("{what} {}", progress.file);
        *bar = Some((about, printer.bytes(&what, progress.total)));
    }
    if let Some((_, bar)) = bar {
        bar.at(progress.bytes, "");
    }
}

fn list(printer: Printer) -> Result<()> {
    if printer.json() {
        let all: Vec<_> = catalogue().iter().map(as_entry).collect();
        printer.result(&serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    let rows = catalogue()
        .iter()
        .map(|asset| {
            vec![
                Cell::text(asset.name),
                Cell::text(asset.title),
                Cell::text(match asset.steps() {
                    [] => size(asset.download_bytes()),
                    _ => "by hand".into(),
                }),
            ]
        })
        .collect();
    printer.result(&to_terminal_table(&Table {
        caption: "What `diffrep fetch NAME` gets, or says how to get by hand".into(),
        columns: vec![
            Column::text("name"),
            Column::text("title"),
            Column::text("download"),
        ],
        rows,
        highlight: Vec::new(),
    }));
    Ok(())
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or("size not known".into(), |bytes| {
        format!("{:.1} MB", bytes as f64 / 1e6)
    })
}

fn as_entry(asset: &Asset) -> serde_json::Value {
    let downloads = asset.downloads().iter();
    let urls: Vec<&str> = downloads.map(|remote| remote.url).collect();
    serde_json::json!({
        "name": asset.name,
        "title": asset.title,
        "licence": asset.licence,
        "download_bytes": asset.download_bytes(),
        "urls": urls,
        "steps": asset.steps(),
        "layout": asset.layout,
    })
}

fn describe(asset: &Asset, printer: Printer) -> Result<()> {
    if printer.json() {
        printer.result(&serde_json::to_string_pretty(&as_entry(asset))?);
        return Ok(());
    }
    printer.result(&format!("{}\nlicence: {}", asset.title, asset.licence));
    for remote in asset.downloads() {
        printer.result(&format!("{} ({})", remote.url, size(remote.file.bytes)));
    }
    for (number, step) in asset.steps().iter().enumerate() {
        printer.result(&format!("{}. {step}", number + 1));
    }
    printer.result(asset.layout);
    Ok(())
}
