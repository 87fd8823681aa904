//! Reports as pages: what they hold, and how a browser shows them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

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
            format!("({before} channels, ")
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
    for foreign in ["http:", "https:", "src=", "url(", "@import"] {
        assert!(!page.contains(foreign), "{foreign} in the page");
    }
    assert_eq!(page.matches("<script>").count(), 1);
    // Each layer is drawn once, and the layers of the residual blocks read two others.
    let layers = json["layers"].as_array().unwrap();
    assert_eq!(page.matches("class=\"whole\"").count(), layers.len());
    assert!(
        layers
            .iter()
            .any(|layer| layer["reads"].as_array().unwrap().len() > 1)
    );
    assert_eq!(layers[0]["name"], "/stem/stem.0/Conv");
    // Each bar leads to its row and back.
    for index in 0..layers.len() {
        for link in [
            format!("id=\"bar{index}\" href=\"#row{index}\""),
            format!("id=\"row{index}\""),
            format!("href=\"#bar{index}\""),
        ] {
            assert_eq!(page.matches(&link).count(), 1, "{link}");
        }
    }
}

/// The colours of the MI, of what is frozen and of what left differ in both themes, as people see
/// them of whom three kinds of cones work, or two: by the distance in OKLab, and the simulation of
/// Machado and others (2009).
#[test]
fn the_colours_of_the_legend_differ_for_everyone() {
    let script = "
import re, sys
import numpy as np
page = open(sys.argv[1]).read()
eyes = [np.eye(3),
    np.array([[.152286, 1.052583, -.204868], [.114503, .786281, .099216], [-.003882, -.048116, 1.051998]]),
    np.array([[.367322, .860646, -.227968], [.280085, .672501, .047413], [-.011820, .042940, .968881]]),
    np.array([[1.255528, -.076749, -.178779], [-.078411, .930809, .147602], [.004733, .691367, .303900]])]
cones = np.array([[.4122214708, .5363325363, .0514459929], [.2119034982, .6806995451, .1073969566],
    [.0883024619, .2817188376, .6299787005]])
lab = np.array([[.2104542553, .7936177850, -.0040720468], [1.9779984951, -2.4285922050, .4505937099],
    [.0259040371, .7827717662, -.8086757660]])
def light(text):
    c = np.array([int(text[i:i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= .04045, c / 12.92, ((c + .055) / 1.055) ** 2.4)
def contrast(a, b):
    low, high = sorted(light(c) @ [.2126, .7152, .0722] for c in (a, b))
    return (high + .05) / (low + .05)
key = re.search('<p class=.key.>(.*?)</p>', page).group(1)
classes = re.findall('<i class=.([a-z0-9]+).', key)
themes = re.findall(r':root \\{(.*?)\\}', page, re.S)
assert len(classes) == 6 and len(themes) == 2, (classes, len(themes))
for theme in themes:
    colour = dict(re.findall(r'--(\\w+): (#\\w{6});', theme))
    for eye in eyes:
        seen = {c: lab @ np.cbrt(cones @ np.clip(eye @ light(colour[c]), 0, 1)) for c in classes}
        for a in classes:
            for b in classes[:classes.index(a)]:
                apart = np.linalg.norm(seen[a] - seen[b])
                assert apart > .1, (a, b, apart)
    for c in classes[:4]:
        assert contrast(colour[c], colour['paper']) > 3, c
    for text in ('ink', 'soft'):
        assert min(contrast(colour[text], colour[on]) for on in ('paper', 'card')) > 4.5, text";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    report(&path, &["--ratio", "0.5"]);
    python(["-c", script, text(&path)]).done();
}

/// What a layer's weights and multiply-accumulates are, by onnx: elements of its constants, and
/// those of the weight for each position of its output.
#[test]
fn layers_cost_what_the_files_say() {
    let script = "
import json, sys
import onnx
from onnx import numpy_helper, shape_inference
def costs(path):
    model = onnx.load(path)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_value = 1
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in [*graph.value_info, *graph.output]}
    sizes = {t.name: numpy_helper.to_array(t).size for t in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type in ('Conv', 'Gemm', 'MatMul'):
            places = 1
            for length in shapes[node.output[0]][2:]: places *= length
            found[node.name] = (sizes[node.input[1]] * places, sum(sizes.get(i, 0) for i in node.input))
    return found
before, after = map(costs, sys.argv[1:3])
layers = json.load(open(sys.argv[3]))['layers']
assert len(layers) == len(before) > 5
for layer in layers:
    for when, costs in (('before', before), ('after', after)):
        told = tuple(layer[what][when] for what in ('macs', 'parameters'))
        assert told == costs[layer['name']], (layer, when, costs[layer['name']])
assert any(layer['macs']['after'] < layer['macs']['before'] for layer in layers)";
    let folder = tempfile::tempdir().unwrap();
    let [out, json] = ["out.onnx", "report.json"].map(|name| folder.path().join(name));
    let (model, data) = (
        fixture("resnet_folded_torchscript.onnx"),
        fixture("calib.npz"),
    );
    let start = [
        text(&model),
        text(&out),
        "--calib",
        text(&data),
        "--samples",
        "64",
    ];
    let ends = [
        "--ratio",
        "0.5",
        "--repair",
        "once",
        "-q",
        "--report",
        text(&json),
    ];
    mipp([start.as_slice(), &ends].concat()).done();
    python(["-c", script, text(&model), text(&out), text(&json)]).done();
}

/// The axis of the curve is what was asked for, and its dot lies where the report says.
#[test]
fn the_trade_off_is_in_the_measure_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("profile.json");
    let layers = ["/stem/stem.0/Conv", "/stages/stages.2/body/body.0/Conv"];
    let layers = layers.map(|name| json!({"name": name, "averageMs": 1.0}));
    fs::write(&profile, json!(layers).to_string()).unwrap();
    for (budget, of, label) in [
        (vec!["--params", "0.5"], "params", "parameters left"),
        (vec!["--size", "0.5"], "params", "parameters left"),
        (
            vec!["--latency", "0.8", "--profile", text(&profile)],
            "latency",
            "latency left, by the profile",
        ),
        (vec!["--ratio", "0.5"], "macs", "MACs left"),
    ] {
        let html = folder.path().join("report.html");
        let (model, data) = (fixture(RESNET), fixture("calib.npz"));
        let start = [text(&model), "--dry-run", "--calib", text(&data)];
        let few = ["--samples", "64", "--repair", "none"];
        // A page asks for the curve, and its numbers come with --json.
        let ends = ["--json", "-q", "--report", text(&html)];
        let run = mipp([&start[..], &few, &budget, &ends].concat()).done();
        let page = fs::read_to_string(&html).unwrap();
        assert!(page.contains(&format!(">{label}</text>")), "{budget:?}");
        let json: Value = serde_json::from_str(&run.out).unwrap();
        let points = json["trade_off"].as_array().unwrap();
        assert!(points.iter().all(|point| point["of"] == of), "{points:?}");
        let left: Vec<f64> = points.iter().map(|p| p["left"].as_f64().unwrap()).collect();
        assert!(left.windows(2).all(|pair| pair[1] < pair[0]), "{left:?}");
    }
}

#[test]
fn a_bound_is_drawn_where_it_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let page = report(
        &folder.path().join("report.html"),
        &["--max-change", "0.02"],
    );
    // The original changes by nothing, on the lowest line of the curve; the bound lies above it.
    let bound = page.split("class=\"bound\" d=\"M38 ").nth(1).unwrap();
    let bound: f64 = bound.split('H').next().unwrap().parse().unwrap();
    let line = page.split("class=\"curve\" points=\"").nth(1).unwrap();
    let last = line
        .split('"')
        .next()
        .unwrap()
        .split(' ')
        .next_back()
        .unwrap();
    let original: f64 = last.split(',').nth(1).unwrap().parse().unwrap();
    let here = page.split("class=\"result\"").nth(1).unwrap();
    let here = here
        .split("cy=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let here: f64 = here.parse().unwrap();
    assert!(
        bound < here && here <= original,
        "{bound} {here} {original}"
    );
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
    let evil = "</title></script><script>alert(1)</script><img src=x onerror=alert(1)>&\"'";
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
    assert_eq!(page.matches("<script").count(), 1);
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
    let json: Value = serde_json::from_str(&report(&path("r.json"), &["--macs", "0.5"])).unwrap();
    // What is found in the page is what the report has.
    let layers = json["layers"].as_array().unwrap().iter();
    let names: Vec<&str> = layers
        .map(|layer| layer["name"].as_str().unwrap())
        .collect();
    let hits: Vec<&&str> = names.iter().filter(|n| n.contains("stages.1")).collect();
    let (count, all) = (hits.len(), names.len());
    let found = format!(
        "found {count} dim {} 1 of {count}, 2 of {count}: {} marked 2 zoom 1.25 1.00 sorted true",
        all - count,
        hits[1]
    );
    // The page in frames of a phone's and a desk's width: it must fit, and its drawing be there.
    let html = serde_json::to_string(&page).unwrap().replace("</", "<\\/");
    let script = include_str!("pages.js");
    let frames = format!("<body><script>const html = {html};\n{script}</script></body>");
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
        let line = format!("width {width} fits true full true drawn true {found}");
        assert!(
            dom.contains(&format!("<p>{line}")),
            "no '{line}' in the page {dom}; {log}"
        );
    }
    assert!(!log.contains("CONSOLE"), "{log}");
}
