//! The page over several experiments, made of committed records and looked at in a headless browser.
//!
//! The browser part needs Debian's `chromium` or its like; it says so and passes where none is installed,
//! unless DIFFREP_NEEDS_BROWSER is set.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};

use common::{ROOT, refuses, works};

/// The committed records of the scale `mini`.
fn records() -> Vec<String> {
    let mut dirs: Vec<String> = std::fs::read_dir(Path::new(ROOT).join("docs/results"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with("-mini"))
        .map(|path| path.display().to_string())
        .collect();
    dirs.sort();
    assert!(dirs.len() >= 10, "{dirs:?}");
    dirs
}

/// The page over all of them, made once for all tests, and what the command printed.
static PAGE: LazyLock<(PathBuf, Value)> = LazyLock::new(|| {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report/page.html");
    let records = records();
    let mut args = vec!["report", "--out", out.to_str().unwrap()];
    args.extend(records.iter().map(String::as_str));
    let printed = works(&args);
    (out, printed)
});

#[test]
fn claims_are_decided_from_the_records() {
    let (out, record) = &*PAGE;
    let claims = record["data"]["claims"].as_array().unwrap();
    let answer = |part: &str| {
        let found = claims
            .iter()
            .find(|claim| claim["claim"].as_str().unwrap().contains(part));
        found.unwrap_or_else(|| panic!("no claim says {part}"))["verdict"].clone()
    };
    // What the intervals in docs/results say by themselves.
    assert_eq!(answer("beats the same network's encoder"), "yes");
    assert_eq!(answer("beats linear probes of every pool"), "no");
    assert_eq!(answer("at every block and timestep"), "yes");
    assert_eq!(answer("makes no significant difference"), "no");
    assert_eq!(answer("every data set and head) (tops)"), "yes");
    assert_eq!(answer("beats the last block"), "undecided");
    for claim in claims {
        for pair in claim["pairs"].as_array().unwrap() {
            let number = |key: &str| pair["difference"][key].as_f64().unwrap();
            assert!(
                number("low") <= number("difference") && number("difference") <= number("high")
            );
        }
    }
    for kin in ["page.md", "page.json", "page-figures"] {
        assert!(out.with_file_name(kin).exists(), "{kin}");
    }
    // Every link within the page leads somewhere.
    let html = std::fs::read_to_string(out).unwrap();
    for link in html.split("href=\"#").skip(1) {
        let anchor = &link[..link.find('"').unwrap()];
        assert!(html.contains(&format!(" id=\"{anchor}\"")), "{anchor}");
    }
}

#[test]
fn a_record_that_was_changed_changes_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("table1-mini");
    std::fs::create_dir(&run).unwrap();
    let text =
        std::fs::read_to_string(Path::new(ROOT).join("docs/results/table1-mini/results.json"));
    let mut record: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let contenders = record["data"]["contenders"].as_array_mut().unwrap();
    let [first, others @ ..] = contenders.as_mut_slice() else {
        panic!("no contender");
    };
    // The probe and the encoder trained with labels trade their answers.
    let encoder = others
        .iter_mut()
        .find(|entry| entry["name"] == "U-Net encoder")
        .unwrap();
    for (one, other) in first["scores"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .zip(encoder["scores"].as_array_mut().unwrap())
    {
        std::mem::swap(&mut one["correct"], &mut other["correct"]);
    }
    std::fs::write(run.join("results.json"), record.to_string()).unwrap();
    let out = dir.path().join("page.html");
    let told = works(&[
        "report",
        run.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ]);
    assert_eq!(told["data"]["claims"][0]["verdict"], "no");

    let before = format!("{ROOT}/docs/results/table1-mini/results.json");
    let changed = works(&["compare", &before, run.to_str().unwrap()]);
    let change = &changed["experiments"][0];
    assert_eq!(change["same_record"], false);
    assert_eq!(change["settings"], json!([]));
    let same = works(&["compare", &before, &before]);
    assert_eq!(same["experiments"][0]["same_record"], true);
}

#[test]
fn two_runs_are_compared_setting_by_setting_and_image_by_image() {
    let side = |name: &str| format!("{ROOT}/docs/results/{name}");
    let told = works(&[
        "compare",
        &side("figure2-mini-quick"),
        &side("figure2-mini-full"),
    ]);
    let change = &told["experiments"][0];
    let settings: Vec<&str> = change["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|changed| changed["what"].as_str().unwrap())
        .collect();
    assert!(settings.contains(&"timesteps"), "{settings:?}");
    // Both chose the same images to classify, so that changes have intervals.
    let diffusion = &change["accuracies"][0];
    assert_eq!(diffusion["name"], "diffusion");
    assert_eq!(diffusion["interval"]["n"], 10_000);
    assert_eq!(diffusion["beyond_spread"], false);
    // Heads that only one of two experiments has are told, and nothing is said of their change.
    let told = works(&["compare", &side("table1-mini"), &side("figure1-mini")]);
    let accuracies = told["experiments"][0]["accuracies"].as_array().unwrap();
    let only = accuracies
        .iter()
        .find(|one| one["name"] == "CNN, 32-32")
        .unwrap();
    assert_eq!(
        (&only["first"], &only["beyond_spread"]),
        (&Value::Null, &Value::Null)
    );
    let all = works(&["compare", &side(""), &side("")]);
    assert!(all["experiments"].as_array().unwrap().len() > 10);
}

#[test]
fn what_is_no_record_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    refuses(
        &["report", folder],
        &["results.json", "finished experiments"],
    );
    refuses(&["report", "no/such"], &["there is no no/such"]);
    refuses(&["report", folder, "--out", "page.txt"], &[".html"]);
    std::fs::write(dir.path().join("results.json"), "{}").unwrap();
    refuses(&["report", folder], &["is not the record of an experiment"]);
    let other = json!({
        "schema": "diffrep.heads", "version": 99, "created_unix": 0,
        "provenance": {
            "diffrep_version": "9", "command": [], "config_sha256": "0".repeat(64),
            "checkpoint_sha256": null, "data_sha256": null, "seed": null, "device": "flex",
            "host": {"os": "linux", "arch": "x86_64", "cpus": 1}
        },
        "data": {"scale": "mini", "settings": {}}
    });
    std::fs::write(dir.path().join("results.json"), other.to_string()).unwrap();
    refuses(&["report", folder], &["version 99"]);
}

/// A headless browser that is spoken to through its debugging pipe. It ends when this is dropped.
struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    last: u64,
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one; `None` if none is installed.
    fn start() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = ["chromium", "chromium-browser", "google-chrome"]
            .iter()
            .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)))
            .find(|path| path.is_file());
        let Some(program) = program else {
            assert!(
                std::env::var_os("DIFFREP_NEEDS_BROWSER").is_none(),
                "no browser is installed"
            );
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        // The pipe is read from descriptor 3 and written to descriptor 4.
        let mut child = Command::new("sh")
            .arg("-c")
            .arg("exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1")
            .arg(program)
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        let mut browser = Self {
            child,
            to,
            from,
            session: None,
            last: 0,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached = browser.call(
            "Target.attachToTarget",
            json!({"targetId": target["targetId"], "flatten": true}),
        );
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to
            .write_all(format!("{message}\0").as_bytes())
            .unwrap();
        self.to.flush().unwrap();
        loop {
            let answer = self.message();
            if answer["id"] == self.last {
                assert!(
                    answer.get("error").is_none(),
                    "{method}: {}",
                    answer["error"]
                );
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn message(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0), "the browser ended");
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Opens a page and waits until it is loaded.
    fn open(&mut self, page: &Path) {
        self.events
            .retain(|event| event["method"] != "Page.loadEventFired");
        self.call(
            "Page.navigate",
            json!({"url": format!("file://{}", page.display())}),
        );
        while !self
            .events
            .iter()
            .any(|event| event["method"] == "Page.loadEventFired")
        {
            let event = self.message();
            self.events.push(event);
        }
    }

    fn screen(&mut self, width: u32, scheme: &str) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}),
        );
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// What an expression comes to.
    fn evaluate(&mut self, expression: &str) -> Value {
        let done = self.call(
            "Runtime.evaluate",
            json!({"expression": expression, "returnByValue": true}),
        );
        assert!(done.get("exceptionDetails").is_none(), "{done}");
        done["result"]["value"].clone()
    }

    fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({"type": kind, "key": key}));
        }
    }

    /// What the page complained about.
    fn complaints(&self) -> Vec<&Value> {
        let bad = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        self.events.iter().filter(bad).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Figures that have no visible drawing or picture of some size.
const EMPTY_FIGURES: &str = r#"[...document.querySelectorAll("figure")].filter(figure => {
    const shown = [...figure.querySelectorAll("svg, img, table")].map(part => part.getBoundingClientRect());
    return !shown.some(box => box.width > 100 && box.height > 30);
}).map(figure => figure.id)"#;

