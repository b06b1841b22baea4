//! The codecs of record batches.
//!
//! | number | codec  | form                                                                     |
//! |--------|--------|--------------------------------------------------------------------------|
//! | 0      | none   |                                                                          |
//! | 1      | gzip   | RFC 1952, any number of members                                          |
//! | 2      | snappy | written as snappy-java's chunks; a bare snappy block is read too         |
//! | 3      | lz4    | LZ4 frame, independent blocks                                            |
//! | 4      | zstd   | zstd frames, usually without a content size                              |
//!
//! Java's clients frame snappy as snappy-java does; some others send the bare block. Java reads
//! both, and so do we.
//!
//! Invariant: output never grows beyond the limit the caller names, whatever the input claims, and
//! no input panics.

use std::borrow::Cow;
use std::fmt;
use std::io::{Read, Write};

use crate::protocol::batch::BatchView;

/// How the records of a batch are compressed (`CompressionType`).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// gzip.
    Gzip = 1,
    /// Snappy.
    Snappy = 2,
    /// LZ4.
    Lz4 = 3,
    /// Zstandard; from Produce version 7 and Fetch version 10 on (KIP-110).
    Zstd = 4,
}

impl Codec {
    /// The codec with this number in a batch's attributes.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its name in `compression.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// A codec and how hard it tries.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Compression {
    /// The codec.
    pub codec: Codec,
    /// Its level, `None` for the default: 1 to 9 for gzip, -131072 to 22 for zstd. Snappy has no
    /// levels; lz4 always compresses at its fast level, which is Kafka's default too.
    pub level: Option<i32>,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        Self { codec, level: None }
    }
}

/// Why a batch could not be decompressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DecompressError {
    /// No codec has this number.
    UnknownCodec(u8),
    /// The bytes are not what the codec writes.
    Damaged,
    /// The records take more than the limit.
    TooLarge {
        /// The limit, in bytes.
        size_bytes_max: usize,
    },
}

impl fmt::Display for DecompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCodec(number) => write!(f, "compression {number} is not known"),
            Self::Damaged => f.write_str("the compressed records are damaged"),
            Self::TooLarge { size_bytes_max } => {
                write!(f, "the records take more than {size_bytes_max} bytes uncompressed")
            }
        }
    }
}

impl std::error::Error for DecompressError {}

/// The records of `batch`, uncompressed: borrowed when they are so already.
///
/// `TooLarge` when a compressed batch holds more than `size_bytes_max`; uncompressed ones are
/// bounded by their own size.
pub fn decompress<'a>(
    batch: &BatchView<'a>,
    size_bytes_max: usize,
) -> Result<Cow<'a, [u8]>, DecompressError> {
    let codec = batch.header.codec().map_err(DecompressError::UnknownCodec)?;
    decompress_bytes(codec, batch.payload(), size_bytes_max)
}

/// As [`decompress`], for bytes outside a batch.
pub fn decompress_bytes(
    codec: Codec,
    bytes: &[u8],
    size_bytes_max: usize,
) -> Result<Cow<'_, [u8]>, DecompressError> {
    let decompressed = match codec {
        Codec::None => return Ok(Cow::Borrowed(bytes)),
        Codec::Gzip => read_bounded(flate2::bufread::MultiGzDecoder::new(bytes), size_bytes_max),
        Codec::Snappy => unsnappy(bytes, size_bytes_max),
        Codec::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(bytes), size_bytes_max),
        Codec::Zstd => match zstd::stream::read::Decoder::with_buffer(bytes) {
            Ok(decoder) => read_bounded(decoder, size_bytes_max),
            Err(_) => Err(DecompressError::Damaged),
        },
    };
    decompressed.map(Cow::Owned)
}

