//! A decoded video: frames of one size.

use lejepa_core::{Codec, Decoded, Error, Result};
use lejepa_image::Picture;

/// Largest aspect ratio of frames: scaled by the short side, longer ones could take any amount of memory.
const MAX_ASPECT: u32 = 16;

/// A decoded video, or a segment of one: at least two frames, all of one width and height.
///
/// ```
/// use lejepa_image::Picture;
/// use lejepa_video::Clip;
///
/// let frame = |grey: u8| Picture::new(4, 3, 1, vec![grey; 12]).ok_or("the sizes do not agree");
/// let clip = Clip::new(vec![frame(10)?, frame(20)?])?;
/// assert_eq!((clip.frames().len(), clip.width(), clip.height()), (2, 4, 3));
/// assert_eq!(clip.frame(1).pixels()[..], [20; 12]);
/// // Indices past the end give the last frame.
/// assert_eq!(clip.frame(9), clip.frame(1));
/// assert_eq!(clip.bytes(), 24);
///
/// assert!(Clip::new(vec![frame(10)?]).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    frames: Vec<Picture>,
}

impl Clip {
    /// A clip of these frames, in temporal order.
    ///
    /// # Errors
    /// [`Error::Sample`], without a name, if there are fewer than two frames or if they differ in size.
    pub fn new(frames: Vec<Picture>) -> Result<Self> {
        let mut builder = ClipBuilder { short: None, ..ClipBuilder::new(0) };
        let added = frames.into_iter().try_for_each(|frame| builder.push(frame));
        added.and_then(|()| builder.finish()).map_err(|reason| Error::sample("", reason))
    }

    /// The pictures, each after its length.
    pub(crate) const CODEC: Codec<Self> = Codec {
        encode: |clip| {
            let frame = |frame| {
                let bytes = (Picture::CODEC.encode)(frame);
                [&(bytes.len() as u64).to_le_bytes()[..], &bytes].concat()
            };
            clip.frames.iter().flat_map(frame).collect()
        },
        decode: |mut bytes| {
            let mut frames = Vec::new();
            while !bytes.is_empty() {
                let (length, rest) = bytes.split_first_chunk::<8>()?;
                let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
                let (frame, rest) = rest.split_at_checked(length)?;
                frames.push((Picture::CODEC.decode)(frame)?);
                bytes = rest;
            }
            Self::new(frames).ok()
        },
    };

    /// All frames, at least two.
    pub fn frames(&self) -> &[Picture] {
        &self.frames
    }

    /// Frame `index`, or the last one if `index` is past the end.
    pub fn frame(&self, index: usize) -> &Picture {
        &self.frames[index.min(self.frames.len() - 1)]
    }

    /// Height of all frames in pixels.
    pub fn height(&self) -> usize {
        self.frame(0).height()
    }

    /// Width of all frames in pixels.
    pub fn width(&self) -> usize {
        self.frame(0).width()
    }

    /// Memory taken by the pixels, in bytes.
    pub fn bytes(&self) -> usize {
        self.frames.iter().map(Picture::bytes).sum()
    }

    /// A whole video, or a segment of a longer one.
    pub(crate) fn decoded(self, is_whole: bool) -> Decoded<Self> {
        let bytes = self.bytes();
        if is_whole { Decoded::whole(self, bytes) } else { Decoded::part(self, bytes) }
    }
}

/// The size (width, height) that frames are scaled to: the short side is at most `short`.
pub(crate) fn kept_size(width: u32, height: u32, short: usize) -> Result<(u32, u32), String> {
    let (least, most) = (width.min(height), width.max(height));
    if least == 0 {
        return Err("its frames have no pixels".into());
    }
    if most > least.saturating_mul(MAX_ASPECT) {
        return Err(format!(
            "its frames are {width}x{height}; the long side may be at most {MAX_ASPECT} times the short one"
        ));
    }
    let short = u32::try_from(short).unwrap_or(u32::MAX);
    if least <= short {
        return Ok((width, height));
    }
    let scaled = |n: u32| {
        let n = (f64::from(n) * f64::from(short) / f64::from(least)).round();
        (n as u32).max(1)
    };
    Ok((scaled(width), scaled(height)))
}

