//! Encoders with the weights of other libraries give their outputs. `tests/published/fixtures.py` made these.

use burn::tensor::Tensor;
use lejepa_core::{BuildContext, ViewSpec};
use lejepa_nn as _;

use super::*;

#[derive(serde::Deserialize)]
struct Fixtures {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    side: usize,
    channels: usize,
    shapes: std::collections::BTreeMap<String, Vec<usize>>,
    output: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let text = include_str!("../tests/published/fixtures.json");
    serde_json::from_str::<Fixtures>(text).unwrap().cases
}

/// The formula of `fixtures.py`.
fn values(name: &str, shape: &[usize]) -> Array {
    let phase: u64 = name.bytes().map(u64::from).sum::<u64>() * 1_000_003;
    let count: usize = shape.iter().product();
    let fan: usize = shape.iter().skip(1).product();
    let is_norm = ["weight", "gamma", "lambda1"].iter().any(|end| name.ends_with(end));
    let scaled = |i: usize| {
        let mut mixed = (i as u64 + phase) & 0xffff_ffff;
        for _ in 0..2 {
            mixed = ((mixed ^ (mixed >> 16)) * 0x045d_9f3b) & 0xffff_ffff;
        }
        mixed ^= mixed >> 16;
        let wave = mixed as f64 / (1u64 << 31) as f64 - 1.0;
        let scaled = if name.ends_with("running_var") {
            1.0 + 0.5 * wave
        } else if shape.len() > 1 && !name.contains("token") && !name.contains("pos") {
            wave * (3.0 / fan as f64).sqrt()
        } else if is_norm {
            1.0 + 0.2 * wave
        } else {
            0.1 * wave
        };
        scaled as f32
    };
    Array::new(shape, (0..count).map(scaled).collect()).unwrap()
}

impl Case {
    fn arrays(&self) -> Arrays {
        self.shapes.iter().map(|(name, shape)| (name.clone(), values(name, shape))).collect()
    }

    fn settings(&self) -> Table {
        let registry = Registry::discover().unwrap();
        let arrays = self.arrays();
        let mut found = registry
            .all::<kind::Encoder>()
            .find_map(|item| (item.entry::<kind::Encoder>()?.build().recognise)(&arrays))
            .unwrap();
        found.remove("heads");
        if found["name"].as_str() == Some("vit") {
            // Narrow transformers have one head of 64.
            found.insert("heads".into(), 1.into());
        }
        found
    }

    fn encoder(&self, settings: &Table, side: usize, channels: usize) -> BoxedEncoder {
        let registry = Registry::discover().unwrap();
        let name = settings["name"].as_str().unwrap();
        let entry = registry.find::<kind::Encoder>(name, None).unwrap();
        let mut own = settings.clone();
        own.remove("name");
        let shape = [channels, side, side];
        let views = ViewSpec::multi_crop(2, shape, 0, shape);
        let device = Device::flex();
        (entry.build().build)(&own, &BuildContext::new(&views, &device)).unwrap()
    }

