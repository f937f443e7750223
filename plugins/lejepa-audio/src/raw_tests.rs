use lejepa_core::{Purpose, Seed};

use super::*;

fn plain() -> AudioConfig {
    AudioConfig {
        mix: 0.0,
        gain_db: 0.0,
        fader: 0.0,
        filter_db: 0.0,
        reverb: 0.0,
        hiss: 0.0,
        time_scale: [1.0, 1.0],
        locals: 1,
        ..AudioConfig::default()
    }
}

fn wave(count: usize) -> Waveform {
    Waveform::new((0..count).map(|i| 0.3 * (i as f32 * 0.05).sin()).collect()).unwrap()
}

fn draw(config: &AudioConfig, wave: &Waveform, n: u64) -> Views {
    let sampler = WaveformViews::new(&WaveformConfig::default(), config).unwrap();
    let others = [Arc::new(Waveform::new(vec![0.2; 40_000]).unwrap())];
    let mut rng = Seed(2).rng(Purpose::Views, &[n]);
    let views = sampler.views_with(wave, &others, &mut rng).unwrap();
    sampler.spec().check(&views).unwrap();
    views
}

fn power(samples: &[f32]) -> f32 {
    samples.iter().map(|v| v * v).sum::<f32>() / samples.len() as f32
}

#[test]
fn without_augmentation_a_view_is_a_stretch_of_the_recording() {
    let wave = wave(40_000);
    let views = draw(&plain(), &wave, 0);
    for view in views.groups().iter().flatten() {
        let first = view.data()[0] * 0.1;
        let at = wave.samples().windows(view.data().len()).position(|stretch| {
            stretch.iter().zip(view.data().iter()).all(|(a, b)| (a - b * 0.1).abs() < 1e-5)
        });
        assert!(at.is_some(), "{first}");
    }
    assert_ne!(draw(&plain(), &wave, 0).groups()[0], draw(&plain(), &wave, 1).groups()[0]);
    assert_eq!(draw(&plain(), &wave, 0).groups(), views.groups());
}

#[test]
fn each_setting_changes_what_it_says() {
    let wave = wave(40_000);
    let reference = draw(&plain(), &wave, 3);
    let of = |views: &Views| views.groups()[0][0].data().to_vec();
    let power_of = |config: &AudioConfig| -> f32 {
        (0..20).map(|n| power(&of(&draw(config, &wave, n)))).sum::<f32>() / 20.0
    };
    let still = power_of(&plain());
    type Change = fn(&mut AudioConfig);
    let changes: [Change; 8] = [
        |c| c.mix = 0.5,
        |c| c.gain_db = 12.0,
        |c| c.fader = 4.0,
        |c| c.filter_db = 12.0,
        |c| c.reverb = 1.0,
        |c| c.hiss = 1.0,
        |c| c.time_scale = [1.2, 1.4],
        |c| (c.mask_chance, c.time_mask) = (1.0, 0.9),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut config = plain();
        change(&mut config);
        let changed = of(&draw(&config, &wave, 3));
        assert_ne!(changed, of(&reference), "{i}");
        assert!(changed.iter().all(|v| v.is_finite()), "{i}");
        match i {
            // Reverberation adds as much power again, masks take some away.
            4 => assert!((1.3..3.0).contains(&(power_of(&config) / still))),
            7 => assert!(power_of(&config) < 0.9 * still),
            _ => {}
        }
    }
}

#[test]
fn evaluation_takes_the_centre_and_raw_features_are_those_of_the_spectrogram() {
    let sampler = WaveformViews::new(&WaveformConfig::default(), &plain()).unwrap();
    let spectrograms = AudioSampler::new(&plain()).unwrap();
    let wave = wave(40_000);
    let view = sampler.eval_view(&wave).unwrap();
    let other = spectrograms.eval_view(&wave).unwrap();
    let (ours, theirs) = (sampler.raw_features(&view), spectrograms.raw_features(&other));
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() < 1e-2, "{a} {b}");
    }
    let sound = sampler.sound(&view).unwrap();
    assert_eq!((sound.sample_rate, sound.samples.len()), (16_000, view.shape()[1]));
}

#[test]
fn a_bad_deviation_is_refused() {
    for std in [0.0, f64::NAN, 2.0] {
        let error = WaveformViews::new(&WaveformConfig { std }, &plain()).err().unwrap();
        assert!(error.to_string().contains("`views.std`"), "{error}");
    }
}