/// Reads to the end, in steps, so that what is set aside follows what came out.
fn read_bounded(from: impl Read, size_bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    let read = from.take(size_bytes_max as u64 + 1).read_to_end(&mut out);
    match read {
        Ok(_) if out.len() > size_bytes_max => Err(DecompressError::TooLarge { size_bytes_max }),
        Ok(_) => Ok(out),
        Err(_) => Err(DecompressError::Damaged),
    }
}

/// What begins a stream of snappy-java (`SnappyCodec`): a magic, then two versions, 1 and 1.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = XERIAL_MAGIC.len() + 8;
/// Uncompressed bytes of a chunk, as Kafka's Java client makes them.
const XERIAL_CHUNK_BYTES: usize = 32 << 10;
/// A snappy element of three bytes stands for 64 at most, so nothing expands further than this.
const SNAPPY_EXPANSION_MAX: usize = 64;

fn unsnappy(bytes: &[u8], size_bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    if !bytes.starts_with(&XERIAL_MAGIC) {
        unsnappy_block(bytes, size_bytes_max, &mut out)?;
        return Ok(out);
    }
    let mut rest = bytes.get(XERIAL_HEADER_BYTES..).ok_or(DecompressError::Damaged)?;
    while !rest.is_empty() {
        // Streams that were put one behind the other have the header again.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_BYTES..).ok_or(DecompressError::Damaged)?;
            continue;
        }
        let (length, behind) = rest.split_first_chunk::<4>().ok_or(DecompressError::Damaged)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, behind) = behind.split_at_checked(length).ok_or(DecompressError::Damaged)?;
        unsnappy_block(block, size_bytes_max, &mut out)?;
        rest = behind;
    }
    Ok(out)
}

fn unsnappy_block(
    block: &[u8],
    size_bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    let claimed = snap::raw::decompress_len(block).map_err(|_| DecompressError::Damaged)?;
    if claimed > size_bytes_max.saturating_sub(out.len()) {
        return Err(DecompressError::TooLarge { size_bytes_max });
    }
    if claimed > block.len().saturating_mul(SNAPPY_EXPANSION_MAX) {
        return Err(DecompressError::Damaged);
    }
    let start = out.len();
    out.resize(start + claimed, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[start..]);
    match written {
        Ok(written) if written == claimed => Ok(()),
        Ok(_) | Err(_) => Err(DecompressError::Damaged),
    }
}

/// Appends `bytes` to `out`, compressed in the form that Java clients read.
///
/// An error is a level the codec does not have, or more bytes than it takes (4 GiB for snappy).
pub fn compress(how: Compression, bytes: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    match how.codec {
        Codec::None => {
            out.extend_from_slice(bytes);
            Ok(())
        }
        Codec::Gzip => {
            let level = match how.level.map(u32::try_from) {
                Some(Ok(level @ 1..=9)) => flate2::Compression::new(level),
                // -1 names the default in Kafka.
                Some(_) | None => flate2::Compression::default(),
            };
            let mut encoder = flate2::write::GzEncoder::new(out, level);
            encoder.write_all(bytes)?;
            encoder.finish().map(drop)
        }
        Codec::Snappy => snappy(bytes, out),
        Codec::Lz4 => {
            let format = lz4_flex::frame::FrameInfo::new()
                .block_mode(lz4_flex::frame::BlockMode::Independent)
                .block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(format, out);
            encoder.write_all(bytes)?;
            encoder.finish().map(drop).map_err(std::io::Error::other)
        }
        Codec::Zstd => {
            let level = how.level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
            let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
            encoder.write_all(bytes)?;
            encoder.finish().map(drop)
        }
    }
}

