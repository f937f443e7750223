//! Episodes in NumPy's archives (`numpy.savez`).

use std::io::{BufReader, Read, Seek};

use half::f16;
use lejepa_core::Blob;
use lejepa_image::Picture;
use npyz::{DType, Deserialize, NpyFile, Order, TypeChar};
use zip::ZipArchive;

use crate::table::{EpisodeTable, VALUE};

const FRAMES: &[&str] = &["frames", "observations", "observation", "obs", "images", "pixels"];
const ACTIONS: &[&str] = &["actions", "action"];
/// Of an array of numbers for each frame, so many are columns to probe; longer ones are no labels.
const MOST_COLUMNS: usize = 64;
/// Of discrete actions.
const MOST_KINDS: f64 = 256.0;
/// A channel each: grey, or red, green and blue, or these and one that is not used.
const CHANNELS: [usize; 3] = [1, 3, 4];

type Archive<'a> = ZipArchive<Box<dyn lejepa_core::ReadSeek + 'a>>;

/// Sizes of the array of frames, and how its axes are ordered.
struct Layout {
    episodes: usize,
    frames: usize,
    height: usize,
    width: usize,
    channels: usize,
    /// Whether channels are the last axis, not the one before rows.
    is_last: bool,
    /// Whether there is an axis of episodes.
    is_many: bool,
}

impl Layout {
    /// `[frames, height, width]`, with channels last or after the frames, or those of several episodes.
    fn of(shape: &[usize]) -> Result<Self, String> {
        let is_channel = |n: usize| CHANNELS.contains(&n);
        let (episodes, frames, height, width, channels, is_last) = match *shape {
            [t, h, w] => (None, t, h, w, 1, true),
            [t, h, w, c] if is_channel(c) => (None, t, h, w, c, true),
            [t, c, h, w] if is_channel(c) => (None, t, h, w, c, false),
            [n, t, h, w, c] if is_channel(c) => (Some(n), t, h, w, c, true),
            [n, t, c, h, w] if is_channel(c) => (Some(n), t, h, w, c, false),
            _ => {
                return Err(format!(
                    "frames of the shape {shape:?}, where [frames, height, width, channels] or [episodes, frames, \
                     height, width, channels] was expected, with 1, 3 or 4 channels, which may also come before height"
                ));
            }
        };
        let is_many = episodes.is_some();
        let episodes = episodes.unwrap_or(1);
        if episodes == 0 || frames < 2 {
            return Err(format!("{episodes} episodes of {frames} frames"));
        }
        Ok(Self { episodes, frames, height, width, channels, is_last, is_many })
    }

    /// The axes before those of a frame.
    fn leading(&self) -> Vec<usize> {
        if self.is_many { vec![self.episodes, self.frames] } else { vec![self.frames] }
    }

    /// Row-major pixels with channels last, of those in the order of the array.
    fn interleaved<T: Copy>(&self, values: &[T]) -> Vec<T> {
        let cells = self.height * self.width;
        let kept = if self.channels == 4 { 3 } else { self.channels };
        let at = |cell: usize, channel: usize| match self.is_last {
            true => cell * self.channels + channel,
            false => channel * cells + cell,
        };
        (0..cells).flat_map(|cell| (0..kept).map(move |c| values[at(cell, c)])).collect()
    }

    fn picture<T: Element>(&self, values: &[T]) -> Result<Picture, String> {
        let channels = if self.channels == 4 { 3 } else { self.channels };
        T::picture(self.width, self.height, channels, self.interleaved(values))
    }
}

/// A type of pixels.
trait Element: Deserialize + Copy {
    fn picture(w: usize, h: usize, c: usize, pixels: Vec<Self>) -> Result<Picture, String>;
}

fn bytes(w: usize, h: usize, c: usize, pixels: Vec<u8>) -> Result<Picture, String> {
    Picture::new(w, h, c, pixels).ok_or_else(|| format!("frames of {w}x{h} pixels"))
}

impl Element for u8 {
    fn picture(w: usize, h: usize, c: usize, pixels: Vec<u8>) -> Result<Picture, String> {
        bytes(w, h, c, pixels)
    }
}

impl Element for bool {
    fn picture(w: usize, h: usize, c: usize, pixels: Vec<bool>) -> Result<Picture, String> {
        bytes(w, h, c, pixels.into_iter().map(|v| 255 * u8::from(v)).collect())
    }
}

impl Element for u16 {
    fn picture(w: usize, h: usize, c: usize, pixels: Vec<u16>) -> Result<Picture, String> {
        Picture::deep(w, h, c, pixels).ok_or_else(|| format!("frames of {w}x{h} pixels"))
    }
}

