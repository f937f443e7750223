use super::*;
use lejepa_core::{Purpose, Seed};
use proptest::prelude::*;

fn rng(n: u64) -> ViewRng {
    Seed(3).rng(Purpose::Views, &[n])
}

fn wave(length: usize) -> Waveform {
    let sample = |i| 0.3 * (i as f32 * 0.2).sin() + 0.1 * ((i * i) as f32 * 1e-4).sin();
    Waveform::new((0..length).map(sample).collect()).unwrap()
}

fn plain() -> AudioConfig {
    AudioConfig {
        speed: [1.0, 1.0],
        gain_db: 0.0,
        noise_chance: 0.0,
        mask_chance: 0.0,
        mix: 0.0,
        fader: 0.0,
        filter_db: 0.0,
        reverb: 0.0,
        hiss: 0.0,
        time_scale: [1.0, 1.0],
        band_scale: [1.0, 1.0],
        ..AudioConfig::default()
    }
}

#[test]
fn views_have_the_specified_shapes_and_are_deterministic() {
    for short in [Short::Repeat, Short::Pad] {
        let config = AudioConfig { short, ..AudioConfig::default() };
        let sampler = AudioSampler::new(&config).unwrap();
        let spec = sampler.spec();
        spec.validate().unwrap();
        for wave in [wave(32000), wave(9000), wave(1)] {
            let views = sampler.views(&wave, &mut rng(0)).unwrap();
            spec.check(&views).unwrap();
            assert_eq!(views, sampler.views(&wave, &mut rng(0)).unwrap());
            // A single sample is silence here, which all views have alike.
            let differ = views != sampler.views(&wave, &mut rng(1)).unwrap();
            assert_eq!(differ, wave.samples().len() > 1);
            let eval = sampler.eval_view(&wave).unwrap();
            assert_eq!(eval.shape(), spec.shape());
            assert!(eval.is_finite());
        }
    }
}

#[test]
fn cuts_are_segments_of_the_recording() {
    let sampler = AudioSampler::new(&plain()).unwrap();
    let wave = wave(32000);
    let span = 512 + 95 * 160;
    let starts = [(Some(0.0), 0), (Some(1.0), 32000 - span), (None, (32000 - span) / 2)];
    for (at, start) in starts {
        let cut = sampler.cut(wave.samples(), 96, 1.0, at);
        assert_eq!(cut, wave.samples()[start..start + span]);
    }
    let double = sampler.cut(wave.samples(), 48, 2.0, Some(0.0));
    assert!(double.iter().eq(wave.samples().iter().step_by(2).take(double.len())));
    let slow = sampler.cut(wave.samples(), 96, 0.5, Some(0.0));
    assert_eq!(slow[1], (wave.samples()[0] + wave.samples()[1]) / 2.0);
}

#[test]
fn short_recordings_are_repeated_or_padded() {
    let wave = wave(10000);
    let repeat = AudioSampler::new(&plain()).unwrap().cut(wave.samples(), 96, 1.0, None);
    assert!(repeat.iter().eq(wave.samples().iter().cycle().take(repeat.len())));
    let config = AudioConfig { short: Short::Pad, ..plain() };
    let pad = AudioSampler::new(&config).unwrap().cut(wave.samples(), 96, 1.0, None);
    let lead = (pad.len() - 10000) / 2;
    assert!(pad[..lead].iter().chain(&pad[lead + 10000..]).all(|&v| v == 0.0));
    assert_eq!(pad[lead..lead + 10000], *wave.samples());
}

#[test]
fn noise_has_its_strength() {
    let quiet = wave(20000).samples().to_vec();
    let rms = |x: &[f32]| (x.iter().map(|v| v * v).sum::<f32>() / x.len() as f32).sqrt();
    let mut noisy = quiet.clone();
    add_noise(&mut noisy, 0.5, 7);
    let noise: Vec<f32> = noisy.iter().zip(&quiet).map(|(a, b)| a - b).collect();
    assert!((rms(&noise) / rms(&quiet) - 0.5).abs() < 0.02);
    let mut same = quiet.clone();
    add_noise(&mut same, 0.0, 7);
    assert_eq!(same, quiet);
}

