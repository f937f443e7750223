//! Packets to frames, and the frames that are wanted to RGB at the size that is kept.

use fast_image_resize::images::{CroppedImage, Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use video_rs::Packet;
use video_rs::ffmpeg::codec::Id;
use video_rs::ffmpeg::codec::context::Context;
use video_rs::ffmpeg::codec::discard::Discard;
use video_rs::ffmpeg::format::stream::Stream;
use video_rs::ffmpeg::software::scaling;
use video_rs::ffmpeg::util::color;
use video_rs::ffmpeg::util::format::Pixel;
use video_rs::ffmpeg::{Error, decoder, ffi, frame};

/// A decoder of one stream. Frames have the time stamps of packets.
pub(crate) struct FrameDecoder {
    decoder: decoder::Video,
    /// Width, height and format of the frames.
    given: (u32, u32, Pixel),
    /// Width and height that are kept.
    kept: (u32, u32),
    resizer: Resizer,
    /// For formats that are not converted here.
    scaler: Option<scaling::Context>,
    /// The first time stamp, in units of the stream, whose frame is wanted.
    first_wanted: i64,
}

impl FrameDecoder {
    /// A decoder that keeps frames of width and height `kept`.
    pub(crate) fn new(stream: &Stream<'_>, kept: (u32, u32)) -> Result<Self, video_rs::Error> {
        let open = || Context::from_parameters(stream.parameters())?.decoder().video();
        let decoder = open().map_err(video_rs::Error::BackendError)?;
        let given = (decoder.width(), decoder.height(), decoder.format());
        if given.0 == 0 || given.1 == 0 || given.2 == Pixel::None {
            return Err(video_rs::Error::MissingCodecParameters);
        }
        Ok(Self {
            decoder,
            given,
            kept,
            resizer: Resizer::new(),
            scaler: None,
            first_wanted: i64::MIN,
        })
    }

    /// Width and height that are kept.
    pub(crate) fn kept(&self) -> (u32, u32) {
        self.kept
    }

    /// Frames before this time stamp, in units of the stream, need not be given. Those of H.264 that no other frame
    /// refers to are left out. Of other formats all are decoded: in HEVC such a frame may be referred to by higher
    /// temporal sub-layers.
    pub(crate) fn want_from(&mut self, timestamp: i64) {
        self.first_wanted = timestamp;
    }

    pub(crate) fn send(&mut self, packet: Packet) -> Result<(), Error> {
        let packet = packet.into_inner();
        if self.decoder.id() == Id::H264 {
            let is_early = packet.pts().is_some_and(|time| time < self.first_wanted);
            self.decoder.skip_frame(if is_early {
                Discard::NonReference
            } else {
                Discard::Default
            });
        }
        self.decoder.send_packet(&packet)
    }

    /// No more packets come.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        self.decoder.send_eof()
    }

    /// To begin anew elsewhere.
    pub(crate) fn flush(&mut self) {
        self.decoder.flush();
    }

    /// The next frame; `None` where it takes another packet, or at the end.
    pub(crate) fn receive(&mut self) -> Result<Option<frame::Video>, Error> {
        let mut frame = frame::Video::empty();
        match self.decoder.receive_frame(&mut frame) {
            Ok(()) => Ok(Some(frame)),
            Err(Error::Eof) => Ok(None),
            Err(Error::Other { errno }) if errno == ffi::EAGAIN => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The pixels of a frame at the size that is kept, three bytes each.
    ///
    /// Planes of 8 bits are scaled before they become RGB, which takes a fraction of the time of FFmpeg's conversion.
    pub(crate) fn rgb(&mut self, frame: &frame::Video) -> Result<Vec<u8>, String> {
        if (frame.width(), frame.height(), frame.format()) != self.given {
            return Err("its frames change size or format".into());
        }
        let (width, height) = self.kept;
        match planes(frame.format()) {
            Some(is_full) => {
                let mut scaled = [const { Vec::new() }; 3];
                for (plane, scaled) in scaled.iter_mut().enumerate() {
                    *scaled = self.plane(frame, plane)?;
                }
                let is_full = is_full || frame.color_range() == color::Range::JPEG;
                let weights = Weights::of(frame.color_space(), frame.height(), is_full);
                Ok(weights.rgb(&scaled))
            }
            None => {
                let scaled = self.converted(frame)?;
                let row = 3 * width as usize;
                let stride = scaled.stride(0);
                // Frames stored bottom-up have a negative stride, which is returned as an enormous one.
                if stride < row || i32::try_from(stride).is_err() {
                    return Err("its frames have an unsupported memory layout".into());
                }
                let lines = scaled.data(0).chunks_exact(stride).take(height as usize);
                Ok(lines.flat_map(|line| &line[..row]).copied().collect())
            }
        }
    }

    /// A plane of a frame at the size that is kept.
    fn plane(&mut self, frame: &frame::Video, plane: usize) -> Result<Vec<u8>, String> {
        let layout = || "its frames have an unsupported memory layout".to_string();
        let (width, height) = (frame.plane_width(plane), frame.plane_height(plane));
        let stride = frame.stride(plane);
        let long = u32::try_from(stride).ok().filter(|long| *long >= width).ok_or_else(layout)?;
        let bytes = frame.data(plane).get(..stride * height as usize).ok_or_else(layout)?;
        if (width, height) == self.kept {
            let lines = bytes.chunks_exact(stride).flat_map(|line| &line[..width as usize]);
            return Ok(lines.copied().collect());
        }
        let source =
            ImageRef::new(long, height, bytes, PixelType::U8).map_err(|e| e.to_string())?;
        // The decoder's padding must not be seen: with a crop by options the last columns would have a share of it.
        let source = CroppedImage::new(&source, 0, 0, width, height).map_err(|e| e.to_string())?;
        let mut target = Image::new(self.kept.0, self.kept.1, PixelType::U8);
        // Means over areas, as far as it is scaled down.
        let is_smaller = self.kept.0 <= width && self.kept.1 <= height;
        let filter = if is_smaller { FilterType::Box } else { FilterType::Bilinear };
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
        self.resizer.resize(&source, &mut target, &options).map_err(|e| e.to_string())?;
        Ok(target.into_vec())
    }

    /// By FFmpeg, to RGB.
    fn converted(&mut self, frame: &frame::Video) -> Result<frame::Video, String> {
        let words = |e: Error| format!("FFmpeg cannot convert its frames: {e}");
        let ((from_width, from_height, format), (width, height)) = (self.given, self.kept);
        if self.scaler.is_none() {
            let flags = scaling::Flags::AREA;
            let scaler = scaling::Context::get(
                format,
                from_width,
                from_height,
                Pixel::RGB24,
                width,
                height,
                flags,
            );
            self.scaler = Some(scaler.map_err(words)?);
        }
        let mut scaled = frame::Video::empty();
        if let Some(scaler) = &mut self.scaler {
            scaler.run(frame, &mut scaled).map_err(words)?;
        }
        Ok(scaled)
    }
}

/// Whether a format of three planes of 8 bits is full range; `None` for other formats.
fn planes(format: Pixel) -> Option<bool> {
    match format {
        Pixel::YUV420P | Pixel::YUV422P | Pixel::YUV444P => Some(false),
        Pixel::YUVJ420P | Pixel::YUVJ422P | Pixel::YUVJ444P => Some(true),
        _ => None,
    }
}

/// Y'CbCr to RGB (ITU-R BT.601 and BT.709), in 16 bits of fraction.
#[derive(Debug, Clone, Copy)]
struct Weights {
    black: i32,
    y: i32,
    red_v: i32,
    green_u: i32,
    green_v: i32,
    blue_u: i32,
}

/// Rows from which a video that does not say is taken for high definition.
const HIGH_DEFINITION: u32 = 720;

impl Weights {
    fn of(space: color::Space, height: u32, is_full: bool) -> Self {
        let is_709 = match space {
            color::Space::BT709 => true,
            color::Space::Unspecified => height >= HIGH_DEFINITION,
            _ => false,
        };
        // The shares of red and blue in the luma.
        let (kr, kb) = if is_709 { (0.2126, 0.0722) } else { (0.299, 0.114) };
        let kg = 1.0 - kr - kb;
        let (luma, chroma) = if is_full { (1.0, 1.0) } else { (255.0 / 219.0, 255.0 / 224.0) };
        let fixed = |v: f64| (v * 65536.0).round() as i32;
        Self {
            black: if is_full { 0 } else { 16 },
            y: fixed(luma),
            red_v: fixed(2.0 * (1.0 - kr) * chroma),
            green_u: fixed(-2.0 * (1.0 - kb) * kb / kg * chroma),
            green_v: fixed(-2.0 * (1.0 - kr) * kr / kg * chroma),
            blue_u: fixed(2.0 * (1.0 - kb) * chroma),
        }
    }

    fn rgb(self, [y, u, v]: &[Vec<u8>; 3]) -> Vec<u8> {
        let mut pixels = vec![0; 3 * y.len()];
        let clamp = |v: i32| ((v + 32768) >> 16).clamp(0, 255) as u8;
        for (((pixel, y), u), v) in pixels.chunks_exact_mut(3).zip(y).zip(u).zip(v) {
            let luma = (i32::from(*y) - self.black) * self.y;
            let (u, v) = (i32::from(*u) - 128, i32::from(*v) - 128);
            pixel[0] = clamp(luma + self.red_v * v);
            pixel[1] = clamp(luma + self.green_u * u + self.green_v * v);
            pixel[2] = clamp(luma + self.blue_u * u);
        }
        pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_the_standards() {
        // Black, white, and the red of each: Rec. ITU-R BT.601-7 and BT.709-6, 8 bits.
        for (space, red, is_full) in [
            (color::Space::BT470BG, [81u8, 90, 240], false),
            (color::Space::BT709, [63, 102, 240], false),
            (color::Space::BT470BG, [76, 85, 255], true),
        ] {
            let [black, white] = if is_full { [0, 255] } else { [16, 235] };
            let planes =
                [vec![black, white, red[0]], vec![128, 128, red[1]], vec![128, 128, red[2]]];
            let rgb = Weights::of(space, 480, is_full).rgb(&planes);
            for (got, want) in rgb.iter().zip([0u8, 0, 0, 255, 255, 255, 255, 0, 0]) {
                assert!(got.abs_diff(want) <= 2, "{space:?}: {rgb:?}");
            }
        }
        let of = |height| Weights::of(color::Space::Unspecified, height, false).red_v;
        assert_eq!(of(1080), Weights::of(color::Space::BT709, 480, false).red_v);
        assert_ne!(of(480), of(1080));
    }
}
