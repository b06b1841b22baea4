//! Batches prepared before a load begins, and what has to be patched in them for each request.
//!
//! Building and compressing a batch costs more than sending one. So some dozen are built once, all
//! different, and sent over and over. An idempotent producer's requests differ by producer id,
//! epoch and sequence, which the checksum covers: it is linear, so the patched batch's is the
//! prepared one's and a number for each bit that is set.

use std::io;

use bytes::Bytes;

use crate::protocol::batch::{BatchHeader, BatchView, HEADER_BYTES};
use crate::protocol::builder::{BatchBuilder, NewRecord, ProducerStamp};
use crate::protocol::compression::Codec;
use crate::runtime::sim::Random;

use super::super::args::{LoadArgs, SizeRange};

/// Batches that are prepared at least, so that no two in a row are the same.
const BATCHES_MIN: u64 = 16;

/// Batches that are prepared at most: for many keys.
const BATCHES_MAX: u64 = 1024;

/// Bytes of records that are prepared at most, as long as there is one batch.
const PREPARED_BYTES_MAX: u64 = 256 << 20;

/// Bits of what a producer stamps on a batch: id, epoch, base sequence.
const STAMP_BITS: usize = 64 + 16 + 32;

/// A size of the range, each as likely.
pub fn draw_size(random: &mut Random, range: SizeRange) -> usize {
    let width = (range.max - range.min) as u64 + 1;
    range.min + usize::try_from(random.below(width)).unwrap_or(0)
}

/// Fills `bytes` with what can not be compressed.
pub fn fill(random: &mut Random, bytes: &mut [u8]) {
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&random.draw().to_le_bytes()[..part.len()]);
    }
}

/// What records are like.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Bytes of a value.
    pub value_bytes: SizeRange,
    /// How many keys there are; 0 for records without one.
    pub keys: u64,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Records of a batch.
    pub batch_records: u32,
    /// How they are compressed.
    pub codec: Codec,
}

impl Recipe {
    /// What the user asked for; an error is a sentence.
    pub fn new(load: &LoadArgs, batch_records: u32) -> Result<Self, String> {
        let recipe = Self {
            value_bytes: load.record_bytes,
            keys: load.keys,
            key_bytes: load.key_bytes,
            batch_records: batch_records.max(1),
            codec: load.compression.codec(),
        };
        let digits = recipe.keys.saturating_sub(1).to_string().len();
        if recipe.keys > 0 && digits > recipe.key_bytes {
            return Err(format!("{} keys need at least {digits} bytes each", recipe.keys));
        }
        Ok(recipe)
    }

    /// How many batches are prepared.
    fn batch_count(&self) -> u64 {
        let records = u64::from(self.batch_records);
        let wanted = self.keys.div_ceil(records).clamp(BATCHES_MIN, BATCHES_MAX);
        let batch_bytes = records * (self.value_bytes.max + self.key_bytes + 16) as u64;
        wanted.min((PREPARED_BYTES_MAX / batch_bytes).max(1))
    }

    /// One of the keys; none when there are none.
    pub fn key(&self, random: &mut Random) -> Option<String> {
        let width = self.key_bytes;
        (self.keys > 0).then(|| format!("{:0width$}", random.below(self.keys)))
    }

    /// The prepared batches, with this time in milliseconds.
    pub fn prepare(&self, now_ms: i64, random: &mut Random) -> io::Result<Vec<Bytes>> {
        let mut value = vec![0; self.value_bytes.max];
        let batch = |_| {
            let mut builder = BatchBuilder::new().compression(self.codec);
            for _ in 0..self.batch_records {
                let size = draw_size(random, self.value_bytes);
                fill(random, &mut value[..size]);
                let key = self.key(random);
                builder.append(&NewRecord {
                    timestamp: now_ms,
                    key: key.as_deref().map(str::as_bytes),
                    value: Some(&value[..size]),
                    headers: &[],
                });
            }
            builder.build()
        };
        (0..self.batch_count()).map(batch).collect()
    }
}

/// Puts a producer's stamp on a prepared batch.
#[derive(Clone, Debug)]
pub struct Stamper {
    /// With a stamp of nothing but zeros.
    header: BatchHeader,
    /// What each bit of a stamp does to the checksum, the highest of the id first.
    bits: Vec<u32>,
}

impl Stamper {
    /// For a whole batch, as [`Recipe::prepare`] makes them; `None` when it is none.
    pub fn new(batch: &[u8]) -> Option<Self> {
        let mut header = BatchHeader::parse(batch).ok()?;
        let mut copy = batch.to_vec();
        let mut checksum = |stamp: u128| {
            set(&mut header, from_bits(stamp));
            header.write(&mut copy);
            Some(BatchView::parse(&copy).ok()?.checksum())
        };
        let zero = checksum(0)?;
        let bits = (0..STAMP_BITS).rev().map(|bit| Some(checksum(1 << bit)? ^ zero));
        let bits = bits.collect::<Option<Vec<u32>>>()?;
        set(&mut header, from_bits(0));
        header.crc = zero;
        Some(Self { header, bits })
    }

    /// The header of the batch with this stamp.
    pub fn header(&self, stamp: ProducerStamp) -> [u8; HEADER_BYTES] {
        let mut header = self.header;
        set(&mut header, stamp);
        let mut left = to_bits(stamp);
        while left != 0 {
            let lowest = left.trailing_zeros() as usize;
            header.crc ^= self.bits[STAMP_BITS - 1 - lowest];
            left &= left - 1;
        }
        let mut bytes = [0; HEADER_BYTES];
        header.write(&mut bytes);
        bytes
    }
}