fn of_floats(w: usize, h: usize, c: usize, pixels: Vec<f32>) -> Result<Picture, String> {
    if let Some(value) = pixels.iter().find(|v| !(0.0..=1.0).contains(*v)) {
        return Err(format!(
            "a pixel of {value}, where floats run from 0 to 1: save 0 to 255 as numpy.uint8"
        ));
    }
    let words = pixels.into_iter().map(|v| (f32::from(u16::MAX) * v).round() as u16);
    u16::picture(w, h, c, words.collect())
}

impl Element for f32 {
    fn picture(w: usize, h: usize, c: usize, pixels: Vec<f32>) -> Result<Picture, String> {
        of_floats(w, h, c, pixels)
    }
}

impl Element for f64 {
    fn picture(w: usize, h: usize, c: usize, pixels: Vec<f64>) -> Result<Picture, String> {
        of_floats(w, h, c, pixels.into_iter().map(|v| v as f32).collect())
    }
}

impl Element for f16 {
    fn picture(w: usize, h: usize, c: usize, pixels: Vec<f16>) -> Result<Picture, String> {
        of_floats(w, h, c, pixels.into_iter().map(f16::to_f32).collect())
    }
}

fn archive<'a>(blob: &'a Blob<'_>) -> Result<Archive<'a>, String> {
    let reader = blob.open().map_err(|e| e.to_string())?;
    ZipArchive::new(reader).map_err(|e| format!("is no .npz file ({e})"))
}

fn names(archive: &Archive<'_>) -> Vec<String> {
    let names = archive.file_names().flatten();
    names.filter_map(|name| Some(name.strip_suffix(".npy")?.to_string())).collect()
}

fn name_of(archive: &Archive<'_>, known: &[&str]) -> Result<String, String> {
    let has = names(archive);
    known
        .iter()
        .find(|name| has.iter().any(|h| h == *name))
        .map(ToString::to_string)
        .ok_or_else(|| format!("has no array {}, only {}", known.join(", "), has.join(", ")))
}

/// An array, and its shape; elements have to be stored in C order.
fn array<'a, R: Read + Seek>(
    archive: &'a mut ZipArchive<R>,
    name: &str,
) -> Result<(NpyFile<impl Read + use<'a, R>>, Vec<usize>), String> {
    let bad = |e: &dyn std::fmt::Display| format!("array {name}: {e}");
    let file = archive.by_name(&format!("{name}.npy")).map_err(|e| bad(&e))?;
    let file = NpyFile::new(BufReader::new(file)).map_err(|e| bad(&e))?;
    let sizes = file.shape().iter().map(|&n| usize::try_from(n));
    let shape = sizes.collect::<Result<Vec<usize>, _>>().map_err(|e| bad(&e))?;
    let count = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    if count.is_none_or(|count| count > isize::MAX as usize / 8) {
        return Err(bad(&format!("sizes of {shape:?}")));
    }
    if file.order() == Order::Fortran && shape.iter().filter(|n| **n > 1).count() > 1 {
        return Err(bad(&"is stored in Fortran order: save numpy.ascontiguousarray of it"));
    }
    Ok((file, shape))
}

/// Elements of any type of numbers; whether they are integers is told too.
fn numbers<R: Read>(file: NpyFile<R>) -> Result<(Vec<f64>, bool), String> {
    fn all<T: Deserialize>(
        file: NpyFile<impl Read>,
        f: impl Fn(T) -> f64,
    ) -> Result<Vec<f64>, String> {
        let values = file.data::<T>().map_err(|e| e.to_string())?;
        values.map(|v| v.map(&f).map_err(|e| e.to_string())).collect()
    }
    let (of, size) = element(&file.dtype())?;
    let is_integer = matches!(of, TypeChar::Int | TypeChar::Uint);
    let values = match (of, size) {
        (TypeChar::Bool, _) => all(file, |v: bool| f64::from(u8::from(v))),
        (TypeChar::Uint, 1) => all(file, |v: u8| v.into()),
        (TypeChar::Uint, 2) => all(file, |v: u16| v.into()),
        (TypeChar::Uint, 4) => all(file, |v: u32| v.into()),
        (TypeChar::Uint, 8) => all(file, |v: u64| v as f64),
        (TypeChar::Int, 1) => all(file, |v: i8| v.into()),
        (TypeChar::Int, 2) => all(file, |v: i16| v.into()),
        (TypeChar::Int, 4) => all(file, |v: i32| v.into()),
        (TypeChar::Int, 8) => all(file, |v: i64| v as f64),
        (TypeChar::Float, 2) => all(file, |v: f16| v.into()),
        (TypeChar::Float, 4) => all(file, |v: f32| v.into()),
        (TypeChar::Float, 8) => all(file, |v: f64| v),
        _ => Err(format!("elements of {}", file.dtype().descr())),
    };
    Ok((values?, is_integer))
}

fn element(of: &DType) -> Result<(TypeChar, u64), String> {
    match of {
        DType::Plain(of) => Ok((of.type_char(), of.size_field())),
        other => Err(format!("elements of {}", other.descr())),
    }
}

