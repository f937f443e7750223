//! Episodes in NumPy's archives.

use std::path::Path;

use lejepa_core::{Purpose, Seed, SurveyContext, Value, ViewSource};
use lejepa_world::TwoRooms;
use npyz::{AutoSerialize, Order, WriteOptions, WriterBuilder};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

mod common;
use common::{open, prepare};

const SIDE: usize = 32;
const STEP: [f32; 2] = [0.5, 0.25];

/// Places of an agent that goes right and down.
fn places(episode: usize, frames: usize) -> Vec<TwoRooms> {
    let mut place = TwoRooms { x: 0.1, y: 0.05 + 0.1 * episode as f32 };
    let step = |_| {
        let now = place;
        place.act(STEP);
        now
    };
    (0..frames).map(step).collect()
}

/// Frames with channels first, or last.
fn pixels(places: &[TwoRooms], is_last: bool) -> Vec<u8> {
    let cells = SIDE * SIDE;
    let of = |place: &TwoRooms| {
        let planes = place.frame();
        let at = |i: usize| if is_last { planes[i % 3 * cells + i / 3] } else { planes[i] };
        (0..3 * cells).map(at).collect::<Vec<u8>>()
    };
    places.iter().flat_map(of).collect()
}

type Fill<'a> = &'a dyn Fn(&mut Npz);

type Npz = ZipWriter<std::fs::File>;

fn put<T: AutoSerialize + Copy>(to: &mut Npz, name: &str, shape: &[usize], values: &[T]) {
    put_in(to, name, shape, values, Order::C);
}

fn put_in<T: AutoSerialize + Copy>(
    to: &mut Npz,
    name: &str,
    shape: &[usize],
    values: &[T],
    order: Order,
) {
    let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
    to.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
    let options = WriteOptions::<T>::new().default_dtype().order(order).shape(&shape);
    let mut to = options.writer(to).begin_nd().unwrap();
    to.extend(values.iter().copied()).unwrap();
    to.finish().unwrap();
}

fn npz(file: &Path, fill: impl FnOnce(&mut Npz)) {
    let mut to = Npz::new(std::fs::File::create(file).unwrap());
    fill(&mut to);
    to.finish().unwrap();
}

/// An episode of nine frames as `numpy.savez` would have it.
fn good(to: &mut Npz) {
    let places = places(0, 9);
    put(to, "frames", &[9, SIDE, SIDE, 3], &pixels(&places, true));
    put(to, "actions", &[8, 2], &STEP.repeat(8));
}

/// The frame of an item, as 0 to 255.
fn shown(data: &dyn ViewSource, index: usize) -> Vec<u8> {
    let views = data.checked_eval_views(index).unwrap();
    views[0].data().iter().map(|v| (255.0 * (0.25 * v + 0.5)).round() as u8).collect()
}

