//! Following the metadata log: batches in, images out, with metadata transactions (KIP-868).

use crate::base::{LeaderEpoch, Offset};
use crate::metadata::apply::ApplyError;
use crate::metadata::image::{Image, Position};
use crate::metadata::record::Record;

/// A reader of the log. Between the begin and the end of a metadata transaction it publishes
/// nothing; records of an aborted transaction have no effect.
///
/// Invariant: the published image holds whole transactions only.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    published: Image,
    pending: Option<Image>,
}

impl Replay {
    /// Goes on behind a snapshot that was taken at `image.position()`.
    pub fn from_image(image: Image) -> Self {
        Self { published: image, pending: None }
    }

    /// The image of all that took effect.
    pub fn image(&self) -> &Image {
        &self.published
    }

    /// Whether a transaction was begun and not ended.
    pub fn in_transaction(&self) -> bool {
        self.pending.is_some()
    }

    /// Applies the records of one batch whose first record is at `base`.
    pub fn apply_batch(
        &mut self,
        base: Offset,
        epoch: LeaderEpoch,
        records: &[Record],
    ) -> Result<(), ApplyError> {
        for (index, record) in records.iter().enumerate() {
            self.apply(record)?;
            self.advance(Position { offset: base + index as u64, epoch });
        }
        Ok(())
    }

    /// Moves behind a control record, which has no effect on the image.
    pub fn advance(&mut self, position: Position) {
        self.pending.as_mut().unwrap_or(&mut self.published).advance(position);
    }

    fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        match (record, &mut self.pending) {
            (Record::BeginTransaction(_), pending @ None) => {
                *pending = Some(self.published.clone())
            }
            (Record::EndTransaction(_), pending @ Some(_)) => {
                self.published = pending.take().unwrap_or_default();
            }
            (Record::AbortTransaction(_), pending @ Some(_)) => *pending = None,
            (
                Record::BeginTransaction(_)
                | Record::EndTransaction(_)
                | Record::AbortTransaction(_),
                _,
            ) => return Err(ApplyError::MisplacedTransaction),
            (record, Some(pending)) => pending.apply(record)?,
            (record, None) => self.published.apply(record)?,
        }
        Ok(())
    }
}