    fn input(&self) -> Tensor<2> {
        let width = self.channels * self.side * self.side;
        let shape = [2, self.channels, self.side, self.side];
        let scale = (width as f32 / 3.0).sqrt();
        let input = values("input", &shape).map(|v| v * scale);
        let data = burn::tensor::TensorData::new(input.values().to_vec(), [2, width]);
        Tensor::from_data(data, &Device::flex())
    }
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1e-6f32, |most, v| most.max(v.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

#[test]
fn outputs_are_those_of_the_libraries() {
    for case in cases() {
        let mut encoder = case.encoder(&case.settings(), case.side, case.channels);
        let notes = load_arrays("x".as_ref(), case.arrays(), &mut encoder).unwrap();
        let notes: Vec<_> = notes.iter().filter(|note| !note.contains("pooler")).collect();
        assert!(notes.is_empty(), "{}: {notes:?}", case.name);
        let shape = [case.channels, case.side, case.side];
        let output = encoder.encode(case.input(), &shape).unwrap();
        let output: Vec<f32> = output.try_into_vec_as().unwrap();
        let off = difference(&output, &case.output);
        assert!(off < 1e-4, "{}: {off}", case.name);
    }
}

#[test]
fn older_names_are_those_of_the_same_arrays() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "hugging face vit").unwrap();
    // Files on the hub have the names of transformers 4.
    let old = |name: String| {
        let name = name.replacen("layers.", "vit.encoder.layer.", 1);
        let name = name.replace("attention.q_proj", "attention.attention.query");
        let name = name.replace("attention.k_proj", "attention.attention.key");
        let name = name.replace("attention.v_proj", "attention.attention.value");
        let name = name.replace("attention.o_proj", "attention.output.dense");
        name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
    };
    let arrays = case.arrays().into_iter().map(|(name, array)| (old(name), array)).collect();
    let mut encoder = case.encoder(&case.settings(), case.side, case.channels);
    load_arrays("x".as_ref(), arrays, &mut encoder).unwrap();
    let output = encoder.encode(case.input(), &[case.channels, case.side, case.side]).unwrap();
    assert!(difference(&output.try_into_vec_as().unwrap(), &case.output) < 1e-4);
}

#[test]
fn what_timm_gave_goes_out_as_it_came() {
    for case in cases().iter().filter(|case| case.name.starts_with("timm")) {
        let mut encoder = case.encoder(&case.settings(), case.side, case.channels);
        load_arrays("x".as_ref(), case.arrays(), &mut encoder).unwrap();
        let published = encoder.published().unwrap();
        let out = published.export(&arrays_of_encoder(&encoder).unwrap()).unwrap();
        let (came, went) = (case.arrays(), &out.arrays);
        if !case.name.contains("layer scale") && !case.name.contains("with positions") {
            let names = |arrays: &Arrays| arrays.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(went), names(&came), "{}", case.name);
        }
        for (name, array) in went {
            let is_folded =
                ["cls", "pos_embed", "token", "gamma"].iter().any(|part| name.contains(part));
            let is_scaled = name.contains("attn.proj") || name.contains("mlp.fc2");
            let is_changed = is_folded || case.name.contains("scale") && is_scaled;
            if !is_changed {
                // Matrices may be those of convolutions there.
                let (went, came) = (array.values(), came[name].values());
                assert_eq!(went, came, "{}: {name}", case.name);
            }
        }
        // In again, the outputs are the same.
        let mut again = case.encoder(&case.settings(), case.side, case.channels);
        load_arrays("x".as_ref(), out.arrays, &mut again).unwrap();
        let shape = [case.channels, case.side, case.side];
        let embed = |encoder: &BoxedEncoder| -> Vec<f32> {
            encoder.encode(case.input(), &shape).unwrap().try_into_vec_as().unwrap()
        };
        assert_eq!(embed(&again), embed(&encoder), "{}", case.name);
    }
}