/// The episodes of a file; of frames only the header is read.
pub(crate) fn tables(blob: &Blob<'_>) -> Result<Vec<EpisodeTable>, String> {
    let mut archive = archive(blob)?;
    let (frames, actions) = (name_of(&archive, FRAMES)?, name_of(&archive, ACTIONS)?);
    let layout = Layout::of(&array(&mut archive, &frames)?.1)?;
    let (file, shape) = array(&mut archive, &actions)?;
    let (taken, is_integer) = numbers(file).map_err(|e| format!("array {actions}: {e}"))?;
    let (width, is_kind) = width_of_actions(&taken, &shape, &layout, is_integer)?;
    let mut tables: Vec<EpisodeTable> = taken
        .chunks_exact(taken.len() / layout.episodes)
        .map(|taken| EpisodeTable {
            broken: None,
            rows: layout.frames,
            width,
            is_kind,
            actions: taken.iter().map(|v| *v as f32).collect(),
            values: Vec::new(),
        })
        .collect();
    let mut others = names(&archive);
    others.retain(|name| *name != frames && *name != actions);
    others.sort();
    for name in others {
        // What is no numbers for each frame is something else.
        let Ok((file, shape)) = array(&mut archive, &name) else { continue };
        let Some(rest) = shape.strip_prefix(&layout.leading()[..]) else { continue };
        let columns = rest.iter().product::<usize>();
        if !(1..=MOST_COLUMNS).contains(&columns) {
            continue;
        }
        let Ok((values, _)) = numbers(file) else { continue };
        let name = name.strip_prefix(VALUE).unwrap_or(&name);
        for (table, values) in tables.iter_mut().zip(values.chunks(layout.frames * columns)) {
            table.values.extend((0..columns).map(|column| {
                let finite = |v: &f64| Some(*v).filter(|v| v.is_finite());
                let values = values.iter().skip(column).step_by(columns).map(finite).collect();
                let name = if rest.is_empty() { name.into() } else { format!("{name}_{column}") };
                (name, values)
            }));
        }
    }
    Ok(tables)
}

/// Numbers of an action, and whether that is one integer that says which of several actions was taken.
fn width_of_actions(
    taken: &[f64],
    shape: &[usize],
    layout: &Layout,
    is_integer: bool,
) -> Result<(usize, bool), String> {
    let axis = usize::from(layout.is_many);
    let fits = shape.len() > axis
        && (!layout.is_many || shape[0] == layout.episodes)
        && (shape[axis] == layout.frames || shape[axis] + 1 == layout.frames);
    let width = shape.iter().skip(axis + 1).product();
    if !fits || width == 0 {
        return Err(format!(
            "actions of the shape {shape:?}, where frames are {:?}: each frame, or each but the last, needs an action",
            layout.leading()
        ));
    }
    if let Some(bad) = taken.iter().find(|v| !v.is_finite() || v.abs() > f64::from(f32::MAX)) {
        return Err(format!("an action of {bad}"));
    }
    let is_kind = is_integer && width == 1;
    if is_kind && !taken.iter().all(|v| (0.0..MOST_KINDS).contains(v)) {
        return Err(format!(
            "actions that are integers below 0, or of {MOST_KINDS} and more: save numbers as floats"
        ));
    }
    Ok((width, is_kind))
}

/// Gives each frame of all episodes in turn to `take`.
pub(crate) fn frames(
    blob: &Blob<'_>,
    take: impl FnMut(Picture) -> Result<(), String>,
) -> Result<(), String> {
    fn each<T: Element>(
        file: NpyFile<impl Read>,
        layout: &Layout,
        mut take: impl FnMut(Picture) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut values = file.data::<T>().map_err(|e| e.to_string())?;
        let cells = layout.height * layout.width * layout.channels;
        for frame in 0..layout.episodes * layout.frames {
            let pixels: std::io::Result<Vec<T>> = values.by_ref().take(cells).collect();
            let pixels = pixels.map_err(|e| format!("frame {frame}: {e}"))?;
            take(layout.picture(&pixels)?)?;
        }
        Ok(())
    }
    let mut archive = archive(blob)?;
    let name = name_of(&archive, FRAMES)?;
    let (file, shape) = array(&mut archive, &name)?;
    let layout = Layout::of(&shape)?;
    match element(&file.dtype())? {
        (TypeChar::Uint, 1) => each::<u8>(file, &layout, take),
        (TypeChar::Uint, 2) => each::<u16>(file, &layout, take),
        (TypeChar::Bool, _) => each::<bool>(file, &layout, take),
        (TypeChar::Float, 2) => each::<f16>(file, &layout, take),
        (TypeChar::Float, 4) => each::<f32>(file, &layout, take),
        (TypeChar::Float, 8) => each::<f64>(file, &layout, take),
        _ => Err(format!(
            "frames of {}: save numpy.uint8, numpy.uint16, or floats from 0 to 1",
            file.dtype().descr()
        )),
    }
}
