use super::*;
use lejepa_core::{Purpose, Seed};
use lejepa_image::Picture;
use proptest::prelude::*;

/// A ramp in space and time: no two frames and no two positions are equal.
fn ramp(frames: usize, height: usize, width: usize, channels: usize) -> Clip {
    let value = |t: usize, i: usize| {
        let place = i / channels;
        ((place % width * 3 + place / width * 5 + t * 11 + i % channels * 17) % 256) as u8
    };
    let frame = |t| {
        let pixels = (0..height * width * channels).map(|i| value(t, i)).collect();
        Picture::new(width, height, channels, pixels).unwrap()
    };
    Clip::new((0..frames).map(frame).collect()).unwrap()
}

fn rng(n: u64) -> ViewRng {
    Seed(3).rng(Purpose::Views, &[n])
}

#[test]
fn views_have_the_specified_shapes_and_are_deterministic() {
    let sampler = VideoSampler::new(&VideoConfig::default()).unwrap();
    let spec = sampler.spec();
    spec.validate().unwrap();
    assert_eq!(spec.groups()[0].max_shape(), [3, 8, 32, 32]);
    assert_eq!(spec.groups()[1].max_shape(), [3, 4, 16, 16]);
    for clip in [ramp(2, 48, 64, 3), ramp(16, 32, 32, 1), ramp(40, 1, 9, 3)] {
        let views = sampler.views(&clip, &mut rng(0)).unwrap();
        spec.check(&views).unwrap();
        assert_eq!(views, sampler.views(&clip, &mut rng(0)).unwrap());
        assert_ne!(views, sampler.views(&clip, &mut rng(1)).unwrap());
        let eval = sampler.eval_view(&clip).unwrap();
        assert_eq!(eval.shape(), spec.shape());
        assert!(eval.is_finite());
    }
}

#[test]
fn colour_clips_give_views_of_one_channel() {
    let config = VideoConfig { channels: 1, ..VideoConfig::default() };
    let sampler = VideoSampler::new(&config).unwrap();
    assert_eq!(sampler.eval_view(&ramp(8, 32, 32, 3)).unwrap().shape(), [1, 8, 32, 32]);
}

#[test]
fn a_channel_may_be_the_change_from_the_frame_before() {
    // Brighter by 20 of 255 each frame, red more than green and blue.
    let frame = |t: u8| Picture::new(32, 32, 3, [30 * t, 10 * t, 10 * t].repeat(1024)).unwrap();
    let clip = Clip::new((0..8).map(frame).collect()).unwrap();
    let change = (0.299 * 30.0 + 0.701 * 10.0) / 255.0;
    let config = VideoConfig { difference: true, stride: [1, 1], ..VideoConfig::default() };
    for remove_static in [false, true] {
        let config = VideoConfig { remove_static, ..config.clone() };
        let sampler = VideoSampler::new(&config).unwrap();
        let view = sampler.eval_view(&clip).unwrap();
        assert_eq!(
            (view.shape(), sampler.spec().shape()),
            (&[4, 8, 32, 32][..], vec![4, 8, 32, 32])
        );
        let data = view.data();
        let (colours, last) = data.split_at(3 * 8 * 1024);
        // Steps of 1/255 after rounding, by the deviation of 0.1.
        assert!(last[..1024].iter().all(|v| v.abs() < 0.03));
        assert!(
            last[1024..].iter().all(|v| (v - 0.5 * change / 0.1).abs() < 0.03),
            "{}",
            last[1024]
        );
        let plain = VideoSampler::new(&VideoConfig { difference: false, ..config }).unwrap();
        let other = plain.eval_view(&clip).unwrap();
        assert_eq!(other.data()[..], *colours);
        assert_eq!(sampler.raw_features(&view), plain.raw_features(&other));
    }
    let luma = VideoConfig { channels: 1, ..config };
    let view = VideoSampler::new(&luma).unwrap().eval_view(&clip).unwrap();
    assert!((view.data()[2 * 8 * 1024 - 1] - 0.5 * change / 0.1).abs() < 0.03);
}

#[test]
fn frames_are_evenly_spaced_and_the_last_one_is_repeated() {
    assert_eq!(frame_indices(16, 8, 2, 0.0), [0, 2, 4, 6, 8, 10, 12, 14]);
    assert_eq!(frame_indices(16, 8, 2, 1.0), [1, 3, 5, 7, 9, 11, 13, 15]);
    assert_eq!(frame_indices(9, 4, 9, 0.5), [1, 3, 5, 7]);
    assert_eq!(frame_indices(8, 4, 9, 0.5), [1, 3, 5, 7]);
    assert_eq!(frame_indices(3, 5, 2, 0.9), [0, 1, 2, 2, 2]);
    assert_eq!(frame_indices(5, 1, 2, 0.5), [2]);
}

#[test]
fn time_can_be_reversed() {
    let clip = ramp(8, 32, 32, 1);
    let plain =
        VideoConfig { channels: 1, brightness: 0.0, contrast: 0.0, ..VideoConfig::default() };
    let forwards = VideoSampler::new(&plain).unwrap();
    let backwards = VideoSampler::new(&VideoConfig { reverse: 1.0, ..plain }).unwrap();
    let first = |s: &VideoSampler| s.views(&clip, &mut rng(5)).unwrap().groups()[0][0].clone();
    let (a, b) = (first(&forwards), first(&backwards));
    let frames = |v: &View| v.data().chunks(32 * 32).map(<[f32]>::to_vec).collect::<Vec<_>>();
    let mut reversed = frames(&b);
    reversed.reverse();
    assert!(frames(&a) == reversed && a != b);
}

