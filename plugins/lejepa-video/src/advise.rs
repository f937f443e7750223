//! Settings that follow from a look at the clips.

use lejepa_core::{AUTO, Advice, Preset, Result, Survey, Value, median};
use lejepa_image::crop::{Area, resize};

use crate::clip::Clip;
use crate::config::VideoConfig;
use crate::sampler::remove_static;

/// Most clips that are looked at: to decode one takes as long as hundreds of pictures.
const SAMPLES: usize = 96;

/// Presets; `auto` takes one of them.
pub(crate) const PRESETS: &[Preset] = &[
    Preset {
        name: "motion",
        about: "keeps what moves and how, the direction of time, left and right; loses backgrounds and colours",
    },
    Preset {
        name: "scene",
        about: "keeps places, objects and coarse motion; loses left and right, exact colours",
    },
];

/// Side of the squares that clips are looked at in.
const SIDE: usize = 32;
/// Change of a pixel over time, as a fraction of the deviation of all pixels, above which it moves.
const MOVES: f64 = 0.25;

/// What was seen of a set of clips.
#[derive(Debug, Default)]
struct Seen {
    /// Medians of the shorter side in pixels and of the frames.
    side: usize,
    frames: usize,
    /// Share of clips without colours.
    grey: f64,
    /// Median share of a clip's pixels that change over time.
    moving: f64,
    /// Mean and standard deviation of the luma, then of each channel.
    moments: [[f64; 2]; 4],
    /// Standard deviation of the luma that is left where the still is removed.
    moved: f64,
}

fn moments(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for v in values {
        (n, sum, squares) = (n + 1.0, sum + v, squares + v * v);
    }
    let mean = sum / f64::max(n, 1.0);
    [mean, (squares / f64::max(n, 1.0) - mean * mean).max(0.0).sqrt()]
}

/// `None` where none can be read.
fn look(clips: impl Iterator<Item = Clip>) -> Option<Seen> {
    let (mut sides, mut frames, mut moving, mut grey) = (vec![], vec![], vec![], 0usize);
    let mut sums = [[0f64; 2]; 4];
    let mut moved = 0f64;
    for clip in clips {
        sides.push(clip.width().min(clip.height()));
        frames.push(clip.frames().len());
        let area = Area::centre_square(clip.width(), clip.height());
        let cut = |channels| -> Vec<Vec<f32>> {
            clip.frames().iter().filter_map(|f| resize(f, area, SIDE, channels).ok()).collect()
        };
        let (luma, colours) = (cut(1), cut(3));
        let all = moments(luma.iter().flatten().map(|v| f64::from(*v)));
        let mut own = vec![all];
        for c in 0..3 {
            let plane = |f: &Vec<f32>| f[c * SIDE * SIDE..(c + 1) * SIDE * SIDE].to_vec();
            own.push(moments(colours.iter().flat_map(plane).map(f64::from)));
        }
        let spread = |f: &Vec<f32>| -> bool {
            let (plane, n) = (SIDE * SIDE, SIDE * SIDE);
            (0..n)
                .filter(|i| {
                    (f[*i] - f[i + plane]).abs().max((f[*i] - f[i + 2 * plane]).abs()) > 0.05
                })
                .count()
                > n / 100
        };
        grey += usize::from(!colours.iter().any(spread));
        let mut left = luma.concat();
        remove_static(&mut left, SIDE * SIDE);
        moved += moments(left.iter().map(|v| f64::from(*v)))[1].powi(2);
        let changes = |i: &usize| {
            let [_, deviation] = moments(luma.iter().map(|f| f64::from(f[*i])));
            deviation > MOVES * all[1].max(0.02)
        };
        moving.push((0..SIDE * SIDE).filter(changes).count() as f64 / (SIDE * SIDE) as f64);
        for (sum, [mean, deviation]) in sums.iter_mut().zip(own) {
            sum[0] += mean;
            sum[1] += deviation * deviation + mean * mean;
        }
    }
    if sides.is_empty() {
        return None;
    }
    let count = sides.len() as f64;
    let moments = sums.map(|[sum, squares]| {
        let mean = sum / count;
        [mean, (squares / count - mean * mean).max(0.0).sqrt().max(0.02)]
    });
    Some(Seen {
        side: median(sides),
        frames: median(frames),
        grey: grey as f64 / count,
        moving: median(moving),
        moments,
        moved: (moved / count).sqrt().max(0.01),
    })
}