fn snappy(bytes: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for chunk in bytes.chunks(XERIAL_CHUNK_BYTES) {
        let block = encoder.compress_vec(chunk)?;
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// Compressible in parts; longer than one block of any codec.
    fn sample(size_bytes: usize) -> Vec<u8> {
        let mut state = 1u32;
        (0..size_bytes)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at / 1000 % 2 == 0 { (at % 7) as u8 } else { (state >> 24) as u8 }
            })
            .collect()
    }

    #[test]
    fn what_is_compressed_comes_out_the_same() {
        for codec in CODECS {
            for size_bytes in [0, 1, 100, 32 << 10, 300_000] {
                let bytes = sample(size_bytes);
                let mut compressed = Vec::new();
                compress(codec.into(), &bytes, &mut compressed).expect("compresses");
                let out = decompress_bytes(codec, &compressed, size_bytes).expect("decompresses");
                assert!(*out == bytes, "{codec:?} {size_bytes}");
            }
        }
    }

    #[test]
    fn levels_change_the_size() {
        let bytes = sample(300_000);
        for (codec, low, high) in [(Codec::Gzip, 1, 9), (Codec::Zstd, -100, 19)] {
            let [low, high] = [low, high].map(|level| {
                let mut out = Vec::new();
                let how = Compression { codec, level: Some(level) };
                compress(how, &bytes, &mut out).expect("compresses");
                out.len()
            });
            assert!(high < low, "{codec:?}: {high} at the high level, {low} at the low one");
        }
    }

    #[test]
    fn output_stops_at_the_limit() {
        let zeros = vec![0; 10 << 20];
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut compressed = Vec::new();
            compress(codec.into(), &zeros, &mut compressed).expect("compresses");
            let size_bytes_max = zeros.len() - 1;
            let expected = Err(DecompressError::TooLarge { size_bytes_max });
            assert_eq!(decompress_bytes(codec, &compressed, size_bytes_max), expected, "{codec:?}");
        }
        // A bare snappy block that claims four gigabytes.
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(decompress_bytes(Codec::Snappy, &claim, 1 << 20).is_err());
        assert_eq!(
            decompress_bytes(Codec::Snappy, &claim, usize::MAX),
            Err(DecompressError::Damaged)
        );
    }

    #[test]
    fn snappy_is_read_bare_and_framed_and_put_together() {
        let bytes = sample(70_000);
        let bare = snap::raw::Encoder::new().compress_vec(&bytes).expect("compresses");
        let out = decompress_bytes(Codec::Snappy, &bare, 1 << 20).expect("bare");
        assert!(*out == bytes);

        let mut framed = Vec::new();
        compress(Codec::Snappy.into(), &bytes, &mut framed).expect("compresses");
        let twice = [framed.clone(), framed].concat();
        let out = decompress_bytes(Codec::Snappy, &twice, 1 << 20).expect("framed twice");
        assert!(*out == [bytes.clone(), bytes].concat());
    }

    #[test]
    fn lz4_frames_of_other_makers_are_read() {
        use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
        let bytes = sample(300_000);
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max4MB] {
                let format = FrameInfo::new()
                    .block_mode(mode)
                    .block_size(size)
                    .block_checksums(true)
                    .content_checksum(true)
                    .content_size(Some(bytes.len() as u64));
                let mut encoder = FrameEncoder::with_frame_info(format, Vec::new());
                encoder.write_all(&bytes).expect("compresses");
                let frame = encoder.finish().expect("compresses");
                let out = decompress_bytes(Codec::Lz4, &frame, 1 << 20).expect("decompresses");
                assert!(*out == bytes, "{mode:?} {size:?}");
            }
        }
    }

    #[test]
    fn damage_is_an_error_or_other_bytes_but_never_a_panic() {
        let bytes = sample(3_000);
        for codec in CODECS {
            let mut compressed = Vec::new();
            compress(codec.into(), &bytes, &mut compressed).expect("compresses");
            for cut in 0..compressed.len() {
                let _ = decompress_bytes(codec, &compressed[..cut], 10_000);
            }
            for at in 0..compressed.len() {
                for bit in [0x01, 0x80, 0xff] {
                    let mut damaged = compressed.clone();
                    damaged[at] ^= bit;
                    let _ = decompress_bytes(codec, &damaged, 10_000);
                }
            }
        }
    }
}
