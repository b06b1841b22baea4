//! What admins see of a consumer group.

use crate::group::Settings;
use crate::group::consumer::Consumer;
use crate::group::message::ConsumerDescribed;
use crate::metadata::Image;
use crate::protocol::Str;

impl Consumer {
    /// The group in detail.
    pub(in crate::group) fn describe(
        &self,
        settings: &Settings,
        image: &Image,
    ) -> ConsumerDescribed {
        let members = self.members.iter();
        ConsumerDescribed {
            state: self.state().name(),
            epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            assignor: Str::from_static_str(self.assignor(settings).name()),
            members: members
                .map(|(id, member)| member.described(id, self.target.get(id), image))
                .collect(),
        }
    }
}
