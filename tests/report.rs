//! What is told of runs: verdicts, pages, sweeps, neighbours, what a file is.

mod common;

use std::path::Path;

use common::{json, json_on_cpu, run, small, stderr, stdout};

/// A training of seconds with enough lines of metrics to be judged.
fn train(dir: &Path, modality: &str, output: &str, more: &[&str]) {
    let words = ["train", "--modality", modality, "--steps", "12", "--batch", "16", "-o", output];
    let words = [&words[..], &["--set", "train.log_every=1"], more].concat();
    let judged = json_on_cpu(dir, &small(&words));
    assert!(judged["judgement"]["advice"][0].is_string(), "{judged}");
}

/// Whether tags that need an end have one, and nothing is loaded from elsewhere.
fn check_page(html: &str) {
    for tag in [
        "html", "body", "main", "svg", "table", "section", "style", "script", "figure", "ul", "div",
    ] {
        let (open, close) =
            (html.matches(&format!("<{tag}")).count(), html.matches(&format!("</{tag}>")).count());
        assert_eq!(open, close, "<{tag}>");
    }
    for elsewhere in ["http://", "https://", "src=\"/", "@import", "url("] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
}

#[test]
fn a_run_of_each_modality_has_a_verdict_and_a_page() {
    let d = tempfile::tempdir().unwrap();
    for modality in ["image", "audio", "video"] {
        train(d.path(), modality, modality, &["--encoder", "vit"]);
        let judged = json(d.path(), &["judge", modality]);
        let reasons = judged["runs"][0]["judgement"]["reasons"].to_string();
        for words in ["SIGReg ended at", "held-out loss", "raw features", "RankMe"] {
            assert!(reasons.contains(words), "{modality}: {words}: {reasons}");
        }
        let told = json_on_cpu(d.path(), &["report", modality, "--samples", "40"]);
        assert_eq!(
            (&told["samples"], &told["without_data"]),
            (&40.into(), &serde_json::Value::Null)
        );
        let html = std::fs::read_to_string(d.path().join(modality).join("report.html")).unwrap();
        check_page(&html);
        for title in [
            "Verdict",
            "Probes",
            "Curves",
            "Map of embeddings",
            "Distribution",
            "Nearest neighbours",
            "Confusion",
            "Views",
            "Principal components",
            "Settings",
        ] {
            assert!(html.contains(&format!("<h2>{title}</h2>")), "{modality}: {title}");
        }
        assert_eq!(html.matches("<circle").count(), 40);
    }
    // Several runs on a page, without a look at their data.
    let words = ["report", "image", "audio", "-o", "both.html", "--samples", "0"];
    assert_eq!(json_on_cpu(d.path(), &words)["runs"], 2);
    let html = std::fs::read_to_string(d.path().join("both.html")).unwrap();
    check_page(&html);
    assert!(html.contains("Settings that differ") && !html.contains("<circle"));
}

#[test]
fn data_that_is_gone_and_odd_names_do_not_break_a_page() {
    let d = tempfile::tempdir().unwrap();
    let photos = d.path().join("photos");
    for (class, base) in [("<b>\"a\"&", 30u8), ("</script>".trim_start_matches("</"), 160)] {
        std::fs::create_dir_all(photos.join(class)).unwrap();
        for i in 0..12u8 {
            let picture = image::GrayImage::from_fn(20, 20, |x, y| {
                image::Luma([base + ((x * 3 + y * u32::from(i)) % 60) as u8])
            });
            picture.save(photos.join(class).join(format!("{i}<i>.png"))).unwrap();
        }
    }
    train(d.path(), "image", "r", &["--data", "photos", "--preset", "none", "--encoder", "vit"]);
    json_on_cpu(d.path(), &["report", "r", "-o", "page.html"]);
    let html = std::fs::read_to_string(d.path().join("page.html")).unwrap();
    check_page(&html);
    assert!(html.contains("&lt;b&gt;&quot;a&quot;&amp;") && !html.contains("<b>\"a\""));
    std::fs::remove_dir_all(&photos).unwrap();
    let told = json_on_cpu(d.path(), &["report", "r"]);
    assert!(told["without_data"].as_str().unwrap().contains("no such file or folder"), "{told}");
    let gone = run(d.path(), &["report", "nowhere"]);
    assert_eq!(gone.status.code(), Some(1), "{}", stderr(&gone));
}