/// Words that are too small or too pale where they stand.
const ILLEGIBLE: &str = r##"(() => {
    const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const bytes = color => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = color;
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => (c * a + under[i] * (255 - a)) / 255);
    const light = rgb => rgb
        .map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const background = element => {
        if (!element) return [255, 255, 255];
        const own = bytes(getComputedStyle(element).backgroundColor);
        return own[3] === 255 ? own.slice(0, 3) : over(own, background(element.parentElement));
    };
    const drawn = text => {
        // The last filled rectangle before the words that they stand on.
        const at = text.getBoundingClientRect();
        const x = at.left + at.width / 2, y = at.top + at.height / 2;
        let found = null;
        for (const rect of text.closest("svg").querySelectorAll("rect")) {
            if (!(rect.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING)) break;
            const box = rect.getBoundingClientRect();
            const inside = box.left <= x && x <= box.right && box.top <= y && y <= box.bottom;
            if (inside && getComputedStyle(rect).fill !== "none") found = rect;
        }
        return found ? bytes(getComputedStyle(found).fill).slice(0, 3) : background(text.closest("figure"));
    };
    const bad = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const words = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
        if (!words || element.closest("script, title, desc") || !element.getClientRects().length) continue;
        const style = getComputedStyle(element), svg = element.closest("svg");
        const scale = svg ? svg.getScreenCTM().a : 1;
        const size = parseFloat(style.fontSize) * scale;
        const under = svg ? drawn(element) : background(element);
        const ink = over(bytes(svg ? style.fill : style.color), under);
        const [a, b] = [light(ink), light(under)];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (size < 10 || contrast < 4.5)
            bad.push(`${words.slice(0, 40)}: ${size.toFixed(1)} px, contrast ${contrast.toFixed(2)}`);
    }
    return bad;
})()"##;

