use super::*;

#[test]
fn separators_and_byte_order_marks_of_other_programs_are_read() {
    let d = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("comma.csv", "path,label\na.png,x; y\n"),
        ("semicolon.csv", "path;label\na.png;x; y\n"),
        ("tab.csv", "\u{feff}path\tlabel\na.png\tx; y\n"),
        ("bom.jsonl", "\u{feff}{\"path\":\"a.png\",\"label\":\"x; y\"}\n"),
    ] {
        let file = d.path().join(name);
        std::fs::write(&file, text).unwrap();
        let rows = read(&file);
        if name == "semicolon.csv" {
            // Three fields in a row of two: said, with the line.
            assert!(rows.err().is_some_and(|e| e.to_string().contains("line 2")));
            continue;
        }
        let rows = rows.unwrap().rows;
        assert_eq!((rows[0].path.as_str(), rows[0].labels[0].as_deref()), ("a.png", Some("x; y")));
    }
}

#[test]
fn parts_of_files_are_read_from_the_tables_of_annotation_programs() {
    let d = tempfile::tempdir().unwrap();
    std::fs::write(d.path().join("dawn.wav"), "").unwrap();
    let read = |name: &str, text: &str| {
        let file = d.path().join(name);
        std::fs::write(&file, text).unwrap();
        let rows = read(&file)?.rows;
        Ok::<_, Error>(
            rows.iter()
                .map(|row| {
                    let span = row.span.clone().unwrap();
                    let label = row.labels[0].clone().unwrap_or_default();
                    (row.path.clone(), span.start.as_secs_f64(), span.end.as_secs_f64(), label)
                })
                .collect::<Vec<_>>(),
        )
    };
    let row = |path: &str, from, to, label: &str| (path.to_string(), from, to, label.to_string());
    // Audacity, with a spectral selection.
    let audacity = "0.5\t1.25\trobin\n\\\t1000\t2000\n3\t4\twren, singing\n";
    let found = [row("dawn.wav", 0.5, 1.25, "robin"), row("dawn.wav", 3.0, 4.0, "wren, singing")];
    assert_eq!(read("dawn.txt", audacity).unwrap(), found);
    // Raven, of one recording, and of several with offsets.
    let raven = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tSpecies\n1\tS, 1\t2.5\t3.0\t900\trobin\n";
    assert_eq!(
        read("dawn.Table.1.selections.txt", raven).unwrap(),
        [row("dawn.wav", 2.5, 3.0, "robin")]
    );
    let raven = "Begin Time (s)\tEnd Time (s)\tBegin Path\tFile Offset (s)\tAnnotation\n100\t101.5\tb.wav\t40\twren\n";
    assert_eq!(read("all.txt", raven).unwrap(), [row("b.wav", 40.0, 41.5, "wren")]);
    let csv = "path,start,end,label\na.wav,1,2.5,x\n";
    assert_eq!(read("a.csv", csv).unwrap(), [row("a.wav", 1.0, 2.5, "x")]);
    let json = "{\"path\":\"a.wav\",\"start\":1,\"end\":2.5,\"label\":\"x\"}\n";
    assert_eq!(read("a.jsonl", json).unwrap(), [row("a.wav", 1.0, 2.5, "x")]);
    for (name, text, says) in [
        ("noon.txt", "0\t1\tx\n", "no recording `noon.*`"),
        ("dawn.txt", "1\t1\tx\n", "line 1: no part of a file"),
        ("b.csv", "path,start,end\na.wav,2,one\n", "line 2: `one` is no number"),
        ("b.csv", "path,start,end\na.wav,-1,1\n", "line 2: no part of a file"),
    ] {
        let error = read(name, text).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn published_layouts_are_known() {
    use crate::Listing;
    let d = tempfile::tempdir().unwrap();
    let touch = |name: &str| {
        let file = d.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "").unwrap();
    };
    touch("esc/audio/1-1-A-0.wav");
    touch("urban/audio/fold5/7-3.wav");
    let write = |name: &str, text: &str| {
        touch(name);
        std::fs::write(d.path().join(name), text).unwrap();
        Listing::from_manifest(&d.path().join(name)).unwrap()
    };
    let esc = write(
        "esc/meta/esc50.csv",
        "filename,fold,target,category,esc10,src_file,take\n1-1-A-0.wav,1,0,dog,True,1,A\n",
    );
    assert!(esc.paths[0].is_file(), "{:?}", esc.paths);
    assert_eq!((esc.folds[0].as_deref(), esc.spans.len()), (Some("1"), 0));
    let urban = write(
        "urban/metadata/UrbanSound8K.csv",
        "slice_file_name,fsID,start,end,salience,fold,classID,class\n7-3.wav,7,1.5,5.5,1,5,3,dog_bark\n",
    );
    assert!(urban.paths[0].is_file() && urban.spans.is_empty(), "{:?}", urban.paths);
    assert_eq!(urban.folds, [Some("5".to_string())]);
}

#[test]
fn several_label_columns_are_read_and_others_are_told() {
    let d = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("a.csv", "path,label,Label_speaker,note\na,x,s,n\nb,,t,\n"),
        (
            "a.jsonl",
            "{\"path\":\"a\",\"label\":\"x\",\"note\":[1]}\n{\"path\":\"b\",\"label.speaker\":\"t\"}\n",
        ),
    ] {
        let file = d.path().join(name);
        std::fs::write(&file, text).unwrap();
        let manifest = read(&file).unwrap();
        let columns: Vec<&str> = manifest.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(columns, ["class", "speaker"]);
        assert_eq!(manifest.unread, ["note"]);
        assert_eq!(manifest.rows[1].labels[1].as_deref(), Some("t"));
        assert_eq!(manifest.rows[0].labels.len(), 2);
    }
    std::fs::write(d.path().join("b.jsonl"), "{\"path\":\"a\",\"label\":[1]}\n").unwrap();
    assert!(read(&d.path().join("b.jsonl")).is_err_and(|e| e.to_string().contains("no word")));
}