#[test]
fn other_grids_patches_and_channels_are_adapted_and_told() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "timm cls").unwrap();
    let mut settings = case.settings();
    let load = |settings: &Table, side, channels| {
        let mut encoder = case.encoder(settings, side, channels);
        let notes = load_arrays("x".as_ref(), case.arrays(), &mut encoder).unwrap();
        let width = channels * side * side;
        let out =
            encoder.encode(Tensor::ones([1, width], &Device::flex()), &[channels, side, side]);
        let out: Vec<f32> = out.unwrap().try_into_vec_as().unwrap();
        (notes, out)
    };
    let (notes, whole) = load(&settings, 24, 3);
    assert!(notes.is_empty());
    // A white picture is the same in one channel, in five, in larger patches of a larger picture.
    let (notes, grey) = load(&settings, 24, 1);
    assert!(notes[0].contains("3 channels made one of 1") && difference(&grey, &whole) < 1e-4);
    let (notes, five) = load(&settings, 24, 6);
    assert!(notes[0].contains("one of 6") && difference(&five, &whole) < 1e-4);
    settings.insert("patch".into(), lejepa_core::Value::Array(vec![8.into()]));
    let (notes, larger) = load(&settings, 48, 3);
    assert!(notes[0].contains("resized to 8×8") && difference(&larger, &whole) < 1e-4, "{notes:?}");
    settings.insert("patch".into(), lejepa_core::Value::Array(vec![4.into()]));
    let (notes, _) = load(&settings, 32, 3);
    assert!(notes[0].contains("6×6 patches interpolated"), "{notes:?}");
    // A clip is seen frame by frame, with the same positions in each.
    let views = ViewSpec::multi_crop(2, [3, 4, 24, 24], 0, [3, 4, 24, 24]);
    let registry = Registry::discover().unwrap();
    let vit = registry.find::<kind::Encoder>("vit", None).unwrap();
    let mut own = case.settings();
    own.remove("name");
    let device = Device::flex();
    let mut encoder = (vit.build().build)(&own, &BuildContext::new(&views, &device)).unwrap();
    let notes = load_arrays("x".as_ref(), case.arrays(), &mut encoder).unwrap();
    assert!(notes[0].contains("interpolated to 4×6×6"), "{notes:?}");
    let clip = Tensor::ones([1, 3 * 4 * 24 * 24], &device);
    // Attention to four times the same tokens is attention to them once.
    let still = encoder.encode(clip, &[3, 4, 24, 24]).unwrap().try_into_vec_as::<f32>().unwrap();
    assert!(difference(&still, &whole) < 0.2);
    // Another depth is another network.
    settings.insert("depth".into(), 3.into());
    let mut encoder = case.encoder(&settings, 24, 3);
    let error = load_arrays("x".as_ref(), case.arrays(), &mut encoder).unwrap_err().to_string();
    assert!(error.contains("2 blocks") && error.contains("has 3"), "{error}");
}

#[test]
fn frames_of_a_clip_are_embedded_with_weights_of_pictures() {
    for case in cases() {
        let around = (Registry::discover().unwrap())
            .find::<kind::Encoder>("frames", None)
            .map(|frames| (frames.build().around)(&case.settings()))
            .unwrap();
        let mut settings = around.unwrap();
        assert_eq!(settings.remove("name").unwrap().as_str(), Some("frames"));
        let (channels, side) = (case.channels, case.side);
        let shape = [channels, 3, side, side];
        let views = ViewSpec::multi_crop(2, shape, 0, shape);
        let (registry, device) = (Registry::discover().unwrap(), Device::flex());
        let frames = registry.find::<kind::Encoder>("frames", None).unwrap();
        let load = |settings: &Table| {
            let at = BuildContext::new(&views, &device).with_registry(&registry);
            let mut own = frames.meta().defaults().unwrap();
            own.extend(settings.clone());
            own.insert("heads".into(), 1.into());
            let mut encoder = (frames.build().build)(&own, &at).unwrap();
            let notes = load_arrays("x".as_ref(), case.arrays(), &mut encoder).unwrap();
            (encoder, notes)
        };
        let (_, notes) = load(&settings);
        assert!(notes.iter().any(|note| note.contains("starts at random")), "{notes:?}");
        // Three times the same picture, averaged.
        settings.insert("depth".into(), 0.into());
        let (encoder, _) = load(&settings);
        let still = case.input().reshape([2, channels, 1, side * side]).repeat_dim(2, 3);
        let still = still.reshape([2, channels * 3 * side * side]);
        let output = encoder.encode(still, &shape).unwrap().try_into_vec_as::<f32>().unwrap();
        assert!(difference(&output, &case.output) < 1e-4, "{}", case.name);
    }
}
