//! Reports as pages: what they hold, and how a browser shows them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::program::{fixture, mipp, python, text};
use crate::small;

const RESNET: &str = "resnet_bn_torchscript.onnx";

/// Prunes the resnet on a few samples and reports to a file.
fn report(path: &Path, options: &[&str]) -> String {
    let (model, data) = (fixture(RESNET), fixture("calib.npz"));
    let start = [
        text(&model),
        "--dry-run",
        "--calib",
        text(&data),
        "--samples",
        "64",
    ];
    let ends = ["--repair", "once", "-q", "--report", text(path)];
    mipp([start.as_slice(), options, &ends].concat()).done();
    fs::read_to_string(path).unwrap()
}

/// Tags that close what they open, each start tag closed in order.
fn is_well_formed(page: &Path) {
    let script = "
import sys
from html.parser import HTMLParser
class Check(HTMLParser):
    void = {'meta', 'br', 'hr', 'img', 'input', 'link'}
    def __init__(self):
        super().__init__(); self.open = []
    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), (tag, names)
        if tag not in self.void: self.open.append(tag)
    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open, self.getpos())
        self.open.pop()
check = Check(); check.feed(open(sys.argv[1]).read()); check.close()
assert not check.open, check.open";
    python(["-c", script, text(page)]).done();
}

#[test]
fn a_page_has_the_figures_and_loads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let page = report(&path("report.html"), &["--macs", "0.5"]);
    let json: Value = serde_json::from_str(&report(&path("r.json"), &["--macs", "0.5"])).unwrap();
    is_well_formed(&path("report.html"));
    let widths = json["groups"].as_array().unwrap().iter().map(|group| {
        let width = |when: &str| group["channels"][when].as_u64().unwrap();
        (
            width("before"),
            width("after"),
            group["frozen"].as_array().unwrap().is_empty(),
        )
    });
    for (before, after, is_free) in widths {
        let shown = if is_free {
            format!("{after} of {before} channels")
        } else {
            format!("({before} channels)")
        };
        assert!(page.contains(&shown), "no '{shown}'");
    }
    let cosine = format!("{:.4}", json["comparison"]["cosine"].as_f64().unwrap());
    let command = format!(
        "--macs 0.5 --repair once -q --report {}",
        text(&path("report.html"))
    );
    for shown in [
        &cosine,
        &command,
        "&#39;logits&#39; is an output of the model",
        "Trade-off",
    ] {
        let plain = shown.replace("&#39;", "'");
        assert!(
            page.contains(shown) || page.contains(&plain),
            "no '{shown}'"
        );
    }
    for foreign in ["http:", "https:", "<script", "src=", "url(", "@import"] {
        assert!(!page.contains(foreign), "{foreign} in the page");
    }
    // Each layer is drawn once, and the layers of the residual blocks read two others.
    let layers = json["layers"].as_array().unwrap();
    assert_eq!(page.matches("class=\"whole\"").count(), layers.len());
    assert!(
        layers
            .iter()
            .any(|layer| layer["reads"].as_array().unwrap().len() > 1)
    );
    assert_eq!(layers[0]["name"], "/stem/stem.0/Conv");
}

#[test]
fn the_trade_off_loses_more_with_less() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    // Without trials the layers' own losses serve.
    for budget in [["--macs", "0.5"], ["--mi", "0.9"]] {
        let page = report(&path, &budget);
        let line = page.split("class=\"curve\" points=\"").nth(1).unwrap();
        let line = line.split('"').next().unwrap();
        let points: Vec<Vec<f64>> = line
            .split(' ')
            .map(|point| {
                point
                    .split(',')
                    .map(|number| number.parse().unwrap())
                    .collect()
            })
            .collect();
        assert!(points.len() > 5, "{line}");
        for pair in points.windows(2) {
            // To the left less is left, and down the page less is lost.
            assert!(
                pair[1][0] < pair[0][0] && pair[1][1] <= pair[0][1],
                "{budget:?}: {line}"
            );
        }
    }
}

#[test]
fn names_cannot_break_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let [input, page] = ["in.onnx", "<i>.html"].map(|name| folder.path().join(name));
    let mut model = small::model();
    let evil = "</title><img src=x onerror=alert(1)>&\"'";
    small::graph(&mut model).node[0].name = Some(evil.to_owned());
    small::write(&model, &input);
    let arguments = [
        text(&input),
        "--dry-run",
        "-q",
        "--ratio",
        "0.5",
        "--report",
        text(&page),
    ];
    mipp(arguments).done();
    is_well_formed(&page);
    let page = fs::read_to_string(&page).unwrap();
    assert!(!page.contains("<img") && !page.contains("<i>."), "{page}");
    assert!(page.contains("&lt;img src=x"));
}

#[test]
fn a_sweep_has_a_curve_and_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = (fixture(RESNET), fixture("calib.npz"));
    let path = folder.path().join("sweep.html");
    let start = [
        "sweep",
        text(&model),
        "--calib",
        text(&data),
        "--samples",
        "32",
    ];
    let ends = [
        "--macs",
        "0.75,0.5",
        "--repair",
        "once",
        "--report",
        text(&path),
    ];
    let out = ["--out-dir", text(folder.path())];
    let run = mipp([start.as_slice(), &ends, &out].concat()).done();
    is_well_formed(&path);
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!(page.matches("class=\"point\"").count(), 3);
    for row in run.out.lines().take(3) {
        for cell in row
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
        {
            assert!(page.contains(&format!(">{cell}<")), "no '{cell}'");
        }
    }
}

/// Chromium's path, where it is installed.
fn browser() -> Option<&'static str> {
    let found = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .find(found)
        .copied()
}

#[test]
fn a_browser_shows_pages_without_error_on_any_screen() {
    let Some(browser) = browser() else {
        eprintln!("not run: no chromium is installed");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let page = report(&path("report.html"), &["--macs", "0.5"]);
    // The page in frames of a phone's and a desk's width: it must fit, and its drawing be there.
    let html = serde_json::to_string(&page).unwrap();
    let frames = format!(
        "<body><script>for (const width of [340, 390, 1200]) {{
            const frame = document.createElement('iframe');
            frame.style.width = width + 'px'; frame.style.border = 0;
            frame.onload = () => {{
                const inner = frame.contentDocument;
                const out = document.createElement('p');
                const scripts = inner.scripts.length, bars = inner.querySelectorAll('rect.whole');
                out.textContent = `width ${{width}} fits ${{inner.documentElement.scrollWidth <= width}} ` +
                    `scripts ${{scripts}} drawn ${{bars.length > 5 && bars[0].getBoundingClientRect().width > 2}}`;
                document.body.append(out);
            }};
            frame.srcdoc = {html}; document.body.append(frame);
        }}</script></body>"
    );
    fs::write(path("frames.html"), frames).unwrap();
    let run = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=5000",
        ])
        .args(["--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", text(&path("profile"))))
        .arg(format!("file://{}", text(&path("frames.html"))))
        .output()
        .unwrap();
    let (dom, log) = [run.stdout, run.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .into();
    for width in [340, 390, 1200] {
        let line = format!("width {width} fits true scripts 0 drawn true");
        assert!(
            dom.contains(&format!("<p>{line}")),
            "no '{line}' in the page; {log}"
        );
    }
    assert!(!log.contains("CONSOLE"), "{log}");
}