#[test]
fn arrays_of_any_order_and_type_are_the_same_frames() {
    let places = places(0, 9);
    let (last, first) = (pixels(&places, true), pixels(&places, false));
    let with_alpha: Vec<u8> = last.chunks(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    let fills: [Fill<'_>; 6] = [
        &|to| put(to, "frames", &[9, SIDE, SIDE, 3], &last),
        &|to| put(to, "observations", &[9, 3, SIDE, SIDE], &first),
        &|to| put(to, "frames", &[9, SIDE, SIDE, 4], &with_alpha),
        &|to| {
            let deep: Vec<u16> = last.iter().map(|&v| 257 * u16::from(v)).collect();
            put(to, "frames", &[9, SIDE, SIDE, 3], &deep);
        },
        &|to| {
            let floats: Vec<f32> = last.iter().map(|&v| f32::from(v) / 255.0).collect();
            put(to, "obs", &[9, SIDE, SIDE, 3], &floats);
        },
        &|to| {
            let floats: Vec<f64> = first.iter().map(|&v| f64::from(v) / 255.0).collect();
            put(to, "images", &[9, 3, SIDE, SIDE], &floats);
        },
    ];
    let d = tempfile::tempdir().unwrap();
    for (at, fill) in fills.iter().enumerate() {
        let file = d.path().join("a.npz");
        npz(&file, |to| {
            fill(to);
            put(to, "actions", &[8, 2], &STEP.repeat(8));
            put(to, "value_x", &[9], &places.iter().map(|p| p.x).collect::<Vec<f32>>());
            let both: Vec<f64> =
                places.iter().flat_map(|p| [f64::from(p.x), f64::from(p.y)]).collect();
            put(to, "state", &[9, 2], &both);
            put(to, "seed", &[1], &[7i64]);
        });
        let data = open(&file, "").unwrap();
        assert_eq!(data.len(), 9);
        for (frame, place) in places.iter().enumerate() {
            assert_eq!(shown(&*data, frame), place.frame(), "{at}, frame {frame}");
        }
        let names: Vec<&str> = data.labels().iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["state_0", "state_1", "x"]);
        assert!((data.labels()[1].number(3).unwrap() - f64::from(places[3].y)).abs() < 1e-6);
        let mut rng = Seed(0).rng(Purpose::Views, &[]);
        let views = data.checked_views(4, &[], &mut rng).unwrap();
        assert_eq!(views.context("actions"), Some(&STEP.repeat(6)[..]));
    }
}

#[test]
fn a_file_may_hold_many_episodes() {
    let d = tempfile::tempdir().unwrap();
    let all: Vec<Vec<TwoRooms>> = (0..10).map(|episode| places(episode, 8)).collect();
    let file = d.path().join("rooms.npz");
    npz(&file, |to| {
        let frames: Vec<u8> = all.iter().flat_map(|places| pixels(places, true)).collect();
        put(to, "frames", &[10, 8, SIDE, SIDE, 3], &frames);
        put(to, "actions", &[10, 8, 2], &STEP.repeat(80));
        let xs: Vec<f64> = all.iter().flatten().map(|p| p.x.into()).collect();
        put(to, "value_x", &[10, 8], &xs);
    });
    let data = open(&file, "").unwrap();
    assert_eq!(data.len(), 80);
    assert!(data.name(27).ends_with("rooms.npz[3]#3"), "{}", data.name(27));
    for index in [79, 0, 27] {
        let place = &all[index / 8][index % 8];
        assert_eq!(shown(&*data, index), place.frame());
        assert!((data.labels()[0].number(index).unwrap() - f64::from(place.x)).abs() < 1e-6);
    }
    let held_out: Vec<usize> = (0..80).filter(|&i| data.split(i).is_some_and(is_test)).collect();
    assert_eq!(held_out, (72..80).collect::<Vec<_>>());
}

fn is_test(split: lejepa_core::Split) -> bool {
    split == lejepa_core::Split::Test
}