pub(crate) fn advise(config: &VideoConfig, survey: &Survey<'_, Clip>) -> Result<Advice> {
    // The scan names what cannot be read.
    let Some(seen) = look(survey.samples(SAMPLES)) else { return Ok(Advice::default()) };
    let at = survey.context();
    let percent = 100.0 * seen.moving;
    let what = format!("{percent:.0} % of a clip's pixels change over time");
    let preset = match at.preset {
        AUTO if seen.moving < 0.6 => "motion",
        AUTO => "scene",
        named => named,
    };
    let why = format!("preset {preset}: {what}");
    let mut advice = Advice::default();
    let is_motion = preset == "motion";
    let side = seen.side;
    let most = if at.is_gpu { 64 } else { 32 };
    let global = side.min(most).max(8) / 4 * 4;
    let shape = format!("the shorter side is {side} pixels here; views are not enlarged");
    advice.set("video.global_size", global as i64, shape);
    let local = if is_motion { global * 3 / 4 } else { global / 2 };
    advice.set("video.local_size", (local.max(4) / 4 * 4) as i64, &*why);
    let frames = config.frames.min(seen.frames).max(2);
    let length = format!("clips have {} frames", seen.frames);
    advice.set("video.frames", frames as i64, &*length);
    let fits = (seen.frames.saturating_sub(1) / (frames - 1).max(1)).max(1);
    if is_motion {
        let stride = Value::Array(vec![(fits.div_ceil(2) as i64).into(), (fits as i64).into()]);
        advice.set("video.stride", stride, format!("{length}, which a view spans"));
        advice.set("video.local_frames", frames as i64, &*why);
        advice.set("video.same_span", true, &*why);
        advice.set("video.remove_static", true, &*why);
        advice.set("video.flip", 0.0, &*why);
        advice.set("video.invert", 0.5, &*why);
        advice.set("video.brightness", 0.6, &*why);
        advice.set("video.contrast", 0.6, &*why);
        advice.set_numbers("video.global_scale", [0.5, 1.0], &*why);
        advice.set_numbers("video.local_scale", [0.3, 0.7], &*why);
        advice.set("video.locals", 2, &*why);
        // Of 0.02, 0.1 and 0.3 the best on moving digits: docs/results/recipes.md.
        advice.set("objective.lambda", 0.1, &*why);
        advice.set("train.batch", 64, "more steps in the same time");
    } else {
        let stride = Value::Array(vec![1.into(), (fits.min(4) as i64).into()]);
        advice.set("video.stride", stride, length);
        advice.set("video.local_frames", (frames / 2).max(1) as i64, &*why);
    }
    let is_luma = is_motion || seen.grey > 0.98;
    if is_luma {
        let why = if is_motion { "colour does not tell motion" } else { "the clips are grey" };
        advice.set("video.channels", 1, why);
    } else {
        let why = format!("{:.0} % of the clips have colours", 100.0 * (1.0 - seen.grey));
        advice.set("video.channels", 3, why);
    }
    let of = |i: usize| [1, 2, 3].map(|c| seen.moments[if is_luma { 0 } else { c }][i]);
    let (mean, std) = if is_motion { ([0.5; 3], [seen.moved; 3]) } else { (of(0), of(1)) };
    advice.set_numbers("video.mean", mean, "measured");
    advice.set_numbers("video.std", std, "measured");
    let encoder = "sees space and time, and learns fast from few clips";
    advice.set("encoder.name", "convnet", encoder);
    advice.set("encoder.width", if at.is_gpu { 48 } else { 16 }, encoder);
    Ok(advice)
}

#[cfg(test)]
mod tests {
    use lejepa_image::Picture;

    use super::*;

    fn clip(pixel: impl Fn(usize, usize, usize) -> u8) -> Clip {
        let frame = |t| {
            let pixels = (0..32 * 32).map(|i| pixel(t, i / 32, i % 32)).collect();
            Picture::new(32, 32, 1, pixels).unwrap()
        };
        Clip::new((0..6).map(frame).collect()).unwrap()
    }

    #[test]
    fn a_small_object_on_a_still_ground_moves_little_and_a_pan_much() {
        let ground = |y: usize, x: usize| ((y * 40 + x * 90) % 200) as u8;
        let object = clip(|t, y, x| if y < 4 && x / 4 == t { 255 } else { ground(y, x) });
        let pan = clip(|t, y, x| ground(y, x + 3 * t));
        let seen = |clip: &Clip| look([clip.clone()].into_iter()).unwrap();
        assert!(seen(&object).moving < 0.2 && seen(&pan).moving > 0.6);
        let (frames, side) = (seen(&pan).frames, seen(&pan).side);
        assert_eq!((frames, side, seen(&pan).grey), (6, 32, 1.0));
        assert!(look(std::iter::empty()).is_none());
    }
}