fn set(header: &mut BatchHeader, stamp: ProducerStamp) {
    header.producer_id = stamp.id;
    header.producer_epoch = stamp.epoch;
    header.base_sequence = stamp.base_sequence;
}

/// A stamp's fields, one behind the other as in a batch's header.
fn to_bits(stamp: ProducerStamp) -> u128 {
    let id = u128::from(stamp.id.cast_unsigned());
    let epoch = u128::from(stamp.epoch.cast_unsigned());
    id << 48 | epoch << 32 | u128::from(stamp.base_sequence.cast_unsigned())
}

fn from_bits(bits: u128) -> ProducerStamp {
    ProducerStamp {
        id: (bits >> 48) as i64,
        epoch: (bits >> 32) as i16,
        base_sequence: bits as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::compression::decompress;
    use crate::protocol::record::Records;

    const RECIPE: Recipe = Recipe {
        value_bytes: SizeRange { min: 100, max: 200 },
        keys: 0,
        key_bytes: 16,
        batch_records: 10,
        codec: Codec::None,
    };

    /// Sizes of values, and keys, of all records.
    fn records(batches: &[Bytes]) -> Vec<(usize, Option<String>)> {
        let mut found = Vec::new();
        for batch in batches {
            let batch = BatchView::parse(batch).expect("a batch");
            assert!(batch.is_intact());
            let payload = decompress(&batch, 1 << 20).expect("decompresses");
            for record in Records::new(&payload, batch.header.record_count) {
                let record = record.expect("a record");
                let key = record.key.map(|key| String::from_utf8_lossy(key).into_owned());
                found.push((record.value.map_or(0, <[u8]>::len), key));
            }
        }
        found
    }

    #[test]
    fn batches_differ_and_have_sizes_of_the_whole_range() {
        for codec in [Codec::None, Codec::Lz4] {
            let recipe = Recipe { codec, ..RECIPE };
            let batches = recipe.prepare(7, &mut Random::new(1)).expect("builds");
            assert_eq!(batches.len(), 16);
            assert!((1..16).all(|index| batches[index] != batches[index - 1]), "{codec:?}");
            let sizes: Vec<_> = records(&batches).into_iter().map(|record| record.0).collect();
            let (least, most) = (sizes.iter().min(), sizes.iter().max());
            assert!(least.is_some_and(|least| (100..110).contains(least)), "{least:?}");
            assert!(most.is_some_and(|most| (191..=200).contains(most)), "{most:?}");
            let mean = sizes.iter().sum::<usize>() / sizes.len();
            assert!((140..160).contains(&mean), "{mean}");
        }
    }

    #[test]
    fn keys_are_as_many_and_as_long_as_asked_for() {
        let cases = [(1, 16, 1), (5, 1, 5), (1000, 12, 600)];
        for (keys, key_bytes, least) in cases {
            let recipe = Recipe { keys, key_bytes, ..RECIPE };
            let batches = recipe.prepare(7, &mut Random::new(1)).expect("builds");
            let mut found: Vec<_> = records(&batches).into_iter().map(|record| record.1).collect();
            found.sort();
            found.dedup();
            let lengths_fit = found.iter().flatten().all(|key| key.len() == key_bytes);
            assert!(lengths_fit && !found.contains(&None), "{keys} keys");
            // Drawn at random as often as there are keys, 63 % of many come up.
            assert!((least..=keys).contains(&(found.len() as u64)), "{keys}: {}", found.len());
        }
        let without = RECIPE.prepare(7, &mut Random::new(1)).expect("builds");
        assert!(records(&without).iter().all(|record| record.1.is_none()));
    }

    #[test]
    fn what_is_prepared_is_bounded() {
        let cases = [
            ("many keys", Recipe { keys: 1 << 40, ..RECIPE }, 1024),
            ("large", Recipe { value_bytes: SizeRange { min: 0, max: 3 << 20 }, ..RECIPE }, 8),
            ("huge", Recipe { value_bytes: SizeRange { min: 0, max: 1 << 30 }, ..RECIPE }, 1),
        ];
        for (name, recipe, count) in cases {
            assert_eq!(recipe.batch_count(), count, "{name}");
        }
    }

    #[test]
    fn a_stamped_batch_is_intact_whatever_the_stamp() {
        let recipe = Recipe { batch_records: 3, ..RECIPE };
        let batches = recipe.prepare(7, &mut Random::new(1)).expect("builds");
        let stamps = [(0, 0, 0), (4001, 3, 70), (i64::MAX, i16::MAX, i32::MAX), (-1, -1, -1)];
        for batch in &batches[..2] {
            let stamper = Stamper::new(batch).expect("a batch");
            for (id, epoch, base_sequence) in stamps {
                let header = stamper.header(ProducerStamp { id, epoch, base_sequence });
                let stamped = [&header[..], &batch[HEADER_BYTES..]].concat();
                let stamped = BatchView::parse(&stamped).expect("a batch");
                assert!(stamped.is_intact(), "{id} {epoch} {base_sequence}");
                let found = stamped.header;
                assert_eq!((found.producer_id, found.producer_epoch), (id, epoch));
                assert_eq!((found.base_sequence, found.record_count), (base_sequence, 3));
            }
        }
        assert!(Stamper::new(b"no batch").is_none());
    }
}