#[test]
fn a_plain_view_is_the_spectrogram_of_its_cut() {
    let sampler = AudioSampler::new(&plain()).unwrap();
    let wave = wave(512 + 95 * 160);
    // There is one position for a view as long as the recording.
    let view = sampler.random_view(&wave, 96, &[], &mut rng(1)).unwrap();
    let eval = sampler.eval_view(&wave).unwrap();
    assert!(view.data().iter().zip(eval.data().iter()).all(|(a, b)| (a - b).abs() < 1e-4));
}

#[test]
fn another_recording_is_mixed_in_power() {
    let config = AudioConfig { mix: 0.9, ..plain() };
    let sampler = AudioSampler::new(&config).unwrap();
    assert_eq!((sampler.companions(), AudioSampler::new(&plain()).unwrap().companions()), (2, 0));
    let silence = Waveform::new(vec![0.0; 20000]).unwrap();
    let other = [Arc::new(wave(20000))];
    let alone = sampler.random_view(&silence, 96, &[], &mut rng(4)).unwrap();
    let mixed = sampler.random_view(&silence, 96, &other, &mut rng(4)).unwrap();
    assert!(alone.data().iter().all(|v| *v == alone.data()[0]));
    assert!(mixed.data().iter().zip(alone.data().iter()).all(|(m, a)| m >= a));
    assert!(mixed.data().iter().any(|v| *v > alone.data()[0] + 1.0));
}

#[test]
fn ranges_of_time_and_bands_are_stretched_to_the_view() {
    // Cell (t, b) is 10·t + b, which linear interpolation continues.
    let logs: Vec<f32> = (0..8 * 4).map(|i| (10 * (i / 4) + i % 4) as f32).collect();
    let same = resample(&logs, 4, 8, 8, [0.0, 4.0]);
    assert!((0..8 * 4).all(|i| same[i] == (10 * (i % 8) + i / 8) as f32));
    let slow = resample(&logs, 4, 8, 16, [0.0, 4.0]);
    assert!((1..15).all(|t| (slow[t] - (5.0 * t as f32 - 2.5)).abs() < 1e-4));
    let high = resample(&logs, 4, 8, 8, [2.0, 2.0]);
    assert!((high[0] - 1.75).abs() < 1e-5 && (high[8] - 2.25).abs() < 1e-5);
}

#[test]
fn the_loudest_of_several_positions_is_taken() {
    let mut samples = vec![0.0; 64000];
    samples[50000..].copy_from_slice(&wave(14000).samples()[..14000]);
    let wave = Waveform::new(samples).unwrap();
    let heard = |positions| {
        let config = AudioConfig { positions, global_frames: 32, local_frames: 32, ..plain() };
        let sampler = AudioSampler::new(&config).unwrap();
        let loud = |n| {
            let cut = sampler.draw_cut(&wave, 32, &mut rng(n));
            sampler.power(&wave, 0, 32, &cut).iter().sum::<f32>() > 1.0
        };
        (0..40).filter(|n| loud(*n)).count()
    };
    assert!(heard(8) > heard(1) + 10, "{} {}", heard(8), heard(1));
}

#[test]
fn views_may_begin_where_sounds_do() {
    // A sound that begins in the middle of silence and goes on.
    let mut samples = vec![0.0; 64000];
    samples[32000..].copy_from_slice(&wave(32000).samples()[..32000]);
    let wave = Waveform::new(samples).unwrap();
    let begins = |position_by| {
        let config = AudioConfig { positions: 8, position_by, ..plain() };
        let sampler = AudioSampler::new(&config).unwrap();
        let at_its_start = |n| {
            let cut = sampler.draw_cut(&wave, 96, &mut rng(n));
            let power = sampler.power(&wave, 0, 96, &cut);
            let frame = |t: usize| power[t * 64..(t + 1) * 64].iter().sum::<f32>();
            frame(0) < 1e-6 && frame(26) > 1e-6
        };
        (0..40).filter(|n| at_its_start(*n)).count()
    };
    let (onset, energy) = (begins(Criterion::Onset), begins(Criterion::Energy));
    assert!(onset > 15 && energy < 5, "{onset} {energy}");
}

