//! What every modality has to keep; see `lejepa_core::testing::Rule`.

// Linked for the general encoders and for the checks that train.
use lejepa_nn as _;
use lejepa_train as _;

#[test]
fn the_modality_conforms() {
    lejepa_core::testing::check_modality::<accelerometer::Accelerometer>();
}

#[test]
fn files_are_read_and_bad_ones_are_refused() {
    use lejepa_core::{Modality, Source, Window};
    let folder = std::env::temp_dir().join(format!("accelerometer-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let rows: String = (0..120).map(|t| format!("{t},{},{}\n", t % 7, -t)).collect();
    std::fs::write(folder.join("a.csv"), format!("x,y,z\n{rows}")).expect("a file");
    std::fs::write(folder.join("b.csv"), "1,2,3\n1,2\n").expect("a file");
    let config = accelerometer::AccelerometerConfig::default();
    let words = folder.to_str().expect("a path in UTF-8");
    let source = Source::resolve(words, accelerometer::Accelerometer::rule()).expect("two files");
    let data = accelerometer::Accelerometer::open(&config, source).expect("a data set");
    let series = data.item(0, Window::Centre).expect("120 rows of three numbers");
    assert_eq!((series.len(), series.channels), (120, 3));
    let error = data.item(1, Window::Centre).expect_err("a row of two").to_string();
    assert!(error.contains("b.csv: line 2"), "{error}");
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
}
