//! Opus for symphonia, which reads the containers but has no decoder.

use opus_rs::multistream::{ChannelMappingTable, MultistreamDecoder};
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
    decoder: MultistreamDecoder,
    table: ChannelMappingTable,
    channels: usize,
    gain: f32,
    interleaved: Vec<f32>,
    buffer: AudioBuffer<f32>,
}

/// What the identification header says (RFC 7845, section 5.1).
struct Head {
    gain: f32,
    table: ChannelMappingTable,
}

impl Head {
    /// Without a header, e.g. in some Matroska files, there is one stream of one or two channels.
    fn of(params: &AudioCodecParameters) -> Option<Self> {
        let Some(head) = params.extra_data.as_deref().filter(|d| d.starts_with(b"OpusHead")) else {
            let known = params.channels.as_ref().map_or(2, Channels::count);
            return Some(Self { gain: 1.0, table: Self::of_one_stream(known.clamp(1, 2) as u8) });
        };
        let decibels = f32::from(i16::from_le_bytes([*head.get(16)?, *head.get(17)?])) / 256.0;
        let (family, channels) = (*head.get(18)?, *head.get(9)?);
        let table = match (family, channels) {
            (0, 1..=2) => Self::of_one_stream(channels),
            _ => ChannelMappingTable::parse(family, channels, head.get(19..)?)?,
        };
        let fits = table.channels > 0 && table.stream_count > 0;
        fits.then_some(Self { gain: 10f32.powf(decibels / 20.0), table })
    }

    fn of_one_stream(channels: u8) -> ChannelMappingTable {
        ChannelMappingTable {
            channels,
            stream_count: 1,
            coupled_count: channels - 1,
            mapping: (0..channels).collect(),
        }
    }
}

impl OpusDecoder {
    fn new(params: &AudioCodecParameters) -> Result<Self> {
        let Head { gain, table } =
            Head::of(params).ok_or(Error::DecodeError("opus: bad identification header"))?;
        let channels = usize::from(table.channels);
        Ok(Self {
            params: params.clone(),
            decoder: Self::decoder(table.clone())?,
            table,
            channels,
            gain,
            interleaved: vec![0.0; MAX_FRAMES * channels],
            buffer: AudioBuffer::new(
                AudioSpec::new(RATE, Channels::Discrete(channels as u16)),
                MAX_FRAMES,
            ),
        })
    }

    fn decoder(table: ChannelMappingTable) -> Result<MultistreamDecoder> {
        MultistreamDecoder::new(RATE as i32, table)
            .map_err(|_| Error::Unsupported("opus: channel mapping"))
    }

    fn decode_into_buffer(&mut self, packet: &PacketRef<'_>) -> Result<()> {
        self.buffer.clear();
        if packet.data.is_empty() {
            return Ok(());
        }
        let frames = self
            .decoder
            .decode(packet.data, MAX_FRAMES, &mut self.interleaved)
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
        // The same table made one before.
        if let Ok(decoder) = Self::decoder(self.table.clone()) {
            self.decoder = decoder;
        }
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
