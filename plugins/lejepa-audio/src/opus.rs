//! Opus for symphonia, which reads the containers but has no decoder.

use opus_decoder::OpusMultistreamDecoder;
use symphonia::core::audio::{
    AsGenericAudioBufferRef, AudioBuffer, AudioMut, AudioSpec, Channels, GenericAudioBufferRef,
};
use symphonia::core::codecs::CodecInfo;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{
    AudioCodecParameters, AudioDecoder, AudioDecoderOptions, FinalizeResult,
};
use symphonia::core::codecs::registry::{RegisterableAudioDecoder, SupportedAudioCodec};
use symphonia::core::errors::{Error, Result};
use symphonia::core::packet::PacketRef;

/// Opus always decodes to this rate.
const RATE: u32 = 48_000;
/// The longest packet: 120 ms (RFC 6716, section 3.2.5).
const MAX_FRAMES: usize = 5760;

/// An Opus decoder.
pub(crate) struct OpusDecoder {
    params: AudioCodecParameters,
    decoder: OpusMultistreamDecoder,
    channels: usize,
    gain: f32,
    interleaved: Vec<f32>,
    buffer: AudioBuffer<f32>,
}

/// What the identification header says (RFC 7845, section 5.1).
struct Head {
    channels: usize,
    gain: f32,
    streams: usize,
    coupled: usize,
    mapping: Vec<u8>,
}

impl Head {
    /// Without a header, e.g. in some Matroska files, there is one stream of one or two channels.
    fn of(params: &AudioCodecParameters) -> Option<Self> {
        let known = params.channels.as_ref().map_or(2, Channels::count);
        let Some(head) = params.extra_data.as_deref().filter(|d| d.starts_with(b"OpusHead")) else {
            return Some(Self::of_family_0(known.clamp(1, 2), 1.0));
        };
        let channels = usize::from(*head.get(9)?);
        let decibels = f32::from(i16::from_le_bytes([*head.get(16)?, *head.get(17)?])) / 256.0;
        let gain = 10f32.powf(decibels / 20.0);
        if *head.get(18)? == 0 {
            return (1..=2).contains(&channels).then(|| Self::of_family_0(channels, gain));
        }
        let (streams, coupled) = (usize::from(*head.get(19)?), usize::from(*head.get(20)?));
        let mapping = head.get(21..21 + channels)?.to_vec();
        Some(Self { channels, gain, streams, coupled, mapping })
    }

    fn of_family_0(channels: usize, gain: f32) -> Self {
        let mapping = (0..channels as u8).collect();
        Self { channels, gain, streams: 1, coupled: channels - 1, mapping }
    }
}

impl OpusDecoder {
    fn new(params: &AudioCodecParameters) -> Result<Self> {
        let head = Head::of(params).ok_or(Error::DecodeError("opus: bad identification header"))?;
        let decoder = OpusMultistreamDecoder::new(
            RATE,
            head.channels,
            head.streams,
            head.coupled,
            &head.mapping,
        )
        .map_err(|_| Error::Unsupported("opus: channel mapping"))?;
        let channels = Channels::Discrete(head.channels as u16);
        Ok(Self {
            params: params.clone(),
            decoder,
            channels: head.channels,
            gain: head.gain,
            interleaved: vec![0.0; MAX_FRAMES * head.channels],
            buffer: AudioBuffer::new(AudioSpec::new(RATE, channels), MAX_FRAMES),
        })
    }

    fn decode_into_buffer(&mut self, packet: &PacketRef<'_>) -> Result<()> {
        self.buffer.clear();
        if packet.data.is_empty() {
            return Ok(());
        }
        let frames = self
            .decoder
            .decode_float(packet.data, &mut self.interleaved, false)
            .map_err(|_| Error::DecodeError("opus: bad packet"))?;
        self.buffer.resize_with_silence(frames);
        for (channel, plane) in self.buffer.iter_planes_mut().enumerate() {
            let samples = self.interleaved.iter().skip(channel).step_by(self.channels);
            for (to, from) in plane.iter_mut().zip(samples) {
                *to = from * self.gain;
            }
        }
        self.buffer.trim(packet.trim_start.get() as usize, packet.trim_end.get() as usize);
        Ok(())
    }
}

impl AudioDecoder for OpusDecoder {
    fn reset(&mut self) {
        self.decoder.reset();
    }

    fn codec_info(&self) -> &CodecInfo {
        &Self::supported_codecs()[0].info
    }

    fn codec_params(&self) -> &AudioCodecParameters {
        &self.params
    }

    fn decode_ref(&mut self, packet: &PacketRef<'_>) -> Result<GenericAudioBufferRef<'_>> {
        if let Err(error) = self.decode_into_buffer(packet) {
            self.buffer.clear();
            return Err(error);
        }
        Ok(self.buffer.as_generic_audio_buffer_ref())
    }

    fn finalize(&mut self) -> FinalizeResult {
        FinalizeResult::default()
    }

    fn last_decoded(&self) -> GenericAudioBufferRef<'_> {
        self.buffer.as_generic_audio_buffer_ref()
    }
}

impl RegisterableAudioDecoder for OpusDecoder {
    fn try_registry_new(
        params: &AudioCodecParameters,
        _: &AudioDecoderOptions,
    ) -> Result<Box<dyn AudioDecoder>> {
        Ok(Box::new(Self::new(params)?))
    }

    fn supported_codecs() -> &'static [SupportedAudioCodec] {
        &[SupportedAudioCodec {
            id: CODEC_ID_OPUS,
            info: CodecInfo { short_name: "opus", long_name: "Opus", profiles: &[] },
        }]
    }
}