#[test]
fn tags_and_numbers_are_columns_too() {
    use crate::{LabelKind, Listing};
    let d = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("a.csv", "path,tags,value_age\na,rain;bird,3.5\nb,,\nc,bird,-1\n"),
        (
            "a.jsonl",
            "{\"path\":\"a\",\"tags\":[\"rain\",\"bird\"],\"value_age\":3.5}\n{\"path\":\"b\"}\n{\"path\":\"c\",\"tags\":[\"bird\"],\"value_age\":-1}\n",
        ),
    ] {
        let file = d.path().join(name);
        std::fs::write(&file, text).unwrap();
        let listing = Listing::from_manifest(&file).unwrap();
        let [tags, age] = &listing.labels[..] else { panic!("{name}: two columns") };
        assert_eq!((tags.kind(), age.kind()), (LabelKind::Tags, LabelKind::Numbers), "{name}");
        let texts: Vec<_> = (0..3).map(|i| tags.text(i)).collect();
        assert_eq!(texts, [Some("bird;rain".into()), None, Some("bird".into())], "{name}");
        assert_eq!([0, 1, 2].map(|i| age.number(i)), [Some(3.5), None, Some(-1.0)], "{name}");
    }
    // No tags are another thing than no label.
    let file = d.path().join("b.jsonl");
    std::fs::write(
        &file,
        "{\"path\":\"a\",\"tags\":[\"x\",\"y\"]}\n{\"path\":\"b\",\"tags\":[]}\n",
    )
    .unwrap();
    let listing = Listing::from_manifest(&file).unwrap();
    assert_eq!(listing.labels[0].tags(1), Some(&[][..]));
}

#[test]
fn tables_of_audio_set_name_files_by_their_start() {
    use crate::Listing;
    let d = tempfile::tempdir().unwrap();
    std::fs::create_dir(d.path().join("balanced")).unwrap();
    for name in ["balanced/--4gq.wav", "balanced/Yabc_30.flac", "balanced/zz_0_10.wav"] {
        std::fs::write(d.path().join(name), "").unwrap();
    }
    let segments = "# Segments csv created Sun Mar  5 10:54:25 2017\n# num_ytids=3, num_segs=3\n\
        # YTID, start_seconds, end_seconds, positive_labels\n\
        --4gq, 0.000, 10.000, \"/m/068hy,/m/07q6cd_\"\nabc_30, 30.000, 40.000, \"/m/068hy\"\n\
        gone, 0.000, 10.000, \"/m/068hy\"\nzz, 0.000, 10.000, \"/m/0\"\n";
    let file = d.path().join("balanced_train_segments.csv");
    std::fs::write(&file, segments).unwrap();
    let listing = Listing::from_manifest(&file).unwrap();
    let names: Vec<String> = listing
        .paths
        .iter()
        .map(|p| p.strip_prefix(d.path()).unwrap().display().to_string())
        .collect();
    assert_eq!(names, ["balanced/--4gq.wav", "balanced/Yabc_30.flac", "balanced/zz_0_10.wav"]);
    assert!(listing.spans.is_empty(), "files are cut already");
    assert_eq!(listing.labels[0].text(0).as_deref(), Some("/m/068hy;/m/07q6cd_"));
    assert!(
        listing.notes.iter().any(|n| n.contains("1 line") && n.contains("gone")),
        "{:?}",
        listing.notes
    );
    // FSD50K's.
    let file = d.path().join("dev.csv");
    std::fs::write(
        &file,
        "fname,labels,mids,split\n--4gq,\"Rain,Wind\",\"/m/1,/m/2\",train\nzz_0_10,Rain,/m/1,val\n",
    )
    .unwrap();
    let listing = Listing::from_manifest(&file).unwrap();
    assert!(listing.paths.iter().all(|path| path.is_file()), "{:?}", listing.paths);
    assert_eq!(listing.labels[0].names(), ["Rain", "Wind"]);
}