#[test]
fn masks_cover_up_to_their_fraction() {
    let config = AudioConfig { mask_chance: 1.0, time_mask: 0.5, ..plain() };
    let sampler = AudioSampler::new(&config).unwrap();
    let (mut frames, mut bands) = (0, 0);
    for n in 0..20 {
        let view = sampler.random_view(&wave(32000), 96, &[], &mut rng(n)).unwrap();
        let zero = |t: usize, b: usize| view.data()[b * 96 + t] == 0.0;
        let masked = (0..96).filter(|&t| (0..64).all(|b| zero(t, b))).count();
        frames = frames.max(masked);
        let masked = (0..64).filter(|&b| (0..96).all(|t| zero(t, b))).count();
        bands = bands.max(masked);
    }
    assert!((30..=48).contains(&frames) && (6..=12).contains(&bands), "{frames} {bands}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_recording_gives_finite_views(
        samples in proptest::collection::vec(-2f32..2.0, 1..5000), pad: bool, seed: u64,
    ) {
        let short = if pad { Short::Pad } else { Short::Repeat };
        let config = AudioConfig { short, speed: [0.25, 4.0], ..AudioConfig::default() };
        let sampler = AudioSampler::new(&config).unwrap();
        let views = sampler.views(&Waveform::new(samples).unwrap(), &mut rng(seed)).unwrap();
        sampler.spec().check(&views).unwrap();
        prop_assert!(views.iter().all(View::is_finite));
    }
}

#[test]
fn channels_share_crops_and_augmentations() {
    let config = AudioConfig {
        channels: 2,
        positions: 3,
        noise_chance: 0.0,
        mask_chance: 1.0,
        time_mask: 0.3,
        ..AudioConfig::default()
    };
    let sampler = AudioSampler::new(&config).unwrap();
    assert_eq!(sampler.spec().shape(), [2, 64, 96]);
    let sweep = |scale: f32| -> Vec<f32> {
        let at = |i: usize| i as f32 / 16000.0;
        (0..48000).map(|i| scale * (at(i) * (200.0 + 900.0 * at(i))).sin()).collect()
    };
    let twice = Waveform::of_channels(vec![sweep(0.5), sweep(0.5)]).unwrap();
    let (mono, others) = (Waveform::new(sweep(0.5)).unwrap(), [Arc::new(twice.clone())]);
    let rng = |n| Seed(5).rng(Purpose::Views, &[n]);
    for n in 0..5 {
        let views = sampler.views_with(&twice, &others, &mut rng(n)).unwrap();
        for view in views.iter() {
            let data = view.data();
            let (left, right) = data.split_at(data.len() / 2);
            assert_eq!(left, right);
        }
        // A mono recording is in all channels.
        assert_eq!(sampler.views_with(&mono, &others, &mut rng(n)).unwrap(), views);
    }
    // Each channel has its own sound: of half the amplitude, ln 4 below.
    let apart = Waveform::of_channels(vec![sweep(0.5), sweep(0.25)]).unwrap();
    let view = sampler.eval_view(&apart).unwrap();
    let data = view.data();
    let (left, right) = data.split_at(data.len() / 2);
    let below =
        (left.iter().zip(right).map(|(l, r)| l - r).fold(0.0, f32::max)) * config.std as f32;
    assert!((below - 4f32.ln()).abs() < 0.01, "{below}");
    assert_eq!(sampler.raw_features(&view).len(), 2 * 128 + 32);
    assert!(sampler.front_end().is_none());
    // Neither too few nor too many are an index out of range, here or of a companion.
    for channels in [2, 5] {
        let wave = Waveform::of_channels(vec![sweep(0.5); channels]).unwrap();
        let sampler = AudioSampler::new(&AudioConfig { channels: 4, ..config.clone() }).unwrap();
        assert!(sampler.eval_view(&wave).is_err());
        assert!(sampler.views(&wave, &mut rng(0)).is_err());
        assert!(sampler.views_with(&mono, &[Arc::new(wave)], &mut rng(0)).is_err());
    }
}