#[test]
fn a_sweep_ranks_its_runs_and_goes_on_where_it_was() {
    let d = tempfile::tempdir().unwrap();
    let words = [
        "sweep",
        "--modality",
        "image",
        "--steps",
        "8",
        "--batch",
        "16",
        "--grid",
        "objective.lambda=0.02,0.2",
        "--grid",
        "train.lr=0.001,0.01",
        "-o",
        "s",
    ];
    let words = small(&words);
    let first = json_on_cpu(d.path(), &words);
    let runs = first["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    assert!(runs.iter().all(|run| run["finished"] == true && run["linear"].is_number()), "{first}");
    let scores: Vec<f64> =
        runs.iter().map(|run| run["scores"]["loss/lambda^0.4"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted(), "{scores:?}");
    assert_eq!(first["correlations"].as_array().unwrap().len(), 6);
    let kept = std::fs::metadata(d.path().join("s/lambda=0.02+lr=0.001/run.json"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(json_on_cpu(d.path(), &words)["runs"], first["runs"]);
    let after = std::fs::metadata(d.path().join("s/lambda=0.02+lr=0.001/run.json"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(kept, after);

    let halved = [&words[..words.len()], &["--halve", "-o", "h"]].concat();
    let halved: Vec<&str> = halved.iter().copied().filter(|word| *word != "s").collect();
    let at = halved.iter().position(|word| *word == "-o").unwrap();
    let halved = [&halved[..at], &halved[at + 1..]].concat();
    let halved = json_on_cpu(d.path(), &halved);
    let steps: Vec<u64> = halved["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["steps"].as_u64().unwrap())
        .collect();
    // Four to a quarter, two to a half, one to the end.
    assert_eq!(steps.iter().filter(|s| **s == 8).count(), 1, "{steps:?}");
    assert_eq!(steps.iter().filter(|s| **s == 2).count(), 2, "{steps:?}");

    let bad = run(d.path(), &["sweep", "--modality", "image", "--grid", "train.lr", "-o", "b"]);
    assert_eq!(bad.status.code(), Some(2), "{}", stderr(&bad));
}

#[test]
fn neighbours_are_found_by_file_and_by_name() {
    let d = tempfile::tempdir().unwrap();
    let photos = d.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    for i in 0..24u32 {
        // Stripes of two directions.
        let picture = image::GrayImage::from_fn(24, 24, |x, y| {
            let at = if i % 2 == 0 { x } else { y };
            image::Luma([((at + i) / 3 % 2 * 200) as u8])
        });
        picture
            .save(photos.join(format!("{}-{i:02}.png", ["columns", "rows"][i as usize % 2])))
            .unwrap();
    }
    train(d.path(), "image", "r", &["--data", "photos", "--preset", "none"]);
    for index in ["e.npy", "e.csv", "e.parquet"] {
        json_on_cpu(d.path(), &["embed", "r", "--data", "photos", "-o", index]);
        let known =
            json(d.path(), &["neighbours", "photos/rows-01.png", "--index", index, "--top", "3"]);
        let found = known["queries"][0]["neighbours"].as_array().unwrap();
        assert_eq!(found.len(), 3);
        let cosines: Vec<f64> = found.iter().map(|n| n["cosine"].as_f64().unwrap()).collect();
        assert!(cosines.is_sorted_by(|a, b| a >= b) && cosines[0] <= 1.0001, "{cosines:?}");
        assert!(found.iter().all(|n| !n["name"].as_str().unwrap().ends_with("rows-01.png")));
        let told = stdout(&run(d.path(), &["inspect", index]));
        assert!(told.contains("embeddings") && told.contains("24"), "{told}");
    }
    std::fs::copy(photos.join("rows-01.png"), d.path().join("new.png")).unwrap();
    let unknown = run(d.path(), &["neighbours", "new.png", "--index", "e.npy"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr(&unknown));
    let words = ["neighbours", "new.png", "--index", "e.npy", "--model", "r"];
    let found = json_on_cpu(d.path(), &words);
    let nearest = found["queries"][0]["neighbours"][0].clone();
    assert!(nearest["name"].as_str().unwrap().ends_with("rows-01.png"), "{nearest}");
    assert!(nearest["cosine"].as_f64().unwrap() > 0.9999);
}

#[test]
fn folds_are_held_out_and_cross_validated() {
    let d = tempfile::tempdir().unwrap();
    let mut manifest = String::from("path,label,fold\n");
    for i in 0..60u32 {
        let (class, fold) = (i % 2, i % 3 + 9);
        let picture = image::GrayImage::from_fn(20, 20, |x, y| {
            image::Luma([(60 + 120 * class + (x * 3 + y * 5 + i * 7) % 40) as u8])
        });
        picture.save(d.path().join(format!("{i}.png"))).unwrap();
        manifest += &format!("{i}.png,{},{fold}\n", ["dark", "light"][class as usize]);
    }
    std::fs::write(d.path().join("all.csv"), manifest).unwrap();
    let data = ["--data", "all.csv", "--preset", "none"];
    train(d.path(), "image", "r", &data);
    let probed = json_on_cpu(d.path(), &["probe", "r"]);
    // The last fold in natural order is held out: 11.
    assert_eq!(
        (&probed["probe"]["fitted_on"], &probed["probe"]["scored_on"]),
        (&40.into(), &20.into())
    );
    let folds = json_on_cpu(d.path(), &["probe", "r", "--folds"]);
    let names: Vec<&str> = folds["folds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fold| fold["fold"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["9", "10", "11"]);
    let means = &folds["columns"][0];
    assert!(means["raw features"]["linear"].as_f64().unwrap() > 0.95, "{folds}");
    let of_folds =
        folds["folds"].as_array().unwrap().iter().map(|f| f["trained"]["knn"].as_f64().unwrap());
    assert!((of_folds.sum::<f64>() / 3.0 - means["trained"]["knn"].as_f64().unwrap()).abs() < 1e-9);
    let told = stdout(&run(d.path(), &["probe", "r", "--folds", "--device", "cpu"]));
    assert!(told.contains("over 3 folds") && told.contains("raw features"), "{told}");
    let shots = json_on_cpu(d.path(), &["probe", "r", "--shots", "1,8"]);
    let shots = shots["shots"].as_array().unwrap();
    let of = |n: u64| shots.iter().filter(move |row| row["shots"] == n);
    assert_eq!([of(1).count(), of(8).count()], [5, 5]);
    // Dark and light are told apart by few examples.
    let mean = |n| of(n).map(|row| row["raw"]["linear"].as_f64().unwrap()).sum::<f64>() / 5.0;
    assert!(mean(8) > 0.9 && mean(8) >= mean(1) && mean(1) > 0.5, "{shots:?}");
    let told = stdout(&run(d.path(), &["probe", "r", "--shots", "3", "--device", "cpu"]));
    assert!(told.contains("fitted on 3 of each class"), "{told}");
    assert_eq!(run(d.path(), &["probe", "r", "--shots", "0"]).status.code(), Some(2));
    let words = ["train", "--modality", "image", "--set", "data.fold=12", "-o", "x"];
    let unknown = run(d.path(), &[&words[..], &data].concat());
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr(&unknown));
    assert!(stderr(&unknown).contains("9, 10, 11"), "{}", stderr(&unknown));
    assert!(!d.path().join("x").exists());
    json_on_cpu(
        d.path(),
        &small(
            &[
                &[
                    "train",
                    "--modality",
                    "image",
                    "--steps",
                    "2",
                    "-o",
                    "y",
                    "--set",
                    "data.fold=9",
                ][..],
                &data,
            ]
            .concat(),
        ),
    );
    let none = run(d.path(), &["probe", "y", "--folds", "--data", "demo", "--device", "cpu"]);
    assert_eq!(none.status.code(), Some(2), "{}", stderr(&none));
}

#[test]
fn files_and_folders_are_told_for_what_they_are() {
    let d = tempfile::tempdir().unwrap();
    train(d.path(), "image", "r", &[]);
    json(d.path(), &["export", "r", "-o", "x"]);
    image::GrayImage::new(30, 20).save(d.path().join("a.png")).unwrap();
    std::fs::write(d.path().join("b.png"), b"\x89PNG broken").unwrap();
    std::fs::write(d.path().join("c.xyz"), b"?").unwrap();
    for (file, says) in [
        ("r", "a run"),
        ("r/checkpoints", ""),
        ("x", "an exported encoder"),
        ("x/model.safetensors", "parameters"),
        ("a.png", "a sample of image"),
        ("b.png", "damaged"),
    ] {
        let out = run(d.path(), &["inspect", file]);
        if says.is_empty() {
            assert_eq!(out.status.code(), Some(1));
            continue;
        }
        assert!(stdout(&out).contains(says), "{file}: {}{}", stdout(&out), stderr(&out));
    }
    assert_eq!(run(d.path(), &["inspect", "c.xyz"]).status.code(), Some(1));
    let told = json(d.path(), &["inspect", "a.png"]);
    assert_eq!(told["files"][0]["facts"]["width"], "30");
    let pages = json(d.path(), &["man", "man1"]);
    assert!(pages["pages"].as_u64().unwrap() >= 20, "{pages}");
    let page = std::fs::read_to_string(d.path().join("man1/lejepa-train.1")).unwrap();
    assert!(page.contains("minutes"));
}
