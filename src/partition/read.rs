//! Reading: fetches, offsets by time and by epoch.

use crate::base::{LeaderEpoch, Offset};
use crate::log::{AtLeast, ReadError};
use crate::partition::message::{
    EpochEnd, FetchError, FetchFrom, Fetched, Isolation, OffsetFound, OffsetQuery, TimestampQuery,
};
use crate::partition::replica::Partition;

impl Partition {
    /// Reads from one partition. `at_least` says whether a first batch larger than the limits is
    /// returned all the same (KIP-74).
    pub async fn read(&self, from: FetchFrom, at_least: AtLeast) -> Result<Fetched, FetchError> {
        self.check_epoch(from.current_leader_epoch)?;
        let log = self.log();
        let mut fetched = Fetched {
            slice: None,
            first_batch_bytes: 0,
            high_watermark: self.high_watermark(),
            last_stable: self.last_stable(),
            log_start: log.start(),
            diverging: None,
            aborted: None,
        };
        let offset = Offset::from_wire(from.offset).ok_or(FetchError::OffsetOutOfRange)?;
        if let Some(asked) = from.last_fetched_epoch {
            let found = self.epoch_end(asked).ok_or(FetchError::OffsetOutOfRange)?;
            if offset < log.start() {
                return Err(FetchError::OffsetOutOfRange);
            }
            if found.epoch < asked || found.end < offset {
                fetched.diverging = Some(found);
                return Ok(fetched);
            }
        }
        if offset < log.start() || offset > log.end() {
            return Err(FetchError::OffsetOutOfRange);
        }
        let end = match from.isolation {
            Isolation::ReadUncommitted => fetched.high_watermark,
            Isolation::ReadCommitted => fetched.last_stable,
        };
        if offset < end {
            let read = log.read(offset, end, from.bytes_max, at_least).await;
            let read = read.map_err(|error| match error {
                ReadError::OutOfRange => FetchError::OffsetOutOfRange,
                ReadError::Io(error) => self.read_failed(&error),
            })?;
            fetched.slice = read.slice;
            fetched.first_batch_bytes = read.first_batch_bytes;
        }
        if from.isolation == Isolation::ReadCommitted {
            let aborted = match fetched.slice {
                Some(_) => log.aborted_transactions(offset, end).await,
                None => Ok(Vec::new()),
            };
            fetched.aborted = Some(aborted.map_err(|error| self.read_failed(&error))?);
        }
        Ok(fetched)
    }

    fn read_failed(&self, error: &std::io::Error) -> FetchError {
        let key = self.key();
        tracing::error!(topic = %self.topic(), partition = key.partition, %error, "read failed");
        FetchError::Storage
    }

    /// Whether the client's idea of the leadership fits (KIP-320).
    pub fn check_epoch(&self, asked: Option<LeaderEpoch>) -> Result<(), FetchError> {
        if self.is_failed() {
            return Err(FetchError::Storage);
        }
        let epoch = self.leader_epoch();
        match asked {
            Some(asked) if asked < epoch => Err(FetchError::FencedLeaderEpoch),
            Some(asked) if asked > epoch => Err(FetchError::UnknownLeaderEpoch),
            Some(_) | None => Ok(()),
        }
    }

    /// The largest epoch not above `asked`, and where it ends.
    pub fn epoch_end(&self, asked: LeaderEpoch) -> Option<EpochEnd> {
        let (epoch, end) = self.log().end_offset_for(asked)?;
        Some(EpochEnd { epoch, end })
    }

    /// Answers one ListOffsets query.
    pub async fn find_offset(&self, asked: OffsetQuery) -> Result<OffsetFound, FetchError> {
        self.check_epoch(asked.current_leader_epoch)?;
        let log = self.log();
        let end = match asked.isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable(),
        };
        let found = match asked.query {
            TimestampQuery::Latest => {
                let epoch = Some(self.leader_epoch());
                return Ok(OffsetFound { offset: Some(end), timestamp: None, epoch });
            }
            TimestampQuery::Earliest => {
                let epoch = log.epoch_at_start();
                return Ok(OffsetFound { offset: Some(log.start()), timestamp: None, epoch });
            }
            TimestampQuery::Tiered => return Ok(OffsetFound::default()),
            TimestampQuery::MaxTimestamp => log.find_max_timestamp(end).await,
            TimestampQuery::At(target) => log.find_by_timestamp(target, end).await,
        };
        let found = found.map_err(|error| self.read_failed(&error))?;
        Ok(match found {
            Some(found) if found.offset < end => OffsetFound {
                offset: Some(found.offset),
                timestamp: Some(found.timestamp),
                epoch: found.epoch,
            },
            Some(_) | None => OffsetFound::default(),
        })
    }
}