#[test]
fn the_page_can_be_read_in_a_browser() {
    let Some(mut browser) = Browser::start() else {
        eprintln!("skipped: no browser is installed (Debian: chromium)");
        return;
    };
    let (page, _) = &*PAGE;
    let open_all = r#"for (const part of document.querySelectorAll("details")) part.open = true"#;
    for (width, scheme) in [
        (1280, "light"),
        (1280, "dark"),
        (390, "light"),
        (390, "dark"),
    ] {
        browser.screen(width, scheme);
        browser.open(page);
        let paper = browser.evaluate("getComputedStyle(document.body).backgroundColor");
        let expected = if scheme == "dark" {
            "rgb(21, 24, 28)"
        } else {
            "rgb(255, 255, 255)"
        };
        assert_eq!(paper, expected, "{scheme}");
        browser.evaluate(open_all);
        let figures = browser.evaluate(r#"document.querySelectorAll("figure").length"#);
        assert!(figures.as_u64().unwrap() > 30, "{figures}");
        assert_eq!(
            browser.evaluate(EMPTY_FIGURES),
            json!([]),
            "{width}, {scheme}"
        );
        assert_eq!(browser.evaluate(ILLEGIBLE), json!([]), "{width}, {scheme}");
        let room = browser.evaluate("document.documentElement.scrollWidth");
        assert!(
            room.as_u64().unwrap() <= u64::from(width),
            "{room} at {width}"
        );
    }
    assert!(
        browser.complaints().is_empty(),
        "{:?}",
        browser.complaints()
    );
}

#[test]
fn figures_tell_their_values_by_keys_and_let_series_go() {
    let Some(mut browser) = Browser::start() else {
        eprintln!("skipped: no browser is installed (Debian: chromium)");
        return;
    };
    let (page, _) = &*PAGE;
    browser.screen(1280, "light");
    browser.open(page);
    browser.evaluate(
        "window.chart = [...document.querySelectorAll('figure')].find(one => one.querySelector('.toggles')); \
         chart.querySelector('.wide').focus()",
    );
    let readout = "chart.querySelector('.readout').textContent";
    let hint = browser.evaluate(readout);
    browser.press("ArrowRight");
    let first = browser.evaluate(readout);
    browser.press("ArrowRight");
    let second = browser.evaluate(readout);
    assert!(
        first != hint && second != first,
        "{hint}, {first}, {second}"
    );
    assert!(first.as_str().unwrap().contains('→'), "{first}");
    let shown = "[...chart.querySelectorAll('.wide [data-series=\"0\"]')].filter(part => part.getClientRects().length).length";
    assert!(browser.evaluate(shown).as_u64().unwrap() > 0);
    browser.evaluate("chart.querySelector('.toggles button').click()");
    assert_eq!(browser.evaluate(shown), 0);
    browser.evaluate("chart.querySelector('.toggles button').click()");
    assert!(browser.evaluate(shown).as_u64().unwrap() > 0);

    // Without its script the page has the same figures, and their values in tables.
    browser.call(
        "Emulation.setScriptExecutionDisabled",
        json!({"value": true}),
    );
    browser.open(page);
    let dom = browser.call("DOM.getDocument", json!({"depth": 0}));
    let mut count = |selector: &str| {
        let found = browser.call(
            "DOM.querySelectorAll",
            json!({"nodeId": dom["root"]["nodeId"], "selector": selector}),
        );
        found["nodeIds"].as_array().unwrap().len()
    };
    assert_eq!(count(".toggles, .readout"), 0);
    assert!(count("figure svg") > 20);
    assert!(count("details.values td") > 50);
    assert!(
        browser.complaints().is_empty(),
        "{:?}",
        browser.complaints()
    );
}
