//! Archives that the tests write themselves.

use super::*;
use crate::{Source, Split};
use std::io::Write;
use std::sync::Arc;

const PNG: SampleRule = SampleRule {
    recognises: |start| start.starts_with(b"PNG"),
    ..SampleRule::new(&["png", "jpg"])
};

fn shard(path: &Path, members: &[(&str, &[u8])]) {
    let mut archive = ::tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, content) in members {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.finish().unwrap();
}

fn open(path: &Path) -> Arc<dyn BlobStore> {
    match Source::resolve(path.to_str().unwrap(), PNG).unwrap() {
        Source::Blobs(store) => store,
        Source::Demo => unreachable!(),
    }
}

fn refusal(path: &Path) -> String {
    let error = Source::resolve(path.to_str().unwrap(), PNG).unwrap_err();
    format!("{error} {}", error.hint().unwrap_or_default())
}

fn words(store: &dyn BlobStore, column: usize) -> Vec<Option<&str>> {
    let labels = &store.labels()[column];
    (0..store.len())
        .map(|i| labels.class(i).map(|id| labels.names()[id as usize].as_str()))
        .collect()
}

#[test]
fn files_of_one_key_are_one_sample_and_shards_say_the_split() {
    let d = tempfile::tempdir().unwrap();
    shard(
        &d.path().join("pets-train-000.tar"),
        &[
            ("0001.png", b"PNG one"),
            ("0001.cls", b"3\n"),
            ("0001.txt", b"a caption"),
            ("sub/0001.cls", b"7"),
            ("sub/0001.mask.png", b"PNG mask"),
            ("sub/0001.png", b"PNG two"),
            ("._0002.png", b"PNG of a Mac"),
            ("./0003.jpg", b"JPG three"),
            ("0003.json", br#"{"label": 3, "label_colour": "red", "width": 7}"#),
        ],
    );
    shard(&d.path().join("pets-val-000.tar"), &[("0009.png", b"PNG nine"), ("0009.cls", b"7")]);
    let store = open(d.path());
    let name = |i| store.name(i).replace(&d.path().display().to_string(), "");
    assert_eq!(
        (0..store.len()).map(name).collect::<Vec<_>>(),
        [
            "/pets-train-000.tar/0001.png",
            "/pets-train-000.tar/sub/0001.mask.png",
            "/pets-train-000.tar/0003.jpg",
            "/pets-val-000.tar/0009.png",
        ]
    );
    let blob = store.blob(2).unwrap();
    assert_eq!(
        (blob.read().unwrap().as_ref(), blob.extension().as_str()),
        (&b"JPG three"[..], "jpg")
    );
    assert_eq!(store.labels()[0].name, "class");
    assert_eq!(words(store.as_ref(), 0), [Some("3"), Some("7"), Some("3"), Some("7")]);
    // One class alone is no column.
    assert_eq!(store.labels().len(), 1);
    let splits: Vec<_> = (0..4).map(|i| store.split(i)).collect();
    let train = Some(Split::Train);
    assert_eq!(splits, [train, train, train, Some(Split::Test)]);
    assert_eq!(store.chunks(), [0..3, 3..4]);
    let notes = store.notes().join("\n");
    for told in ["4 samples in 2 archives", "1 files .txt", "1 further files of a sample"] {
        assert!(notes.contains(told), "{notes}");
    }
    assert!(store.blob(4).is_err());
}

#[test]
fn folders_within_shards_are_classes() {
    let d = tempfile::tempdir().unwrap();
    let file = d.path().join("animals.tar");
    shard(&file, &[("cat/1.png", b"PNG"), ("dog/1.png", b"PNG"), ("dog/2.png", b"PNG")]);
    let store = open(&file);
    assert_eq!(words(store.as_ref(), 0), [Some("cat"), Some("dog"), Some("dog")]);
    assert_eq!(store.split(0), None);
    // Beside loose samples an archive is passed over, and told.
    std::fs::write(d.path().join("a.png"), "PNG").unwrap();
    let store = open(d.path());
    assert_eq!(store.len(), 1);
    assert!(store.notes().iter().any(|note| note.contains(".tar")), "{:?}", store.notes());
}

#[test]
fn damaged_shards_give_what_comes_before_and_others_are_refused() {
    let d = tempfile::tempdir().unwrap();
    let file = d.path().join("a.tar");
    shard(&file, &[("1.png", &[b'P'; 3000]), ("2.png", &[b'Q'; 3000]), ("3.png", &[b'R'; 3000])]);
    let whole = std::fs::read(&file).unwrap();
    // Within the second member, and within the header of the third.
    for (cut, left) in [(512 + 3072 + 512 + 100, 1), (2 * (512 + 3072) + 100, 2)] {
        std::fs::write(&file, &whole[..cut]).unwrap();
        let store = open(&file);
        assert_eq!(store.len(), left, "{cut}");
        assert!(store.notes().iter().any(|note| note.contains("what comes before is read")));
        assert_eq!(store.blob(0).unwrap().read().unwrap().len(), 3000);
    }
    std::fs::write(&file, b"no archive at all").unwrap();
    assert!(refusal(&file).contains("no samples in 1 archives"), "{}", refusal(&file));
    shard(&file, &[("a.wav", b"RIFF")]);
    assert!(refusal(&file).contains("1 files .wav"), "{}", refusal(&file));
    for name in ["a.tar.gz", "a.tgz"] {
        let packed = d.path().join(name);
        std::fs::File::create(&packed).unwrap().write_all(b"\x1f\x8b").unwrap();
        assert!(refusal(&packed).contains("decompress"), "{}", refusal(&packed));
    }
}

#[cfg(feature = "parquet")]
mod tables {
    use super::*;
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    const SCHEMA: &str = "message schema {
        optional group image { optional binary bytes; optional binary path (UTF8); }
        optional int64 label;
        required binary caption (UTF8);
        optional group heard (LIST) { repeated group list { optional int64 element; } }
        optional double value_age;
    }";

    /// Groups of five rows; the bytes of row 7 and the label of row 8 are null.
    fn table(path: &Path, rows: usize) {
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let features = r#"{"info": {"features": {"image": {"_type": "Image"},
            "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
            "heard": {"_type": "Sequence", "feature": {"names": ["rain", "wind", "bird"], "_type": "ClassLabel"}}}}}"#;
        let properties = WriterProperties::builder()
            .set_compression(parquet::basic::Compression::SNAPPY)
            .set_dictionary_enabled(false)
            .set_data_page_row_count_limit(2)
            .set_write_batch_size(1)
            .set_key_value_metadata(Some(vec![KeyValue::new(
                "huggingface".into(),
                features.to_string(),
            )]))
            .build();
        let file = std::fs::File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
        for start in (0..rows).step_by(5) {
            let rows: Vec<usize> = (start..rows.min(start + 5)).collect();
            let mut group = writer.next_row_group().unwrap();
            let text = |text: String| ByteArray::from(text.into_bytes());
            let there: Vec<usize> = rows.iter().copied().filter(|&row| row != 7).collect();
            let levels: Vec<i16> = rows.iter().map(|&row| if row == 7 { 1 } else { 2 }).collect();
            let bytes = |&row: &usize| text(format!("PNG {row} {}", "x".repeat(100 * row)));
            let mut column = group.next_column().unwrap().unwrap();
            let bytes: Vec<ByteArray> = there.iter().map(bytes).collect();
            column.typed::<ByteArrayType>().write_batch(&bytes, Some(&levels), None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let paths: Vec<ByteArray> =
                there.iter().map(|row| text(format!("{row}.png"))).collect();
            column.typed::<ByteArrayType>().write_batch(&paths, Some(&levels), None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let labelled = rows.iter().copied().filter(|&row| row != 8);
            let labels: Vec<i64> = labelled.map(|row| (row % 2) as i64).collect();
            let levels: Vec<i16> = rows.iter().map(|&row| i16::from(row != 8)).collect();
            column.typed::<Int64Type>().write_batch(&labels, Some(&levels), None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let captions: Vec<ByteArray> =
                rows.iter().map(|row| text(format!("row {row}"))).collect();
            column.typed::<ByteArrayType>().write_batch(&captions, None, None).unwrap();
            column.close().unwrap();
            // Of three rows one has two tags, one has none, and one has no list.
            let mut column = group.next_column().unwrap().unwrap();
            let (mut tags, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
            for row in &rows {
                match row % 3 {
                    0 => {
                        tags.extend([2i64, (row % 2) as i64]);
                        defined.extend([3i16, 3]);
                        repeated.extend([0i16, 1]);
                    }
                    not => {
                        defined.push(if not == 1 { 1 } else { 0 });
                        repeated.push(0);
                    }
                }
            }
            let typed = column.typed::<Int64Type>();
            typed.write_batch(&tags, Some(&defined), Some(&repeated)).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let ages: Vec<f64> = rows.iter().map(|&row| -0.5 * row as f64).collect();
            let typed = column.typed::<DoubleType>();
            typed.write_batch(&ages, Some(&vec![1; rows.len()]), None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    #[test]
    fn rows_are_samples_with_named_classes_in_any_order_and_on_any_thread() {
        let d = tempfile::tempdir().unwrap();
        std::fs::create_dir(d.path().join("data")).unwrap();
        table(&d.path().join("data/train-00000-of-00001.parquet"), 23);
        table(&d.path().join("data/test-00000-of-00001.parquet"), 4);
        let store = open(d.path());
        assert_eq!(store.len(), 27);
        // Files in the order of their names: the tests come first.
        assert_eq!((store.split(0), store.split(4)), (Some(Split::Test), Some(Split::Train)));
        assert_eq!(store.chunks(), [0..4, 4..9, 9..14, 14..19, 19..24, 24..27]);
        let [age, class, heard] = store.labels() else { panic!("three columns of labels") };
        let names = [&age.name, &class.name, &heard.name].map(String::as_str);
        assert_eq!(names, ["age", "class", "heard"]);
        let texts: Vec<_> = (4..11).map(|item| heard.text(item)).collect();
        let (even, odd) = (Some("bird;rain".to_string()), Some("bird;wind".to_string()));
        assert_eq!(
            texts,
            [even.clone(), Some(String::new()), None, odd, Some(String::new()), None, even]
        );
        assert_eq!((age.number(5), age.number(26)), (Some(-0.5), Some(-11.0)));
        let words = words(store.as_ref(), 1);
        assert_eq!(words[..4], [Some("cat"), Some("dog"), Some("cat"), Some("dog")]);
        assert_eq!(words[4 + 8], None);
        let check = |index: usize| {
            let row = if index < 4 { index } else { index - 4 };
            let Ok(blob) = store.blob(index) else {
                assert_eq!(row, 7);
                return;
            };
            let want = format!("PNG {row} {}", "x".repeat(100 * row));
            assert_eq!(blob.read().unwrap().as_ref(), want.as_bytes(), "{row}");
            assert!(blob.name().ends_with(&format!("00001.parquet/{row}.png")), "{}", blob.name());
        };
        (0..store.len()).rev().for_each(check);
        (0..400usize).into_par_iter().for_each(|i| check(i * 7 % 27));
        assert!(store.blob(4 + 7).unwrap_err().to_string().contains("no bytes"));
    }

    #[test]
    fn damaged_tables_are_refused_with_a_line() {
        let d = tempfile::tempdir().unwrap();
        let file = d.path().join("a.parquet");
        table(&file, 12);
        let whole = std::fs::read(&file).unwrap();
        for bytes in
            [&whole[..whole.len() / 2], b"PAR1", b"", b"no table, but long enough for a footer"]
        {
            std::fs::write(&file, bytes).unwrap();
            let error = refusal(&file);
            assert!(error.contains("Parquet") && !error.contains('\n'), "{error}");
        }
        // Damage within: each row is read, or refused.
        for at in (4..whole.len() - 8).step_by(11) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            std::fs::write(&file, bytes).unwrap();
            let read = std::panic::catch_unwind(|| {
                let Ok(Source::Blobs(store)) = Source::resolve(file.to_str().unwrap(), PNG) else {
                    return;
                };
                (0..store.len().min(100)).for_each(|row| drop(store.blob(row)));
            });
            assert!(read.is_ok(), "byte {at}");
        }
    }
}