#[test]
fn a_flip_reverses_rows() {
    let clip = ramp(8, 32, 32, 1);
    let config = VideoConfig { channels: 1, ..VideoConfig::default() };
    let sampler = VideoSampler::new(&config).unwrap();
    let area = Area::centre_square(32, 32);
    let of = |look: &Look| sampler.render(&clip, &[0], area, 32, look, None).unwrap();
    let (a, b) = (of(&Look::PLAIN), of(&Look { flip: true, ..Look::PLAIN }));
    for (a, b) in a.data().chunks(32).zip(b.data().chunks(32)) {
        assert!(a.iter().eq(b.iter().rev()));
    }
}

#[test]
fn views_that_share_their_span_show_the_same_frames() {
    let clip = clip_of_levels();
    let config = VideoConfig {
        same_span: true,
        channels: 1,
        jitter: 0.0,
        stride: [1, 3],
        ..VideoConfig::default()
    };
    let times = |config: &VideoConfig, seed| -> Vec<Vec<f32>> {
        let views = VideoSampler::new(config).unwrap().views(&clip, &mut rng(seed)).unwrap();
        let first = |view: &View| view.data().chunks(32 * 32).map(|f| f[0]).collect();
        views.groups()[0].iter().map(first).collect()
    };
    assert!((0..8).all(|seed| times(&config, seed)[0] == times(&config, seed)[1]));
    let apart = VideoConfig { same_span: false, ..config };
    assert!((0..8).any(|seed| times(&apart, seed)[0] != times(&apart, seed)[1]));
}

/// Flat frames, each brighter than the one before.
fn clip_of_levels() -> Clip {
    let frame = |t: usize| Picture::new(16, 16, 1, vec![(t * 8) as u8; 256]).unwrap();
    Clip::new((0..30).map(frame).collect()).unwrap()
}

#[test]
fn what_does_not_move_is_removed() {
    // A point that moves over a ramp in space.
    let pixel = |t: usize, i: usize| if i == 20 * t { 250 } else { (i % 16 * 8) as u8 };
    let frame = |t| Picture::new(16, 16, 1, (0..256).map(|i| pixel(t, i)).collect()).unwrap();
    let clip = Clip::new((0..8).map(frame).collect()).unwrap();
    let unit = VideoConfig { mean: [0.5; 3], std: [1.0; 3], ..VideoConfig::default() };
    let config =
        VideoConfig { remove_static: true, channels: 1, global_size: 16, stride: [1, 1], ..unit };
    let view = VideoSampler::new(&config).unwrap().eval_view(&clip).unwrap();
    let still = view.data().iter().filter(|v| v.abs() < 0.01).count();
    assert!(still > 8 * 256 * 9 / 10, "{still}");
    assert!(view.data()[0] > 0.3, "the point is there");
}

#[test]
fn a_background_is_the_same_in_all_frames() {
    let other = Arc::new(ramp(4, 16, 16, 1));
    let config = VideoConfig {
        background: [0.5, 0.5],
        channels: 1,
        jitter: 0.0,
        locals: 0,
        ..VideoConfig::default()
    };
    let sampler = VideoSampler::new(&config).unwrap();
    assert_eq!(sampler.companions(), 2);
    let views = sampler.views_with(&clip_of_levels(), &[other], &mut rng(3)).unwrap();
    for view in &views.groups()[0] {
        let data = view.data();
        let mut frames = data.chunks(32 * 32);
        let first = frames.next().unwrap();
        assert!(first.iter().any(|v| (v - first[0]).abs() > 0.1), "there is a background");
        for frame in frames {
            let step = frame[0] - first[0];
            assert!(frame.iter().zip(first).all(|(a, b)| (a - b - step).abs() < 0.05));
        }
    }
}

#[test]
fn raw_features_are_differences_of_frames() {
    let config = VideoConfig { channels: 1, ..VideoConfig::default() };
    let sampler = VideoSampler::new(&config).unwrap();
    let still = sampler.raw_features(&View::new([1, 3, 16, 16], vec![0.5; 768]).unwrap());
    assert_eq!(still, vec![0.0; 128]);
    let mut data = vec![0.0; 768];
    data[256..260].fill(1.0);
    let moved = sampler.raw_features(&View::new([1, 3, 16, 16], data).unwrap());
    assert_eq!((moved[0], moved[1], moved[2], moved[64]), (0.5, 0.5, 0.0, 0.5));
}

#[test]
fn augmentations_keep_flat_frames_flat_over_time() {
    let frame = Picture::new(8, 8, 3, [60, 120, 180].repeat(64)).unwrap();
    let clip = Clip::new(vec![frame; 8]).unwrap();
    let sampler = VideoSampler::new(&VideoConfig::default()).unwrap();
    let views = sampler.views(&clip, &mut rng(2)).unwrap();
    for view in &views.groups()[0] {
        for plane in view.data().chunks(8 * 32 * 32) {
            assert!(plane.iter().all(|v| (v - plane[0]).abs() < 1e-4));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_clip_gives_finite_views(
        frames in 2usize..40, height in 1usize..40, width in 1usize..40, grey: bool, seed: u64,
    ) {
        let clip = ramp(frames, height, width, if grey { 1 } else { 3 });
        let config = VideoConfig { local_scale: [0.001, 1.0], ..VideoConfig::default() };
        let sampler = VideoSampler::new(&config).unwrap();
        let views = sampler.views(&clip, &mut rng(seed)).unwrap();
        sampler.spec().check(&views).unwrap();
        prop_assert!(views.iter().all(View::is_finite));
    }
}