/// Collects scaled frames into a [`Clip`].
pub(crate) struct ClipBuilder {
    /// Largest short side of frames; `None` keeps their size.
    short: Option<usize>,
    /// Width and height of the first frame before scaling, which all others share.
    given: Option<(usize, usize)>,
    /// Largest long side of frames; 0 keeps their size.
    long: usize,
    frames: Vec<Picture>,
}

impl ClipBuilder {
    /// Scales frames down to a short side of at most `short` pixels.
    pub(crate) fn new(short: usize) -> Self {
        Self { short: Some(short), given: None, long: 0, frames: Vec::new() }
    }

    /// Frames so far.
    pub(crate) fn frames(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn push(&mut self, frame: Picture) -> Result<(), String> {
        let (width, height) = (frame.width(), frame.height());
        match self.given {
            Some(given) if given == (width, height) => {}
            Some((w, h)) => {
                let index = self.frames.len();
                return Err(format!("frame {index} is {width}x{height}, the first one {w}x{h}"));
            }
            None => {
                if let Some(short) = self.short {
                    let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                    let kept = kept_size(side(width), side(height), short)?;
                    self.long = kept.0.max(kept.1) as usize;
                }
                self.given = Some((width, height));
            }
        }
        self.frames.push(frame.at_most(self.long));
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Clip, String> {
        match self.frames.len() {
            0 => Err("has no frames; at least 2 are needed".into()),
            1 => Err("has 1 frame; at least 2 are needed".into()),
            _ => Ok(Clip { frames: self.frames }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(width: usize, height: usize, grey: u8) -> Picture {
        Picture::new(width, height, 1, vec![grey; width * height]).unwrap()
    }

    #[test]
    fn a_clip_has_two_frames_of_one_size() {
        let clip = Clip::new(vec![flat(4, 3, 7), flat(4, 3, 8)]).unwrap();
        assert_eq!((clip.frames().len(), clip.height(), clip.width(), clip.bytes()), (2, 3, 4, 24));
        assert_eq!(clip.frame(1), clip.frame(7));
        let bytes = (Clip::CODEC.encode)(&clip);
        assert_eq!((Clip::CODEC.decode)(&bytes), Some(clip));
        assert_eq!((Clip::CODEC.decode)(&bytes[..bytes.len() - 1]), None);
        assert!(Clip::new(vec![]).unwrap_err().to_string().contains("no frames"));
        assert!(Clip::new(vec![flat(4, 3, 7)]).unwrap_err().to_string().contains("1 frame"));
        let error = Clip::new(vec![flat(4, 3, 7), flat(3, 4, 7)]).unwrap_err().to_string();
        assert!(error.contains("frame 1 is 3x4, the first one 4x3"), "{error}");
    }

    #[test]
    fn frames_are_scaled_down_by_the_short_side() {
        assert_eq!(kept_size(320, 240, 48), Ok((64, 48)));
        assert_eq!(kept_size(240, 320, 48), Ok((48, 64)));
        assert_eq!(kept_size(40, 30, 48), Ok((40, 30)));
        assert!(kept_size(65535, 49, 48).unwrap_err().contains("16 times"));
        assert!(kept_size(0, 9, 48).is_err());
        let mut builder = ClipBuilder::new(8);
        for grey in [90, 200] {
            builder.push(flat(32, 16, grey)).unwrap();
        }
        let clip = builder.finish().unwrap();
        assert_eq!((clip.height(), clip.width()), (8, 16));
        for (frame, grey) in clip.frames().iter().zip([90, 200]) {
            assert!(frame.pixels().iter().all(|&v| v == grey));
        }
    }
}