#[test]
fn settings_follow_from_the_episodes() {
    let d = tempfile::tempdir().unwrap();
    let taken = [[3i64, 0, 1, 1], [0, 0, 2, 1]];
    for (episode, taken) in taken.iter().enumerate() {
        npz(&d.path().join(format!("{episode}.npz")), |to| {
            let grey: Vec<u8> = (0..5 * 100).map(|i| if i % 2 == 0 { 0 } else { 255 }).collect();
            put(to, "frames", &[5, 10, 10], &grey);
            put(to, "actions", &[4], taken);
        });
    }
    let (pipeline, source) = prepare(d.path(), "").unwrap();
    let choices = pipeline.advise(source, SurveyContext::new("auto")).unwrap();
    assert_eq!(choices.samples(), 10);
    for (key, value) in [
        ("world.actions", Value::Integer(4)),
        ("world.window", Value::Integer(5)),
        ("world.channels", Value::Integer(1)),
        ("world.mean", Value::Float(0.5)),
        ("objective.lambda", Value::Float(0.1)),
    ] {
        assert_eq!(choices.get(key), Some(&value), "{key}");
    }
    // One of several actions is a row of zeros with a one.
    let data = open(d.path(), "actions = 4\nwindow = 5\nchannels = 1").unwrap();
    let mut rng = Seed(0).rng(Purpose::Views, &[]);
    let views = data.checked_views(0, &[], &mut rng).unwrap();
    let rows: Vec<f32> = [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]
        .concat()
        .into_iter()
        .map(|v| v as f32)
        .collect();
    assert_eq!(views.context("actions"), Some(&rows[..]));
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let frames = pixels(&places(0, 9), true);
    let shape = [9, SIDE, SIDE, 3];
    let actions = STEP.repeat(9);
    let cases: [(Fill<'_>, &str); 9] = [
        (&good, ""),
        (&|to| put(to, "frames", &shape, &frames), "has no array actions, action, only frames"),
        (&|to| put(to, "actions", &[9, 2], &actions), "has no array frames, observations"),
        (
            &|to| {
                put(to, "frames", &[9, SIDE, SIDE * 3, 1, 1, 1], &frames);
                put(to, "actions", &[9, 2], &actions);
            },
            "frames of the shape [9, 32, 96, 1, 1, 1], where",
        ),
        (
            &|to| {
                put(to, "frames", &shape, &frames);
                put(to, "actions", &[3, 6], &actions);
            },
            "actions of the shape [3, 6], where frames are [9]",
        ),
        (
            &|to| {
                put(to, "frames", &shape, &frames);
                put(to, "actions", &[9, 2], &[f32::NAN; 18]);
            },
            "an action of NaN",
        ),
        (
            &|to| {
                put(to, "frames", &shape, &frames.iter().map(|&v| v.into()).collect::<Vec<f32>>());
                put(to, "actions", &[9, 2], &actions);
            },
            "where floats run from 0 to 1: save 0 to 255 as numpy.uint8",
        ),
        (
            &|to| {
                put_in(to, "frames", &shape, &frames, Order::Fortran);
                put(to, "actions", &[9, 2], &actions);
            },
            "Fortran order: save numpy.ascontiguousarray",
        ),
        (
            &|to| {
                put(to, "frames", &shape, &frames);
                put(to, "actions", &[9], &[300i64; 9]);
            },
            "integers below 0, or of 256 and more",
        ),
    ];
    let d = tempfile::tempdir().unwrap();
    let file = d.path().join("a.npz");
    let says = || match open(&file, "") {
        Err(error) => error.to_string(),
        Ok(data) => data.checked_eval_views(0).err().map_or_else(String::new, |e| e.to_string()),
    };
    for (fill, reason) in cases {
        npz(&file, fill);
        let said = says();
        assert!(said.contains(reason) && said.is_empty() == reason.is_empty(), "{reason}: {said}");
    }
    // Cut off anywhere, or of another kind, it is an error and no panic.
    npz(&file, good);
    let bytes = std::fs::read(&file).unwrap();
    for length in (0..bytes.len()).step_by(997) {
        std::fs::write(&file, &bytes[..length]).unwrap();
        assert!(says().contains("is no .npz file"), "{length}: {}", says());
    }
    // One bad file among others is a bad sample.
    npz(&file, good);
    npz(&d.path().join("b.npz"), |to| {
        put(to, "frames", &shape, &frames);
        put(to, "actions", &[9, 1], &[0.5f32; 9]);
    });
    std::fs::write(d.path().join("c.npz"), "no archive").unwrap();
    let data = open(d.path(), "").unwrap();
    assert_eq!(data.len(), 11);
    assert!(data.checked_eval_views(8).is_ok());
    let said = |index: usize| data.checked_eval_views(index).unwrap_err().to_string();
    assert!(said(9).contains("b.npz") && said(9).contains("of 1 numbers"), "{}", said(9));
    assert!(said(10).contains("c.npz") && said(10).contains("is no .npz file"), "{}", said(10));
}
